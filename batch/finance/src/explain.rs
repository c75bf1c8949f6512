//! From a billed number back to the raw clicks: every record of one ad, and what became of it.
//!
//! It judges the records that the ledger names by the rules that the night goes by, as naively as it can be written and with none
//! of the night's code: so it is a second opinion as well.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use archive::codec::{CodecError, decode};
use clicks::books::Books;
use clicks::id::{AdId, ClickId, UserId};
use clicks::inputs::InputList;
use clicks::layout::{ForeignKey, RawKey};
use clicks::ledger::sha256;
use clicks::partitioner::partition_of;
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::tables::{EntryNumber, REV};
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::verdict::is_late;
use clicks::wire::{self, Rejection};
use platform::ledger::Ledger;
use platform::objects::{ObjectError, Objects};

use crate::inputs::{InputsError, inputs};
use crate::money::Counts;
use crate::statement::days_of;

/// What became of a click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is billed, by the revision of its day.
    Billed,
    /// It is billed: this night found it after its day was final.
    Adjusted { night: Day },
    /// The same click was seen so long before; it is billed once, if at all.
    Duplicate { after: Span },
    /// Its time lies too far from that of its arrival.
    Rejected(Rejection),
    /// It came after everything that is published of its day.
    NotYet,
}

impl Fate {
    const DUPLICATE: &str = "duplicate";

    pub const fn name(&self) -> &'static str {
        match self {
            Fate::Billed => "billed",
            Fate::Adjusted { .. } => "adjusted",
            Fate::Duplicate { .. } => Fate::DUPLICATE,
            Fate::Rejected(_) => "rejected",
            Fate::NotYet => "not_yet",
        }
    }

    /// Why, in words.
    pub fn reason(&self) -> String {
        match self {
            Fate::Billed => "in the revision of its day".to_owned(),
            Fate::Adjusted { night } => format!("found by the night of {night}, when its day was final"),
            Fate::Duplicate { after } => format!("the same ad and click id was seen {} before", seconds(*after)),
            Fate::Rejected(rejection) => rejection.to_string(),
            Fate::NotYet => "it came after the last cut that is published of its day".to_owned(),
        }
    }
}

fn seconds(span: Span) -> String {
    format!("{}.{:03} s", span.as_millis() / 1000, span.as_millis() % 1000)
}

/// One click of the ad whose time lies in the period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedClick {
    pub partition: PartitionId,
    pub offset: Offset,
    pub append_time: Timestamp,
    pub event_time: Timestamp,
    pub click_id: ClickId,
    pub user_id: UserId,
    /// The place of its object among [`Explained::objects`].
    pub object: usize,
    pub fate: Fate,
}

/// A raw object, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadObject {
    pub key: String,
    /// Offsets `[from, to)`.
    pub from: Offset,
    pub to: Offset,
    /// Clicks of the ad in the period.
    pub clicks: u64,
}

/// A number taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    pub ad: AdId,
    pub range: Interval,
    /// In the order of arrival.
    pub clicks: Vec<ExplainedClick>,
    pub objects: Vec<ReadObject>,
    /// How many objects the ledger names, of all partitions.
    pub named: usize,
    /// Which entry of the ledger has published the revision of each day, and which have found adjustments of it.
    pub entries: BTreeMap<Day, Vec<EntryNumber>>,
}

impl Explained {
    /// How many clicks had that fate.
    pub fn count(&self, name: &str) -> u64 {
        self.clicks.iter().filter(|click| click.fate.name() == name).count() as u64
    }

    /// Whether it comes to what is published of the ad.
    pub fn agrees(&self, published: Counts) -> bool {
        (self.count("billed"), self.count("adjusted")) == (published.clicks, published.adjustment)
    }

    /// The query by which DuckDB finds the same number of billed clicks, adjustments included. `root`: where the objects lie.
    pub fn duckdb(&self, books: &Books, root: &str) -> String {
        if self.objects.is_empty() {
            return "SELECT 0 AS billed;".to_owned();
        }
        let mut files = String::new();
        for object in &self.objects {
            let comma = if files.is_empty() { "" } else { "," };
            let _ = write!(files, "{comma}\n    ('{root}/{}', {}, {})", object.key, object.from, object.to);
        }
        let limit = |of: fn(&Rules) -> Span| by_rules(books, of);
        let (ahead, age) = (limit(|rules| rules.ahead_max), limit(|rules| rules.age_max));
        let horizon = limit(|rules| rules.batch_horizon);
        format!(
            "CREATE TEMP TABLE objects AS FROM (VALUES{files}) AS named(file, first, until);\n\
             SET VARIABLE files = (SELECT list(file) FROM objects);\n\
             WITH clicks AS (\n\
             \x20   SELECT event_time, epoch_ms(event_time) AS event, epoch_ms(append_time) - lag(epoch_ms(append_time)) OVER seen AS again\n\
             \x20   FROM read_parquet(getvariable('files'), filename = true, hive_partitioning = true)\n\
             \x20   JOIN objects ON file = filename\n\
             \x20   WHERE kind = 0 AND ad_id = '{ad}' AND \"offset\" >= first AND \"offset\" < until\n\
             \x20     AND epoch_ms(event_time) - epoch_ms(append_time) <= {ahead}\n\
             \x20     AND epoch_ms(append_time) - epoch_ms(event_time) <= {age}\n\
             \x20   WINDOW seen AS (PARTITION BY click_id ORDER BY append_time, region, topic, part, \"offset\"))\n\
             SELECT count(*) AS billed FROM clicks\n\
             WHERE event >= {from} AND event < {to} AND coalesce(again >= {horizon}, true);",
            ad = self.ad,
            from = self.range.start.as_millis(),
            to = self.range.end.as_millis(),
        )
    }
}

