//! The ready-made schedules, held against the linters of those who run them. That the command lines in them are ours is a
//! test of the binary.

use std::path::PathBuf;

use promises::binary::twofold;
use promises::services::{manifest, new_folder, systemd_analyze};

/// The first version in which all that the manifest uses is stable, and a recent one.
const KUBERNETES: [&str; 2] = ["1.31", "1.37"];

fn schedules() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/schedules"))
}

#[tokio::test]
async fn the_cronjob_is_one_that_kubernetes_takes_and_that_overlaps_nothing() {
    let text = std::fs::read_to_string(schedules().join("cronjob.yaml")).unwrap();
    let job = manifest(&text, &KUBERNETES).await.unwrap();
    let spec = &job["spec"];
    assert_eq!((&spec["timeZone"], &spec["concurrencyPolicy"]), (&"Etc/UTC".into(), &"Forbid".into()));
    assert!(spec["startingDeadlineSeconds"].as_u64().is_some(), "a hundred missed starts would stop it for ever");
    let job = &spec["jobTemplate"]["spec"];
    let rules = job["podFailurePolicy"]["rules"].as_array().unwrap();
    let fails = rules.iter().find(|rule| rule["action"] == "FailJob").unwrap();
    assert_eq!(fails["onExitCodes"]["values"], serde_json::json!([2, 12]));
    let pod = &job["template"]["spec"];
    // Both are what the policy needs to work.
    assert_eq!(
        (&pod["restartPolicy"], &fails["onExitCodes"]["containerName"]),
        (&"Never".into(), &pod["containers"][0]["name"])
    );

    let mistyped = text.replace("concurrencyPolicy", "concurencyPolicy");
    let error = manifest(&mistyped, &KUBERNETES).await.unwrap_err();
    assert!(format!("{error:#}").contains("concurencyPolicy"), "{error:#}");
}

#[tokio::test]
async fn the_systemd_units_are_sound_and_confined() {
    let folder = new_folder("units").unwrap();
    let units = ["twofold-batch.service", "twofold-batch.timer"].map(|name| {
        let text = std::fs::read_to_string(schedules().join(name)).unwrap();
        // The linter looks whether the program is there.
        let text = text.replace("/usr/bin/twofold", &twofold().get_program().display().to_string());
        let unit = folder.join(name);
        std::fs::write(&unit, text).unwrap();
        unit.display().to_string()
    });
    let arguments = ["verify", &units[0], &units[1]];
    let said = systemd_analyze(&arguments).await.unwrap();
    assert_eq!(said, "", "the linter has nothing to say");
    // Tenths of systemd's exposure level, of 100; 96 is a service without any of it.
    systemd_analyze(&["security", "--offline=yes", "--no-pager", "--threshold=15", &units[0]]).await.unwrap();

    let mistyped = std::fs::read_to_string(&units[0]).unwrap().replace("Type=oneshot", "Type=oneshoot");
    std::fs::write(&units[0], mistyped).unwrap();
    assert_ne!(systemd_analyze(&arguments).await.unwrap_or_else(|error| format!("{error:#}")), "");
}
