//! The counts of the open windows: a row per minute, in which an ad's number is its place.
//!
//! Ads get their numbers in the order in which they are first seen, so those that are clicked most stand together, and a
//! count is found without hashing.

use super::Window;
use super::ads::AdNumber;
use crate::event::Class;
use crate::prefetch::prefetch;
use crate::window::Minute;

/// Counts that are allocated together.
const PAGE: usize = 64;

/// Clicks of one window, and whether it is in the list of what the next flush writes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count(u64);

impl Count {
    pub(super) const fn stored(clicks: u64) -> Self {
        Count(clicks << 1)
    }

    pub(super) const fn clicks(self) -> u64 {
        self.0 >> 1
    }

    /// One click more. True when the window was not in the list.
    #[inline]
    fn add(&mut self) -> bool {
        let was_clean = self.0 & 1 == 0;
        self.0 = (self.0 + 2) | 1;
        was_clean
    }
}

#[derive(Debug)]
struct Row {
    minute: Minute,
    class: Class,
    /// By the ad's number.
    pages: Vec<Option<Box<[Count; PAGE]>>>,
}

/// Windows that were never clicked are not there.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// In the order of minute and class.
    rows: Vec<Row>,
    windows: usize,
}

impl Counts {
    /// Windows that are there.
    pub(super) fn len(&self) -> usize {
        self.windows
    }

    /// Counts a click. True when the window was not in the list of what is to be flushed.
    #[inline]
    pub(super) fn add(&mut self, window: Window) -> bool {
        let count = self.place(window);
        let is_new = count.0 == 0;
        let was_clean = count.add();
        self.windows += usize::from(is_new);
        was_clean
    }

    /// A count that is stored already.
    pub(super) fn insert(&mut self, window: Window, count: Count) {
        self.windows += usize::from(self.get(window).is_none());
        *self.place(window) = count;
    }

    #[inline]
    pub(super) fn touch(&self, window: Window) {
        if let Ok(row) = self.row(window)
            && let Some(Some(page)) = self.rows[row].pages.get(window.ad as usize / PAGE)
        {
            prefetch(&page[window.ad as usize % PAGE]);
        }
    }

    pub(super) fn get(&self, window: Window) -> Option<Count> {
        let row = self.row(window).ok()?;
        let page = self.rows[row].pages.get(window.ad as usize / PAGE)?.as_ref()?;
        Some(page[window.ad as usize % PAGE]).filter(|count| count.0 != 0)
    }

    /// The window is no longer in the list.
    pub(super) fn clean(&mut self, window: Window) {
        if self.get(window).is_some() {
            self.place(window).0 &= !1;
        }
    }

    /// Drops the windows before `minute`.
    pub(super) fn seal(&mut self, minute: Minute) {
        self.rows.retain(|row| row.minute >= minute);
        self.windows = self.iter().count();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Window, Count)> + '_ {
        self.rows.iter().flat_map(|row| {
            let pages = row.pages.iter().enumerate().filter_map(|(number, page)| Some((number, page.as_ref()?)));
            pages.flat_map(move |(number, page)| {
                let window = move |at| {
                    let ad = (number * PAGE + at) as AdNumber;
                    Window { minute: row.minute, class: row.class, ad }
                };
                let counted = page.iter().enumerate().filter(|(_, count)| count.0 != 0);
                counted.map(move |(at, count)| (window(at), *count))
            })
        })
    }

    #[inline]
    fn row(&self, window: Window) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&(window.minute, window.class), |row| (row.minute, row.class))
    }

    #[inline]
    fn place(&mut self, window: Window) -> &mut Count {
        let row = match self.row(window) {
            Ok(row) => row,
            Err(row) => {
                self.rows.insert(row, Row { minute: window.minute, class: window.class, pages: Vec::new() });
                row
            }
        };
        let pages = &mut self.rows[row].pages;
        let number = window.ad as usize / PAGE;
        if pages.len() <= number {
            pages.resize_with(number + 1, || None);
        }
        let page = pages[number].get_or_insert_with(|| Box::new([Count::default(); PAGE]));
        &mut page[window.ad as usize % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn window(minute: i64, ad: AdNumber) -> Window {
        Window { minute: Minute::from_number(minute), class: Class::Valid, ad }
    }

    proptest! {
        /// Against a plain map: clicks, flushes and seals in any order.
        #[test]
        fn counts_are_those_of_a_map(steps in prop::collection::vec((0u8..40, 0i64..8, 0u32..300), 1..400)) {
            let (mut counts, mut map) = (Counts::default(), BTreeMap::<Window, (u64, bool)>::new());
            for (kind, minute, ad) in steps {
                let at = window(minute, ad);
                match kind {
                    0 => {
                        counts.seal(at.minute);
                        map.retain(|window, _| window.minute >= at.minute);
                    }
                    1..5 => {
                        counts.clean(at);
                        map.entry(at).and_modify(|count| count.1 = false);
                    }
                    5..8 => {
                        counts.insert(at, Count::stored(u64::from(ad) + 1));
                        map.insert(at, (u64::from(ad) + 1, false));
                    }
                    _ => {
                        let count = map.entry(at).or_default();
                        prop_assert_eq!(counts.add(at), !count.1);
                        *count = (count.0 + 1, true);
                    }
                }
                counts.touch(at);
                prop_assert_eq!(counts.get(at).map(Count::clicks), map.get(&at).map(|count| count.0));
                prop_assert_eq!(counts.len(), map.len());
            }
            let all: Vec<_> = counts.iter().map(|(window, count)| (window, count.clicks())).collect();
            prop_assert_eq!(all, map.into_iter().map(|(window, count)| (window, count.0)).collect::<Vec<_>>());
        }
    }
}
