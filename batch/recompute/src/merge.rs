//! Several partitions as one log: records in the order (append time, partition, offset).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use clicks::time::Timestamp;

use crate::error::BatchError;
use crate::record::{Columns, Record};
use crate::scan::Scan;

/// A merge of scans; their rank is the order of their partitions.
#[derive(Debug)]
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    /// The next record of each partition that has one.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

#[derive(Debug)]
struct Cursor {
    scan: Scan,
    batch: Option<(Columns, usize)>,
    row: usize,
}

impl Cursor {
    /// Append time of the record at the cursor.
    async fn head(&mut self) -> Result<Option<Timestamp>, BatchError> {
        if self.batch.as_ref().is_none_or(|(_, used)| self.row == *used) {
            self.batch = self.scan.next().await?;
            self.row = 0;
        }
        Ok(self.batch.as_ref().map(|(columns, _)| columns.append_time(self.row)))
    }
}

impl Merge {
    /// `scans` in the order of their partitions.
    pub(crate) async fn open(scans: Vec<Scan>) -> Result<Self, BatchError> {
        let mut merge = Merge { cursors: Vec::new(), heads: BinaryHeap::new() };
        for (rank, scan) in scans.into_iter().enumerate() {
            let mut cursor = Cursor { scan, batch: None, row: 0 };
            merge.heads.extend(cursor.head().await?.map(|time| Reverse((time, rank))));
            merge.cursors.push(cursor);
        }
        Ok(merge)
    }

    /// Hands out all records in log order, each with the rank of its partition.
    pub(crate) async fn run(mut self, mut take: impl FnMut(usize, &Record<'_>)) -> Result<(), BatchError> {
        while let Some(Reverse((_, rank))) = self.heads.pop() {
            let limit = self.heads.peek().map(|Reverse(head)| *head);
            let cursor = &mut self.cursors[rank];
            // As long as this partition holds the smallest head, the heap need not be asked.
            while let Some(time) = cursor.head().await? {
                if limit.is_some_and(|limit| (time, rank) > limit) {
                    self.heads.push(Reverse((time, rank)));
                    break;
                }
                let record = cursor.batch.as_ref().and_then(|(columns, _)| columns.record(cursor.row));
                take(rank, &record.expect("the scan has checked every record of a batch that it hands out"));
                cursor.row += 1;
            }
        }
        Ok(())
    }
}
