//! What a night reads and what it computes: plain values, so that a plan could travel to another machine.

use std::collections::{BTreeMap, BTreeSet};

use archive::chain::Chain;
use clicks::books::Books;
use clicks::dedup::DedupKeys;
use clicks::position::{Offset, PartitionId};
use clicks::rules::RulesBook;
use clicks::time::{Day, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::archived::Archived;
use crate::input::Input;

/// How long producers may go on with an old partition count; they ask for it anew every few minutes.
const STALE_PRODUCERS: Span = Span::hours(1);

/// Which days' clicks go where. Every click has one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    pub(crate) rules: RulesBook,
    pub(crate) keys: DedupKeys,
    /// Counted as a whole: the night's own day and every open day.
    pub(crate) days: BTreeSet<Day>,
    /// Final before this night, the days before the first one included: what is new there is an adjustment.
    pub(crate) is_final: FinalDays,
    /// Per partition, where the last night stopped: what lies behind it is new.
    pub(crate) through: BTreeMap<PartitionId, Offset>,
}

impl Scope {
    fn new(books: &Books, days: BTreeSet<Day>, is_final: FinalDays, through: BTreeMap<PartitionId, Offset>) -> Self {
        Scope { rules: books.rules().clone(), keys: DedupKeys::new(seed(books)), days, is_final, through }
    }
}

/// Days that were final before the night.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct FinalDays {
    /// All days before this one.
    before: Option<Day>,
    closed: BTreeSet<Day>,
}

impl FinalDays {
    pub(crate) fn contains(&self, day: Day) -> bool {
        self.before.is_some_and(|first| day < first) || self.closed.contains(&day)
    }

    /// All days before the first one, if there is one, and the single days.
    pub(crate) fn parts(&self) -> (Option<Day>, &BTreeSet<Day>) {
        (self.before, &self.closed)
    }
}

/// The work of one night.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) night: Day,
    pub(crate) scope: Scope,
    pub(crate) cuts: BTreeMap<PartitionId, Offset>,
    /// Per partition with anything to read, in offset order.
    pub(crate) inputs: BTreeMap<PartitionId, Vec<Input>>,
    /// Open days that become final once they are checked again.
    pub(crate) finals: Vec<Day>,
    /// Keys may stand in more than one of the partitions that are read.
    pub(crate) keys_move: bool,
    /// Append time from which records are read.
    pub(crate) from: Timestamp,
}

impl Plan {
    /// What night `night` reads and computes, up to its cuts.
    pub(crate) fn new(books: &Books, archived: &Archived, night: Day, cuts: BTreeMap<PartitionId, Offset>) -> Self {
        let days: BTreeSet<Day> = books.open_days().into_iter().chain([night]).collect();
        let closed = books.days().filter(|(_, book)| book.state().is_settled()).map(|(day, _)| day).collect();
        let is_final = FinalDays { before: Some(books.first_day()), closed };
        let scope = Scope::new(books, days, is_final, books.through().clone());
        let news = first_news(&scope, archived);
        Plan { finals: books.finals_of(night), ..Plan::over(books, archived, night, scope, cuts, news) }
    }

    /// What counting `day` alone reads and computes, up to the cuts of the last night. Nothing else gets an owner.
    pub(crate) fn of_day(books: &Books, archived: &Archived, day: Day) -> Self {
        let scope = Scope::new(books, BTreeSet::from([day]), FinalDays::default(), BTreeMap::new());
        let night = books.last_night().unwrap_or(day);
        Plan::over(books, archived, night, scope, books.through().clone(), None)
    }

    fn over(
        books: &Books,
        archived: &Archived,
        night: Day,
        scope: Scope,
        cuts: BTreeMap<PartitionId, Offset>,
        news: Option<Timestamp>,
    ) -> Self {
        let mut from = look_back_from(&scope, news);
        if books.lives().iter().any(|life| books.partition_counts(life).count() > 1) {
            from = from - STALE_PRODUCERS;
        }
        let inputs = archived.chains.values().filter_map(|chain| {
            let cut = cuts.get(&chain.partition).copied().unwrap_or_default();
            let inputs = inputs_of(chain, from, cut);
            (!inputs.is_empty()).then(|| (chain.partition.clone(), inputs))
        });
        let inputs: BTreeMap<_, _> = inputs.collect();
        let keys_move = spans_lives(&inputs) || spans_an_epoch(books, &inputs);
        Plan { night, scope, cuts, inputs, finals: Vec::new(), keys_move, from }
    }

    /// Records that the night reads.
    pub(crate) fn rows(&self) -> u64 {
        self.inputs.values().map(|inputs| Plan::rows_of(inputs)).sum()
    }

    /// Records of some inputs before the cut.
    pub(crate) fn rows_of(inputs: &[Input]) -> u64 {
        inputs.iter().map(|input| input.to.distance_from(input.segment.footer.start)).sum()
    }
}

/// Inputs of more than one topic life or region: a key may be on both sides.
fn spans_lives(inputs: &BTreeMap<PartitionId, Vec<Input>>) -> bool {
    let mut lives = inputs.keys().map(|partition| (&partition.region, partition.topic));
    let first = lives.next();
    lives.any(|life| Some(life) != first)
}

/// Inputs from before a topic life grew, or from soon after, while producers still went by the old count. The partitions
/// that it has since begin at offset 0, so a first record of theirs that is read tells.
fn spans_an_epoch(books: &Books, inputs: &BTreeMap<PartitionId, Vec<Input>>) -> bool {
    books.lives().iter().any(|life| {
        let least = books.partition_counts(life).min().unwrap_or(life.partitions);
        let of_life = |id: &&PartitionId| id.region == life.region && id.topic == life.topic_id;
        let added = inputs.iter().filter(|(id, _)| of_life(id) && id.number >= least);
        added.flat_map(|(_, inputs)| inputs.first()).any(|first| first.segment.footer.start == Offset::ZERO)
    })
}

/// Seed of the dedup keys: known to nobody who sends clicks, and the same when the night is run again.
fn seed(books: &Books) -> u128 {
    let digits = books.head_hash().get(..32).unwrap_or_default();
    u128::from_str_radix(digits, 16).unwrap_or_default()
}

/// Append time of the first record that may become an adjustment: behind where the last night stopped.
fn first_news(scope: &Scope, archived: &Archived) -> Option<Timestamp> {
    let news = archived.chains.values().filter_map(|chain| {
        let through = scope.through.get(&chain.partition).copied().unwrap_or_default();
        let at = chain.segments.partition_point(|segment| segment.end <= through);
        chain.segments.get(at).map(|segment| segment.footer.append_time_min)
    });
    news.min()
}

/// Append time from which records are read: one batch horizon before the first record that may be counted.
///
/// That is the first one that may belong to a day which is computed (its event time may be ahead of its append time), or
/// the first of the news. The horizon before it is read for its sightings only, and over all partitions alike, because a
/// key may be on both sides of a topic's migration.
fn look_back_from(scope: &Scope, news: Option<Timestamp>) -> Timestamp {
    let of_days = scope.days.iter().map(|day| day.start() - scope.rules.on(*day).ahead_max);
    let first = of_days.chain(news).min().unwrap_or(Timestamp::MIN);
    first - scope.rules.batch_horizon_max()
}

fn inputs_of(chain: &Chain, from: Timestamp, cut: Offset) -> Vec<Input> {
    let needed = chain.segments.iter().filter(|s| s.append_time_max >= from && s.footer.start < cut);
    needed.map(|segment| Input { to: segment.end.min(cut), segment: segment.clone() }).collect()
}
