//! A table of one grain in memory: 32 bytes a row, and each name once.

use std::sync::Arc;

use clicks::event::Class;
use clicks::time::Timestamp;
use clicks::window::{Grain, Minute};
use hashbrown::HashMap;

/// Names of ads by their numbers.
pub(crate) type Names = Arc<[Arc<str>]>;

/// Gives each name a number, in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    numbers: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    names: Vec<Arc<str>>,
}

impl Numbers {
    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    #[inline]
    pub(crate) fn of(&mut self, name: &str) -> u32 {
        self.get(name).unwrap_or_else(|| self.add(name))
    }

    #[cold]
    fn add(&mut self, name: &str) -> u32 {
        let number = u32::try_from(self.names.len()).expect("four billion ads do not fit in memory");
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// One shared text per name.
    pub(crate) fn shared(&mut self, name: &str) -> Arc<str> {
        let number = self.of(name);
        self.names[number as usize].clone()
    }

    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The names in their order, and for each number its place among them.
    pub(crate) fn sorted(self) -> (Names, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.names[*a as usize].cmp(&self.names[*b as usize]));
        let mut places = vec![0; order.len()];
        for (place, number) in order.iter().enumerate() {
            places[*number as usize] = place as u32;
        }
        (order.iter().map(|number| self.names[*number as usize].clone()).collect(), places)
    }
}

/// The names of several lists in their order, each once, and for each list the places of its names among them.
pub(crate) fn common<'a>(lists: impl IntoIterator<Item = &'a [Arc<str>]>) -> (Names, Vec<Vec<u32>>) {
    let mut numbers = Numbers::default();
    let numbered = |list: &[Arc<str>]| list.iter().map(|name| numbers.of(name)).collect();
    let mut lists: Vec<Vec<u32>> = lists.into_iter().map(numbered).collect();
    let (names, places) = numbers.sorted();
    lists.iter_mut().flatten().for_each(|number| *number = places[*number as usize]);
    (names, lists)
}

/// The counts of one ad in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cell {
    /// Number of the first minute of the period since the epoch.
    pub(crate) start: i32,
    /// Place of the name among the table's names.
    pub(crate) ad: u32,
    pub(crate) clicks: u64,
    pub(crate) duplicates: u64,
    pub(crate) late: u64,
}

impl Cell {
    pub(crate) fn period_start(&self) -> Timestamp {
        Minute::from_number(self.start.into()).start()
    }

    /// What a table is sorted by, because its names are sorted.
    pub(crate) fn key(&self) -> (i32, u32) {
        (self.start, self.ad)
    }

    pub(crate) fn counts(&self) -> [u64; 3] {
        [self.clicks, self.duplicates, self.late]
    }

    pub(crate) fn add(&mut self, other: &Cell) {
        self.clicks += other.clicks;
        self.duplicates += other.duplicates;
        self.late += other.late;
    }
}

/// Rows of a table. As it is counted it is sorted by period and ad; as it is read it is in the order of its file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    /// Sorted; some may have no row.
    names: Names,
    cells: Vec<Cell>,
}

/// One row with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) period_start: Timestamp,
    pub(crate) ad: &'a str,
    pub(crate) class: Class,
    pub(crate) clicks: u64,
    pub(crate) duplicates: u64,
    pub(crate) late: u64,
}

impl Rows {
    /// Cells with numbers for ads become rows, in the order of the cells.
    pub(crate) fn of(numbers: Numbers, mut cells: Vec<Cell>) -> Self {
        let (names, places) = numbers.sorted();
        cells.iter_mut().for_each(|cell| cell.ad = places[cell.ad as usize]);
        Rows { names, cells }
    }

    /// `cells` hold places among `names`.
    pub(crate) fn from_parts(names: Names, cells: Vec<Cell>) -> Self {
        Rows { names, cells }
    }

