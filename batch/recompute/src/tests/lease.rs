//! The lease: who computes. And that nothing depends on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clicks::time::{Span, Timestamp};
use futures::FutureExt;
use platform::clock::{Clock, SimulatedClock};
use platform::ledger::Ledger;
use platform::objects::Objects;
use tokio::sync::{Barrier, Notify};

use super::hooked::{Hooked, When};
use super::oracle::check;
use super::world::{World, at, cut_time, day, partition};
use crate::{Acquired, Held, LEASE, LEASE_MAX, Lease, NightOutcome, acquire, give_back, run_night};

const LENGTH: Span = Span::minutes(2);

struct Desk {
    objects: Objects,
    simulated: Arc<SimulatedClock>,
    clock: Arc<dyn Clock>,
}

impl Desk {
    fn new(objects: Objects) -> Self {
        let simulated = Arc::new(SimulatedClock::new(at(2, 0, 30)));
        Desk { objects, clock: simulated.clone(), simulated }
    }

    async fn ask(&self, holder: &str) -> Acquired {
        acquire(&self.objects, &self.clock, holder, LENGTH).await.unwrap()
    }

    async fn take(&self, holder: &str) -> Lease {
        match self.ask(holder).await {
            Acquired::Ours(lease) => lease,
            Acquired::Theirs(held) => panic!("{held:?}"),
        }
    }

    async fn refused(&self, holder: &str) -> Held {
        match self.ask(holder).await {
            Acquired::Theirs(held) => held,
            Acquired::Ours(lease) => panic!("{lease:?}"),
        }
    }

