//! Many random histories of archivers that are delayed, killed and overtaken by retention, with every step of theirs a
//! step of the history; and a night that counts on gaps among them. After each step the keys must make a chain.

use std::collections::BTreeMap;

use clicks::id::{Region, TopicId};
use clicks::layout::RawKey;
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use platform::log::Bounds;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::next::{Next, next};
use super::walk::walk;
use super::{Chain, GapCause, GapMark, Marks, SealMark, Segment, VERSION};
use crate::footer::Footer;

fn partition() -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 }
}

/// The object `[start, end)`; record n is appended at n milliseconds.
fn object(start: u64, end: u64) -> Segment {
    let (first, last) = (Timestamp::from_millis(start as i64), Timestamp::from_millis(end as i64 - 1));
    let footer = Footer {
        version: 1,
        partition: partition(),
        start: Offset::new(start),
        end: Offset::new(end),
        append_time_min: first,
        append_time_max: last,
        clicks: 0,
        rows: end - start,
        partitions: None,
        content_sha256: String::new(),
        content_bytes: 0,
        writer: String::new(),
    };
    Segment::new(RawKey { partition: partition(), day: first.day(), start: Offset::new(start) }, 1, footer)
}

fn gap(from: u64, to: u64) -> GapMark {
    GapMark {
        version: VERSION,
        partition: partition(),
        from: Offset::new(from),
        to: Offset::new(to),
        cause: GapCause::Retention,
        writer: String::new(),
        noticed_at: Timestamp::EPOCH,
        append_time_before: None,
    }
}

/// The store, the log, and who works on them.
#[derive(Default)]
struct World {
    /// Ends of objects by start.
    objects: BTreeMap<u64, u64>,
    marks: Marks,
    log: (u64, u64),
}

impl World {
    fn chain(&self) -> Chain {
        let segments = self.objects.iter().map(|(start, end)| object(*start, *end)).collect::<Vec<_>>();
        let mut found = segments.iter().map(|segment| (segment.key.clone(), 1)).collect();
        let late = self.marks.split_late(&mut found);
        let kept = segments.into_iter().filter(|segment| !late.contains(&segment.key)).collect();
        walk(Chain { late, ..Chain::empty(partition()) }, None, kept, &self.marks)
            .unwrap_or_else(|error| panic!("{:?} {:?}: {error}", self.objects, self.marks.gaps))
    }

    fn bounds(&self) -> Bounds {
        Bounds { first: Offset::new(self.log.0), end: Offset::new(self.log.1) }
    }

    fn create(&mut self, start: u64, end: u64) -> bool {
        let free = !self.objects.contains_key(&start);
        if free {
            self.objects.insert(start, end);
        }
        free
    }
}

/// Where an archiver is between two calls to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Archiver {
    /// It reads the chain and the bounds of the log.
    Looking,
    /// It is about to record a gap.
    Losing { from: u64, to: u64 },
    /// It is about to store what lies between the end of a gap and the end of an object.
    Bridging { from: u64, to: u64 },
    /// It holds `[start, next)`, and is about to read on or to store.
    Holding { start: u64, next: u64 },
    /// It has stored `[start, end)` and is about to look for gaps.
    Stored { start: u64, end: u64 },
}

impl Archiver {
    fn step(self, world: &mut World, random: &mut SmallRng) -> Archiver {
        match self {
            Archiver::Looking => {
                let chain = world.chain();
                match next(&chain, world.bounds()) {
                    Next::GoOn(at) => Archiver::Holding { start: at.value(), next: at.value() },
                    Next::Lost { from, to } => Archiver::Losing { from: from.value(), to: to.value() },
                    Next::Bridge(at) => {
                        let to = chain.next_offset().unwrap().value();
                        Archiver::Bridging { from: at.value(), to }
                    }
                    Next::BeyondLog { .. } => panic!("the log is never cut back"),
                }
            }
            Archiver::Losing { from, to } => {
                world.marks.gaps.entry(Offset::new(from)).or_insert_with(|| gap(from, to));
                Archiver::Looking
            }
            Archiver::Bridging { from, to } => {
                world.create(from, to);
                Archiver::Looking
            }
            Archiver::Holding { start, next } if next > start && random.random_bool(0.4) => {
                match world.create(start, next) {
                    true => Archiver::Stored { start, end: next },
                    false => Archiver::Looking,
                }
            }
            Archiver::Holding { start, next } => match (world.log.0..world.log.1).contains(&next) {
                true => Archiver::Holding { start, next: random.random_range(next + 1..=world.log.1) },
                // What it holds is stored first.
                false if next > start || next == world.log.1 => self,
                false => Archiver::Looking,
            },
            Archiver::Stored { start, end } => match world.marks.concern(Offset::new(start), Offset::new(end)) {
                true => Archiver::Looking,
                false => Archiver::Holding { start: end, next: end },
            },
        }
    }
}

