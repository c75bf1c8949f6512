//! What happened in a history, as one number; and as text for whoever has to understand a failure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::tally::Tally;

/// Clones write to the same trace.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    shared: Arc<Mutex<Shared>>,
    began: Instant,
}

#[derive(Debug)]
struct Shared {
    hasher: DefaultHasher,
    events: u64,
    lines: Option<Vec<String>>,
    tally: Tally,
}

impl Trace {
    pub(crate) fn begin(with_text: bool) -> Self {
        let shared = Shared {
            hasher: DefaultHasher::new(),
            events: 0,
            lines: with_text.then(Vec::new),
            tally: Tally::default(),
        };
        Trace { shared: Arc::new(Mutex::new(shared)), began: Instant::now() }
    }

    /// The text is made only where it is kept.
    pub(crate) fn note(&self, event: impl Hash, text: impl FnOnce() -> String) {
        let mut shared = self.shared.lock().unwrap();
        let at = self.began.elapsed();
        (at, event).hash(&mut shared.hasher);
        shared.events += 1;
        if let Some(lines) = &mut shared.lines {
            lines.push(format!("{:>8.3} {}", at.as_secs_f64(), text()));
        }
    }

    /// Something that histories are about happened.
    pub(crate) fn count(&self, what: &'static str) {
        self.shared.lock().unwrap().tally.count(what);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.shared.lock().unwrap().tally.clone()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.shared.lock().unwrap().hasher.finish()
    }

    pub(crate) fn events(&self) -> u64 {
        self.shared.lock().unwrap().events
    }

    pub(crate) fn text(&self) -> String {
        self.shared.lock().unwrap().lines.as_ref().map_or_else(String::new, |lines| lines.join("\n"))
    }
}
