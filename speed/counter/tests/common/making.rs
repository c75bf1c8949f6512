//! What tests of the streaming loop put into a log and a ledger.

use std::collections::BTreeMap;

use clicks::books::Books;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, UserId};
use clicks::ledger::{Balance, Body, DayRevision, DayTotals, FileRef, Night, TopicLife};
use clicks::live::CountKey;
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::wire;
use platform::log::Topic;
use platform::store::{Ads, LiveQuery};

/// The first day of every test's ledger.
pub(crate) fn first_day() -> Day {
    "2026-03-01".parse().unwrap()
}

/// Noon of the first day, when every test begins.
pub(crate) fn noon() -> Timestamp {
    first_day().start() + Span::hours(12)
}

pub(crate) fn click(ad: &str, id: u128, event_time: Timestamp) -> String {
    wire::encode(&Click {
        click_id: ClickId::from_u128(id),
        ad_id: AdId::parse(ad).unwrap(),
        user_id: UserId::parse("u").unwrap(),
        event_time,
    })
}

pub(crate) fn life(topic: &Topic) -> TopicLife {
    TopicLife {
        region: topic.region.clone(),
        topic_id: topic.id,
        name: topic.name.clone(),
        partitions: topic.partitions,
    }
}

/// The batch closes the next day, whatever the log holds up to these offsets.
pub(crate) fn night(books: &Books, cuts: BTreeMap<PartitionId, Offset>, published_at: Timestamp) -> Body {
    let file = FileRef { key: "k".to_owned(), sha256: "h".to_owned(), bytes: 0, rows: 0 };
    let night = books.next_night();
    let revision = DayRevision {
        day: night,
        revision: 1,
        rules_version: books.rules().on(night).version,
        minute: file.clone(),
        hour: file.clone(),
        day_file: file.clone(),
        totals: DayTotals::default(),
        change: None,
    };
    Body::Night(Box::new(Night {
        night,
        published_at,
        release: "test".to_owned(),
        cuts,
        days: vec![revision],
        withheld: None,
        accepted: None,
        confirmed: Vec::new(),
        finals: Vec::new(),
        adjustments: None,
        inputs: file,
        balance: Balance::default(),
    }))
}

/// Asks for everything.
pub(crate) fn all() -> LiveQuery {
    LiveQuery { ads: Ads::All, range: Interval::new(Timestamp::MIN, Timestamp::MAX), late_from: Day::from_number(0) }
}

/// The clicks of all counts together.
pub(crate) fn sum<K>(counts: &[(K, u64)]) -> u64 {
    counts.iter().map(|(_, clicks)| clicks).sum()
}

/// Where a click of this ad and time counts.
pub(crate) fn is_count(key: &CountKey, ad: &str, time: Timestamp) -> bool {
    key.minute == clicks::window::Minute::of(time) && key.ad.as_str() == ad
}
