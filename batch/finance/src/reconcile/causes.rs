//! Why two numbers differ, where the data show it. A cause is named only if it explains the other number to the click; what
//! may merely be a cause (a day that is not final) comes last.

use std::collections::BTreeMap;

use clicks::ads::AdsTable;
use clicks::books::PeriodState;
use clicks::id::AdId;
use clicks::tables::EntryNumber;
use clicks::time::{Day, Interval};
use clicks::zone::Zone;
use hashbrown::HashSet;
use serde::Serialize;

use super::{Bucket, Compared, Key, Mine, Our, ReconcileError, Sums, Theirs, days_of_file, name_of, ours};
use crate::changes::changes_of;
use crate::dates::Dates;
use crate::invoice::Field;
use crate::position::{PointInTime, books_at};
use crate::statement::{days_of, is_closed, is_final};

/// Why the two sides differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// Lines of the file are there again, word for word: without them it says what we say.
    RepeatedLine,
    /// The file has no line of that day.
    MissingDay,
    /// The day is none of the period.
    OutsideOfPeriod,
    /// They lack what was found after the day was final.
    WithoutAdjustments { adjustment: u64 },
    /// They count the duplicates that we drop.
    WithDuplicates { duplicates: u64 },
    /// They say what we said when this entry of the ledger was the last one.
    EarlierState { entry: EntryNumber },
    /// They count by the clocks of another zone.
    OtherZone { zone: &'static str },
    /// It belongs to one that is not compared.
    OtherAdvertiser { advertiser: String },
    /// Nobody clicked it here.
    UnknownName { nearest: Option<String> },
    /// Our number may still change.
    NotFinal { day: Day, state: PeriodState },
}

impl Cause {
    pub const fn name(&self) -> &'static str {
        match self {
            Cause::RepeatedLine => "repeated_line",
            Cause::MissingDay => "missing_day",
            Cause::OutsideOfPeriod => "outside_of_period",
            Cause::WithoutAdjustments { .. } => "without_adjustments",
            Cause::WithDuplicates { .. } => "with_duplicates",
            Cause::EarlierState { .. } => "earlier_state",
            Cause::OtherZone { .. } => "other_zone",
            Cause::OtherAdvertiser { .. } => "other_advertiser",
            Cause::UnknownName { .. } => "unknown_name",
            Cause::NotFinal { .. } => "not_final",
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Cause::RepeatedLine => "a line is there again, word for word; counted once it says what we say".to_owned(),
            Cause::MissingDay => "the file has no line of that day".to_owned(),
            Cause::OutsideOfPeriod => "the day is none of the period".to_owned(),
            Cause::WithoutAdjustments { adjustment } => {
                format!("they lack {adjustment} clicks that were found after the day was final")
            }
            Cause::WithDuplicates { duplicates } => format!("they count {duplicates} duplicates that we drop"),
            Cause::EarlierState { entry } => {
                format!(
                    "they say what we said at ledger position {entry}: `twofold diff --from {entry}` tells what has changed since"
                )
            }
            Cause::OtherZone { zone } => format!("they count by the clocks of {zone}"),
            Cause::OtherAdvertiser { advertiser } => format!("it belongs to {advertiser}, who is not compared"),
            Cause::UnknownName { nearest: Some(nearest) } => format!("nobody clicked it here; is `{nearest}` meant?"),
            Cause::UnknownName { nearest: None } => "nobody clicked it here".to_owned(),
            Cause::NotFinal { day, state } => format!("our number may still change: {day} is {}", state.name()),
        }
    }
}

/// Zones by whose clocks others may count: one of each offset that many people live by.
const ZONES: [&str; 16] = [
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Athens",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
];
/// A file is one of another zone if it explains so many breaks, and if so large a part of all lines match by it.
const ZONE_LINES_MIN: usize = 2;
const ZONE_PART: (usize, usize) = (3, 4);
/// Days by which the likeliest zone is found, before all are compared.
const ZONE_DAYS: usize = 2;
/// Names that are looked for among ours.
const NAMES_MAX: usize = 100;
/// A name that is less like it is another one.
const LIKENESS_MIN: f64 = 0.85;

