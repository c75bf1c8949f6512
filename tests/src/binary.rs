//! The binary under test: the one that was built beside the test.

use std::path::PathBuf;
use std::process::Command;

/// A command of `twofold` that still lacks its arguments.
///
/// # Panics
/// When the running program does not lie where Cargo puts tests.
pub fn twofold() -> Command {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder: PathBuf = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps").to_owned();
    Command::new(folder.join("twofold"))
}
