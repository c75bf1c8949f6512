//! Deleting what no ledger entry names.

use std::fmt::Write;

use anyhow::Result;
use clicks::time::Span;
use recompute::{Gc, Mode};

use super::Desk;
use crate::exit::{Exit, print};

pub(super) async fn run(desk: &Desk, older_than: Span, dry_run: bool, as_json: bool) -> Result<Exit> {
    let mode = if dry_run { Mode::Name } else { Mode::Delete };
    let gc = recompute::gc(&desk.objects, &desk.ledger, &*desk.clock, older_than, mode).await?;
    if as_json {
        print(&serde_json::to_string(&gc)?)?;
        return Ok(Exit::Done);
    }
    for orphan in &gc.orphans {
        let what = if dry_run { "would delete" } else { "deleted" };
        eprintln!("{what} {} ({} bytes, written {})", orphan.key, orphan.bytes, orphan.written);
    }
    for key in &gc.foreign {
        eprintln!("{key} is none of ours and was left alone");
    }
    print(&describe(&gc, mode))?;
    Ok(Exit::Done)
}

fn describe(gc: &Gc, mode: Mode) -> String {
    let what = if mode == Mode::Name { "would delete" } else { "deleted" };
    let mut text = format!("{what} {} files that no ledger entry names ({} bytes)", gc.orphans.len(), gc.bytes);
    if gc.lease {
        text.push_str(" and the lease of a run that ended long ago");
    }
    let _ = write!(text, "; kept {} that entries up to {} name", gc.named, gc.head);
    for (count, why) in [
        (gc.young, "that are younger"),
        (gc.unsettled, "of a night that is not published"),
        (gc.foreign.len() as u64, "that are none of ours"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_was_looked_at_is_accounted_for() {
        let gc = Gc { head: 12, named: 40, young: 2, unsettled: 3, bytes: 7, ..Gc::default() };
        let text = describe(&gc, Mode::Delete);
        assert_eq!(
            text,
            "deleted 0 files that no ledger entry names (7 bytes); kept 40 that entries up to 12 name, 2 that are younger, \
             3 of a night that is not published"
        );
        assert!(describe(&Gc { lease: true, ..gc }, Mode::Name).starts_with("would delete 0 files"));
    }
}
