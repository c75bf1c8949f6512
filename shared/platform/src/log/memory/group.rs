//! The coordinator of groups in memory.
//!
//! What a member must give up and what another one gets takes effect at the same moment, so for as long as the one has
//! not asked again, both own it. Kafka's cooperative protocol has such moments only when a session timed out; whoever is
//! right here is right there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::super::{Assignment, LogError, Membership};

/// All groups of a topic.
pub(super) struct Groups(Mutex<Coordinator>);

struct Coordinator {
    partitions: u32,
    dead_linger: bool,
    groups: BTreeMap<String, Group>,
}

/// Members by number, which is the order in which they joined.
#[derive(Default)]
struct Group {
    joined: u64,
    members: BTreeMap<u64, Member>,
}

struct Member {
    owned: watch::Sender<Assignment>,
    is_alive: bool,
}

impl Groups {
    pub(super) fn new(partitions: u32) -> Self {
        Groups(Mutex::new(Coordinator { partitions, dead_linger: false, groups: BTreeMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Coordinator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn resize(&self, partitions: u32) {
        let mut coordinator = self.lock();
        coordinator.partitions = partitions;
        coordinator.groups.values_mut().for_each(|group| group.share(partitions));
    }

    pub(super) fn let_the_dead_linger(&self) {
        self.lock().dead_linger = true;
    }

    pub(super) fn end_sessions(&self) {
        let mut coordinator = self.lock();
        let partitions = coordinator.partitions;
        for group in coordinator.groups.values_mut() {
            group.members.retain(|_, member| member.is_alive);
            group.share(partitions);
        }
    }

    pub(super) fn end_oldest_session(&self, group: &str) {
        let mut coordinator = self.lock();
        let partitions = coordinator.partitions;
        if let Some(group) = coordinator.groups.get_mut(group) {
            group.members.pop_first();
            group.share(partitions);
        }
    }

    fn join(&self, group: &str) -> (u64, watch::Receiver<Assignment>) {
        let mut coordinator = self.lock();
        let partitions = coordinator.partitions;
        let group = coordinator.groups.entry(group.to_owned()).or_default();
        let number = group.joined;
        group.joined += 1;
        let owned = watch::Sender::new(Assignment::new());
        let mut receiver = owned.subscribe();
        group.members.insert(number, Member { owned, is_alive: true });
        group.share(partitions);
        // The first assignment is news even when it is empty.
        receiver.mark_changed();
        (number, receiver)
    }

    fn leave(&self, group: &str, number: u64) {
        let mut coordinator = self.lock();
        let partitions = coordinator.partitions;
        if let Some(group) = coordinator.groups.get_mut(group)
            && group.members.remove(&number).is_some()
        {
            group.share(partitions);
        }
    }

    fn dropped(&self, group: &str, number: u64) {
        let mut coordinator = self.lock();
        if !coordinator.dead_linger {
            drop(coordinator);
            return self.leave(group, number);
        }
        if let Some(member) = coordinator.groups.get_mut(group).and_then(|group| group.members.get_mut(&number)) {
            member.is_alive = false;
        }
    }
}

impl Group {
    fn share(&mut self, partitions: u32) {
        let mut owned = self.members.iter().map(|(number, member)| (*number, member.owned.borrow().clone())).collect();
        share(&mut owned, partitions);
        for (number, now) in owned {
            self.members[&number].owned.send_if_modified(|before| {
                let is_new = *before != now;
                *before = now;
                is_new
            });
        }
    }
}

/// Shares `0..partitions` evenly among the members, who keep what they have as far as it is even.
fn share(owned: &mut BTreeMap<u64, Assignment>, partitions: u32) {
    let members = owned.len() as u32;
    let Some(each) = partitions.checked_div(members) else { return };
    let mut one_more = partitions % members;
    owned.values_mut().for_each(|owned| owned.retain(|number| *number < partitions));
    // Those who own most are the ones who may own one more.
    let mut order: Vec<u64> = owned.keys().copied().collect();
    order.sort_by_key(|member| std::cmp::Reverse(owned[member].len()));
    let mut room = Vec::new();
    let mut free: BTreeSet<u32> = (0..partitions).collect();
    for member in order {
        let most = each as usize + usize::from(one_more > 0);
        one_more = one_more.saturating_sub(1);
        let Some(owned) = owned.get_mut(&member) else { continue };
        while owned.len() > most {
            owned.pop_last();
        }
        free.retain(|number| !owned.contains(number));
        room.extend(std::iter::repeat_n(member, most - owned.len()));
    }
    for (member, number) in room.into_iter().zip(free) {
        owned.entry(member).or_default().insert(number);
    }
}

pub(super) struct MemoryMembership {
    groups: Arc<Groups>,
    group: String,
    number: u64,
    owned: watch::Receiver<Assignment>,
}

impl MemoryMembership {
    pub(super) fn join(groups: Arc<Groups>, group: &str) -> Self {
        let (number, owned) = groups.join(group);
        MemoryMembership { groups, group: group.to_owned(), number, owned }
    }
}

#[async_trait]
impl Membership for MemoryMembership {
    async fn next(&mut self) -> Result<Assignment, LogError> {
        if self.owned.changed().await.is_ok() {
            return Ok(self.owned.borrow_and_update().clone());
        }
        // Its session ended: all is lost, and it begins anew.
        (self.number, self.owned) = self.groups.join(&self.group);
        Ok(Assignment::new())
    }

    async fn leave(self: Box<Self>) {
        self.groups.leave(&self.group, self.number);
    }
}

impl Drop for MemoryMembership {
    fn drop(&mut self) {
        self.groups.dropped(&self.group, self.number);
    }
}

impl fmt::Debug for MemoryMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryMembership").field("group", &self.group).field("number", &self.number).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each member owns.
    type Owned<'a> = &'a [&'a [u32]];

    fn members(owned: Owned<'_>) -> BTreeMap<u64, Assignment> {
        (0..).zip(owned).map(|(member, owned)| (member, owned.iter().copied().collect())).collect()
    }

    #[test]
    fn partitions_are_shared_evenly_and_stay_where_they_are() {
        let cases: [(&str, Owned<'_>, u32, Owned<'_>); 7] = [
            ("the first", &[&[]], 3, &[&[0, 1, 2]]),
            ("one joins", &[&[0, 1, 2], &[]], 3, &[&[0, 1], &[2]]),
            ("one more joins", &[&[0, 1], &[2], &[]], 3, &[&[0], &[2], &[1]]),
            ("one left", &[&[0], &[1]], 3, &[&[0, 2], &[1]]),
            ("more members than partitions", &[&[0], &[1], &[]], 2, &[&[0], &[1], &[]]),
            ("fewer partitions", &[&[0, 3], &[1, 2]], 2, &[&[0], &[1]]),
            ("an uneven share", &[&[1], &[0, 2, 3]], 4, &[&[1, 3], &[0, 2]]),
        ];
        for (what, before, partitions, after) in cases {
            let mut owned = members(before);
            share(&mut owned, partitions);
            assert_eq!(owned, members(after), "{what}");
        }
        share(&mut BTreeMap::new(), 3);
    }

    #[tokio::test]
    async fn the_dead_are_missed_when_their_session_ends() {
        let groups = Arc::new(Groups::new(4));
        let mut stays = MemoryMembership::join(groups.clone(), "g");
        assert_eq!(stays.next().await.unwrap().len(), 4);
        groups.let_the_dead_linger();
        let dies = MemoryMembership::join(groups.clone(), "g");
        assert_eq!(stays.next().await.unwrap().len(), 2);
        drop(dies);
        assert!(!stays.owned.has_changed().unwrap(), "nobody knows yet");
        groups.end_sessions();
        assert_eq!(stays.next().await.unwrap().len(), 4);
        groups.end_oldest_session("g");
        assert_eq!(stays.next().await.unwrap().len(), 0, "all is lost");
        assert_eq!(stays.next().await.unwrap().len(), 4, "and taken anew");
    }
}
