use super::*;

fn findings(replicas: u32, brokers: u32, changes: &[(&str, &str)]) -> Vec<(String, Severity, String)> {
    let spec = TopicSpec { replication_factor: replicas, ..TopicSpec::default() };
    let mut settings: BTreeMap<String, String> =
        spec.settings().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for (name, value) in changes {
        settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let facts = Facts { bootstrap: "b:1", topic: "t", settings: &settings, replicas, brokers, auto_create: None };
    judge(&facts).into_iter().map(|f| (f.setting, f.severity, f.mend)).collect()
}

#[test]
fn what_we_create_is_found_right_where_there_are_brokers_enough() {
    assert_eq!(findings(3, 3, &[]), []);
    assert_eq!(findings(3, 9, &[("retention.ms", "-1"), ("max.message.bytes", "2000000")]), []);
}

#[test]
fn a_single_broker_is_warned_of_and_no_more() {
    let found = findings(1, 1, &[("unclean.leader.election.enable", "true")]);
    let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["unclean.leader.election.enable", "replication.factor", "min.insync.replicas"]);
    assert!(found.iter().all(|(_, severity, _)| *severity == Severity::Warn), "{found:?}");
}

#[test]
fn each_setting_that_breaks_a_promise_is_refused_with_a_command() {
    let week = 7 * 24 * 60 * 60 * 1_000;
    let short = (week - 1).to_string();
    let cases = [
        ("message.timestamp.type", "CreateTime", "message.timestamp.type=LogAppendTime"),
        ("cleanup.policy", "compact", "cleanup.policy=delete"),
        ("cleanup.policy", "compact,delete", "cleanup.policy=delete"),
        ("retention.ms", short.as_str(), "retention.ms=604800000"),
        ("retention.bytes", "1000000", "retention.bytes=-1"),
        ("max.message.bytes", "999999", "max.message.bytes=1048588"),
        ("unclean.leader.election.enable", "true", "unclean.leader.election.enable=false"),
        ("min.insync.replicas", "1", "min.insync.replicas=2"),
    ];
    for (setting, value, mend) in cases {
        let found = findings(3, 3, &[(setting, value)]);
        let [(name, severity, command)] = found.as_slice() else { panic!("{setting}={value}: {found:?}") };
        assert_eq!((name.as_str(), *severity), (setting, Severity::Refuse), "{value}");
        assert!(command.contains("kafka-configs.sh --bootstrap-server b:1") && command.ends_with(mend), "{command}");
    }
}

#[test]
fn replicas_are_judged_by_what_the_cluster_could_have() {
    let names = |replicas, brokers| {
        let found = findings(replicas, brokers, &[]);
        found.into_iter().map(|(name, severity, _)| (name, severity)).collect::<Vec<_>>()
    };
    let factor = |severity| ("replication.factor".to_owned(), severity);
    let in_sync = |severity| ("min.insync.replicas".to_owned(), severity);
    assert_eq!(names(1, 3), [factor(Severity::Refuse), in_sync(Severity::Refuse)]);
    assert_eq!(names(2, 3), [factor(Severity::Refuse)]);
    assert_eq!(names(2, 2), [factor(Severity::Warn)]);
    assert_eq!(names(1, 2), [factor(Severity::Refuse), in_sync(Severity::Refuse)]);
    for number in ["3", "4"] {
        let found = findings(3, 3, &[("min.insync.replicas", number)]);
        assert_eq!((found[0].0.as_str(), found[0].1), ("min.insync.replicas", Severity::Warn), "{number} of 3");
    }
}

#[test]
fn topics_that_none_may_be_are_refused() {
    let right = TopicSpec::default();
    assert!(right.validate().is_ok());
    for wrong in [
        TopicSpec { partitions: 0, ..right.clone() },
        TopicSpec { replication_factor: 0, ..right.clone() },
        TopicSpec { retention: Duration::from_secs(6 * 24 * 60 * 60), ..right.clone() },
    ] {
        assert!(matches!(wrong.validate(), Err(TopicError::Spec(_))), "{wrong:?}");
    }
}