    async fn stored(&self) -> Option<Held> {
        self.objects.get(LEASE).await.unwrap().map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// Moves the clock and lets tasks run that wait for it.
    async fn pass(&self, span: Span) {
        self.simulated.advance_to(self.clock.now() + span);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn one_holds_it_the_other_is_told_who_and_it_is_free_again_after() {
    let desk = Desk::new(Objects::memory());
    let lease = desk.take("a").await;
    let held = desk.refused("b").await;
    assert_eq!((held.holder.as_str(), held.since, held.until), ("a", at(2, 0, 30), at(2, 0, 32)));
    lease.release().await.unwrap();
    assert_eq!(desk.stored().await, None);
    desk.take("b").await.release().await.unwrap();
}

#[tokio::test]
async fn the_lease_of_a_killed_run_ends_by_itself() {
    let desk = Desk::new(Objects::memory());
    drop(desk.take("killed").await);
    desk.pass(Span::millis(LENGTH.as_millis() - 1)).await;
    assert_eq!(desk.refused("next").await.holder, "killed");
    desk.pass(Span::millis(1)).await;
    desk.take("next").await.release().await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_stopped_gives_back_its_own_lease_alone() {
    let desk = Desk::new(Objects::memory());
    drop(desk.take("stopped").await);
    give_back(&desk.objects, "other").await.unwrap();
    assert_eq!(desk.refused("next").await.holder, "stopped");
    give_back(&desk.objects, "stopped").await.unwrap();
    desk.take("next").await.release().await.unwrap();
}

#[tokio::test]
async fn a_run_that_goes_on_renews_its_lease() {
    let desk = Desk::new(Objects::memory());
    let lease = desk.take("a").await;
    // Until its first wait the keeper has not run at all.
    desk.pass(Span::ZERO).await;
    for _ in 0..6 {
        desk.pass(Span::seconds(40)).await;
        assert_eq!(desk.refused("b").await.until, desk.clock.now() + LENGTH);
    }
    lease.release().await.unwrap();
    desk.pass(LENGTH).await;
    assert_eq!(desk.stored().await, None, "nobody renews what was given back");
}

/// A process that slept longer than its lease finds another one at work, and leaves its lease alone.
#[tokio::test]
async fn what_was_taken_over_is_neither_renewed_nor_given_back() {
    let desk = Desk::new(Objects::memory());
    let slept = desk.take("slept").await;
    desk.simulated.advance_to(at(2, 1, 0));
    let other = desk.take("other").await;
    desk.pass(Span::seconds(1)).await;
    assert_eq!(desk.stored().await.unwrap().holder, "other");
    slept.release().await.unwrap();
    assert_eq!(desk.stored().await.unwrap().holder, "other");
    other.release().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_cannot_be_believed_keeps_nobody_out() {
    let desk = Desk::new(Objects::memory());
    let until =
        |until: Timestamp| format!(r#"{{"version":1,"holder":"ahead","since":0,"until":{}}}"#, until.as_millis());
    let believed = until(desk.clock.now() + LEASE_MAX);
    let ahead = until(desk.clock.now() + LEASE_MAX + Span::millis(1));
    for (text, believable) in [(believed, true), (ahead, false), ("no json".to_owned(), false)] {
        desk.objects.put(LEASE, text.clone().into()).await.unwrap();
        assert_eq!(matches!(desk.ask("b").await, Acquired::Theirs(_)), believable, "{text}");
    }
    let newer = r#"{"version":2,"holder":"ahead","since":0,"until":9999999999999}"#;
    desk.objects.put(LEASE, newer.into()).await.unwrap();
    desk.take("b").await.release().await.unwrap();
}

/// Two puts of the lease meet before the first of them lands, and again before either is read back.
fn meeting(objects: &Objects) -> Objects {
    let barrier = Arc::new(Barrier::new(2));
    let hook = move |key: String, _: When| {
        let barrier = barrier.clone();
        async move {
            if key == LEASE {
                barrier.wait().await;
            }
        }
        .boxed()
    };
    Objects::over(Arc::new(Hooked::new(objects.store(), hook)), "memory:///")
}

#[tokio::test]
async fn of_two_that_ask_at_once_one_gets_it() {
    let left = r#"{"version":1,"holder":"killed","since":0,"until":1}"#;
    for before in [None, Some(left)] {
        let objects = Objects::memory();
        if let Some(left) = before {
            objects.put(LEASE, left.into()).await.unwrap();
        }
        // Both find it free, and both write before either reads back.
        let desk = Desk::new(meeting(&objects));
        let (one, two) = tokio::join!(desk.ask("one"), desk.ask("two"));
        let ours = [&one, &two].iter().filter(|got| matches!(got, Acquired::Ours(_))).count();
        assert_eq!(ours, 1, "left before: {before:?}");
    }
}

/// The bad case: the second finds the lease run out, sleeps, and writes after the first has read its own back. Both
/// believe that they hold it, both compute the night, and the ledger lets one of them publish.
#[tokio::test]
async fn two_that_both_believe_to_hold_it_publish_one_night() {
    let mut world = World::new(2).await;
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.cover(1).await;
    world.objects.put(LEASE, r#"{"version":1,"holder":"killed","since":0,"until":1}"#.into()).await.unwrap();
    let (asleep, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let hook = {
        let (asleep, go_on) = (asleep.clone(), go_on.clone());
        move |key: String, when: When| {
            let (asleep, go_on) = (asleep.clone(), go_on.clone());
            async move {
                if key == LEASE && when == When::Before {
                    asleep.notify_one();
                    go_on.notified().await;
                }
            }
            .boxed()
        }
    };
    let slow = Desk::new(Objects::over(Arc::new(Hooked::new(world.objects.store(), hook)), "memory:///"));
    let fast = Desk::new(world.objects.clone());
    let first = async {
        asleep.notified().await;
        let lease = fast.take("fast").await;
        go_on.notify_one();
        lease
    };
    let (_second, _first) = tokio::join!(slow.take("slow"), first);

    let (barrier, nights) = (Arc::new(Barrier::new(2)), AtomicUsize::new(0));
    let hook = move |key: String, when: When| {
        let barrier = barrier.clone();
        async move {
            if key.starts_with("ledger/") && when == When::Before {
                barrier.wait().await;
            }
        }
        .boxed()
    };
    let objects = Objects::over(Arc::new(Hooked::new(world.objects.store(), hook)), "memory:///");
    let clocks = [0, 1].map(|millis| SimulatedClock::new(cut_time(1) + Span::millis(millis)));
    let ledger = Ledger::new(objects.clone());
    let run = |i: usize| run_night(&world.options, &objects, &ledger, &clocks[i], Some(day(1)));
    let (one, two) = tokio::join!(run(0), run(1));
    for outcome in [one.unwrap(), two.unwrap()] {
        nights.fetch_add(usize::from(matches!(outcome, NightOutcome::Published(_))), Ordering::SeqCst);
    }
    assert_eq!(nights.into_inner(), 1);
    check(&world, 1, 1).await;
}
