//! Are the counts that are held the ones that are stored?

use std::collections::HashMap;

use super::LiveCounter;
use crate::live::{CountKey, LateKey};
use crate::window::Minute;

/// A count that is stored otherwise than it is held; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub count: CountKey,
    pub held: Option<u64>,
    pub stored: Option<u64>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |clicks: Option<u64>| clicks.map_or_else(|| "none".to_owned(), |clicks| clicks.to_string());
        let Difference { count, held, stored } = self;
        let start = count.minute.start();
        write!(f, "ad {} at {start}: {} stored, {} held", count.ad, shown(*stored), shown(*held))
    }
}

impl LiveCounter {
    /// The first difference between the counts that may still change and what is stored of them, read at the position
    /// [`LiveCounter::stored_at`] with nothing observed since. The slices may hold more: counts that can no longer
    /// change are known to the store alone.
    pub fn difference(&self, counts: &[(CountKey, u64)], late: &[(LateKey, u64)]) -> Option<Difference> {
        let open = Minute::of(self.watermark());
        let mut held: HashMap<CountKey, u64> = self
            .counts
            .iter()
            .filter(|(window, _)| window.minute >= open)
            .map(|(window, count)| (self.key_of(window), count.clicks()))
            .collect();
        for (key, stored) in counts.iter().filter(|(key, _)| key.minute >= open) {
            let held = held.remove(key);
            if held != Some(*stored) {
                return Some(Difference { count: key.clone(), held, stored: Some(*stored) });
            }
        }
        if let Some((count, held)) = held.into_iter().min() {
            return Some(Difference { count, held: Some(held), stored: None });
        }

        let night = self.open_night();
        let mut held: HashMap<&LateKey, u64> =
            self.late.iter().filter(|(key, _)| key.night >= night).map(|(key, clicks)| (key, *clicks)).collect();
        for (key, stored) in late.iter().filter(|(key, _)| key.night >= night) {
            let held = held.remove(key);
            if held != Some(*stored) {
                return Some(Difference { count: key.count.clone(), held, stored: Some(*stored) });
            }
        }
        let missing = held.into_iter().min();
        missing.map(|(key, held)| Difference { count: key.count.clone(), held: Some(held), stored: None })
    }
}
