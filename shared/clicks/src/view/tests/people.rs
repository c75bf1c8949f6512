//! What people have decided, and what was recorded on purpose: withheld and accepted days, grown topics.

use super::*;
use crate::ledger::{Acceptance, Check, Epoch, Objection, Withheld};

fn objections(check: Check) -> Vec<Objection> {
    vec![Objection { check, detail: "records [3, 9) are lost".to_owned() }]
}

#[test]
fn a_withheld_day_is_unknown_and_nobody_else_answers_for_it() {
    let mut chain = Chain::new(Rules::default());
    chain.life(1);
    chain.night(chain.next_night(&[]));
    let withheld = Some(Withheld { objections: objections(Check::Gap) });
    chain.night(Night { days: Vec::new(), withheld, ..chain.next_night(&[]) });
    let now = at(3, 0, 11);
    let world = World::new(day(3), now).row(at(1, 5, 0), "a", 10).live(at(2, 5, 0), "a", 7).live(at(3, 0, 1), "a", 2);
    let answer = world.total(&chain.0, range(at(1, 0, 0), at(4, 0, 0)), Grain::Day, now);
    assert_eq!(clicks(&answer), [Some(10), None, Some(2)]);
    let second = answer.series[0].periods[1];
    assert_eq!((second.state, second.source, second.complete), (PeriodState::Withheld, Source::Batch, false));
    let reasons: Vec<_> = answer.standing.reasons.iter().map(|reason| (reason.code(), reason.day())).collect();
    assert_eq!(reasons, [("withheld", Some(day(2)))]);
    assert!(answer.standing.reasons[0].to_string().contains("[3, 9)"));
}

#[test]
fn what_was_lost_of_an_accepted_day_is_said_for_ever_and_its_volume_is_not() {
    for (check, complete) in [(Check::Gap, false), (Check::Volume, true)] {
        let mut chain = Chain::new(Rules::default());
        chain.life(1);
        let (actor, reason) = ("ann".to_owned(), "nothing to be had".to_owned());
        let accepted = Some(Acceptance { actor, reason, objections: objections(check) });
        chain.night(Night { accepted, ..chain.next_night(&[]) });
        let now = at(2, 0, 11);
        let world = World::new(day(2), now).row(at(1, 5, 0), "a", 10);
        let answer = world.total(&chain.0, day(1).interval(), Grain::Day, now);
        assert_eq!(clicks(&answer), [Some(10)], "what is published is shown");
        assert_eq!((answer.series[0].periods[0].complete, answer.standing.complete), (complete, complete));
        let codes: Vec<_> = answer.standing.reasons.iter().map(Reason::code).collect();
        assert_eq!(codes, if complete { vec![] } else { vec!["lost_for_ever"] });
    }
}

/// Scenario 23: an ad lies in one partition by the old count and in another by the new one.
#[test]
fn an_ad_is_looked_for_by_every_partition_count_that_its_topic_has_had() {
    let mut chain = Chain::new(Rules::default());
    chain.life(1);
    let (region, topic_id) = (partition(0).region, TopicId::from_u128(1));
    chain.add(Body::Epoch(Epoch { region, topic_id, partitions: 4 * PARTITIONS }));
    let moved = (0..)
        .map(|n| ad(&format!("ad-{n}")))
        .find(|ad| partition_of(ad.as_str().as_bytes(), 4 * PARTITIONS) != home(ad));
    let moved = moved.unwrap();
    let asked = Asked::Ads(vec![moved.clone()]);
    let question = Question { asked, range: day(1).interval(), grain: Grain::Day, zone: Zone::UTC };
    let merge = Merge::new(&chain.0, question, at(1, 1, 0), LAG_MAX).unwrap();
    let mut homes = [home(&moved), partition_of(moved.as_str().as_bytes(), 4 * PARTITIONS)];
    homes.sort_unstable();
    assert_eq!(merge.partitions().map(|id| id.number).collect::<Vec<_>>(), homes);
}
