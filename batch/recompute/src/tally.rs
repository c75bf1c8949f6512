//! The tally: what one night's records come to, per (minute, ad).
//!
//! Every record is judged by the one function of the core, and each counted click gets exactly one owner: a day that is
//! computed, an adjustment of a day that was final before, or another night.

use std::collections::BTreeMap;
use std::sync::Arc;

use clicks::dedup::{AdKey, DedupKey, SlidingDedup};
use clicks::event::Class;
use clicks::ledger::{Balance, DayTotals};
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::time::{Day, Timestamp};
use clicks::verdict::{Judgement, Verdict, judge};
use clicks::window::Minute;
use hashbrown::HashMap;

use crate::plan::Scope;
use crate::record::{Record, What};
use crate::table::{AdjustmentRow, Row};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Number of an ad within one tally.
type AdNumber = u32;

/// Sightings by which records are judged.
#[derive(Debug)]
pub(crate) struct Sightings {
    batch: SlidingDedup,
    /// Where several partitions are judged as one log: what each partition's own live worker remembers, because that
    /// sees no other partition.
    live: Option<Vec<SlidingDedup>>,
}

impl Sightings {
    /// For the records of one partition: one memory serves both horizons.
    pub(crate) fn of_partition(scope: &Scope) -> Self {
        Sightings { batch: SlidingDedup::new(scope.rules.batch_horizon_max(), usize::MAX), live: None }
    }

    /// For the records of `partitions` partitions in one log order.
    pub(crate) fn of_log(scope: &Scope, partitions: usize) -> Self {
        let live = || SlidingDedup::new(scope.rules.live_horizon_max(), usize::MAX);
        Sightings { live: Some((0..partitions).map(|_| live()).collect()), ..Self::of_partition(scope) }
    }
}

/// What an ad has in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cell {
    pub(crate) clicks: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) far_duplicates: u64,
    pub(crate) late_duplicates: u64,
}

impl Cell {
    fn add(&mut self, other: Cell) {
        self.clicks += other.clicks;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.far_duplicates += other.far_duplicates;
        self.late_duplicates += other.late_duplicates;
    }
}

/// Who owns a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Day,
    Adjustment,
    AnotherNight,
}

/// Counters of some of a night's records.
#[derive(Debug)]
pub(crate) struct Tally {
    scope: Arc<Scope>,
    numbers: Map<Arc<str>, AdNumber>,
    ads: Vec<(Arc<str>, AdKey)>,
    cells: Map<(Minute, AdNumber), Cell>,
    adjustments: Map<(Minute, AdNumber), u64>,
    balance: Balance,
    rejections: BTreeMap<&'static str, u64>,
}

/// One partition as the tally sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its place among the partitions that are judged as one log.
    pub(crate) rank: usize,
    /// Where the last night stopped.
    pub(crate) through: Offset,
}

impl Tally {
    pub(crate) fn new(scope: Arc<Scope>) -> Self {
        Tally {
            scope,
            numbers: Map::default(),
            ads: Vec::new(),
            cells: Map::default(),
            adjustments: Map::default(),
            balance: Balance::default(),
            rejections: BTreeMap::new(),
        }
    }

    /// Judges the next record in log order and counts it.
    pub(crate) fn count(&mut self, sightings: &mut Sightings, place: Place, record: &Record<'_>) {
        self.balance.rows += 1;
        match record.what {
            What::Control => self.balance.control += 1,
            What::Rejected(code) => self.reject(code),
            What::Click { ad, id, event_time } => {
                let ad = self.number(ad);
                let key = self.ads[ad as usize].1.click(id);
                let scope = self.scope.clone();
                let rules = scope.rules.on(event_time.day());
                match verdicts(rules, sightings, place, key, event_time, record.append_time) {
                    Ok(verdicts) => self.enter(place, record.offset, ad, event_time, verdicts),
                    Err(code) => self.reject(code),
                }
            }
        }
    }

    fn reject(&mut self, code: &'static str) {
        self.balance.rejected += 1;
        *self.rejections.entry(code).or_default() += 1;
    }

    fn enter(&mut self, place: Place, offset: Offset, ad: AdNumber, event_time: Timestamp, verdicts: Verdicts) {
        let day = event_time.day();
        let counted = verdicts.batch != Verdict::Duplicate;
        let owner = match () {
            () if self.scope.days.contains(&day) => Owner::Day,
            () if counted && offset >= place.through && self.scope.is_final.contains(day) => Owner::Adjustment,
            () => Owner::AnotherNight,
        };
        let at = (Minute::of(event_time), ad);
        match owner {
            Owner::Day => {
                let cell = self.cells.entry(at).or_default();
                if counted {
                    cell.clicks += 1;
                    cell.late += u64::from(verdicts.live == Verdict::Late);
                    self.balance.counted += 1;
                } else {
                    cell.duplicates += 1;
                    cell.far_duplicates += u64::from(verdicts.live == Verdict::Counted);
                    cell.late_duplicates += u64::from(verdicts.live == Verdict::Late);
                    self.balance.duplicates += 1;
                }
            }
            Owner::Adjustment => {
                *self.adjustments.entry(at).or_default() += 1;
                self.balance.counted += 1;
            }
            Owner::AnotherNight => self.balance.other_days += 1,
        }
    }

