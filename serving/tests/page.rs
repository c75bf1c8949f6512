//! The page's program, run by Node.js without a browser; with one, the promises do.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// A page that was hidden for two weeks asked for the minutes since, was refused, and asked the same again for ever.
#[test]
fn a_page_that_was_hidden_for_weeks_recovers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut node = Command::new("node");
    node.arg(folder.join("tests/page/hidden.mjs")).args(
        ["shared.js", "access.js", "time.js", "dates.js", "view.js", "campaigns.js", "tables.js", "app.js"]
            .map(|file| folder.join("page").join(file)),
    );
    let output = node.output().expect("the page's tests need Node.js: install it, so that `node` is in the PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
