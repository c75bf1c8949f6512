//! Which records are known to be of the topic life that is archived (scenario 12).
//!
//! A reader goes on in a topic that was created again without any error. So a record is trusted only once the topic's id
//! was asked for *after* the record was fetched, and was still the same: an id never comes back. Heartbeats ask every few
//! seconds, so when a topic is deleted, what was fetched before the last of these questions can still be stored. It is
//! the only copy then.
//!
//! Questions are numbered, which orders them where two readings of a clock could be equal.

use std::sync::atomic::{AtomicU64, Ordering};

use clicks::position::Offset;

/// The number of a question.
pub(crate) type Question = u64;

/// Questions for the topic's id, of all tasks of an archiver.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    asked: AtomicU64,
    /// The highest that was answered with the id of the life that is archived.
    answered: AtomicU64,
}

impl Questions {
    /// Before the broker is asked.
    pub(crate) fn ask(&self) -> Question {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The answer was the id of the life that is archived.
    pub(crate) fn answer(&self, question: Question) {
        self.answered.fetch_max(question, Ordering::SeqCst);
    }

    /// The last question that was asked: what was fetched by now is confirmed by any later one.
    pub(crate) fn asked(&self) -> Question {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn answered(&self) -> Question {
        self.answered.load(Ordering::SeqCst)
    }
}

/// What was fetched for one object, by the last question before: one item for each question, not for each record.
#[derive(Debug, Default)]
pub(crate) struct Fetched(Vec<(Question, Offset)>);

impl Fetched {
    /// Everything before `end` was fetched when `asked` was the last question.
    pub(crate) fn push(&mut self, asked: Question, end: Offset) {
        match self.0.last_mut().filter(|(last, _)| *last == asked) {
            Some((_, last_end)) => *last_end = end,
            None => self.0.push((asked, end)),
        }
    }

    /// Every record before this offset is of the right life, when `answered` is the last question that was answered well.
    pub(crate) fn confirmed(&self, answered: Question) -> Offset {
        self.0.iter().rev().find(|(asked, _)| *asked < answered).map_or(Offset::ZERO, |(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_question_confirms() {
        let (questions, mut fetched) = (Questions::default(), Fetched::default());
        let early = questions.ask();
        fetched.push(questions.asked(), Offset::new(10));
        questions.answer(early);
        assert_eq!(fetched.confirmed(questions.answered()), Offset::ZERO, "it was asked before the fetch");
        let later = questions.ask();
        fetched.push(questions.asked(), Offset::new(20));
        fetched.push(questions.asked(), Offset::new(25));
        questions.answer(later);
        assert_eq!(fetched.confirmed(questions.answered()), Offset::new(10));
        questions.answer(early);
        assert_eq!(fetched.confirmed(questions.answered()), Offset::new(10), "answers may come in any order");
        questions.answer(questions.ask());
        assert_eq!(fetched.confirmed(questions.answered()), Offset::new(25));
    }
}
