//! Plays a plan, and at its end lets everything come to rest and looks whether the store is right.

use std::time::Duration;

use clicks::ledger::{Body, RulesChange};
use clicks::live::Meta;
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::time::Span;
use platform::log::Log;

use crate::control::Fault;
use crate::making;
use crate::plan::{PROCESSES, Plan, Step};
use crate::tally::Tally;
use crate::verify::verify;
use crate::world::{Sent, World};

/// How long everything may take to come to rest, in simulated time.
const REST_MAX: Duration = Duration::from_secs(60);

/// How a history ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) trace: u64,
    pub(crate) events: u64,
    /// All that is stored.
    pub(crate) stored: String,
    pub(crate) tally: Tally,
    /// What happened, if it was asked for.
    pub(crate) text: String,
}

/// Why a history went red.
#[derive(Debug, Clone)]
pub(crate) struct Red {
    pub(crate) why: String,
    pub(crate) text: String,
}

/// # Errors
/// What went wrong.
pub(crate) async fn play(plan: &Plan, with_text: bool) -> Result<End, Red> {
    let mut world = World::new(plan, with_text).await;
    let played = play_in(&mut world).await;
    for number in 0..PROCESSES {
        world.kill(number).await;
    }
    played.map_err(|why| Red { why, text: world.trace.text() })
}

async fn play_in(world: &mut World) -> Result<End, String> {
    world.start(0, 0);
    let steps = world.plan.steps.clone();
    for (number, step) in steps.into_iter().enumerate() {
        world.trace.note(step, || format!("-- step {number}: {step:?}"));
        world.take(step).await.map_err(|why| format!("step {number}, {step:?}: {why}"))?;
        world.supervise().await.map_err(|why| format!("step {number}, {step:?}: {why}"))?;
        world.look().await.map_err(|why| format!("step {number}, {step:?}: {why}"))?;
    }
    world.rest().await
}

