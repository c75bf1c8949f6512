//! What is to be counted: plain values, so that a plan can travel to another machine.

use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::time::{Day, Timestamp};
use serde::{Deserialize, Serialize};

use super::sighting::Owner;
use crate::plan::{Plan, Scope};

/// The work of one [`super::ExactCount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) scope: Scope,
    /// What the input's partitions are; their place here is their rank.
    pub(crate) partitions: Vec<Part>,
    /// Keys may stand in more than one partition: all are judged as one log, in the order (append time, rank, offset),
    /// but for the live layer, whose workers see one partition each.
    pub(crate) keys_move: bool,
}

/// One partition of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) partition: PartitionId,
    /// About how many records it has: tunes the count and changes no number.
    pub(crate) rows: u64,
}

impl Work {
    pub(crate) fn of(plan: &Plan) -> Self {
        let parts = plan.inputs.iter();
        let partitions = parts
            .map(|(partition, inputs)| Part { partition: partition.clone(), rows: Plan::rows_of(inputs) })
            .collect();
        Work { scope: plan.scope.clone(), partitions, keys_move: plan.keys_move }
    }

    /// Offset from which the records of a partition are new.
    pub(crate) fn through(&self, rank: usize) -> Offset {
        let part = self.partitions.get(rank);
        part.and_then(|part| self.scope.through.get(&part.partition)).copied().unwrap_or_default()
    }

    pub(crate) fn rows(&self, ranks: &[usize]) -> u64 {
        ranks.iter().filter_map(|rank| self.partitions.get(*rank)).map(|part| part.rows).sum()
    }
}

/// What the scope says of one event day, kept as long as clicks are of this day.
#[derive(Debug)]
pub(crate) struct OfDay<'a> {
    scope: &'a Scope,
    start: i64,
    end: i64,
    pub(crate) rules: &'a Rules,
    /// The owner of a new click.
    pub(crate) owner: Owner,
}

impl<'a> OfDay<'a> {
    pub(crate) fn new(scope: &'a Scope) -> Self {
        let mut of_day = OfDay { scope, start: 0, end: 0, rules: scope.rules.last(), owner: Owner::AnotherNight };
        of_day.enter(Timestamp::EPOCH.day());
        of_day
    }

    #[inline]
    pub(crate) fn at(&mut self, event_time: Timestamp) -> &Self {
        let millis = event_time.as_millis();
        if millis < self.start || millis >= self.end {
            self.enter(event_time.day());
        }
        self
    }

    #[cold]
    fn enter(&mut self, day: Day) {
        (self.start, self.end) = (day.start().as_millis(), day.end().as_millis());
        self.rules = self.scope.rules.on(day);
        self.owner = match () {
            () if self.scope.days.contains(&day) => Owner::Day,
            () if self.scope.is_final.contains(day) => Owner::Adjustment,
            () => Owner::AnotherNight,
        };
    }
}
