//! What a night reads and what it computes: plain values, so that a plan could travel to another machine.

use std::collections::{BTreeMap, BTreeSet};

use archive::chain::Chain;
use clicks::books::{Books, PeriodState};
use clicks::dedup::DedupKeys;
use clicks::position::{Offset, PartitionId};
use clicks::rules::RulesBook;
use clicks::time::{Day, Timestamp};

use crate::archived::Archived;
use crate::input::Input;

/// Which days' clicks go where. Every click has one owner.
#[derive(Debug, Clone)]
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

/// Days that were final before the night.
#[derive(Debug, Clone)]
pub(crate) struct FinalDays {
    first_day: Day,
    closed: BTreeSet<Day>,
}

impl FinalDays {
    pub(crate) fn contains(&self, day: Day) -> bool {
        day < self.first_day || self.closed.contains(&day)
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
}

impl Plan {
    pub(crate) fn new(books: &Books, archived: &Archived, night: Day, cuts: BTreeMap<PartitionId, Offset>) -> Self {
        let days: BTreeSet<Day> = books.open_days().into_iter().chain([night]).collect();
        let settled = |state| matches!(state, PeriodState::Final | PeriodState::Adjusted);
        let closed = books.days().filter(|(_, book)| settled(book.state())).map(|(day, _)| day).collect();
        let scope = Scope {
            rules: books.rules().clone(),
            keys: DedupKeys::new(seed(books)),
            days,
            is_final: FinalDays { first_day: books.first_day(), closed },
            through: books.through().clone(),
        };
        let from = look_back_from(&scope, archived);
        let inputs = archived.chains.values().filter_map(|chain| {
            let cut = cuts.get(&chain.partition).copied().unwrap_or_default();
            let inputs = inputs_of(chain, from, cut);
            (!inputs.is_empty()).then(|| (chain.partition.clone(), inputs))
        });
        let inputs = inputs.collect();
        Plan { night, scope, cuts, inputs, finals: books.finals_of(night) }
    }

    /// Inputs of more than one topic life or region: a key may be on both sides, so they are judged as one log.
    pub(crate) fn spans_lives(&self) -> bool {
        let mut lives = self.inputs.keys().map(|partition| (&partition.region, partition.topic));
        let first = lives.next();
        lives.any(|life| Some(life) != first)
    }

    /// Records that the night reads.
    pub(crate) fn rows(&self) -> u64 {
        let inputs = self.inputs.values().flatten();
        inputs.map(|input| input.to.distance_from(input.segment.footer.start)).sum()
    }
}

/// Seed of the dedup keys: known to nobody who sends clicks, and the same when the night is run again.
fn seed(books: &Books) -> u128 {
    let digits = books.head_hash().get(..32).unwrap_or_default();
    u128::from_str_radix(digits, 16).unwrap_or_default()
}

/// Append time from which records are read: one batch horizon before the first record that may be counted.
///
/// That is the first one that may belong to a day which is computed (its event time may be ahead of its append time),
/// or the first one behind where the last night stopped, which may belong to a final day. The horizon before it is read
/// for its sightings only, and over all partitions alike, because a key may be on both sides of a topic's migration.
fn look_back_from(scope: &Scope, archived: &Archived) -> Timestamp {
    let of_days = scope.days.iter().map(|day| day.start() - scope.rules.on(*day).ahead_max);
    let news = archived.chains.values().filter_map(|chain| {
        let through = scope.through.get(&chain.partition).copied().unwrap_or_default();
        let at = chain.segments.partition_point(|segment| segment.footer.end <= through);
        chain.segments.get(at).map(|segment| segment.footer.append_time_min)
    });
    let first = of_days.chain(news).min().unwrap_or(Timestamp::MIN);
    first - scope.rules.batch_horizon_max()
}

fn inputs_of(chain: &Chain, from: Timestamp, cut: Offset) -> Vec<Input> {
    let needed = chain.segments.iter().filter(|s| s.footer.append_time_max >= from && s.footer.start < cut);
    needed.map(|segment| Input { to: segment.footer.end.min(cut), segment: segment.clone() }).collect()
}
