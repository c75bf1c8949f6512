//! Groups: who owns what, when members come and go.

use std::time::Duration;

use clicks::position::Offset;
use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::{LogUnderTest, append, offsets, read};
use crate::log::{Assignment, Log, Membership};

/// Sessions of real groups last seconds, and so may a rebalance with a member that does not answer.
const LONG: Duration = Duration::from_secs(60);
/// Between two looks at a member.
const LOOK: Duration = Duration::from_millis(20);
const GROUP: &str = "conformance";

pub(super) async fn suite<L: LogUnderTest>(under_test: &L) {
    members_share_all_partitions(under_test).await;
    more_members_than_partitions_wait(under_test).await;
    groups_do_not_see_each_other(under_test).await;
    a_group_leaves_readers_alone(under_test).await;
    a_question_that_is_dropped_loses_nothing(under_test).await;
}

/// A member, and what it was last given.
struct Watched {
    membership: Box<dyn Membership>,
    /// `None` before the group said anything.
    owned: Option<Assignment>,
    gains: usize,
    losses: usize,
}

impl Watched {
    async fn join(log: &impl Log, group: &str) -> Self {
        Watched { membership: log.join(group).await.unwrap(), owned: None, gains: 0, losses: 0 }
    }

    /// Takes what is new.
    async fn look(&mut self) {
        while let Ok(next) = timeout(LOOK, self.membership.next()).await {
            let next = next.unwrap();
            let before = self.owned.take().unwrap_or_default();
            self.gains += next.difference(&before).count();
            self.losses += before.difference(&next).count();
            self.owned = Some(next);
        }
    }

    fn count(&self) -> usize {
        self.owned.as_ref().map_or(0, Assignment::len)
    }
}

/// Waits until the members own every partition once, as evenly as can be.
async fn shared(members: &mut [Watched], partitions: u32) {
    let began = Instant::now();
    loop {
        join_all(members.iter_mut().map(Watched::look)).await;
        let sizes: Vec<_> = members.iter().map(Watched::count).collect();
        let all: Assignment = members.iter().filter_map(|member| member.owned.clone()).flatten().collect();
        let is_even = sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1;
        if all.into_iter().eq(0..partitions) && sizes.iter().sum::<usize>() == partitions as usize && is_even {
            return;
        }
        let owned: Vec<_> = members.iter().map(|member| &member.owned).collect();
        assert!(began.elapsed() < LONG, "{partitions} partitions are not shared: {owned:?}");
    }
}

async fn members_share_all_partitions<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(6).await;
    let mut members = vec![Watched::join(&log, GROUP).await];
    shared(&mut members, 6).await;
    for others in [1, 2] {
        members.push(Watched::join(&log, GROUP).await);
        shared(&mut members, 6).await;
        let losses: Vec<_> = members.iter().map(|member| member.losses).collect();
        // 6 -> 3 + 3 -> 2 + 2 + 2: nobody gives up more than the new one gets, and whoever stays gains nothing.
        assert_eq!(losses.iter().sum::<usize>(), [3, 5][others - 1], "more moved than must: {losses:?}");
    }
    let gains = |members: &[Watched]| members.iter().map(|member| member.gains).collect::<Vec<_>>();
    assert_eq!(gains(&members), [6, 3, 2], "nothing comes back to whoever gave it up");

    let leaves = members.remove(1);
    let kept: Vec<_> = members.iter().map(|member| member.owned.clone().unwrap()).collect();
    leaves.membership.leave().await;
    shared(&mut members, 6).await;
    drop(members.remove(1));
    shared(&mut members, 6).await;
    assert!(kept[0].is_subset(members[0].owned.as_ref().unwrap()));
    assert_eq!(members[0].losses, 4, "what it had when others left stayed with it");
}

async fn more_members_than_partitions_wait<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    let mut members = vec![Watched::join(&log, GROUP).await, Watched::join(&log, GROUP).await];
    shared(&mut members, 1).await;
    let began = Instant::now();
    while members.iter().any(|member| member.owned.is_none()) {
        assert!(began.elapsed() < LONG, "a member that owns nothing is told so");
        join_all(members.iter_mut().map(Watched::look)).await;
    }
    let owner = members.iter().position(|member| member.count() == 1).unwrap();
    drop(members.remove(owner));
    shared(&mut members, 1).await;
}

async fn groups_do_not_see_each_other<L: LogUnderTest>(under_test: &L) {
    let (log, other) = (under_test.fresh(2).await, under_test.fresh(3).await);
    let mut first = [Watched::join(&log, GROUP).await];
    let mut second = [Watched::join(&log, "another").await];
    let mut elsewhere = [Watched::join(&other, GROUP).await];
    tokio::join!(shared(&mut first, 2), shared(&mut second, 2), shared(&mut elsewhere, 3));
    for member in first.iter().chain(&second).chain(&elsewhere) {
        assert_eq!(member.losses, 0);
    }
}

async fn a_group_leaves_readers_alone<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(2).await;
    append(&log, 0, (0..5).map(|n| format!("{n}"))).await;
    let mut reader = log.open(0, Offset::new(1)).await.unwrap();
    assert_eq!(offsets(&read(&mut *reader, 2).await), [1, 2]);
    let mut members = vec![Watched::join(&log, GROUP).await];
    shared(&mut members, 2).await;
    append(&log, 0, (5..50).map(|n| format!("{n}"))).await;
    members.push(Watched::join(&log, GROUP).await);
    shared(&mut members, 2).await;
    assert!(offsets(&read(&mut *reader, 47).await).into_iter().eq(3..50), "the reader goes on where it was");
    drop(members);
    assert!(offsets(&read(&mut *log.open(0, Offset::ZERO).await.unwrap(), 50).await).into_iter().eq(0..50));
}

async fn a_question_that_is_dropped_loses_nothing<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(4).await;
    let mut member = Watched::join(&log, GROUP).await;
    let began = Instant::now();
    let mut dropped = 0;
    let first = loop {
        match timeout(Duration::from_micros(dropped % 7 * 50), member.membership.next()).await {
            Ok(first) if dropped > 0 => break first.unwrap(),
            // Those that answer at once cannot be dropped without an answer.
            Ok(first) => {
                assert_eq!(first.unwrap().len(), 4);
                return;
            }
            Err(_) => dropped += 1,
        }
        assert!(began.elapsed() < LONG, "the first assignment was lost with a question");
        tokio::task::yield_now().await;
    };
    assert_eq!(first.len(), 4);
}
