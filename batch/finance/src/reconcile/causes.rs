//! Why two numbers differ, where the data show it. A cause is named only if it explains the other number to the click; what
//! may merely be a cause (a day that is not final) comes last.

use std::collections::BTreeMap;

use clicks::books::PeriodState;
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Interval};
use clicks::zone::Zone;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use serde::Serialize;

use super::slice::{Key, OfFile, Slice, name_of, ours};
use super::{Bucket, Compared, Keys, Mine, ReconcileError};
use crate::changes::{ChangesError, DayChange, changes_of};
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
/// Lines are those of another zone if it explains so many breaks, and if so large a part of all lines match by it.
const ZONE_LINES_MIN: usize = 2;
const ZONE_PART: (usize, usize) = (3, 4);
/// Days by which the likeliest zone is found, before all are compared.
const ZONE_DAYS: usize = 2;
/// Names that are looked for among ours.
const NAMES_MAX: usize = 100;
/// A name that is less like it is another one.
const LIKENESS_MIN: f64 = 0.85;

/// What the slices before have told.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By whose clocks the file counts.
    zone: Option<Zone>,
    /// How many names were looked for among ours.
    sought: usize,
}

impl Known {
    /// Finds the causes of a slice.
    pub(super) async fn find(
        &mut self,
        mine: &Mine<'_>,
        of_file: &OfFile,
        slice: &Slice,
        keys: Keys,
        compared: &mut [(Key, Compared)],
    ) -> Result<(), ReconcileError> {
        let named = Named { mine, slice, keys, with_tenants: of_file.has_tenants };
        // Where the file is one of another zone, a line that something else explains too does so by chance.
        let zone = by_zones(&named, self.zone, compared).await?;
        by_themselves(&named, of_file, compared, zone.is_some());
        if zone.is_none() {
            by_earlier_states(&named, compared).await?;
        }
        by_advertisers(&named, compared);
        self.sought += by_names(&named, NAMES_MAX - self.sought, compared).await?;
        for (_, line) in open(compared) {
            let days = match line.day {
                Some(day) => Dates { first: day, end: day.next() }.interval(mine.zone),
                None => mine.dates.interval(mine.zone),
            };
            let unsettled = days_of(days).map(|day| (day, mine.books.state(day))).find(|(_, state)| !is_final(*state));
            line.cause = unsettled.map(|(day, state)| Cause::NotFinal { day, state });
        }
        self.zone = zone.or(self.zone);
        Ok(())
    }
}

/// The names of a slice, and whose numbers they have.
struct Named<'a> {
    mine: &'a Mine<'a>,
    slice: &'a Slice,
    keys: Keys,
    with_tenants: bool,
}

impl Named<'_> {
    /// Under which number an ad is compared, if it is one of the slice.
    fn number(&self, ad: &AdId) -> Option<u32> {
        let ads = self.mine.ads;
        let known = ads.campaign_of(ad).map(|campaign| &ads.campaigns()[campaign]);
        let (tenant, campaign) = known.map(|(tenant, campaign)| (tenant, campaign)).unzip();
        if self.mine.tenant.is_some_and(|only| tenant != Some(only)) {
            return None;
        }
        self.slice.number(&name_of(self.keys, self.with_tenants, ad.as_str(), tenant, campaign))
    }
}

/// Breaks that nothing explains yet.
fn open(compared: &mut [(Key, Compared)]) -> impl Iterator<Item = &mut (Key, Compared)> {
    compared.iter_mut().filter(|(_, line)| line.bucket.is_break() && line.cause.is_none())
}