/// What a night used: gaps that are sealed, and the objects before them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Used {
    to: Offset,
    missing: Vec<(Offset, Offset)>,
}

impl Used {
    fn of(chain: &Chain, to: Offset) -> Self {
        let missing = chain.gaps.iter().filter(|gap| gap.to <= to).map(|gap| (gap.from, gap.to)).collect();
        Used { to, missing }
    }
}

fn seal_all(world: &mut World) -> Option<Used> {
    for gap in world.chain().gaps {
        let user = "a night".to_owned();
        let (partition, from, to, sealed_at) = (partition(), gap.from, gap.to, Timestamp::EPOCH);
        let seal = SealMark { version: VERSION, partition, from, to, user, sealed_at };
        world.marks.seals.entry(from).or_insert(seal);
    }
    let chain = world.chain();
    let last = chain.gaps.iter().filter(|gap| gap.is_sealed).map(|gap| gap.to).max()?;
    Some(Used::of(&chain, last))
}

/// Each offset of the chain is in one object or one gap, and the object holds it.
fn check(world: &World, chain: &Chain) {
    let mut at = chain.base().unwrap_or_default();
    let objects = chain.segments.iter().map(|segment| (segment.footer.start, segment.end));
    let gaps = chain.gaps.iter().map(|gap| (gap.from, gap.to));
    let mut pieces: Vec<_> = objects.chain(gaps).collect();
    pieces.sort_unstable();
    for (from, to) in pieces {
        assert!(from == at && to > from, "{:?} {:?}", world.objects, world.marks.gaps);
        at = to;
    }
    assert!(chain.segments.iter().all(|segment| segment.end <= segment.footer.end));
}

fn history(seed: u64) -> (usize, usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World { log: (0, 5), ..World::default() };
    let mut archivers = [Archiver::Looking; 3];
    let mut used: Option<Used> = None;
    for _ in 0..random.random_range(20..150) {
        match random.random_range(0..20) {
            0 => world.log.1 += random.random_range(0..6),
            1 => world.log.0 = random.random_range(world.log.0..=world.log.1),
            2 => archivers[random.random_range(0..3)] = Archiver::Looking,
            3 if random.random_bool(0.2) => used = seal_all(&mut world).or(used),
            _ => {
                // Mostly the same one, so that the others are delayed by a lot.
                let at = if random.random_bool(0.6) { 0 } else { random.random_range(0..3) };
                archivers[at] = archivers[at].step(&mut world, &mut random);
            }
        }
        let chain = world.chain();
        check(&world, &chain);
        if let Some(used) = &used {
            assert_eq!(*used, Used::of(&chain, used.to), "seed {seed}: what a night used has changed");
        }
        if random.random_bool(0.05) {
            archivers.swap(0, random.random_range(0..3));
        }
    }
    // In the end they all go on, and agree on one chain that reaches to the end of the log.
    for _ in 0..300 {
        let at = random.random_range(0..3);
        archivers[at] = archivers[at].step(&mut world, &mut random);
        check(&world, &world.chain());
    }
    let chain = world.chain();
    assert_eq!(chain.next_offset(), Some(Offset::new(world.log.1)), "seed {seed}");
    assert_eq!(chain.bridge(), None, "seed {seed}");
    let cut = chain.segments.iter().filter(|segment| segment.end < segment.footer.end).count();
    (chain.gaps.len() + chain.late.len(), cut)
}

#[test]
fn whatever_the_history_the_keys_make_a_chain() {
    let (mut gaps, mut cut) = (0, 0);
    for seed in 0..2_000 {
        let (more, shorter) = history(seed);
        (gaps, cut) = (gaps + more, cut + shorter);
    }
    assert!(gaps > 400 && cut > 40, "{gaps} gaps, {cut} objects that reach over the end of one");
}
