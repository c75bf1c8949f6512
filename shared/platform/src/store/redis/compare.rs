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

    pub(super) fn is_of_type(&self, place: usize, wanted: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::super::command::CHANGES;
    use super::*;
    use clicks::id::{Region, TopicId};
    use clicks::live::{Expected, Flush, Meta};
    use clicks::position::{Offset, PartitionId};

    const A: Generation = Generation::from_u128(0xa);
    const B: Generation = Generation::from_u128(0xb);

    fn command(expected: Expected, generation: Generation, stage: Stage) -> Command {
        let day = Day::from_number(20_000);
        let mut meta = Meta::new(Offset::new(5), day, day, Offset::ZERO);
        meta.totals.expired = 10;
        let (counts, late) = (Vec::new(), Vec::new());
        let (drop_hours, drop_nights) = (Vec::new(), vec![day]);
        let flush = Flush { expected, generation, stage, meta, counts, late, drop_hours, drop_nights };
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        Command::new(&partition, &flush)
    }

    /// Generation A is live at offset 5; the commands below go on with it, or replace it by B.
    fn found(goes_on: bool) -> Found {
        let day = || Some(Day::from_number(20_000).to_string());
        let meta = [Some("5".to_owned()), day(), day(), Some("9".to_owned()), Some("0".to_owned())];
        let (meta, kind) = if goes_on { (meta, "hash") } else { (Default::default(), "none") };
        let types = ["string", "none", "hash", kind, "set", "stream", "hash"].map(str::to_owned).to_vec();
        Found {
            live: Some(A.to_string()),
            building: None,
            expected_position: ["5", "0"].map(|text| Some(text.to_owned())),
            meta,
            types,
        }
    }

    fn at(offset: u64) -> Expected {
        Expected::At { generation: A, next_offset: Offset::new(offset), lost: 0 }
    }

    #[test]
    fn what_is_stored_is_as_expected_or_says_who_came_between() {
        let is = |generation: Generation, offset: Option<&str>| {
            Err(Stop::Mismatch(Some((generation.to_string(), offset.map(str::to_owned)))))
        };
        let damaged = |generation| Expected::Damaged { generation };
        for (name, expected, generation, want) in [
            ("goes on", at(5), A, Ok(())),
            ("replaces", at(5), B, Ok(())),
            ("another offset", at(4), A, is(A, Some("5"))),
            ("nothing expected", Expected::Nothing, B, is(A, None)),
            ("replaces what is damaged", damaged(Some(A)), B, Ok(())),
            ("another one is damaged", damaged(Some(B)), B, is(A, None)),
            ("it is a generation", damaged(None), B, is(A, None)),
        ] {
            let mut stored = found(generation == A);
            if expected == Expected::Nothing || expected == damaged(Some(B)) {
                stored.expected_position = [None, None];
            }
            assert_eq!(compare(&command(expected, generation, Stage::Live), &stored), want, "{name}");
        }
        let mut gap = found(true);
        gap.expected_position[1] = Some("1".to_owned());
        assert_eq!(
            compare(&command(at(5), A, Stage::Live), &gap),
            is(A, Some("5")),
            "a record was lost to another one"
        );
        let mut nothing = found(false);
        (nothing.live, nothing.expected_position) = (None, [None, None]);
        assert_eq!(compare(&command(Expected::Nothing, B, Stage::Live), &nothing), Ok(()));
        assert_eq!(compare(&command(at(5), B, Stage::Live), &nothing), Err(Stop::Mismatch(None)));
        let mut beside = found(true);
        beside.building = Some(B.to_string());
        assert_eq!(compare(&command(at(5), A, Stage::Live), &beside), is(B, None), "the live one is not current");
        assert_eq!(beside.replaced(&command(at(5), A, Stage::Live)), [B.to_string().as_str()]);
        let mut odd = found(false);
        odd.live = Some("x".to_owned());
        assert_eq!(compare(&command(damaged(None), B, Stage::Live), &odd), Ok(()));
        assert_eq!(odd.replaced(&command(damaged(None), B, Stage::Live)), [""; 0], "no generation is none to sweep");
    }

    #[test]
    fn what_must_not_be_written_is_refused() {
        type Spoil = fn(&mut Found);
        let cases: [(&str, Generation, Stage, Spoil, &str); 10] = [
            ("a foreign pointer", B, Stage::Live, |found| found.types[LIVE] = "list".to_owned(), "Refused(\"key"),
            ("a foreign hash", B, Stage::Live, |found| found.types[HEAD] = "list".to_owned(), "Refused(\"key"),
            ("the same, going on", A, Stage::Live, |found| found.types[HEAD] = "list".to_owned(), "Damaged(\"key"),
            ("a stream that is none", A, Stage::Live, |found| found.types[CHANGES] = "hash".to_owned(), "Ok"),
            ("a set that is none", A, Stage::Live, |found| found.types[RETIRED] = "list".to_owned(), "Ok"),
            (
                "no new generation",
                B,
                Stage::Live,
                |found| found.types[META] = "hash".to_owned(),
                "Refused(\"generation",
            ),
            ("back beside", A, Stage::Beside, |_| {}, "Refused(\"a live"),
            ("a missed expiry", A, Stage::Live, |found| found.meta[3] = Some("11".to_owned()), "Mismatch"),
            ("a lost field", A, Stage::Live, |found| found.meta[1] = None, "Damaged(\"the stored meta"),
            (
                "a field that is none",
                A,
                Stage::Live,
                |found| found.meta[4] = Some("x".to_owned()),
                "Damaged(\"the stored",
            ),
        ];
        for (name, generation, stage, spoil, want) in cases {
            let mut stored = found(generation == A);
            spoil(&mut stored);
            let verdict = format!("{:?}", compare(&command(at(5), generation, stage), &stored));
            assert!(verdict.trim_start_matches("Err(").starts_with(want), "{name}: {verdict}");
        }
    }
}
