//! `twofold archive prune`: what is old and no longer needed of the raw objects.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use archive::{PruneMode, PruneOptions, Pruned};
use clicks::time::Span;
use platform::settings::Settings;

use crate::connect;
use crate::exit::{Exit, print};

pub async fn run(settings: &Settings, keep: Duration, dry_run: bool, as_json: bool) -> Result<Exit> {
    let (objects, ledger, clock) = (connect::objects(settings)?, connect::ledger(settings)?, connect::clock(settings));
    let options = PruneOptions {
        keep: Span::millis(i64::try_from(keep.as_millis()).context("`--keep` is longer than any archive")?),
        mode: if dry_run { PruneMode::DryRun } else { PruneMode::Delete },
        writer: format!("twofold {}", env!("CARGO_PKG_VERSION")),
    };
    let pruned = archive::prune(&objects, &ledger, &*clock, &options).await?;
    let text = if as_json { serde_json::to_string(&pruned)? } else { describe(&pruned, options.mode) };
    print(text.trim_end())?;
    Ok(Exit::Done)
}

fn describe(pruned: &Pruned, mode: PruneMode) -> String {
    let mut text = String::new();
    let done = if mode == PruneMode::DryRun { "would be deleted" } else { "deleted" };
    for part in &pruned.partitions {
        let (partition, objects, bytes, base) = (&part.partition, part.objects, part.bytes, part.base);
        let _ = writeln!(text, "  {partition}  {objects} objects, {bytes} bytes {done}; it begins at offset {base}");
    }
    let objects: u64 = pruned.partitions.iter().map(|part| part.objects).sum();
    let _ = match pruned.before {
        None => writeln!(text, "no night is published yet, so everything is kept"),
        Some(before) if before < pruned.asked => writeln!(
            text,
            "{objects} objects {done}, all appended before {before}; later ones are kept up to {} because a night may \
             still read them",
            pruned.asked
        ),
        Some(before) => writeln!(text, "{objects} objects {done}, all appended before {before}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_against_the_word_is_said() {
        let day = |text: &str| text.parse().unwrap();
        let mut pruned = Pruned { before: None, asked: day("2026-03-01"), partitions: Vec::new() };
        assert!(describe(&pruned, PruneMode::Delete).contains("everything is kept"));
        pruned.before = Some(day("2026-02-01"));
        let text = describe(&pruned, PruneMode::DryRun);
        assert!(
            text.contains("0 objects would be deleted, all appended before 2026-02-01; later ones are kept"),
            "{text}"
        );
        pruned.before = Some(day("2026-03-01"));
        assert!(describe(&pruned, PruneMode::Delete).ends_with("0 objects deleted, all appended before 2026-03-01\n"));
    }
}
