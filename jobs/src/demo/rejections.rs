//! What is said of lines that are no clicks: every one with its number and reason, but no flood on the terminal.
//!
//! With `--data` all of them stand in one file. The terminal shows the first of each kind and counts the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::proof::grouped;

/// Lines of one reason that are shown.
const SHOWN_MAX: u64 = 100;
/// The file of all rejected lines, within `--data`.
const FILE: &str = "rejected.ndjson";

/// See the module.
#[derive(Debug)]
pub struct Rejections {
    path: Option<PathBuf>,
    file: Option<BufWriter<File>>,
    by_code: BTreeMap<&'static str, u64>,
}

impl Rejections {
    pub fn new(data: Option<&Path>) -> Self {
        Rejections { path: data.map(|folder| folder.join(FILE)), file: None, by_code: BTreeMap::new() }
    }

    /// Enters a line; gives what is to be shown of it, if anything is.
    pub fn add(&mut self, number: u64, code: &'static str, reason: &str, excerpt: &str) -> Result<Option<String>> {
        let count = self.by_code.entry(code).or_default();
        *count += 1;
        let shown = (*count <= SHOWN_MAX).then(|| format!("line {number}: {reason} ({code})"));
        if let Some(path) = &self.path {
            let failed = || format!("writing {}", path.display());
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(create(path).with_context(failed)?),
            };
            let line = json!({"line": number, "code": code, "reason": reason, "excerpt": excerpt});
            writeln!(file, "{line}").with_context(failed)?;
        }
        Ok(shown)
    }

    pub fn total(&self) -> u64 {
        self.by_code.values().sum()
    }

    /// What was not shown, a line per reason, and where it stands.
    pub fn rest(&mut self) -> Result<Vec<String>> {
        if let Some(file) = &mut self.file {
            file.flush().context("writing the rejected lines")?;
        }
        let hidden = self.by_code.iter().filter(|(_, count)| **count > SHOWN_MAX);
        let hidden = hidden.map(|(code, count)| format!("… and {} more of {code}", grouped(count - SHOWN_MAX)));
        let mut rest: Vec<String> = hidden.collect();
        match &self.path {
            Some(path) if self.file.is_some() => rest.push(format!("every rejected line: {}", path.display())),
            None if !rest.is_empty() => {
                rest.push(format!("every rejected line is written to DIR/{FILE} with `--data DIR`"));
            }
            _ => {}
        }
        Ok(rest)
    }
}

fn create(path: &Path) -> std::io::Result<BufWriter<File>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(BufWriter::new(File::create(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_are_shown_and_all_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("out");
        for path in [None, Some(data.as_path())] {
            let mut rejections = Rejections::new(path);
            let lines = (1..=350).map(|n| (n, if n % 3 == 0 { "ragged" } else { "bad_ad_id" }));
            let shown = lines.filter_map(|(n, code)| rejections.add(n, code, "why", "a/b").unwrap()).count();
            let rest = rejections.rest().unwrap();
            assert_eq!((shown, rejections.total()), (200, 350));
            assert_eq!(rest[..2], ["… and 134 more of bad_ad_id", "… and 16 more of ragged"]);
            assert_eq!(rest.len(), 3);
        }
        let text = std::fs::read_to_string(data.join(FILE)).unwrap();
        let last = r#"{"code":"bad_ad_id","excerpt":"a/b","line":350,"reason":"why"}"#;
        assert_eq!((text.lines().count(), text.lines().last()), (350, Some(last)));
    }
}
