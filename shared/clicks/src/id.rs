//! Identities: ads, users, clicks, regions, topic lives.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest ad or user id, in characters (all ASCII, so bytes too).
pub const NAME_LENGTH_MAX: usize = 64;

/// Why a text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("is empty; it needs 1 to 64 of A-Z a-z 0-9 _ . -")]
    Empty,
    #[error("has {0} characters; at most 64 are allowed")]
    TooLong(usize),
    #[error("has the character {0:?}; only A-Z a-z 0-9 _ . - are allowed")]
    BadCharacter(char),
    #[error("is no UUID such as 0190f5c4-7c1e-7a40-8000-0242ac120002")]
    NotAUuid,
}

/// A byte that a name may hold.
#[inline]
pub(crate) const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Checks `1-64 of A-Za-z0-9_.-`: what may stand in a key, a path, a field or a CSV cell without quoting.
pub fn check_name(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(is_name_byte)) {
        return Err(IdError::BadCharacter(bad));
    }
    if text.len() > NAME_LENGTH_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_name(text)?;
                Ok($name(text.into()))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $name::parse(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                $name::parse(&text).map_err(|e| serde::de::Error::custom(format!("`{text}` {e}")))
            }
        }
    };
}

name!(
    /// The advertisement that was clicked; the partitioning key of the topic.
    AdId
);
name!(
    /// The user who clicked, as the client names it.
    UserId
);
name!(
    /// Whose an ad is: an advertiser, who may see the numbers of no other one.
    TenantId
);
name!(
    /// Ads of one tenant that are run and paid together. Two tenants may use the same name.
    CampaignId
);
name!(
    /// A region: one Kafka cluster with its speed layer and archiver. A dimension of every path and key.
    Region
);

/// Identity of one click, chosen by the client so that its retry is recognised, or issued by the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClickId(u128);

impl ClickId {
    /// Any UUID version, hyphenated or plain hexadecimal, either case.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text.len() {
            32 | 36 => Uuid::try_parse(text).map(|uuid| ClickId(uuid.as_u128())).map_err(|_| IdError::NotAUuid),
            _ => Err(IdError::NotAUuid),
        }
    }
    pub const fn from_u128(value: u128) -> Self {
        ClickId(value)
    }
    pub const fn as_u128(self) -> u128 {
        self.0
    }
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        ClickId(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(Uuid::from_u128(self.0).as_hyphenated(), f)
    }
}

/// Identity of one topic life: a topic that is deleted and created again under the same name gets another one, and
/// offsets mean nothing across the two. Written as a hyphenated UUID, so that paths are safe on any file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(u128);

impl TopicId {
    pub const fn from_u128(value: u128) -> Self {
        TopicId(value)
    }
    pub const fn as_u128(self) -> u128 {
        self.0
    }
    pub fn parse(text: &str) -> Result<Self, IdError> {
        match text.len() {
            36 => Uuid::try_parse(text).map(|uuid| TopicId(uuid.as_u128())).map_err(|_| IdError::NotAUuid),
            _ => Err(IdError::NotAUuid),
        }
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(Uuid::from_u128(self.0).as_hyphenated(), f)
    }
}

impl Serialize for TopicId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        TopicId::parse(&text).map_err(|e| serde::de::Error::custom(format!("`{text}` {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_out_what_could_be_a_key_a_path_or_a_formula() {
        for good in ["a", "ad-1_2.3", "007", &"x".repeat(64)] {
            assert_eq!(AdId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "{p3}", "a b", "a:b", "=1", "é", "a\0", "../x", &"x".repeat(65)] {
            assert!(AdId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn click_ids_read_any_case_and_print_one_spelling() {
        let text = "0190f5c4-7c1e-7a40-8000-0242ac120002";
        for spelling in [text.to_owned(), text.to_uppercase(), text.replace('-', "")] {
            assert_eq!(ClickId::parse(&spelling).unwrap().to_string(), text);
        }
        for bad in ["", "x", "{0190f5c4-7c1e-7a40-8000-0242ac120002}", "urn:uuid:0190f5c4-7c1e-7a40-8000-0242ac120002"]
        {
            assert_eq!(ClickId::parse(bad), Err(IdError::NotAUuid), "{bad}");
        }
    }
}