pub(super) async fn find(
    mine: &Mine<'_>,
    theirs: &mut Theirs,
    ours_by_key: &Sums<Our>,
    compared: &mut [(Key, Compared)],
) -> Result<(), ReconcileError> {
    // Where the file is one of another zone, a line that something else explains too does so by chance.
    let is_shifted = by_zones(mine, theirs, compared).await?;
    by_themselves(mine, theirs, ours_by_key, compared, is_shifted);
    if !is_shifted {
        by_earlier_states(mine, theirs, compared).await?;
    }
    by_advertisers(mine, theirs, compared);
    by_names(mine.ads, theirs, ours_by_key, compared);
    for (_, line) in open(compared) {
        let days = match line.day {
            Some(day) => Dates { first: day, end: day.next() }.interval(mine.zone),
            None => mine.dates.interval(mine.zone),
        };
        let unsettled = days_of(days).map(|day| (day, mine.books.state(day))).find(|(_, state)| !is_final(*state));
        line.cause = unsettled.map(|(day, state)| Cause::NotFinal { day, state });
    }
    Ok(())
}

/// Breaks that nothing explains yet.
fn open(compared: &mut [(Key, Compared)]) -> impl Iterator<Item = &mut (Key, Compared)> {
    compared.iter_mut().filter(|(_, line)| line.bucket.is_break() && line.cause.is_none())
}

fn by_themselves(
    mine: &Mine<'_>,
    theirs: &Theirs,
    ours: &Sums<Our>,
    compared: &mut [(Key, Compared)],
    is_shifted: bool,
) {
    let days = days_of_file(theirs);
    for (key, line) in open(compared) {
        let our = ours.get(key).cloned().unwrap_or_default().counts;
        let their = theirs.sums.get(key);
        let is_outside = line.day.is_some_and(|day| !(mine.dates.first..mine.dates.end).contains(&day));
        line.cause = if is_outside {
            Some(Cause::OutsideOfPeriod)
        } else if their.is_some_and(|their| their.repeated > 0 && their.clicks - their.repeated == line.ours) {
            Some(Cause::RepeatedLine)
        } else if line.day.is_some() && line.bucket == Bucket::OnlyOurs && !days.contains(&key.1) {
            Some(Cause::MissingDay)
        } else if is_shifted {
            None
        } else if our.adjustment > 0 && line.theirs == our.clicks {
            Some(Cause::WithoutAdjustments { adjustment: our.adjustment })
        } else if our.duplicates > 0 && line.theirs == line.ours + our.duplicates {
            Some(Cause::WithDuplicates { duplicates: our.duplicates })
        } else {
            None
        };
    }
}

