//! What tunes a run and changes no number that it publishes.

use std::path::PathBuf;
use std::sync::Arc;

use platform::store::SpeedStore;

use crate::count::CountBy;
use crate::stages::Stages;

/// Options of a batch run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bound of DataFusion's memory pool in bytes; beyond it the count and the operators spill to disk. The tables of the
    /// days that are computed are not in it.
    pub memory_limit_bytes: usize,
    /// By what records are judged and counted.
    pub count_by: CountBy,
    /// Partitions that are counted at the same time, and DataFusion's parallelism. At least 1.
    pub target_partitions: usize,
    /// Release that computes: named in the ledger and in the files, because "the same bytes" holds per release.
    pub release: String,
    /// Which process this is, among those of an installation: in reports, for operators.
    pub runner: String,
    /// Where a run tells what it is at.
    pub stages: Stages,
    /// Folder of spill files; the system's folder for temporary files when absent.
    pub spill_folder: Option<PathBuf>,
    /// Bound of the spill files in bytes.
    pub spill_limit_bytes: u64,
    /// A day is withheld when its clicks differ from what is usual by more than this factor; 0 for never.
    pub volume_factor: u32,
    /// The live counts that a day is held against; a day whose own differ is withheld.
    pub live: Option<Arc<dyn SpeedStore>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory_limit_bytes: 1 << 30,
            count_by: CountBy::default(),
            target_partitions: std::thread::available_parallelism().map_or(1, usize::from),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            runner: format!("batch-{}", std::process::id()),
            stages: Stages::default(),
            spill_folder: None,
            spill_limit_bytes: 64 << 30,
            volume_factor: 10,
            live: None,
        }
    }
}