    fn number(&mut self, ad: &str) -> AdNumber {
        if let Some(number) = self.numbers.get(ad) {
            return *number;
        }
        let number = AdNumber::try_from(self.ads.len()).expect("four billion ads do not fit in memory");
        let name: Arc<str> = ad.into();
        self.ads.push((name.clone(), self.scope.keys.ad(ad)));
        self.numbers.insert(name, number);
        number
    }

    /// Adds what another tally of the same night has counted.
    pub(crate) fn absorb(&mut self, other: Tally) {
        let numbers: Vec<AdNumber> = other.ads.iter().map(|(name, _)| self.number(name)).collect();
        for ((minute, ad), cell) in other.cells {
            self.cells.entry((minute, numbers[ad as usize])).or_default().add(cell);
        }
        for ((minute, ad), clicks) in other.adjustments {
            *self.adjustments.entry((minute, numbers[ad as usize])).or_default() += clicks;
        }
        let (own, more) = (&mut self.balance, other.balance);
        own.rows += more.rows;
        own.counted += more.counted;
        own.duplicates += more.duplicates;
        own.rejected += more.rejected;
        own.control += more.control;
        own.other_days += more.other_days;
        for (code, count) in other.rejections {
            *self.rejections.entry(code).or_default() += count;
        }
    }

    /// The counts in the order of the tables.
    pub(crate) fn finish(self, night: Day) -> Counted {
        let mut days: BTreeMap<Day, DayCount> = self.scope.days.iter().map(|day| (*day, DayCount::default())).collect();
        let named = |(minute, ad): (Minute, AdNumber)| (minute, self.ads[ad as usize].0.clone());
        let mut cells: Vec<_> = self.cells.into_iter().map(|(at, cell)| (named(at), cell)).collect();
        cells.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for ((minute, ad), cell) in cells {
            days.entry(minute.start().day()).or_default().add(minute, ad, cell);
        }
        let mut adjustments: Vec<_> = self.adjustments.into_iter().map(|(at, clicks)| (named(at), clicks)).collect();
        adjustments.sort_unstable();
        let adjustments = adjustments.into_iter().map(|((minute, ad), clicks)| AdjustmentRow {
            period_start: minute.start(),
            ad,
            class: Class::Valid,
            clicks,
            night,
        });
        Counted { days, adjustments: adjustments.collect(), balance: self.balance, rejections: self.rejections }
    }
}

/// What a night's records come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Every day that is computed, also one without clicks.
    pub(crate) days: BTreeMap<Day, DayCount>,
    /// Sorted by minute, then ad.
    pub(crate) adjustments: Vec<AdjustmentRow>,
    pub(crate) balance: Balance,
    pub(crate) rejections: BTreeMap<&'static str, u64>,
}

impl Counted {
    /// Leaves a day out: nothing of it is published with the rest.
    pub(crate) fn leave_out(&mut self, day: Day) {
        let Some(DayCount { totals, .. }) = self.days.remove(&day) else { return };
        self.balance.counted -= totals.clicks;
        self.balance.duplicates -= totals.duplicates;
        self.balance.other_days += totals.clicks + totals.duplicates;
    }
}

/// One day.
#[derive(Debug, Clone, Default)]
pub(crate) struct DayCount {
    /// Sorted by minute, then ad.
    pub(crate) rows: Vec<Row>,
    pub(crate) totals: DayTotals,
}

impl DayCount {
    fn add(&mut self, minute: Minute, ad: Arc<str>, cell: Cell) {
        self.totals.clicks += cell.clicks;
        self.totals.late += cell.late;
        self.totals.duplicates += cell.duplicates;
        self.totals.far_duplicates += cell.far_duplicates;
        self.totals.late_duplicates += cell.late_duplicates;
        let Cell { clicks, duplicates, late, .. } = cell;
        self.rows.push(Row { period_start: minute.start(), ad, class: Class::Valid, clicks, duplicates, late });
    }
}

struct Verdicts {
    batch: Verdict,
    live: Verdict,
}

fn verdicts(
    rules: &Rules,
    sightings: &mut Sightings,
    place: Place,
    key: DedupKey,
    event_time: Timestamp,
    append_time: Timestamp,
) -> Result<Verdicts, &'static str> {
    let of = |dedup: &mut SlidingDedup| -> Result<Judgement, &'static str> {
        judge(rules, dedup, key, event_time, append_time).map_err(|rejection| rejection.code())
    };
    let batch = of(&mut sightings.batch)?;
    let live = match &mut sightings.live {
        None => batch,
        Some(partitions) => of(&mut partitions[place.rank])?,
    };
    Ok(Verdicts { batch: batch.within(rules.batch_horizon), live: live.within(rules.live_horizon) })
}
