//! The shape of the workspace: which crate may use which, and who links the query engine.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every allowed edge between crates of the workspace; dependencies of tests do not count.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("clicks", &[]),
    ("platform", &["clicks"]),
    ("collector", &["clicks", "platform"]),
    ("counter", &["clicks", "platform"]),
    ("archive", &["clicks", "platform"]),
    ("recompute", &["archive", "clicks", "platform"]),
    ("finance", &["archive", "clicks", "platform", "recompute"]),
    ("sql", &["archive", "clicks", "platform", "recompute"]),
    ("serving", &["clicks", "platform"]),
    ("twofold", &["archive", "clicks", "collector", "counter", "finance", "platform", "recompute", "serving", "sql"]),
    ("promises", &["clicks", "platform"]),
];

/// What the core may be built from: nothing that does IO, reads a clock, logs or is asynchronous. `chrono-tz` brings the table
/// of time zones in itself, `iso_currency` that of currencies, and `csv` reads and writes bytes: none asks the machine.
const CORE: [&str; 13] = [
    "chrono",
    "chrono-tz",
    "csv",
    "foldhash",
    "hashbrown",
    "iso_currency",
    "rust_decimal",
    "serde",
    "serde_json",
    "sha2",
    "strsim",
    "thiserror",
    "uuid",
];

/// Crates that may have the query engine among all that they are built from.
const WITH_ENGINE: [&str; 5] = ["finance", "recompute", "sql", "twofold", "promises"];

/// Of this platform only, whose crates are all there once this test has been built.
fn metadata() -> Value {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Package id -> (name, ids that it is built from, without those of its tests).
fn graph(metadata: &Value) -> BTreeMap<String, (String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> =
        metadata["packages"].as_array().unwrap().iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let normal = |dep: &&Value| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev");
    nodes
        .iter()
        .map(|node| {
            let deps = node["deps"].as_array().unwrap().iter().filter(normal).map(|dep| text(&dep["pkg"])).collect();
            let id = text(&node["id"]);
            (id.clone(), (names[&id].clone(), deps))
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let graph = graph(&metadata);
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(members.len(), ALLOWED.len(), "a crate was added or removed: say here what it may use");
    for id in &members {
        let (name, deps) = &graph[*id];
        let (_, allowed) =
            ALLOWED.iter().find(|(crate_name, _)| crate_name == name).unwrap_or_else(|| panic!("{name} is unknown"));
        for dep in deps.iter().filter(|dep| members.contains(dep.as_str())) {
            let used = &graph[dep].0;
            assert!(allowed.contains(&used.as_str()), "{name} must not use {used}");
        }
    }
}

#[test]
fn the_core_is_built_from_nothing_that_could_touch_the_world() {
    let graph = graph(&metadata());
    let (_, deps) = graph.values().find(|(name, _)| name == "clicks").unwrap();
    for dep in deps {
        assert!(CORE.contains(&graph[dep].0.as_str()), "the core must not use {}", graph[dep].0);
    }
}

#[test]
fn only_the_batch_links_the_query_engine() {
    let metadata = metadata();
    let graph = graph(&metadata);
    for id in metadata["workspace_members"].as_array().unwrap() {
        let id = id.as_str().unwrap();
        let mut seen = BTreeSet::new();
        let mut open = vec![id.to_owned()];
        while let Some(next) = open.pop() {
            if seen.insert(next.clone()) {
                open.extend(graph[&next].1.iter().cloned());
            }
        }
        let has_engine = seen.iter().any(|id| graph[id].0 == "datafusion");
        let name = &graph[id].0;
        assert!(!has_engine || WITH_ENGINE.contains(&name.as_str()), "{name} must not link DataFusion");
    }
}

#[test]
fn there_is_one_arrow() {
    let metadata = metadata();
    for name in ["arrow", "parquet", "object_store", "datafusion"] {
        let versions =
            metadata["packages"].as_array().unwrap().iter().filter(|package| package["name"] == name).count();
        assert_eq!(versions, 1, "{name} must be there in one version");
    }
}
