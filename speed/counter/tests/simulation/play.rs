//! Plays a plan, and at its end lets everything come to rest and looks whether the store is right.

use std::time::Duration;

use clicks::ledger::{Body, RulesChange};
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::time::Span;
use platform::log::Log;

use crate::control::Fault;
use crate::making;
use crate::plan::{PROCESSES, Plan, Step};
use crate::tally::Tally;
use crate::world::{GROUP, Sent, World};

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
            Step::EndSession => self.log.end_oldest_session(GROUP),
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
                self.partition(partition).went_back = true;
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
                    self.numbers().for_each(|number| self.partition(number).went_back = true);
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
            let partition = self.partition(number);
            let is_behind = partition.went_back && position < partition.deleted_to;
            if is_behind && !self.plan.lets_lost_be_counted {
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

    pub(crate) async fn heartbeats(&mut self) {
        for number in self.numbers() {
            self.heartbeat(number).await;
        }
    }

    pub(crate) fn pass(&self, span: Span) {
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
        let partition = self.partition(number);
        partition.deleted_to = bounds.first.max(before);
        partition.deletions.push(partition.deleted_to);
        self.end_who_counted_lost_records().await;
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
}
