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

use super::{Bucket, Compared, Key, Mine, Our, ReconcileError, Sums, Theirs, days_of_file, ours};
use crate::changes::changes_of;
use crate::dates::Dates;
use crate::invoice::Field;
use crate::position::{PointInTime, books_at};
use crate::statement::{StatementError, days_of, is_final};

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
/// A zone has to explain so many lines, and so large a part of those that nothing else explains.
const ZONE_LINES_MIN: usize = 2;
const MOST: (usize, usize) = (3, 4);
const HALF: (usize, usize) = (1, 2);
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
    // Where another zone explains most of the file, a line that something else explains too does so by chance.
    by_zones(mine, theirs, compared, MOST).await?;
    by_themselves(mine, theirs, ours_by_key, compared);
    by_earlier_states(mine, theirs, compared).await?;
    by_zones(mine, theirs, compared, HALF).await?;
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

fn by_themselves(mine: &Mine<'_>, theirs: &Theirs, ours: &Sums<Our>, compared: &mut [(Key, Compared)]) {
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
    let (by_day, who) = (theirs.keys.by_day, theirs.keys.who);
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
            let name = match (who, known) {
                (Some(Field::Ad), _) => ad.ad.to_string(),
                (Some(Field::Campaign), Some((tenant, campaign))) if theirs.has_tenants => {
                    format!("{tenant}/{campaign}")
                }
                (Some(Field::Campaign), Some((_, campaign))) => campaign.to_string(),
                (Some(_), Some((tenant, _))) => tenant.to_string(),
                (Some(_), None) | (None, _) => String::new(),
            };
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

/// Whether they count by other clocks. `part`: how much of what is open a zone has to explain.
async fn by_zones(
    mine: &Mine<'_>,
    theirs: &mut Theirs,
    compared: &mut [(Key, Compared)],
    part: (usize, usize),
) -> Result<(), ReconcileError> {
    let left = open(compared).count();
    if left < ZONE_LINES_MIN {
        return Ok(());
    }
    // The days with the most breaks tell zones apart as well as all of them do.
    let mut days: BTreeMap<Day, usize> = BTreeMap::new();
    open(compared).filter_map(|(_, line)| line.day).for_each(|day| *days.entry(day).or_default() += 1);
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
        let mut explained = 0;
        for dates in &samples {
            explained += explained_by(mine, *dates, zone, theirs, compared).await?.len();
        }
        if explained > best.map_or(0, |(most, _)| most) {
            best = Some((explained, zone));
        }
    }
    let Some((_, zone)) = best else { return Ok(()) };
    let explained = explained_by(mine, mine.dates, zone, theirs, compared).await?;
    if explained.len() >= ZONE_LINES_MIN && explained.len() * part.1 >= left * part.0 {
        for (_, line) in open(compared).filter(|(key, _)| explained.contains(key)) {
            line.cause = Some(Cause::OtherZone { zone: zone.name() });
        }
    }
    Ok(())
}

/// The breaks of some dates that are none by the clocks of another zone.
async fn explained_by(
    mine: &Mine<'_>,
    dates: Dates,
    zone: Zone,
    theirs: &mut Theirs,
    compared: &mut [(Key, Compared)],
) -> Result<HashSet<Key>, ReconcileError> {
    let mine = Mine { dates, ..*mine };
    let shifted = match ours(&mine, zone, theirs.keys, theirs.has_tenants, &mut theirs.names).await {
        Ok(shifted) => shifted,
        // Its last day is not closed.
        Err(StatementError::Open(_)) => return Ok(HashSet::new()),
        Err(error) => return Err(error.into()),
    };
    let is_of_dates = |line: &Compared| line.day.is_none_or(|day| (dates.first..dates.end).contains(&day));
    let says = |key: &Key| shifted.get(key).map_or(0, |our| our.counts.total());
    let explained = open(compared).filter(|(key, line)| is_of_dates(line) && says(key) == line.theirs);
    Ok(explained.map(|(key, _)| *key).collect())
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