    /// Sorted, and what stands twice is added up.
    pub(crate) fn added_up(mut self) -> Self {
        self.cells.sort_by_key(Cell::key);
        self.cells.dedup_by(|next, cell| {
            let same = next.key() == cell.key();
            if same {
                cell.add(next);
            }
            same
        });
        self
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn name(&self, cell: &Cell) -> &str {
        &self.names[cell.ad as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.cells.iter().map(|cell| Row {
            period_start: cell.period_start(),
            ad: self.name(cell),
            class: Class::Valid,
            clicks: cell.clicks,
            duplicates: cell.duplicates,
            late: cell.late,
        })
    }

    /// Clicks of each ad, by its place among the names.
    pub(crate) fn clicks_by_ad(&self) -> Vec<u64> {
        let mut sums = vec![0; self.names.len()];
        for cell in &self.cells {
            sums[cell.ad as usize] += cell.clicks;
        }
        sums
    }

    /// The sums of a coarser grain, of rows that are sorted.
    pub(crate) fn rolled_up(&self, grain: Grain) -> Rows {
        let minutes = minutes(grain);
        let floored = |cell: &Cell| cell.start - cell.start.rem_euclid(minutes);
        let mut sums: Vec<Option<Cell>> = vec![None; self.names.len()];
        let mut cells = Vec::new();
        for period in self.cells.chunk_by(|a, b| floored(a) == floored(b)) {
            for cell in period {
                let empty = Cell { start: floored(cell), ad: cell.ad, ..Cell::default() };
                sums[cell.ad as usize].get_or_insert(empty).add(cell);
            }
            cells.extend(sums.iter_mut().filter_map(Option::take));
        }
        Rows { names: self.names.clone(), cells }
    }
}

/// Minutes of a period.
fn minutes(grain: Grain) -> i32 {
    (grain.width().as_millis() / Grain::Minute.width().as_millis()) as i32
}

impl PartialEq for Rows {
    /// The same rows in the same order; names without a row do not count.
    fn eq(&self, other: &Self) -> bool {
        match self.names == other.names {
            true => self.cells == other.cells,
            false => self.iter().eq(other.iter()),
        }
    }
}

/// Two tables side by side, in their common order. Both are sorted and hold nothing twice.
pub(crate) fn join(left: &Rows, right: &Rows, mut each: impl FnMut(Timestamp, &str, Option<&Cell>, Option<&Cell>)) {
    let (_, places) = common([&*left.names, &*right.names]);
    let (of_left, of_right) = (&places[0], &places[1]);
    let (mut lefts, mut rights) = (left.cells.iter().peekable(), right.cells.iter().peekable());
    loop {
        let left_key = lefts.peek().map(|cell| (cell.start, of_left[cell.ad as usize]));
        let right_key = rights.peek().map(|cell| (cell.start, of_right[cell.ad as usize]));
        let Some(key) = left_key.into_iter().chain(right_key).min() else { return };
        let found = (lefts.next_if(|_| left_key == Some(key)), rights.next_if(|_| right_key == Some(key)));
        let (cell, rows) = match found {
            (Some(cell), _) => (cell, left),
            (None, Some(cell)) => (cell, right),
            (None, None) => return,
        };
        each(cell.period_start(), rows.name(cell), found.0, found.1);
    }
}

/// Rows in this order: (start, ad, clicks, duplicates, late).
#[cfg(test)]
pub(crate) fn rows(of: &[(Timestamp, &str, u64, u64, u64)]) -> Rows {
    let mut numbers = Numbers::default();
    let cell = |&(at, ad, clicks, duplicates, late): &(Timestamp, &str, u64, u64, u64)| {
        let start = Minute::of(at).number() as i32;
        Cell { start, ad: numbers.of(ad), clicks, duplicates, late }
    };
    let cells = of.iter().map(cell).collect();
    Rows::of(numbers, cells)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Minute::from_number(minute).start()
    }

    #[test]
    fn names_without_a_row_make_no_table_another_one() {
        let all = rows(&[(at(0), "a", 1, 0, 0), (at(1), "b", 2, 0, 0), (at(2), "c", 3, 0, 0)]);
        let some = Rows { names: all.names.clone(), cells: vec![all.cells[1]] };
        assert_eq!(some, rows(&[(at(1), "b", 2, 0, 0)]));
        assert_ne!(some, rows(&[(at(1), "c", 2, 0, 0)]));
        assert_ne!(some, rows(&[(at(1), "b", 2, 0, 1)]));
        assert_ne!(some, all);
    }

    fn table() -> impl Strategy<Value = Vec<(i64, String, u64)>> {
        prop::collection::vec((-200_i64..200, "[a-e]{1,2}", 0_u64..9), 0..60)
    }

    fn rows_of(table: &[(i64, String, u64)]) -> Rows {
        let table: Vec<_> = table.iter().map(|(minute, ad, n)| (at(*minute), ad.as_str(), *n, n * 2, n / 2)).collect();
        rows(&table).added_up()
    }

    proptest! {
        #[test]
        fn hours_and_days_are_sums_of_minutes(table in table()) {
            let minutes = rows_of(&table);
            for grain in [Grain::Hour, Grain::Day] {
                let floored: Vec<_> = table
                    .iter()
                    .map(|(m, ad, n)| (at(*m).floor(grain.width()), ad.as_str(), *n, n * 2, n / 2))
                    .collect();
                prop_assert_eq!(minutes.rolled_up(grain), rows(&floored).added_up());
            }
        }

        #[test]
        fn a_join_shows_every_row_of_both_once_and_in_order(left in table(), right in table()) {
            let (left, right) = (rows_of(&left), rows_of(&right));
            let (mut lefts, mut rights, mut keys) = (Vec::new(), Vec::new(), Vec::new());
            join(&left, &right, |at, ad, l, r| {
                keys.push((at, ad.to_owned()));
                lefts.extend(l.copied());
                rights.extend(r.copied());
                for (rows, cell) in [(&left, l), (&right, r)] {
                    if let Some(cell) = cell {
                        assert_eq!((cell.period_start(), rows.name(cell)), (at, ad));
                    }
                }
            });
            prop_assert!(keys.is_sorted_by(|a, b| a < b), "{:?}", keys);
            prop_assert_eq!(lefts, left.cells);
            prop_assert_eq!(rights, right.cells);
        }
    }
}