/// A limit of the rules, in milliseconds: that of the event's day, where it changes.
fn by_rules(books: &Books, limit: impl Fn(&Rules) -> Span) -> String {
    let (first, changes) = books.rules().parts();
    let cases: String = changes
        .iter()
        .rev()
        .filter(|_| changes.iter().any(|(_, rules)| limit(rules) != limit(first)))
        .map(|(day, rules)| {
            format!("WHEN epoch_ms(event_time) >= {} THEN {} ", day.start().as_millis(), limit(rules).as_millis())
        })
        .collect();
    match cases.is_empty() {
        true => limit(first).as_millis().to_string(),
        false => format!("(CASE {cases}ELSE {} END)", limit(first).as_millis()),
    }
}

/// Why a number cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(
        "`{key}` is not there, though the ledger names it; raw objects may have been pruned, see `twofold archive prune`"
    )]
    Missing { key: String },
    #[error("`{key}` does not hold what the ledger says (another SHA-256); restore it from a copy")]
    Changed { key: String },
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error("`{key}`: {source}")]
    Codec { key: String, source: CodecError },
    #[error(transparent)]
    Foreign(#[from] ForeignKey),
}

/// Offsets of an object that count, and its hash.
struct Part {
    from: Offset,
    to: Offset,
    sha256: String,
}

/// What an entry was made of: where each partition was cut.
struct Cuts {
    /// The night, of one that has found adjustments.
    night: Option<Day>,
    until: BTreeMap<PartitionId, Offset>,
}

/// What the ledger says of a range of days.
struct Named<'a> {
    objects: &'a Objects,
    books: &'a Books,
    range: Interval,
    parts: BTreeMap<RawKey, Part>,
    cuts: BTreeMap<Day, Vec<Cuts>>,
    entries: BTreeMap<Day, Vec<EntryNumber>>,
}

/// Takes apart what is billed of one ad in a range of closed days, of which `published` is billed.
///
/// Only the partitions that its key belongs to are read, unless `everywhere`, or they do not come to what is published: a producer
/// may go by a partitioner of its own. Where nothing is published there is nothing to come to, and all is read.
///
/// # Errors
/// When what the ledger names cannot be read.
pub async fn explain(
    ledger: &Ledger,
    objects: &Objects,
    books: &Books,
    ad: &AdId,
    range: Interval,
    published: Counts,
    everywhere: bool,
) -> Result<Explained, ExplainError> {
    let named = Named::read(ledger, objects, books, range).await?;
    if !everywhere && published.total() > 0 {
        let explained = named.explain(ad, |partition| is_home(books, ad, partition)).await?;
        let has_duplicates = explained.count(Fate::DUPLICATE) >= published.duplicates;
        if explained.agrees(published) && has_duplicates {
            return Ok(explained);
        }
    }
    named.explain(ad, |_| true).await
}

/// Whether clicks of an ad belong into a partition, by one of the counts that its topic has had.
fn is_home(books: &Books, ad: &AdId, partition: &PartitionId) -> bool {
    let lives = books.lives().iter().filter(|life| life.region == partition.region && life.topic_id == partition.topic);
    let mut counts = lives.flat_map(|life| books.partition_counts(life));
    counts.any(|count| partition_of(ad.as_str().as_bytes(), count) == partition.number)
}

