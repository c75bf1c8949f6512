//! Applying entries: each is checked against the books before it changes them.

use super::{Books, BooksError, DayAdjustment, DayBook, Deed, Note, PeriodState, WithheldDay, partitions_of};
use crate::ledger::{Acceptance, Body, Entry, Epoch, Night, PeriodAction, PeriodChange, Recount, TopicLife};
use crate::position::Offset;
use crate::tables::EntryNumber;
use crate::time::{Day, Timestamp};

impl Books {
    /// Applies the next entry, or refuses it and changes nothing.
    pub fn apply(&mut self, entry: &Entry, hash: String) -> Result<(), BooksError> {
        if entry.number != self.head + 1 {
            return Err(BooksError::NotConsecutive { head: self.head, found: entry.number });
        }
        if entry.previous != self.head_hash {
            return Err(BooksError::BrokenChain(entry.number));
        }
        match &entry.body {
            Body::Genesis(_) => return Err(BooksError::Genesis(entry.number)),
            Body::Topic(life) => self.apply_topic(entry.number, life)?,
            Body::Epoch(epoch) => self.apply_epoch(entry.number, epoch)?,
            Body::Rules(change) => {
                self.rules
                    .add(change.effective, change.rules.clone())
                    .map_err(|source| BooksError::Rules { entry: entry.number, source })?;
            }
            Body::Night(night) => self.apply_night(entry.number, night)?,
            Body::Period(change) => self.apply_period(entry.number, change)?,
            Body::Recount(recount) => self.apply_recount(entry.number, recount)?,
        }
        self.head = entry.number;
        self.head_hash = hash;
        Ok(())
    }

    fn apply_topic(&mut self, entry: EntryNumber, life: &TopicLife) -> Result<(), BooksError> {
        let known = |other: &&TopicLife| other.region == life.region && other.topic_id == life.topic_id;
        if self.lives.iter().find(known).is_some() {
            return Err(BooksError::KnownTopic { entry, topic: life.topic_id });
        }
        self.lives.push(life.clone());
        Ok(())
    }

    fn apply_epoch(&mut self, entry: EntryNumber, epoch: &Epoch) -> Result<(), BooksError> {
        let topic = epoch.topic_id;
        let current = self.lives.iter_mut().rev().find(|life| life.region == epoch.region);
        let life = current.filter(|life| life.topic_id == topic).ok_or(BooksError::UnknownTopic { entry, topic })?;
        if epoch.partitions <= life.partitions {
            let (known, found) = (life.partitions, epoch.partitions);
            return Err(BooksError::Partitions { entry, topic, known, found });
        }
        let before = std::mem::replace(&mut life.partitions, epoch.partitions);
        self.grown.entry((epoch.region.clone(), topic)).or_default().push(before);
        Ok(())
    }

    fn apply_night(&mut self, entry: EntryNumber, night: &Night) -> Result<(), BooksError> {
        self.check_night(entry, night)?;
        for revision in &night.days {
            let before = self.days.remove(&revision.day);
            let own = night.accepted.as_ref().filter(|_| revision.day == night.night);
            let book = DayBook {
                revision: revision.clone(),
                entry,
                is_final: false,
                is_held: before.as_ref().is_some_and(|book| book.is_held),
                is_reopened: false,
                adjustments: Vec::new(),
                accepted: own.cloned().or(before.and_then(|book| book.accepted)),
            };
            self.days.insert(revision.day, book);
        }
        if let Some(withheld) = &night.withheld {
            self.withheld.insert(night.night, WithheldDay { entry, objections: withheld.objections.clone() });
        }
        if let Some(accepted) = &night.accepted {
            self.note_acceptance(entry, night.night, accepted, night.published_at);
        }
        for day in &night.finals {
            if let Some(book) = self.days.get_mut(day) {
                book.is_final = true;
            }
        }
        if let Some(adjustments) = &night.adjustments {
            for (day, clicks) in &adjustments.clicks {
                let of_day = match self.days.get_mut(day) {
                    Some(book) => &mut book.adjustments,
                    None => self.early.entry(*day).or_default(),
                };
                of_day.push(DayAdjustment { night: night.night, clicks: *clicks, file: adjustments.file.clone() });
            }
        }
        self.cuts.extend(night.cuts.iter().map(|(partition, cut)| (partition.clone(), *cut)));
        self.note_overtaken(night.night);
        self.last_night = Some((night.night, entry));
        Ok(())
    }

    /// A life in use has a record in every partition within seconds: heartbeats. Where a later life has some before the
    /// night's cut, the ones before it were over by then.
    fn note_overtaken(&mut self, night: Day) {
        let begun =
            |life: &TopicLife| partitions_of(life).all(|id| self.cuts.get(&id).is_some_and(|cut| *cut > Offset::ZERO));
        for (n, life) in self.lives.iter().enumerate() {
            if self.lives[n + 1..].iter().any(|later| later.region == life.region && begun(later)) {
                self.overtaken.entry((life.region.clone(), life.topic_id)).or_insert(night);
            }
        }
    }