impl World {
    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Click { partition, ad, age } => self.send(partition, ad, Span::millis(age)).await,
            Step::Clicks { partition, number } => {
                for number in 0..number {
                    self.send(partition, number % 2, Span::ZERO).await;
                }
            }
            Step::Again { back } => self.again(back, None).await,
            Step::AgainAtTheEdge { back, after } => self.again(back, Some(after)).await,
            Step::SameWindow { back, after } => self.same_window(back, after).await,
            Step::Garbage { partition, kind } => {
                let value = [None, Some("{"), Some("{}"), Some("[1]")][usize::from(kind) % 4];
                self.append(partition, value.map(str::to_owned), Vec::new()).await;
            }
            Step::Heartbeat { partition } => self.heartbeat(partition).await,
            Step::Heartbeats => self.heartbeats().await,
            Step::Pass { span } => self.pass(Span::millis(span)),
            Step::FailOver { partition, behind } => {
                self.log.set_broker_skew(partition, Span::millis(-behind)).unwrap();
            }
            Step::LocalClock { process, ahead } => {
                if let Some(process) = &self.processes[process] {
                    process.control.set_clock(Span::millis(ahead));
                }
            }
            Step::CloseDay => self.close_day().await,
            Step::Night => self.night().await,
            Step::NewRules { lateness, horizon } => self.new_rules(lateness, horizon).await,
            Step::Run { millis } => tokio::time::sleep(Duration::from_millis(millis.into())).await,
            Step::Turns { number } => {
                for _ in 0..number {
                    tokio::task::yield_now().await;
                }
            }
            Step::Settle => tokio::time::sleep(Duration::from_millis(150)).await,
            Step::Retention { partition, beyond } => self.retain(partition, beyond).await,
            Step::UncleanElection { partition, lost, fresh } => self.elect(partition, lost, fresh).await,
            Step::RecreateTopic => {
                self.log.recreate(self.plan.partitions);
                let topic = self.log.topic().await.unwrap();
                self.begin_life(topic);
            }
            step => {
                self.damage(step).await;
                self.manage(step).await?;
            }
        }
        Ok(())
    }

    /// What happens to processes.
    async fn manage(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Kill { process, again } | Step::Stop { process, again } => {
                let Some(partitions) = self.processes[process].as_ref().map(|process| process.partitions) else {
                    return Ok(());
                };
                match step {
                    Step::Kill { .. } => self.kill(process).await,
                    _ => self.stop(process).await?,
                }
                if again {
                    self.start(process, partitions);
                }
            }
            Step::CrashAt { process, call, applied } => {
                if let Some(process) = &self.processes[process] {
                    process.control.plan(Fault::Die, call, applied);
                }
            }
            Step::Start { process, partitions } if self.processes[process].is_none() => self.start(process, partitions),
            Step::Rebalance { kill, first, second } => {
                for process in 0..PROCESSES {
                    if kill { self.kill(process).await } else { self.stop(process).await? }
                }
                self.start(0, first);
                self.start(1, second);
            }
            Step::Pause { process } | Step::Continue { process } => {
                if let Some(process) = &self.processes[process] {
                    process.control.pause(matches!(step, Step::Pause { .. }));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What happens to the store.
    async fn damage(&mut self, step: Step) {
        match step {
            Step::LoseReply => self.store.lose_next_reply(),
            Step::FailNext { operations } => self.store.fail_next(operations.into()),
            Step::StoreAway | Step::StoreBack => self.store.go_away(step == Step::StoreAway),
            Step::Rollback { partition, flushes } => {
                self.store.rollback(&self.id(partition), flushes.into());
                self.end_who_counted_lost_records().await;
            }
            Step::FlushAll => self.store.flush_all(),
            Step::DeleteCount { partition, number } | Step::DeleteHour { partition, number } => {
                let id = self.id(partition);
                let Some(mut slice) = self.stored(&id).await.filter(|slice| !slice.counts.is_empty()) else { return };
                slice.counts.sort();
                let key = &slice.counts[usize::from(number) % slice.counts.len()].0;
                match step {
                    Step::DeleteCount { .. } => self.store.delete_count(&id, key),
                    _ => self.store.delete_hour(&id, key.minute.hour()),
                };
                self.partition(partition).damaged.insert(slice.generation);
            }
            Step::DeleteMeta { partition } => _ = self.store.delete_meta(&self.id(partition)),
            Step::Backup => self.backup = Some(self.store.snapshot()),
            Step::Restore => {
                if let Some(backup) = &self.backup {
                    self.store.restore(backup);
                    self.end_who_counted_lost_records().await;
                }
            }
            _ => {}
        }
    }

    /// Where the store goes back behind the beginning of the log, a process that goes on has counted records that the next
    /// one will never see; see `a_writer_that_counted_a_lost_record_writes`.
    async fn end_who_counted_lost_records(&mut self) {
        for number in self.numbers() {
            let position = self.stored(&self.id(number)).await.map_or(Offset::ZERO, |slice| slice.meta.next_offset);
            if position < self.partition(number).deleted_to && !self.plan.lets_lost_be_counted {
                for process in 0..PROCESSES {
                    self.kill(process).await;
                }
            }
        }
    }

    async fn send(&mut self, partition: u32, ad: u8, age: Span) {
        self.next_id += 1;
        let id = self.next_id;
        let event = self.now() - age;
        let sighted = self.append(partition, Some(making::click(&format!("ad-{ad}"), id, event)), Vec::new()).await;
        self.sent.push(Sent { partition, ad, id, event, sighted });
    }

    async fn again(&mut self, back: u8, edge: Option<i64>) {
        if self.sent.is_empty() {
            return;
        }
        let number = self.sent.len() - 1 - usize::from(back) % self.sent.len();
        let Sent { partition, ad, id, sighted, .. } = self.sent[number];
        if let Some(after) = edge {
            let horizon = self.books.rules().on(sighted.day()).live_horizon;
            self.clock.advance_to(sighted + horizon + Span::millis(after));
        }
        let value = making::click(&format!("ad-{ad}"), id, self.now());
        self.sent[number].sighted = self.append(partition, Some(value), Vec::new()).await;
    }

    async fn same_window(&mut self, back: u8, after: i64) {
        if self.sent.is_empty() {
            return;
        }
        let Sent { partition, ad, event, .. } = self.sent[self.sent.len() - 1 - usize::from(back) % self.sent.len()];
        let lateness = self.books.rules().on(event.day()).lateness;
        self.clock.advance_to(event + lateness + Span::millis(after));
        self.send(partition, ad, self.now().since(event)).await;
    }

    async fn night(&mut self) {
        let over = self.books.rules().cut_time(self.books.next_night()) + Span::minutes(2);
        self.clock.advance_to(over);
        self.heartbeats().await;
        self.close_day().await;
    }

    async fn heartbeats(&mut self) {
        for number in self.numbers() {
            self.heartbeat(number).await;
        }
    }

    fn pass(&self, span: Span) {
        self.clock.advance_to(self.now() + span);
    }

    /// They take effect days later, so that no process is behind.
    async fn new_rules(&mut self, lateness: i64, horizon: i64) {
        let (book, effective) = (self.books.rules(), self.now().day().plus(2));
        if book.on(effective.previous()).version == book.last().version && book.last().version < 3 {
            let version = book.last().version + 1;
            let (lateness, live_horizon) = (Span::minutes(lateness), Span::minutes(horizon));
            let rules = Rules { version, lateness, live_horizon, ..Rules::default() };
            self.publish(Body::Rules(RulesChange { effective, rules })).await;
        }
    }

    async fn retain(&mut self, number: u32, beyond: i8) {
        let position = self.stored(&self.id(number)).await.map_or(0, |slice| slice.meta.next_offset.value());
        let bounds = self.log.bounds(number).await.unwrap();
        let before = Offset::new(position.saturating_add_signed(beyond.into()).min(bounds.end.value()));
        // An election is noticed by the last counted record, so that one may not be gone too when the worker comes back.
        let before = self.partition(number).elected.map_or(before, |(_, valid)| before.min(valid));
        self.log.delete_records(number, before).unwrap();
        if before.value() > position {
            self.trace.count("records lost to retention");
        }
        self.partition(number).deleted_to = bounds.first.max(before);
    }

    async fn elect(&mut self, number: u32, lost: u8, fresh: u8) {
        for process in 0..PROCESSES {
            self.kill(process).await;
        }
        let bounds = self.log.bounds(number).await.unwrap();
        let end = bounds.end.minus(lost.into()).max(bounds.first);
        self.log.truncate(number, end).unwrap();
        let generation = self.generation();
        let rules = self.books.rules().clone();
        let partition = self.partition(number);
        partition.records.truncate(end.value() as usize);
        partition.oracle = crate::oracle::Oracle::of(&partition.records, &rules);
        let valid = partition.elected.map_or(end, |(_, before)| before.min(end));
        partition.elected = Some((generation, valid));
        self.sent.clear();
        for _ in 0..fresh {
            self.pass(Span::millis(1));
            self.send(number, 0, Span::ZERO).await;
        }
    }

    /// At any moment what a reader sees is right for the position that it sees, unless it is known to be damaged.
    async fn look(&mut self) -> Result<(), String> {
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
    async fn rest(&mut self) -> Result<End, String> {
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