/// Whether they say what we said before.
async fn by_earlier_states(
    mine: &Mine<'_>,
    theirs: &mut Theirs,
    compared: &mut [(Key, Compared)],
) -> Result<(), ReconcileError> {
    let by_day = theirs.keys.by_day;
    // Of each day by itself, where days are told apart.
    let days: Vec<Day> = if by_day {
        let mut days: Vec<Day> = open(compared).filter_map(|(_, line)| line.day).collect();
        days.sort_unstable();
        days.dedup();
        days
    } else {
        vec![Day::from_number(0)]
    };
    if open(compared).next().is_none() {
        return Ok(());
    }
    let range = |day: &Day| match by_day {
        true => Dates { first: *day, end: day.next() }.interval(mine.zone),
        false => mine.dates.interval(mine.zone),
    };
    let ranges: Vec<Interval> = days.iter().map(range).collect();
    let first = books_at(mine.ledger, PointInTime::Entry(0)).await.map_err(crate::changes::ChangesError::from)?;
    let changes = changes_of(mine.ledger, mine.objects, mine.ads, &ranges, first, mine.books.head()).await?;
    // What was said after each entry.
    let mut said: BTreeMap<Key, (i64, Vec<(EntryNumber, u64)>)> = BTreeMap::new();
    for (n, change) in changes {
        for ad in change.ads {
            let known = mine.ads.campaign_of(&ad.ad).map(|campaign| &mine.ads.campaigns()[campaign]);
            if mine.tenant.is_some_and(|tenant| known.map(|(known, _)| known) != Some(tenant)) {
                continue;
            }
            let (tenant, campaign) = known.map(|(tenant, campaign)| (tenant, campaign)).unzip();
            let name = name_of(theirs.keys, theirs.has_tenants, ad.ad.as_str(), tenant, campaign);
            let key = (theirs.names.number(&name), if by_day { days[n].number() } else { 0 });
            let (now, before) = said.entry(key).or_default();
            *now += ad.after as i64 - ad.before as i64;
            before.retain(|(entry, _)| *entry != change.entry);
            before.push((change.entry, (*now).max(0) as u64));
        }
    }
    for (key, line) in open(compared).filter(|(_, line)| line.bucket == Bucket::Different) {
        let states = said.get(key).map(|(_, states)| states.as_slice()).unwrap_or_default();
        // The last one is ours.
        let earlier = states.iter().rev().skip(1).find(|(_, clicks)| *clicks == line.theirs);
        line.cause = earlier.map(|(entry, _)| Cause::EarlierState { entry: *entry });
    }
    Ok(())
}

/// Whether they count by other clocks: then most of all lines match by those.
async fn by_zones(
    mine: &Mine<'_>,
    theirs: &mut Theirs,
    compared: &mut [(Key, Compared)],
) -> Result<bool, ReconcileError> {
    if open(compared).count() < ZONE_LINES_MIN {
        return Ok(false);
    }
    // The days with the most breaks tell zones apart as well as all of them do.
    let mut days: BTreeMap<Day, usize> = BTreeMap::new();
    let is_of_period = |day: &Day| (mine.dates.first..mine.dates.end).contains(day);
    let broken = open(compared).filter_map(|(_, line)| line.day).filter(is_of_period);
    broken.for_each(|day| *days.entry(day).or_default() += 1);
    let mut days: Vec<(usize, Day)> = days.into_iter().map(|(day, breaks)| (breaks, day)).collect();
    days.sort_unstable_by_key(|(breaks, day)| (std::cmp::Reverse(*breaks), *day));
    let dates = days.iter().take(ZONE_DAYS).map(|(_, day)| Dates { first: *day, end: day.next() });
    let samples: Vec<Dates> = if days.is_empty() { vec![mine.dates] } else { dates.collect() };
    let mut best: Option<(usize, Zone)> = None;
    for name in ZONES {
        let zone: Zone = name.parse().expect("it is in the IANA list");
        if zone == mine.zone {
            continue;
        }
        let mut matching = 0;
        for dates in &samples {
            matching += by_clocks(mine, *dates, zone, theirs, compared).await?.matching;
        }
        if matching > best.map_or(0, |(most, _)| most) {
            best = Some((matching, zone));
        }
    }
    let Some((_, zone)) = best else { return Ok(false) };
    let found = by_clocks(mine, mine.dates, zone, theirs, compared).await?;
    let is_most = found.matching * ZONE_PART.1 >= found.lines * ZONE_PART.0;
    if found.explained.len() < ZONE_LINES_MIN.max(found.unmatched + 1) || !is_most {
        return Ok(false);
    }
    for (_, line) in open(compared).filter(|(key, _)| found.explained.contains(key)) {
        line.cause = Some(Cause::OtherZone { zone: zone.name() });
    }
    Ok(true)
}

/// How some dates compare by the clocks of another zone.
#[derive(Default)]
struct Shifted {
    lines: usize,
    matching: usize,
    /// Breaks that match by those clocks.
    explained: HashSet<Key>,
    /// Lines that match, and do not by those clocks.
    unmatched: usize,
}