    fn check_night(&self, entry: EntryNumber, night: &Night) -> Result<(), BooksError> {
        if night.night != self.next_night() {
            return Err(BooksError::NightOutOfOrder { entry, found: night.night, expected: self.next_night() });
        }
        for (partition, before) in &self.cuts {
            match night.cuts.get(partition) {
                Some(found) if found >= before => {}
                found => {
                    let found = found.copied().unwrap_or_default();
                    return Err(BooksError::CutWentBack {
                        entry,
                        partition: partition.clone(),
                        before: *before,
                        found,
                    });
                }
            }
        }
        let wrong = |day: Day, state: &'static str| BooksError::WrongState { entry, day, state };
        for revision in &night.days {
            self.check_revision(entry, revision.day, revision.revision)?;
            let state = self.state(revision.day);
            if !(state == PeriodState::Closed || revision.day == night.night) {
                return Err(wrong(revision.day, state.name()));
            }
        }
        let own = night.days.iter().filter(|revision| revision.day == night.night).count();
        match (own, &night.withheld) {
            (1, None) | (0, Some(_)) => {}
            (0, None) => return Err(wrong(night.night, "left out")),
            _ => return Err(wrong(night.night, "both published and withheld, or published twice")),
        }
        let adjusted = night.adjustments.iter().flat_map(|a| a.clicks.keys());
        for day in adjusted {
            if !self.state(*day).is_settled() {
                return Err(wrong(*day, self.state(*day).name()));
            }
        }
        for day in &night.finals {
            match self.days.get(day) {
                Some(book) if book.is_held => return Err(wrong(*day, "held")),
                Some(book) if !book.is_final => {}
                _ => return Err(wrong(*day, self.state(*day).name())),
            }
        }
        Ok(())
    }

    fn check_revision(&self, entry: EntryNumber, day: Day, found: u32) -> Result<(), BooksError> {
        let before = self.days.get(&day).map_or(0, |book| book.revision.revision);
        match found == before + 1 {
            true => Ok(()),
            false => Err(BooksError::Revision { entry, day, found, before }),
        }
    }

    fn apply_period(&mut self, entry: EntryNumber, change: &PeriodChange) -> Result<(), BooksError> {
        let PeriodChange { day, action, actor, reason, at } = change;
        let state = self.state(*day);
        let is_held = self.days.get(day).is_some_and(|book| book.is_held);
        let mend = match (action, state) {
            (PeriodAction::Approve, PeriodState::Closed) => None,
            (PeriodAction::Hold, PeriodState::Closed) if is_held => Some("it is held already"),
            (PeriodAction::Hold, PeriodState::Closed) => None,
            (PeriodAction::Reopen, PeriodState::Final | PeriodState::Adjusted) if self.days.contains_key(day) => None,
            (_, PeriodState::Live) => Some("wait until its night has run"),
            (_, PeriodState::Withheld) => Some("publish it first: run it with a reason for accepting it"),
            (PeriodAction::Reopen, PeriodState::Closed) => {
                Some("it needs none: the next night checks it again by itself")
            }
            (_, PeriodState::Reopened) => Some("run it, which publishes its next revision"),
            (PeriodAction::Reopen, _) => Some("days before the first one have nothing that could be counted again"),
            (PeriodAction::Approve | PeriodAction::Hold, _) => Some("reopen it if its revision is wrong"),
        };
        if let Some(mend) = mend {
            let action = action.done();
            return Err(BooksError::Period { entry, day: *day, state, action, mend });
        }
        if let Some(book) = self.days.get_mut(day) {
            match action {
                PeriodAction::Approve => (book.is_final, book.is_held) = (true, false),
                PeriodAction::Hold => book.is_held = true,
                PeriodAction::Reopen => book.is_reopened = true,
            }
        }
        let deed = match action {
            PeriodAction::Approve => Deed::Approve,
            PeriodAction::Hold => Deed::Hold,
            PeriodAction::Reopen => Deed::Reopen,
        };
        self.note(*day, Note { entry, deed, actor: actor.clone(), reason: reason.clone(), at: *at });
        Ok(())
    }

    fn apply_recount(&mut self, entry: EntryNumber, recount: &Recount) -> Result<(), BooksError> {
        let day = recount.day.day;
        self.check_revision(entry, day, recount.day.revision)?;
        if self.last_night() != Some(recount.night) {
            let (found, last) = (recount.night, self.last_night());
            return Err(BooksError::NotAtTheLastNight { entry, day, found, last });
        }
        let state = self.state(day);
        if !matches!(state, PeriodState::Withheld | PeriodState::Reopened) {
            return Err(BooksError::WrongState { entry, day, state: state.name() });
        }
        if !self.adjustments(day).iter().map(|adjustment| adjustment.night).eq(recount.absorbs.iter().copied()) {
            return Err(BooksError::Absorbs { entry, day });
        }
        let before = self.days.remove(&day);
        let book = DayBook {
            revision: recount.day.clone(),
            entry,
            is_final: state == PeriodState::Reopened,
            is_held: false,
            is_reopened: false,
            adjustments: Vec::new(),
            accepted: recount.accepted.clone().or(before.and_then(|book| book.accepted)),
        };
        self.withheld.remove(&day);
        self.days.insert(day, book);
        if let Some(accepted) = &recount.accepted {
            self.note_acceptance(entry, day, accepted, recount.published_at);
        }
        Ok(())
    }

    fn note_acceptance(&mut self, entry: EntryNumber, day: Day, accepted: &Acceptance, at: Timestamp) {
        let (actor, reason) = (accepted.actor.clone(), accepted.reason.clone());
        self.note(day, Note { entry, deed: Deed::Accept, actor, reason, at });
    }

    fn note(&mut self, day: Day, note: Note) {
        self.notes.entry(day).or_default().push(note);
    }
}
