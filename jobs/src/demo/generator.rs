//! A seeded generator of clicks as a busy site would send them: retries, stragglers and nonsense included.
//!
//! Time is cut into steps. A step's clicks happen within it and are sent at its end or at the end of a later one, so
//! whoever drives the clock knows the append time of each.

use std::collections::BTreeMap;

use clicks::event::Click;
use clicks::id::{AdId, ClickId, UserId};
use clicks::partitioner::partition_of;
use clicks::time::{Span, Timestamp};
use clicks::wire;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What is generated.
#[derive(Debug, Clone)]
pub struct Shape {
    pub seed: u64,
    pub ads: u32,
    /// Clicks per minute, averaged over a day.
    pub clicks_per_minute: u32,
    /// Partitions of the topic, and those of them that get no click.
    pub partitions: u32,
    pub quiet: Vec<u32>,
    pub step: Span,
    /// Shares in parts per 100,000.
    pub shares: Shares,
}

/// How often something goes wrong, in parts per 100,000 clicks.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Sent again within the live dedup horizon.
    pub near_duplicates: u32,
    /// Sent again, stamped anew, beyond the live horizon but within the batch horizon.
    pub far_duplicates: u32,
    /// Arrives minutes after it happened, within the allowed lateness.
    pub delayed: u32,
    /// Arrives beyond the allowed lateness, up to hours later.
    pub late: u32,
    /// Arrives more than a day later, when its day is closed.
    pub very_late: u32,
    /// Is no click at all.
    pub malformed: u32,
}

impl Default for Shares {
    fn default() -> Self {
        Shares { near_duplicates: 4_500, far_duplicates: 500, delayed: 1_000, late: 200, very_late: 20, malformed: 500 }
    }
}

/// Something to send at the end of a step.
#[derive(Debug, Clone)]
pub enum Send {
    Click(Click),
    /// Not to be accepted by the collector.
    Malformed(String),
}

