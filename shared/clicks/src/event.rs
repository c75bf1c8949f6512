//! A click as both layers see it.

use crate::id::{AdId, ClickId, UserId};
use crate::time::Timestamp;

/// One click, readable and complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Click {
    pub click_id: ClickId,
    pub ad_id: AdId,
    pub user_id: UserId,
    /// When the user clicked: milliseconds UTC, floored.
    pub event_time: Timestamp,
}

/// The kind of traffic of a click: part of the counter key and a column of every table, so that more can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Valid,
}

impl Class {
    pub const ALL: [Class; 1] = [Class::Valid];

    /// As it stands in the tables and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Valid => "valid",
        }
    }

    /// As it stands in Redis, where every byte is stored once per minute and ad.
    pub const fn code(self) -> char {
        match self {
            Class::Valid => 'v',
        }
    }

    pub fn from_code(code: char) -> Option<Self> {
        Class::ALL.into_iter().find(|class| class.code() == code)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Class::ALL.into_iter().find(|class| class.name() == name)
    }
}