fn by_themselves(named: &Named<'_>, of_file: &OfFile, compared: &mut [(Key, Compared)], is_shifted: bool) {
    let dates = named.mine.dates;
    for (key, line) in open(compared) {
        let sides = named.slice.get(*key);
        let (our, their) = (sides.ours.counts, &sides.theirs);
        let is_outside = line.day.is_some_and(|day| !(dates.first..dates.end).contains(&day));
        line.cause = if is_outside {
            Some(Cause::OutsideOfPeriod)
        } else if their.repeated > 0 && their.clicks - their.repeated == line.ours {
            Some(Cause::RepeatedLine)
        } else if line.day.is_some() && line.bucket == Bucket::OnlyOurs && !of_file.days.contains(&key.1) {
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

/// What we said of a key after each entry that changed it.
#[derive(Default)]
struct Said {
    now: i64,
    before: Vec<(EntryNumber, u64)>,
}

/// Whether they say what we said before.
async fn by_earlier_states(named: &Named<'_>, compared: &mut [(Key, Compared)]) -> Result<(), ReconcileError> {
    let (mine, by_day) = (named.mine, named.keys.by_day());
    let different = |(_, line): &&mut (Key, Compared)| line.bucket == Bucket::Different;
    let mut days: Vec<Day> = open(compared).filter(different).filter_map(|(_, line)| line.day).collect();
    days.sort_unstable();
    days.dedup();
    let numbers: HashSet<u32, RandomState> = open(compared).filter(different).map(|(key, _)| key.0).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    // Of each day by itself, where days are told apart.
    let ranges: Vec<Interval> = match by_day {
        true => days.iter().map(|day| Dates { first: *day, end: day.next() }.interval(mine.zone)).collect(),
        false => vec![mine.dates.interval(mine.zone)],
    };
    let first = books_at(mine.ledger, PointInTime::Entry(0)).await.map_err(ChangesError::from)?;
    let wanted = |ad: &AdId| named.number(ad).is_some_and(|number| numbers.contains(&number));
    let mut said: HashMap<Key, Said, RandomState> = HashMap::default();
    let take = |n: usize, change: DayChange| {
        for ad in change.ads {
            let Some(number) = named.number(&ad.ad) else { continue };
            let Said { now, before } = said.entry((number, if by_day { days[n].number() } else { 0 })).or_default();
            *now += ad.after as i64 - ad.before as i64;
            before.retain(|(entry, _)| *entry != change.entry);
            before.push((change.entry, (*now).max(0) as u64));
        }
    };
    changes_of(mine.ledger, mine.objects, mine.ads, &ranges, first, mine.books.head(), &wanted, take).await?;
    for (key, line) in open(compared).filter(different) {
        let states = said.get(key).map(|said| said.before.as_slice()).unwrap_or_default();
        // The last one is ours.
        let earlier = states.iter().rev().skip(1).find(|(_, clicks)| *clicks == line.theirs);
        line.cause = earlier.map(|(entry, _)| Cause::EarlierState { entry: *entry });
    }
    Ok(())
}

/// By whose clocks they count, if it is not ours: then most of all lines match by those. A zone that was found before has to
/// explain no more than one of these.
async fn by_zones(
    named: &Named<'_>,
    before: Option<Zone>,
    compared: &mut [(Key, Compared)],
) -> Result<Option<Zone>, ReconcileError> {
    if let Some(zone) = before
        && explains(named, zone, 1, compared).await?
    {
        return Ok(before);
    }
    if open(compared).count() < ZONE_LINES_MIN || !named.slice.may_tell() {
        return Ok(None);
    }
    match likeliest(named, compared).await? {
        Some(zone) if explains(named, zone, ZONE_LINES_MIN, compared).await? => Ok(Some(zone)),
        _ => Ok(None),
    }
}

/// The zone by whose clocks the most lines match on the days with the most breaks: they tell zones apart as well as all do.
async fn likeliest(named: &Named<'_>, compared: &mut [(Key, Compared)]) -> Result<Option<Zone>, ReconcileError> {
    let mine = named.mine;
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
            matching += by_clocks(named, *dates, zone, compared).await?.matching;
        }
        if matching > best.map_or(0, |(most, _)| most) {
            best = Some((matching, zone));
        }
    }
    Ok(best.map(|(_, zone)| zone))
}

/// Whether the clocks of a zone explain `least` breaks and suit most of the lines. Then they are the cause of those breaks.
async fn explains(
    named: &Named<'_>,
    zone: Zone,
    least: usize,
    compared: &mut [(Key, Compared)],
) -> Result<bool, ReconcileError> {
    let found = by_clocks(named, named.mine.dates, zone, compared).await?;
    let is_most = found.matching * ZONE_PART.1 >= found.lines * ZONE_PART.0;
    if found.explained.len() < least.max(found.unmatched + 1) || !is_most {
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
    explained: HashSet<Key, RandomState>,
    /// Lines that match, and do not by those clocks.
    unmatched: usize,
}

async fn by_clocks(
    named: &Named<'_>,
    mut dates: Dates,
    zone: Zone,
    compared: &[(Key, Compared)],
) -> Result<Shifted, ReconcileError> {
    let Named { mine, slice, keys, with_tenants } = *named;
    // Its last day may end in one of UTC that is not closed yet.
    let is_open = |dates: Dates| days_of(dates.interval(zone)).any(|day| !is_closed(mine.books.state(day)));
    while keys.by_day() && dates.first < dates.end && is_open(dates) {
        dates.end = dates.end.previous();
    }
    if dates.first >= dates.end || is_open(dates) {
        return Ok(Shifted::default());
    }
    let mut sums: HashMap<Key, u64, RandomState> = HashMap::default();
    ours(&Mine { dates, ..*mine }, zone, keys, with_tenants, |name, day, line| {
        if let Some(number) = slice.number(name) {
            *sums.entry((number, day)).or_default() += line.counts.total();
        }
    })
    .await?;
    let mut found = Shifted::default();
    let of_dates =
        compared.iter().filter(|(_, line)| line.day.is_none_or(|day| (dates.first..dates.end).contains(&day)));
    for (key, line) in of_dates {
        let is_equal = sums.get(key).copied().unwrap_or_default() == line.theirs;
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
fn by_advertisers(named: &Named<'_>, compared: &mut [(Key, Compared)]) {
    let ads = named.mine.ads;
    let Some(tenant) = named.mine.tenant else { return };
    for (_, line) in open(compared).filter(|(_, line)| line.bucket == Bucket::OnlyTheirs) {
        let other = match named.keys.who() {
            Some(Field::Ad) => AdId::parse(&line.who).ok().and_then(|ad| ads.tenant_of(&ad)).map(ToString::to_string),
            Some(Field::Campaign) => line.who.split_once('/').map(|(tenant, _)| tenant.to_owned()),
            _ => ads.tenants().find(|known| known.as_str() == &*line.who).map(ToString::to_string),
        };
        line.cause =
            other.filter(|other| other != tenant.as_str()).map(|advertiser| Cause::OtherAdvertiser { advertiser });
    }
}

/// Names that are none of ours. For the first `most` of them the nearest of ours is told; returns how many these are.
async fn by_names(named: &Named<'_>, most: usize, compared: &mut [(Key, Compared)]) -> Result<usize, ReconcileError> {
    let Named { mine, slice, keys, with_tenants } = *named;
    let Some(who) = keys.who() else { return Ok(0) };
    let clicked: HashSet<u32, RandomState> =
        slice.sums().filter(|(_, sides)| sides.ours.lines > 0).map(|(key, _)| key.0).collect();
    let campaigns = mine.ads.campaigns();
    let known: HashSet<&str, RandomState> = campaigns.iter().map(|(_, campaign)| campaign.as_str()).collect();
    let is_known = |name: &str| match who {
        Field::Ad => AdId::parse(name).is_ok_and(|ad| mine.ads.campaign_of(&ad).is_some()),
        Field::Campaign => {
            let is_there = |(tenant, campaign): (&str, &str)| {
                let names =
                    |known: &(TenantId, CampaignId)| (known.0.as_str(), known.1.as_str()).cmp(&(tenant, campaign));
                campaigns.binary_search_by(names).is_ok()
            };
            known.contains(name) || name.split_once('/').is_some_and(is_there)
        }
        _ => mine.ads.tenants().any(|tenant| tenant.as_str() == name),
    };
    let mut unknown: Vec<&mut Compared> = open(compared)
        .filter(|(key, line)| line.bucket == Bucket::OnlyTheirs && !clicked.contains(&key.0) && !is_known(&line.who))
        .map(|(_, line)| line)
        .collect();
    let mut sought: Vec<(String, f64, Option<String>)> =
        unknown.iter().take(most).map(|line| (line.who.to_lowercase(), LIKENESS_MIN, None)).collect();
    if !sought.is_empty() {
        // Ours may be in another slice.
        ours(mine, mine.zone, keys.without_days(), with_tenants, |name, _, _| {
            let lower = name.to_lowercase();
            for (who, best, nearest) in &mut sought {
                let likeness = strsim::jaro_winkler(who, &lower);
                if likeness > *best {
                    (*best, *nearest) = (likeness, Some(name.to_owned()));
                }
            }
        })
        .await?;
    }
    let found = sought.len();
    let nearest = sought.into_iter().map(|(_, _, nearest)| nearest).chain(std::iter::repeat(None));
    for (line, nearest) in unknown.iter_mut().zip(nearest) {
        line.cause = Some(Cause::UnknownName { nearest });
    }
    Ok(found)
}