async fn by_clocks(
    mine: &Mine<'_>,
    mut dates: Dates,
    zone: Zone,
    theirs: &mut Theirs,
    compared: &[(Key, Compared)],
) -> Result<Shifted, ReconcileError> {
    // Its last day may end in one of UTC that is not closed yet.
    let is_open = |dates: Dates| days_of(dates.interval(zone)).any(|day| !is_closed(mine.books.state(day)));
    while theirs.keys.by_day && dates.first < dates.end && is_open(dates) {
        dates.end = dates.end.previous();
    }
    if dates.first >= dates.end || is_open(dates) {
        return Ok(Shifted::default());
    }
    let mine = Mine { dates, ..*mine };
    let ours = ours(&mine, zone, theirs.keys, theirs.has_tenants, &mut theirs.names).await?;
    let mut found = Shifted::default();
    let of_dates =
        compared.iter().filter(|(_, line)| line.day.is_none_or(|day| (dates.first..dates.end).contains(&day)));
    for (key, line) in of_dates {
        let is_equal = ours.get(key).map_or(0, |our| our.counts.total()) == line.theirs;
        found.lines += 1;
        found.matching += usize::from(is_equal);
        found.unmatched += usize::from(!is_equal && !line.bucket.is_break());
        if is_equal && line.bucket.is_break() {
            found.explained.insert(*key);
        }
    }
    Ok(found)
}

/// Lines of advertisers that are not compared.
fn by_advertisers(mine: &Mine<'_>, theirs: &Theirs, compared: &mut [(Key, Compared)]) {
    let Some(tenant) = mine.tenant else { return };
    for (_, line) in open(compared).filter(|(_, line)| line.bucket == Bucket::OnlyTheirs) {
        let other = match theirs.keys.who {
            Some(Field::Ad) => {
                AdId::parse(&line.who).ok().and_then(|ad| mine.ads.tenant_of(&ad)).map(ToString::to_string)
            }
            Some(Field::Campaign) => line.who.split_once('/').map(|(tenant, _)| tenant.to_owned()),
            _ => mine.ads.tenants().find(|known| known.as_str() == &*line.who).map(ToString::to_string),
        };
        line.cause =
            other.filter(|other| other != tenant.as_str()).map(|advertiser| Cause::OtherAdvertiser { advertiser });
    }
}

/// Names that are none of ours.
fn by_names(ads: &AdsTable, theirs: &Theirs, ours: &Sums<Our>, compared: &mut [(Key, Compared)]) {
    let Some(who) = theirs.keys.who else { return };
    let clicked: std::collections::BTreeSet<u32> = ours.keys().map(|(number, _)| *number).collect();
    let names: Vec<&str> = clicked.iter().map(|number| &*theirs.names.names[*number as usize]).collect();
    let is_known = |name: &str| match who {
        Field::Ad => AdId::parse(name).is_ok_and(|ad| ads.campaign_of(&ad).is_some()),
        Field::Campaign => ads.campaigns().iter().any(|(tenant, campaign)| {
            campaign.as_str() == name || name.split_once('/') == Some((tenant.as_str(), campaign.as_str()))
        }),
        _ => ads.tenants().any(|tenant| tenant.as_str() == name),
    };
    let unknown = open(compared)
        .filter(|(key, line)| line.bucket == Bucket::OnlyTheirs && !clicked.contains(&key.0) && !is_known(&line.who));
    for (n, (_, line)) in unknown.enumerate() {
        let like = |name: &&str| strsim::jaro_winkler(&line.who.to_lowercase(), &name.to_lowercase());
        let nearest = names.iter().filter(|_| n < NAMES_MAX).max_by(|a, b| like(a).total_cmp(&like(b)));
        let nearest = nearest.filter(|name| like(name) >= LIKENESS_MIN).map(|name| (*name).to_owned());
        line.cause = Some(Cause::UnknownName { nearest });
    }
}