impl Send {
    /// One line of NDJSON.
    pub fn body(&self) -> String {
        match self {
            Send::Click(click) => wire::encode(click),
            Send::Malformed(text) => text.clone(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Generator {
    shape: Shape,
    random: SmallRng,
    ads: Vec<AdId>,
    users: Vec<UserId>,
    now: Timestamp,
    /// What was generated and is sent at the end of a later step.
    pending: BTreeMap<Timestamp, Vec<Send>>,
    malformed: usize,
}

/// The hot ad gets one click in this many.
const HOT_ONE_IN: u32 = 5;

impl Generator {
    pub fn new(shape: Shape, start: Timestamp) -> Self {
        let mut random = SmallRng::seed_from_u64(shape.seed);
        let loud = |ad: &AdId| !shape.quiet.contains(&partition_of(ad.as_str().as_bytes(), shape.partitions));
        let names = (1u32..).map(|n| AdId::parse(&format!("ad-{n}")).expect("`ad-` and digits is a valid id"));
        let ads = names.filter(loud).take(shape.ads.max(1) as usize).collect();
        let users = (0..10_000).map(|_| format!("u{:06}", random.random_range(0..1_000_000)));
        let users = users.map(|name| UserId::parse(&name).expect("`u` and digits is a valid id")).collect();
        Generator { shape, random, ads, users, now: start, pending: BTreeMap::new(), malformed: 0 }
    }

    /// Everything that is sent when the clock stands at the end of the next step, in the order of sending.
    pub fn step(&mut self) -> (Timestamp, Vec<Send>) {
        let (from, until) = (self.now, self.now + self.shape.step);
        self.now = until;
        for _ in 0..self.clicks_in(from) {
            self.generate(from, until);
        }
        (until, self.skip_to(until))
    }

    /// No new clicks from now on; those on their way still arrive.
    pub fn stop_clicks(&mut self) {
        self.shape.clicks_per_minute = 0;
    }

    /// When the next click that is on its way arrives.
    pub fn next_pending(&self) -> Option<Timestamp> {
        self.pending.keys().next().copied()
    }

    /// What arrives up to and at `time`, without new clicks in between.
    pub fn skip_to(&mut self, time: Timestamp) -> Vec<Send> {
        self.now = self.now.max(time);
        let later = self.pending.split_off(&(time + Span::millis(1)));
        std::mem::replace(&mut self.pending, later).into_values().flatten().collect()
    }

    /// Goes on in steps of another length.
    pub fn set_step(&mut self, step: Span) {
        self.shape.step = step;
    }

    /// A quiet night, a busy evening.
    fn clicks_in(&mut self, from: Timestamp) -> u32 {
        let hours = from.since(from.day().start()).as_millis() as f64 / 3_600_000.0;
        let of_day = 1.0 + 0.7 * (std::f64::consts::TAU * (hours - 14.0) / 24.0).cos();
        let minutes = self.shape.step.as_millis() as f64 / 60_000.0;
        let mean = f64::from(self.shape.clicks_per_minute) * minutes * of_day;
        let jitter = self.random.random_range(0.7..1.3);
        let whole = (mean * jitter).floor();
        whole as u32 + u32::from(self.random.random_bool((mean * jitter - whole).clamp(0.0, 1.0)))
    }

    fn generate(&mut self, from: Timestamp, until: Timestamp) {
        let shares = self.shape.shares;
        let chance = |random: &mut SmallRng, share: u32| random.random_range(0..100_000) < share;
        if chance(&mut self.random, shares.malformed) {
            let text = self.nonsense(until);
            self.send_at(until, Send::Malformed(text));
        }
        // Some clicks fall exactly on the edge of a step, so of windows and days too.
        let event_time = match self.random.random_range(0..50) {
            0 => from,
            _ => Timestamp::from_millis(self.random.random_range(from.as_millis()..until.as_millis())),
        };
        let click = self.click(event_time);
        let delay = match () {
            () if chance(&mut self.random, shares.very_late) => self.minutes(25 * 60, 40 * 60),
            () if chance(&mut self.random, shares.late) => self.minutes(12, 300),
            () if chance(&mut self.random, shares.delayed) => self.minutes(1, 7),
            () => Span::ZERO,
        };
        let sent = self.step_after(until + delay);
        if chance(&mut self.random, shares.near_duplicates) {
            let again = sent + self.minutes(1, 12);
            self.send_at(self.step_after(again), Send::Click(click.clone()));
        } else if chance(&mut self.random, shares.far_duplicates) {
            let again = sent + self.minutes(20, 20 * 60);
            let again = self.step_after(again);
            self.send_at(again, Send::Click(Click { event_time: again - Span::seconds(3), ..click.clone() }));
        }
        self.send_at(sent, Send::Click(click));
    }

    fn click(&mut self, event_time: Timestamp) -> Click {
        let ad = match self.random.random_range(0..HOT_ONE_IN) {
            0 => 0,
            // The product of two uniform numbers: few ads get most clicks.
            _ => {
                let uniform = self.random.random::<f64>() * self.random.random::<f64>();
                (uniform * self.ads.len() as f64) as usize
            }
        };
        let user = self.random.random_range(0..self.users.len());
        Click {
            click_id: ClickId::from_u128(self.random.random()),
            ad_id: self.ads[ad.min(self.ads.len() - 1)].clone(),
            user_id: self.users[user].clone(),
            event_time,
        }
    }

    fn nonsense(&mut self, now: Timestamp) -> String {
        self.malformed += 1;
        let id = ClickId::from_u128(self.random.random());
        match self.malformed % 5 {
            0 => "not json at all".to_owned(),
            1 => format!(r#"{{"click_id":"{id}","ad_id":"a/b","user_id":"u","timestamp":"{now}"}}"#),
            2 => format!(r#"{{"click_id":"{id}","ad_id":"ad-1","user_id":"u","timestamp":1700000000000}}"#),
            3 => {
                format!(r#"{{"click_id":"{id}","ad_id":"ad-1","user_id":"u","timestamp":"{}"}}"#, now + Span::hours(1))
            }
            _ => format!(r#"{{"click_id":"{id}","user_id":"u","timestamp":"{now}"}}"#),
        }
    }

    fn minutes(&mut self, from: i64, to: i64) -> Span {
        Span::minutes(self.random.random_range(from..=to))
    }

    fn step_after(&self, time: Timestamp) -> Timestamp {
        let behind = time.since(self.now).as_millis();
        let step = self.shape.step.as_millis();
        self.now + Span::millis((behind + step - 1).div_euclid(step) * step)
    }

    fn send_at(&mut self, time: Timestamp, send: Send) {
        self.pending.entry(time).or_default().push(send);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(seed: u64) -> Shape {
        let shares = Shares::default();
        Shape {
            seed,
            ads: 20,
            clicks_per_minute: 100,
            partitions: 8,
            quiet: vec![2, 5],
            step: Span::minutes(1),
            shares,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_clicks() {
        let run = |seed| {
            let mut generator = Generator::new(shape(seed), Timestamp::EPOCH + Span::days(20_000));
            (0..200).flat_map(|_| generator.step().1).map(|send| send.body()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn quiet_partitions_stay_quiet_and_nothing_is_sent_before_it_happened() {
        let mut generator = Generator::new(shape(3), Timestamp::EPOCH + Span::days(20_000));
        for _ in 0..500 {
            let (now, sends) = generator.step();
            for send in sends {
                if let Send::Click(click) = send {
                    assert!(click.event_time <= now);
                    assert!(![2, 5].contains(&partition_of(click.ad_id.as_str().as_bytes(), 8)));
                }
            }
        }
    }
}