impl<'a> Named<'a> {
    async fn read(
        ledger: &Ledger,
        objects: &'a Objects,
        books: &'a Books,
        range: Interval,
    ) -> Result<Self, ExplainError> {
        let (parts, cuts, entries) = Default::default();
        let mut named = Named { objects, books, range, parts, cuts, entries };
        let mut lists: BTreeMap<EntryNumber, InputList> = BTreeMap::new();
        for day in days_of(range) {
            let revision = books.day(day).map(|book| (book.entry, None));
            let found = books.adjustments(day).iter();
            let found = found.filter_map(|found| Some((entry_of(&found.file.key)?, Some(found.night))));
            let of_day: Vec<(EntryNumber, Option<Day>)> = revision.into_iter().chain(found).collect();
            for (entry, night) in &of_day {
                if !lists.contains_key(entry) {
                    lists.insert(*entry, inputs(ledger, objects, *entry).await?);
                }
                let until = named.add(&lists[entry])?;
                named.cuts.entry(day).or_default().push(Cuts { night: *night, until });
            }
            named.entries.insert(day, of_day.into_iter().map(|(entry, _)| entry).collect());
        }
        Ok(named)
    }

    /// Adds what an entry was made of; returns where each partition was cut.
    fn add(&mut self, list: &InputList) -> Result<BTreeMap<PartitionId, Offset>, ForeignKey> {
        let mut until = BTreeMap::new();
        for object in &list.objects {
            let key: RawKey = object.key.parse()?;
            let last = until.entry(key.partition.clone()).or_insert(object.to);
            *last = object.to.max(*last);
            let part = self.parts.entry(key).or_insert(Part {
                from: object.from,
                to: object.to,
                sha256: object.sha256.clone(),
            });
            (part.from, part.to) = (object.from.min(part.from), object.to.max(part.to));
        }
        Ok(until)
    }

    async fn explain(&self, ad: &AdId, wanted: impl Fn(&PartitionId) -> bool) -> Result<Explained, ExplainError> {
        let Named { range, books, .. } = *self;
        let (named, entries) = (self.parts.len(), self.entries.clone());
        let mut explained =
            Explained { ad: ad.clone(), range, clicks: Vec::new(), objects: Vec::new(), named, entries };
        let mut all = Vec::new();
        for (key, part) in self.parts.iter().filter(|(key, _)| wanted(&key.partition)) {
            let name = key.to_string();
            let bytes = read(self.objects, &name, &part.sha256).await?;
            let records = decode(bytes).map_err(|source| ExplainError::Codec { key: name.clone(), source })?;
            let counted = records.into_iter().filter(|(record, _)| (part.from..part.to).contains(&record.offset));
            for (record, append_time) in counted.filter(|(record, _)| !record.is_control()) {
                if let Ok(click) = wire::decode(record.value.as_deref())
                    && click.ad_id == *ad
                {
                    all.push((append_time, key.partition.clone(), record.offset, explained.objects.len(), click));
                }
            }
            explained.objects.push(ReadObject { key: name, from: part.from, to: part.to, clicks: 0 });
        }
        // A key stays in its partition; across topic lives the order is that of arrival.
        all.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
        let mut seen: HashMap<ClickId, Timestamp> = HashMap::new();
        for (append_time, partition, offset, object, click) in all {
            let day = click.event_time.day();
            let rules = books.rules().on(day);
            // What is rejected was never seen, and is no reason to drop another.
            let fate = match is_late(rules, click.event_time, append_time) {
                Err(rejection) => Fate::Rejected(rejection),
                Ok(_) => match seen.insert(click.click_id, append_time).map(|before| append_time.since(before)) {
                    Some(after) if after < rules.batch_horizon => Fate::Duplicate { after },
                    _ => published(self.cuts.get(&day).map_or(&[], Vec::as_slice), &partition, offset),
                },
            };
            if !range.contains(click.event_time) {
                continue;
            }
            explained.objects[object].clicks += 1;
            let (event_time, click_id, user_id) = (click.event_time, click.click_id, click.user_id);
            let click = ExplainedClick { partition, offset, append_time, event_time, click_id, user_id, object, fate };
            explained.clicks.push(click);
        }
        Ok(explained)
    }
}

/// By what a click that counts is billed: the first that was cut behind it.
fn published(cuts: &[Cuts], partition: &PartitionId, offset: Offset) -> Fate {
    let holds = |cuts: &&Cuts| cuts.until.get(partition).is_some_and(|until| offset < *until);
    match cuts.iter().find(holds).map(|cuts| cuts.night) {
        Some(None) => Fate::Billed,
        Some(Some(night)) => Fate::Adjusted { night },
        None => Fate::NotYet,
    }
}

/// The entry that has published a file.
fn entry_of(key: &str) -> Option<EntryNumber> {
    key.strip_prefix(REV)?.split('/').next()?.parse().ok()
}

async fn read(objects: &Objects, key: &str, hash: &str) -> Result<bytes::Bytes, ExplainError> {
    let bytes = objects.get(key).await?.ok_or_else(|| ExplainError::Missing { key: key.to_owned() })?;
    match sha256(&bytes) == hash {
        true => Ok(bytes),
        false => Err(ExplainError::Changed { key: key.to_owned() }),
    }
}
