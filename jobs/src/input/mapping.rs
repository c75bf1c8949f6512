//! Which column holds what: `ad_id=campaign,timestamp=click_time`.

use std::fmt;
use std::str::FromStr;

/// What a click is made of, as the user's file may hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    AdId,
    UserId,
    ClickId,
    Timestamp,
    /// When the click arrived; no key of a mapping, `--arrival` names its column.
    Arrival,
}

impl Field {
    pub const ALL: [Field; 5] = [Field::AdId, Field::UserId, Field::ClickId, Field::Timestamp, Field::Arrival];
    /// Those that a mapping may name.
    pub const MAPPED: [Field; 4] = [Field::AdId, Field::UserId, Field::ClickId, Field::Timestamp];

    /// The name in the wire format, which is also the column that is looked for when none is mapped.
    pub const fn name(self) -> &'static str {
        match self {
            Field::AdId => "ad_id",
            Field::UserId => "user_id",
            Field::ClickId => "click_id",
            Field::Timestamp => "timestamp",
            Field::Arrival => "arrival",
        }
    }
}

/// The columns that were named on purpose. The default maps nothing: every field is in the column of its own name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    columns: [Option<String>; 4],
}

/// Why a text is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    #[error("`{key}` cannot be mapped; did you mean `{nearest}`? The keys are ad_id, user_id, click_id and timestamp")]
    UnknownKey { key: String, nearest: &'static str },
    #[error("`{part}` has no `=`; write key=column, for instance ad_id=campaign")]
    NoColumn { part: String },
    #[error("`{key}` is mapped to no column; write {key}=column")]
    EmptyColumn { key: &'static str },
    #[error("`{key}` is mapped twice, to `{first}` and to `{second}`; keep one of them")]
    Repeated { key: &'static str, first: String, second: String },
}

impl Mapping {
    /// The column that was named for a field, if one was.
    pub fn column(&self, field: Field) -> Option<&str> {
        self.columns.get(field as usize)?.as_deref()
    }
}

impl FromStr for Mapping {
    type Err = MappingError;

    /// Reads `key=column,…`. A column may hold `=`, but no comma.
    fn from_str(text: &str) -> Result<Self, MappingError> {
        let mut mapping = Mapping::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, column) = part.split_once('=').ok_or_else(|| MappingError::NoColumn { part: part.to_owned() })?;
            let field = field(key.trim())?;
            let column = column.trim();
            if column.is_empty() {
                return Err(MappingError::EmptyColumn { key: field.name() });
            }
            let slot = &mut mapping.columns[field as usize];
            if let Some(first) = slot.take() {
                return Err(MappingError::Repeated { key: field.name(), first, second: column.to_owned() });
            }
            *slot = Some(column.to_owned());
        }
        Ok(mapping)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Field::MAPPED.iter().filter_map(|field| Some((field.name(), self.column(*field)?)));
        for (number, (key, column)) in named.enumerate() {
            write!(f, "{}{key}={column}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn field(key: &str) -> Result<Field, MappingError> {
    let found = Field::MAPPED.into_iter().find(|field| field.name() == key);
    found.ok_or_else(|| MappingError::UnknownKey {
        key: key.to_owned(),
        nearest: nearest_first(key, Field::MAPPED.map(Field::name))[0],
    })
}

/// The candidates, the one most like `wanted` first; upper and lower case do not matter.
pub(super) fn nearest_first<T: AsRef<str>>(wanted: &str, candidates: impl IntoIterator<Item = T>) -> Vec<T> {
    let wanted = wanted.to_lowercase();
    // The first favours a common beginning, the second sees letters that are missing; neither alone is good at both.
    let score = |candidate: &T| {
        let candidate = candidate.as_ref().to_lowercase();
        strsim::jaro_winkler(&wanted, &candidate) + strsim::normalized_levenshtein(&wanted, &candidate)
    };
    let mut scored: Vec<_> = candidates.into_iter().map(|candidate| (score(&candidate), candidate)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, candidate)| candidate).collect()
}

/// `uid` is like `user_id` (0.43), not like `ad_id` (0.40) or `user` like `timestamp`.
const LIKENESS_MIN: f64 = 0.4;

/// Whether one may be a misspelling of the other, or holds it as a part.
pub(super) fn is_like(wanted: &str, candidate: &str) -> bool {
    let (wanted, candidate) = (wanted.to_lowercase(), candidate.to_lowercase());
    let longer_than_one = wanted.len().min(candidate.len()) > 1;
    let is_part = longer_than_one && (candidate.contains(&wanted) || wanted.contains(&candidate));
    is_part || strsim::normalized_levenshtein(&wanted, &candidate) > LIKENESS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_name_columns_and_the_rest_keeps_its_name() {
        let mapping: Mapping = "ad_id=campaign, timestamp = click_time,user_id=a=b".parse().unwrap();
        let columns = Field::ALL.map(|field| mapping.column(field).map(str::to_owned));
        let expected = [Some("campaign"), Some("a=b"), None, Some("click_time"), None];
        assert_eq!(columns, expected.map(|column| column.map(str::to_owned)));
        assert_eq!(mapping.to_string(), "ad_id=campaign,user_id=a=b,timestamp=click_time");
        assert_eq!(mapping.to_string().parse(), Ok(mapping));
        assert_eq!("".parse(), Ok(Mapping::default()));
    }

    #[test]
    fn bad_mappings_name_the_part_and_the_mend() {
        let cases = [
            ("ad=campaign", "`ad` cannot be mapped; did you mean `ad_id`?"),
            ("time=t", "`time` cannot be mapped; did you mean `timestamp`?"),
            ("user=u", "`user` cannot be mapped; did you mean `user_id`?"),
            ("ClickID=c", "`ClickID` cannot be mapped; did you mean `click_id`?"),
            ("arrival=c", "`arrival` cannot be mapped"),
            ("=c", "`` cannot be mapped"),
            ("ad_id", "`ad_id` has no `=`"),
            ("ad_id=", "`ad_id` is mapped to no column"),
            ("ad_id=a,ad_id=b", "`ad_id` is mapped twice, to `a` and to `b`"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Mapping>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
