use super::*;

#[test]
fn the_bytes_are_pinned() {
    let entry = Entry::new(
        0,
        String::new(),
        Body::Genesis(Genesis { first_day: "2026-03-01".parse().unwrap(), rules: Rules::default() }),
    );
    let golden = concat!(
        r#"{"version":1,"number":0,"previous":"","genesis":{"first_day":"2026-03-01","rules":{"version":1,"lateness_ms":600000,"#,
        r#""live_horizon_ms":900000,"batch_horizon_ms":86400000,"age_max_ms":3024000000,"ahead_max_ms":300000,"finality_days":3}}}"#
    );
    assert_eq!(String::from_utf8(entry.encode()).unwrap(), golden);
    assert_eq!(Entry::decode(0, golden.as_bytes()).unwrap(), entry);
    assert_eq!(entry_key(12), "ledger/00000000000000000012.json");
}

#[test]
fn the_bytes_of_a_night_are_pinned() {
    let file = |key: &str| FileRef { key: key.to_owned(), sha256: "ab".to_owned(), bytes: 2, rows: 1 };
    let day: Day = "2026-03-01".parse().unwrap();
    let totals = DayTotals { clicks: 9, late: 2, duplicates: 3, far_duplicates: 1, ..DayTotals::default() };
    let partition: PartitionId = "eu/00000000-0000-0000-0000-000000000007/0".parse().unwrap();
    let night = Night {
        night: day,
        published_at: Timestamp::from_millis(5),
        release: "0.1.0".to_owned(),
        cuts: BTreeMap::from([(partition, Offset::new(12))]),
        days: vec![DayRevision {
            day,
            revision: 1,
            rules_version: 1,
            minute: file("m"),
            hour: file("h"),
            day_file: file("d"),
            totals,
            change: Some(Change { reason: ChangeReason::LateArrival, file: file("c"), clicks: 2 }),
        }],
        withheld: None,
        accepted: None,
        confirmed: vec![day.previous()],
        finals: vec![day.plus(-3)],
        adjustments: Some(Adjustments { file: file("a"), clicks: BTreeMap::from([(day.plus(-5), 1)]) }),
        inputs: file("i"),
        balance: Balance { rows: 14, counted: 9, duplicates: 3, rejected: 1, control: 1, other_days: 0 },
    };
    let entry = Entry::new(7, "cd".to_owned(), Body::Night(Box::new(night)));
    let reference = |key: &str| format!(r#"{{"key":"{key}","sha256":"ab","bytes":2,"rows":1}}"#);
    let golden = [
        r#"{"version":1,"number":7,"previous":"cd","night":{"night":"2026-03-01","published_at":5,"release":"0.1.0","#,
        r#""cuts":{"eu/00000000-0000-0000-0000-000000000007/0":12},"#,
        r#""days":[{"day":"2026-03-01","revision":1,"rules_version":1,"minute":"#,
        &reference("m"),
        r#","hour":"#,
        &reference("h"),
        r#","day_file":"#,
        &reference("d"),
        r#","totals":{"clicks":9,"late":2,"duplicates":3,"far_duplicates":1,"late_duplicates":0},"#,
        r#""change":{"reason":"late_arrival","file":"#,
        &reference("c"),
        r#","clicks":2}}],"#,
        r#""confirmed":["2026-02-28"],"finals":["2026-02-26"],"adjustments":{"file":"#,
        &reference("a"),
        r#","clicks":{"2026-02-24":1}},"inputs":"#,
        &reference("i"),
        r#","balance":{"rows":14,"counted":9,"duplicates":3,"rejected":1,"control":1,"other_days":0}}}"#,
    ]
    .concat();
    assert_eq!(String::from_utf8(entry.encode()).unwrap(), golden);
    assert_eq!(Entry::decode(7, golden.as_bytes()).unwrap(), entry);
}

#[test]
fn readers_ignore_unknown_fields_and_refuse_unknown_versions_and_kinds() {
    let with = |head: &str, body: &str| format!(r#"{{{head},"number":1,"previous":"x",{body}}}"#);
    let topic = r#""topic":{"region":"eu","topic_id":"00000000-0000-0000-0000-000000000007","name":"clicks","partitions":4,"new":null}"#;
    assert!(Entry::decode(1, with(r#""version":1"#, topic).as_bytes()).is_ok());
    assert!(matches!(
        Entry::decode(1, with(r#""version":2"#, topic).as_bytes()),
        Err(EntryError::Version { version: 2, .. })
    ));
    assert!(matches!(
        Entry::decode(1, with(r#""version":1"#, r#""later":{}"#).as_bytes()),
        Err(EntryError::Malformed { .. })
    ));
    assert!(matches!(Entry::decode(2, with(r#""version":1"#, topic).as_bytes()), Err(EntryError::WrongNumber { .. })));
}

#[test]
fn the_bytes_of_what_people_decide_are_pinned() {
    let day: Day = "2026-03-01".parse().unwrap();
    let (actor, reason) = ("ann".to_owned(), "checked".to_owned());
    let objections = vec![Objection { check: Check::Gap, detail: "lost".to_owned() }];
    let file = || FileRef { key: "f".to_owned(), sha256: "ab".to_owned(), bytes: 2, rows: 1 };
    let reference = r#"{"key":"f","sha256":"ab","bytes":2,"rows":1}"#;
    let revision = DayRevision {
        day,
        revision: 2,
        rules_version: 1,
        minute: file(),
        hour: file(),
        day_file: file(),
        totals: DayTotals::default(),
        change: None,
    };
    let bodies = [
        Body::Epoch(Epoch { region: Region::parse("eu").unwrap(), topic_id: TopicId::from_u128(7), partitions: 16 }),
        Body::Period(PeriodChange {
            day,
            action: PeriodAction::Reopen,
            actor: actor.clone(),
            reason: reason.clone(),
            at: Timestamp::from_millis(5),
        }),
        Body::Recount(Box::new(Recount {
            day: revision,
            night: day.plus(5),
            published_at: Timestamp::from_millis(5),
            release: "0.1.0".to_owned(),
            absorbs: vec![day.plus(4)],
            accepted: Some(Acceptance { actor, reason, objections }),
            inputs: file(),
            balance: Balance::default(),
        })),
    ];
    let revision = format!(
        r#"{{"day":"2026-03-01","revision":2,"rules_version":1,"minute":{reference},"hour":{reference},"day_file":{reference},"totals":{}}}"#,
        r#"{"clicks":0,"late":0,"duplicates":0,"far_duplicates":0,"late_duplicates":0}"#
    );
    let golden = [
        r#""epoch":{"region":"eu","topic_id":"00000000-0000-0000-0000-000000000007","partitions":16}}"#.to_owned(),
        r#""period":{"day":"2026-03-01","action":"reopen","actor":"ann","reason":"checked","at":5}}"#.to_owned(),
        format!(
            r#""recount":{{"day":{revision},"night":"2026-03-06","published_at":5,"release":"0.1.0","absorbs":["2026-03-05"],{}"inputs":{reference},"balance":{}}}}}"#,
            r#""accepted":{"actor":"ann","reason":"checked","objections":[{"check":"gap","detail":"lost"}]},"#,
            r#"{"rows":0,"counted":0,"duplicates":0,"rejected":0,"control":0,"other_days":0}"#
        ),
    ];
    for (body, golden) in bodies.into_iter().zip(golden) {
        let entry = Entry::new(3, "cd".to_owned(), body);
        let golden = format!(r#"{{"version":1,"number":3,"previous":"cd",{golden}"#);
        assert_eq!(String::from_utf8(entry.encode()).unwrap(), golden);
        assert_eq!(Entry::decode(3, golden.as_bytes()).unwrap(), entry);
    }
}
