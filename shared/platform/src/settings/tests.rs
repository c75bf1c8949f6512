use super::*;

#[test]
fn an_unknown_key_is_named_with_the_nearest_valid_one() {
    let cases = [
        ("[kafka]\nbroker = \"x:1\"", "kafka.broker", "`brokers`"),
        ("[sped]\nflush_interval = \"1s\"", "sped", "`speed`"),
        ("[redis]\nurll = \"x\"", "redis.urll", "`url`"),
    ];
    for (text, key, nearest) in cases {
        let message = Settings::from_toml(text).unwrap_err().to_string();
        assert!(message.contains(&format!("`{key}`")) && message.contains(nearest), "{message}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_reason() {
    let message = Settings::from_toml("[speed]\nflush_interval = \"soon\"").unwrap_err().to_string();
    assert!(message.contains("speed.flush_interval") && message.contains("50ms"), "{message}");
    assert!(Settings::from_toml("[kafka]\npartitions = -1").is_err());
    assert!(Settings::from_toml("[speed]\npartitions = [0, -1]").is_err());
}

#[test]
fn settings_round_trip_and_hide_secrets() {
    let text = "[redis]\nurl = \"redis://user:hush@localhost:6379\"\n[storage]\nsecret_key = \"hush\"\n";
    let settings = Settings::from_toml(text).unwrap();
    assert_eq!(settings.redis.url.reveal(), "redis://user:hush@localhost:6379");
    let shown = settings.to_toml();
    assert!(!shown.contains("hush") && shown.contains("localhost:6379"), "{shown}");
    assert!(!format!("{settings:?}").contains("hush"));
    let again = Settings::from_toml(&Settings::default().to_toml()).unwrap();
    assert_eq!(again.speed.flush_interval, Settings::default().speed.flush_interval);
}

#[test]
fn partitions_are_shared_by_a_group_unless_they_are_named() {
    let default = Settings::default();
    assert_eq!((default.speed.group.as_str(), default.speed.partitions.as_deref()), ("twofold-speed", None));
    let named = Settings::from_toml("[speed]\npartitions = [0, 3]").unwrap();
    assert_eq!(named.speed.partitions.as_deref(), Some([0, 3].as_slice()));
    assert!(named.to_toml().contains("partitions = [0, 3]"), "{}", named.to_toml());
}
