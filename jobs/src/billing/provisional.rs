//! Live numbers of the days of a period that are not closed.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clicks::books::{Books, PeriodState};
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::view::{Asked, Merge, Missing, Question};
use clicks::window::Grain;
use clicks::zone::Zone;
use finance::Provisional;
use platform::store::{Ads, LiveQuery, LiveSlice, SpeedStore};

/// A store that has not answered by then is away.
const DEADLINE: Duration = Duration::from_secs(10);
/// Live numbers that are so old are told to be.
const LAG_MAX: Span = Span::minutes(5);

/// What the live view has counted of the open days of a range, late clicks included, and what speaks against these numbers.
///
/// # Errors
/// When the store of the live counts does not answer.
pub async fn provisional(
    store: &dyn SpeedStore,
    books: &Books,
    range: Interval,
    now: Timestamp,
) -> Result<(Provisional, Vec<String>)> {
    let (mut found, mut reasons) = (Provisional::default(), Vec::new());
    let days = range.start.day().until((range.end - Span::millis(1)).day().next());
    for day in days.filter(|day| books.state(*day) == PeriodState::Live) {
        found.open(day);
        if day.start() < now {
            add_day(store, books, day, now, &mut found, &mut reasons).await?;
        }
    }
    reasons.sort_unstable();
    reasons.dedup();
    Ok((found, reasons))
}

/// Hour by hour, because all ads' minutes of a day are many.
async fn add_day(
    store: &dyn SpeedStore,
    books: &Books,
    day: Day,
    now: Timestamp,
    found: &mut Provisional,
    reasons: &mut Vec<String>,
) -> Result<()> {
    let mut hour = day.start();
    while hour < day.end().min(now) {
        let range = Grain::Hour.window(hour);
        let question = Question { asked: Asked::Total, range, grain: Grain::Hour, zone: Zone::UTC };
        let mut merge = Merge::new(books, question, now, LAG_MAX)?;
        let query = LiveQuery { ads: Ads::All, range, late_from: merge.late_from() };
        for partition in merge.partitions().cloned().collect::<Vec<_>>() {
            let read = tokio::time::timeout(DEADLINE, store.read(&partition, &query)).await;
            let read = read.map_err(|_| anyhow!("the speed store does not answer within {DEADLINE:?}"))?;
            match read.map_err(|error| anyhow!("live numbers cannot be read: {error}"))? {
                Some(slice) => {
                    add_slice(&slice, found);
                    merge.give_live(&partition, slice.live());
                }
                None => merge.miss_live(&partition, Missing::NoGeneration),
            }
        }
        reasons.extend(merge.answer().standing.reasons.iter().map(ToString::to_string));
        hour = range.end;
    }
    Ok(())
}

fn add_slice(slice: &LiveSlice, found: &mut Provisional) {
    let counts = slice.counts.iter().map(|(key, clicks)| (key, clicks));
    // They will be billed, too.
    let late = slice.late.iter().map(|(key, clicks)| (&key.count, clicks));
    for (key, clicks) in counts.chain(late) {
        found.add(key.minute.start(), &key.ad, *clicks);
    }
}

#[cfg(test)]
mod tests {
    use clicks::event::Class;
    use clicks::id::{AdId, Region, TopicId};
    use clicks::ledger::{Body, Genesis, TopicLife};
    use clicks::live::{CountKey, Expected, Flush, Generation, LateKey, Meta, Stage};
    use clicks::position::{Offset, PartitionId};
    use clicks::rules::Rules;
    use clicks::window::Minute;
    use platform::ledger::Ledger;
    use platform::objects::Objects;
    use platform::store::MemoryStore;

    use super::*;

    fn key(start: Timestamp, ad: &str) -> CountKey {
        CountKey { minute: Minute::of(start), class: Class::Valid, ad: AdId::parse(ad).unwrap() }
    }

    #[tokio::test]
    async fn open_days_have_what_is_live_and_what_was_late() {
        let first_day: Day = "2026-03-01".parse().unwrap();
        let ledger = Ledger::new(Objects::memory());
        let mut books = ledger.begin(Genesis { first_day, rules: Rules::default() }).await.unwrap();
        let life = TopicLife {
            region: Region::parse("eu").unwrap(),
            topic_id: TopicId::from_u128(7),
            name: "clicks".to_owned(),
            partitions: 1,
        };
        let partition = PartitionId { region: life.region.clone(), topic: life.topic_id, number: 0 };
        ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
        let store = MemoryStore::default();
        let minute = |minutes| first_day.start() + Span::minutes(minutes);
        let now = minute(121);
        // A month of which one day has begun: the others have no numbers, and the days before the first one are closed.
        let range = Interval::new(first_day.previous().start(), first_day.plus(5).start());
        let (found, reasons) = provisional(&store, &books, range, now).await.unwrap();
        let mut want = Provisional::default();
        first_day.until(first_day.plus(5)).for_each(|day| want.open(day));
        assert_eq!(found, want);
        assert!(reasons.len() == 1 && reasons[0].contains("has no live counts"), "{reasons:?}");

        let meta = Meta::new(Offset::ZERO, first_day, first_day.previous(), Offset::ZERO);
        let flush = Flush {
            expected: Expected::Nothing,
            generation: Generation::from_u128(1),
            stage: Stage::Live,
            meta: Meta { append_time: now, next_offset: Offset::new(1), fingerprint: "f".to_owned(), ..meta },
            counts: vec![(key(minute(0), "a"), 5), (key(minute(119), "a"), 2), (key(minute(60), "b"), 1)],
            late: vec![(LateKey { night: first_day, count: key(minute(0), "a") }, 3)],
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        };
        store.flush(&partition, &flush).await.unwrap();
        let (found, reasons) = provisional(&store, &books, range, now).await.unwrap();
        for (minutes, ad, clicks) in [(0, "a", 8), (119, "a", 2), (60, "b", 1)] {
            want.add(minute(minutes), &AdId::parse(ad).unwrap(), clicks);
        }
        assert_eq!((found, reasons), (want, Vec::new()));
    }
}
