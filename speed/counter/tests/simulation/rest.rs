//! What a reader must see at any moment; and the end of a history, when everything comes to rest.

use std::time::Duration;

use clicks::live::Meta;
use clicks::position::Offset;
use clicks::time::Span;

use crate::making;
use crate::plan::PROCESSES;
use crate::play::End;
use crate::verify::verify;
use crate::world::World;

/// How long everything may take to come to rest, in simulated time.
const REST_MAX: Duration = Duration::from_secs(60);

impl World {
    /// At any moment what a reader sees is right for the position that it sees, unless it is known to be damaged.
    pub(crate) async fn look(&mut self) -> Result<(), String> {
        for life in &self.lives {
            for (number, partition) in (0..).zip(&life.partitions) {
                let id = life.topic.partition(number);
                let Some(slice) = self.stored(&id).await else { continue };
                let generation = slice.generation.as_u128();
                let is_stale = partition
                    .elected
                    .is_some_and(|(before, valid)| generation < before.into() && slice.meta.next_offset > valid);
                if is_stale || partition.damaged.contains(&slice.generation) {
                    continue;
                }
                if slice.meta.is_rebuilding() {
                    self.trace.count("a reader saw a rebuild");
                }
                verify(&slice, partition).map_err(|why| format!("a reader of {id} sees {why}\n  {:?}", slice.meta))?;
            }
        }
        Ok(())
    }

    /// All accidents are over and one healthy process counts: in the end everything is stored, and right.
    pub(crate) async fn rest(&mut self) -> Result<End, String> {
        self.store.go_away(false);
        self.store.fail_next(0);
        for number in 1..PROCESSES {
            self.kill(number).await;
        }
        if let Some(process) = &self.processes[0] {
            process.control.pause(false);
        }
        // Twice: what was stored before the process came may look settled by chance.
        for _ in 0..2 {
            self.settle(tokio::time::Instant::now() + REST_MAX).await?;
        }
        for number in self.numbers() {
            self.partition(number).damaged.clear();
            self.partition(number).elected = None;
        }
        self.look().await?;
        let mut stored = String::new();
        for number in self.numbers() {
            let mut slice = self.stored(&self.id(number)).await.ok_or("nothing is stored")?;
            self.base_is_sensible(number, &slice)?;
            self.tally(&slice.meta);
            slice.counts.sort();
            slice.late.sort();
            stored += &format!("{slice:?}\n");
        }
        self.stop(0).await?;
        self.trace.note("end", || "end".to_owned());
        Ok(End {
            trace: self.trace.hash(),
            events: self.trace.events(),
            stored,
            tally: self.trace.tally(),
            text: self.trace.text(),
        })
    }

    fn tally(&self, meta: &Meta) {
        let happened = [
            ("a duplicate at rest", meta.totals.duplicate > 0),
            ("a late click at rest", meta.totals.late > 0),
            ("a rejected click at rest", meta.totals.rejected > 0),
            ("days expired", meta.totals.expired > 0),
            ("dedup evictions", meta.dedup_evicted > 0),
            ("records that are missing at rest", meta.lost.records > 0),
            ("drift", !meta.drift.is_empty()),
        ];
        happened.into_iter().filter(|(_, has)| *has).for_each(|(what, _)| self.trace.count(what));
    }

    /// Appends what archivers do, again and again, until all of it is stored and nothing is missing.
    async fn settle(&mut self, deadline: tokio::time::Instant) -> Result<(), String> {
        let all = (1 << self.plan.partitions) - 1;
        for turn in 0.. {
            if turn % 50 == 0 {
                self.pass(Span::millis(1));
                self.heartbeats().await;
            }
            if self.processes[0].as_ref().is_some_and(|process| process.partitions != all) {
                self.kill(0).await;
            }
            if self.processes[0].is_none() {
                self.start(0, all);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.supervise().await?;
            let Some(difference) = self.is_unsettled().await else { break };
            if tokio::time::Instant::now() > deadline {
                return Err(format!("it does not come to rest: {difference}"));
            }
        }
        Ok(())
    }

    /// A generation leaves no open day out, unless records were lost that may have been of it.
    fn base_is_sensible(&mut self, number: u32, slice: &platform::store::LiveSlice) -> Result<(), String> {
        let (open, today) = (self.books.next_night(), self.now().day());
        let latest = match self.partition(number).deleted_to.value() {
            0 => open,
            _ => open.max(today.plus(3)),
        };
        match slice.meta.base_day <= latest {
            true => Ok(()),
            false => Err(format!("{open} is open and not live: {:?}", slice.meta)),
        }
    }

    /// What is not at rest yet.
    async fn is_unsettled(&mut self) -> Option<String> {
        for number in self.numbers() {
            let end = Offset::new(self.partition(number).records.len() as u64);
            let Some(slice) = self.stored(&self.id(number)).await else {
                return Some(format!("nothing is stored of partition {number}"));
            };
            let totals = &slice.meta.totals;
            let counted = making::sum(&slice.counts) + totals.expired;
            let late = making::sum(&slice.late) + totals.late_expired;
            if slice.meta.next_offset < end || (counted, late) != (totals.counted, totals.late) {
                return Some(format!("partition {number} of {end} records: {:?}", slice.meta));
            }
            if slice.meta.next_offset > end || slice.meta.is_rebuilding() || slice.is_in_doubt {
                return Some(format!("partition {number} of {end} records is stored up to {:?}", slice.meta));
            }
        }
        None
    }
}
