//! The compare of a flush in Rust, rule for rule that of the script (`flush.lua`): the conformance suite holds both to the
//! same answers.

use clicks::live::{Generation, Stage};
use clicks::time::Day;

use super::command::{BUILDING, Command, HEAD, LIVE, META, NO_GENERATION, RETIRED};

/// Fields of the meta record that a flush depends on, in the order of [`Found::meta`].
pub(super) const META_FIELDS: [&str; 5] = ["next_offset", "base_day", "base_night", "expired", "late_expired"];

/// Fields of the expected meta record, in the order of [`Found::expected_position`].
pub(super) const POSITION_FIELDS: [&str; 2] = ["next_offset", "lost"];

/// What is stored, as far as a flush depends on it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) live: Option<String>,
    pub(super) building: Option<String>,
    /// Next offset and lost records of the expected generation.
    pub(super) expected_position: [Option<String>; 2],
    /// [`META_FIELDS`] of the generation that is written.
    pub(super) meta: [Option<String>; 5],
    /// Of each key of the command, in the words of Redis; `none` for one that is not there.
    pub(super) types: Vec<String>,
}

/// Why a flush changes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Something else is stored: this generation, and its next offset if it is one of the two that the flush names.
    Mismatch(Option<(String, Option<String>)>),
    /// The flush cannot be right.
    Refused(String),
    /// What is stored of the generation that it goes on with.
    Damaged(String),
}

impl Found {
    fn current(&self) -> Option<&String> {
        self.building.as_ref().or(self.live.as_ref())
    }

    fn is_of_type(&self, place: usize, wanted: &str) -> bool {
        self.types[place] == wanted || self.types[place] == "none"
    }

    /// Generations that are replaced by the command, as far as they can be told to a sweep.
    pub(super) fn replaced(&self, command: &Command) -> Vec<&str> {
        let live = self.live.as_ref().filter(|_| command.stage == Stage::Live);
        let named = self.building.iter().chain(live).map(String::as_str);
        let old = named.filter(|old| *old != command.generation && Generation::parse(old).is_some());
        if self.is_of_type(RETIRED, "set") { old.collect() } else { Vec::new() }
    }
}

/// # Errors
/// Why the command must not be carried out.
pub(super) fn compare(command: &Command, found: &Found) -> Result<(), Stop> {
    let foreign = |place: usize| {
        let (key, kind) = (&command.keys[place], &found.types[place]);
        format!("key {key} is a {kind}: another program writes into our key space")
    };
    if let Some(place) = [LIVE, BUILDING].into_iter().find(|place| !found.is_of_type(*place, "string")) {
        return Err(Stop::Refused(foreign(place)));
    }
    let current = found.current();
    let goes_on = current == Some(&command.generation);
    // What is left of a generation that is replaced may be anything.
    let mut hashes = std::iter::once(META).chain(HEAD..command.keys.len());
    if let Some(place) = hashes.find(|place| !found.is_of_type(*place, "hash")) {
        return Err(if goes_on { Stop::Damaged(foreign(place)) } else { Stop::Refused(foreign(place)) });
    }
    let Some(current) = current else {
        return if command.expected.is_empty() { is_new(command, found) } else { Err(Stop::Mismatch(None)) };
    };
    let is_named = *current == command.expected;
    let [expected_offset, lost] = &found.expected_position;
    let offset = if is_named { expected_offset } else { &found.meta[0].clone().filter(|_| goes_on) };
    let position = expected_offset.as_ref().zip(lost.as_ref()).map(|(offset, lost)| format!("{offset}:{lost}"));
    let replaces_anything = command.expected_position.is_empty() && !command.expected.is_empty();
    let as_expected = match replaces_anything {
        true => is_named || (command.expected == NO_GENERATION && Generation::parse(current).is_none()),
        false => is_named && !command.expected.is_empty() && position.as_ref() == Some(&command.expected_position),
    };
    let mismatch = || Err(Stop::Mismatch(Some((current.clone(), offset.clone()))));
    if !as_expected {
        return mismatch();
    }
    if !goes_on {
        return is_new(command, found);
    }
    if replaces_anything {
        return Err(Stop::Refused("a damaged generation is not gone on with".to_owned()));
    }
    if command.stage == Stage::Beside && found.building.is_none() {
        return Err(Stop::Refused("a live generation does not go back beside another one".to_owned()));
    }
    if misses_an_expiry(command, found)? { mismatch() } else { Ok(()) }
}

fn is_new(command: &Command, found: &Found) -> Result<(), Stop> {
    match found.types[META].as_str() {
        "none" => Ok(()),
        _ => Err(Stop::Refused(format!("generation {} is not new", command.generation))),
    }
}

/// An expiry moves no offset, so a writer that missed one is told by what never goes back.
fn misses_an_expiry(command: &Command, found: &Found) -> Result<bool, Stop> {
    let mut misses = false;
    for (name, stored) in META_FIELDS.into_iter().zip(&found.meta).skip(1) {
        let given = command.meta.iter().find(|(field, _)| *field == name).map(|(_, value)| value);
        let goes_back = match (given, stored) {
            (Some(given), Some(stored)) if name.starts_with("base_") => goes_back::<Day>(given, stored),
            (Some(given), Some(stored)) => goes_back::<u64>(given, stored),
            _ => None,
        };
        let bad = || Stop::Damaged(format!("the stored meta record has no good {name}"));
        misses |= goes_back.ok_or_else(bad)?;
    }
    Ok(misses)
}

fn goes_back<T: std::str::FromStr + Ord>(given: &str, stored: &str) -> Option<bool> {
    Some(given.parse::<T>().ok()? < stored.parse::<T>().ok()?)
}
