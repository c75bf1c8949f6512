//! The binary under test: the one that was built beside this test.

use std::path::PathBuf;
use std::process::Command;

pub(crate) fn twofold() -> Command {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder: PathBuf = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps").to_owned();
    Command::new(folder.join("twofold"))
}
