//! What is compared with what, and how much they may differ.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use crate::invoice::Field;

/// What has one number on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    who: Option<Field>,
    by_day: bool,
}

/// A text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be compared: use advertiser, campaign, ad or day, or one of the first three with the day, as in ad,day"
)]
pub struct KeysError(String);

impl Keys {
    pub const AD_DAY: Keys = Keys { who: Some(Field::Ad), by_day: true };

    /// Whose clicks are told apart; `None`: all together.
    pub const fn who(self) -> Option<Field> {
        self.who
    }

    pub const fn by_day(self) -> bool {
        self.by_day
    }

    pub(super) const fn without_days(self) -> Keys {
        Keys { by_day: false, ..self }
    }
}

impl FromStr for Keys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let mut keys = Keys { who: None, by_day: false };
        for part in text.split(',').map(str::trim) {
            match part {
                "day" if !keys.by_day => keys.by_day = true,
                "ad" | "campaign" | "advertiser" | "tenant" if keys.who.is_none() => {
                    keys.who = Some(match part {
                        "ad" => Field::Ad,
                        "campaign" => Field::Campaign,
                        _ => Field::Tenant,
                    });
                }
                _ => return Err(KeysError(text.to_owned())),
            }
        }
        Ok(keys)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.who.map(Field::name);
        let parts: Vec<&str> = who.into_iter().chain(self.by_day.then_some("day")).collect();
        f.write_str(&parts.join(","))
    }
}

/// By how much two numbers may differ and still pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Tolerance {
    #[default]
    None,
    /// Of the larger of the two.
    Percent(Decimal),
    Clicks(u64),
}

/// A text that is no tolerance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no tolerance: write 0.1% of the larger number, or 5 clicks")]
pub struct ToleranceError(String);

impl FromStr for Tolerance {
    type Err = ToleranceError;

    fn from_str(text: &str) -> Result<Self, ToleranceError> {
        let wrong = || ToleranceError(text.to_owned());
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = Decimal::from_str_exact(percent.trim()).map_err(|_| wrong())?;
                let is_share = !percent.is_sign_negative() && percent < Decimal::ONE_HUNDRED;
                if is_share { Ok(Tolerance::Percent(percent)) } else { Err(wrong()) }
            }
            None => text.trim().trim_end_matches("clicks").trim().parse().map(Tolerance::Clicks).map_err(|_| wrong()),
        }
    }
}

impl Tolerance {
    pub(super) fn lets(self, ours: u64, theirs: u64) -> bool {
        let difference = ours.abs_diff(theirs);
        match self {
            Tolerance::None => difference == 0,
            Tolerance::Clicks(most) => difference <= most,
            Tolerance::Percent(percent) => {
                Decimal::from(difference) * Decimal::ONE_HUNDRED <= percent * Decimal::from(ours.max(theirs))
            }
        }
    }
}

/// What is compared, and how.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub keys: Keys,
    pub tolerance: Tolerance,
    /// How many keys are held at a time. Where there are more, the file and the tables are read again for the names that come
    /// after those that were held: memory does not grow with them.
    pub keys_max: usize,
}

impl Terms {
    /// Some 550 bytes each.
    pub const KEYS_MAX: usize = 1_000_000;
}
