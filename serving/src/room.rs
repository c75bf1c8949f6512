//! Room for tables on their way from the object store into an answer.
//!
//! A question about a year of many ads goes through more tables than memory holds. They are taken one after the other, and
//! whoever reads one asks for room first, and holds it until the merge has taken the numbers and the table is let go. Room is
//! reckoned from what the ledger says of the files, before a byte of them is fetched. A day asks once for all its files, so
//! nobody waits for room while holding some.

use clicks::ledger::FileRef;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What a row takes at most while it is decoded: a row with its ad's name, and the cell that it becomes.
const ROW_BYTES: u64 = 192;
const KIB: u64 = 1 << 10;

/// Room that is shared by all questions.
#[derive(Debug)]
pub(crate) struct Room {
    /// KiB, because a semaphore counts in 32 bits.
    free: Semaphore,
    kib_max: u32,
}

/// Room that is held; it is given back when this is dropped.
pub(crate) type Taken<'a> = SemaphorePermit<'a>;

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let kib_max = u32::try_from(bytes_max as u64 / KIB).unwrap_or(u32::MAX).max(1);
        Room { free: Semaphore::new(kib_max as usize), kib_max }
    }

    /// Waits for room for all these files. One that is larger than all the room gets all of it, alone.
    pub(crate) async fn take<'a>(&self, files: impl IntoIterator<Item = &'a FileRef>) -> Taken<'_> {
        let of_file = |file: &FileRef| file.bytes.saturating_add(file.rows.saturating_mul(ROW_BYTES));
        let bytes = files.into_iter().map(of_file).fold(0, u64::saturating_add);
        let kib = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX).min(self.kib_max);
        self.free.acquire_many(kib).await.expect("nobody closes the semaphore")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn file(bytes: u64, rows: u64) -> FileRef {
        FileRef { key: String::new(), sha256: String::new(), bytes, rows }
    }

    #[test]
    fn what_does_not_fit_waits_until_there_is_room() {
        let room = Room::new(8 << 10);
        let (small, large) = (file(0, 16), file(u64::MAX, u64::MAX));
        let first = room.take([&small]).now_or_never().expect("3 of 8 KiB");
        let second = room.take([&small]).now_or_never().expect("6 of 8 KiB");
        assert!(room.take([&small]).now_or_never().is_none());
        drop(first);
        drop(room.take([&small]).now_or_never().expect("6 of 8 KiB again"));
        assert!(room.take([&large]).now_or_never().is_none(), "it is let in alone");
        drop(second);
        let all = room.take([&large, &small]).now_or_never().expect("nobody else is there");
        assert!(room.take([&small]).now_or_never().is_none());
        drop(all);
    }
}
