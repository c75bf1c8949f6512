//! The published tables: one file per grain and day, under a name that holds its content's hash.
//!
//! ```text
//! tables/rev/00000000000000000012/minute-2026-03-01-5f1c….parquet    what the ledger names; never changed
//! tables/rev/00000000000000000012/change-2026-02-27-5f1c….parquet      per ad, what a further revision has changed
//! tables/rev/00000000000000000012/adjustments-5f1c….parquet
//! tables/current/minute/day=2026-03-01/data.parquet                  a convenience copy for a plain glob
//! reports/00000000000000000012.json                                  of the run that published ledger entry 12
//! ```

use crate::time::Day;
use crate::window::Grain;

/// Prefix of everything that the ledger names.
pub const REV: &str = "tables/rev/";
/// Prefix of the convenience copies.
pub const CURRENT: &str = "tables/current/";

/// Prefix of all reports of runs.
pub const REPORTS: &str = "reports/";

/// Columns of a grain's table, in order; rows are sorted by `period_start`, `ad_id`, `class`.
pub mod columns {
    /// Timestamp(ms, UTC), not null.
    pub const PERIOD_START: &str = "period_start";
    /// Timestamp(ms, UTC), not null, exclusive.
    pub const PERIOD_END: &str = "period_end";
    /// Utf8, not null.
    pub const AD_ID: &str = "ad_id";
    /// Utf8, not null: see [`crate::event::Class`].
    pub const CLASS: &str = "class";
    /// Int64, not null: what is billed.
    pub const CLICKS: &str = "clicks";
    /// Int64, not null: duplicates that were dropped.
    pub const DUPLICATES: &str = "duplicates";
    /// Int64, not null: those of `clicks` that were late, so that the live view did not show them.
    pub const LATE: &str = "late";
    /// Int32, not null.
    pub const REVISION: &str = "revision";
    /// Int32, not null.
    pub const RULES_VERSION: &str = "rules_version";
    /// Int64, not null; only in `current`: clicks of a final day that came after its last revision.
    pub const ADJUSTMENT: &str = "adjustment";
    /// Date32, not null; only in adjustments: the night that found the click.
    pub const NIGHT: &str = "night";
    /// Int64, not null; only in changes: what was billed before a revision, adjustments that it absorbs included.
    pub const CLICKS_BEFORE: &str = "clicks_before";
    /// Int64, not null; only in changes.
    pub const CLICKS_AFTER: &str = "clicks_after";
    /// Utf8, not null; only in changes: see [`crate::ledger::ChangeReason`].
    pub const REASON: &str = "reason";
}

/// Number of a ledger entry: consecutive from 0.
pub type EntryNumber = u64;

/// Folder of the files that entry `number` publishes.
pub fn rev_prefix(number: EntryNumber) -> String {
    format!("{REV}{number:020}/")
}

/// Key of a day's table; `hash` is the content's SHA-256 in hexadecimal.
pub fn rev_key(number: EntryNumber, grain: Grain, day: Day, hash: &str) -> String {
    format!("{}{grain}-{day}-{}.parquet", rev_prefix(number), short(hash))
}

/// Key of a night's adjustments.
pub fn adjustments_key(number: EntryNumber, hash: &str) -> String {
    format!("{}adjustments-{}.parquet", rev_prefix(number), short(hash))
}

/// Key of the report of the run that published entry `number`.
pub fn report_key(number: EntryNumber) -> String {
    format!("{REPORTS}{number:020}.json")
}

/// Key of what a further revision of a day has changed.
pub fn change_key(number: EntryNumber, day: Day, hash: &str) -> String {
    format!("{}change-{day}-{}.parquet", rev_prefix(number), short(hash))
}

/// Key of a night's list of inputs.
pub fn inputs_key(number: EntryNumber, hash: &str) -> String {
    format!("{}inputs-{}.json", rev_prefix(number), short(hash))
}

/// Key of the convenience copy of a day.
pub fn current_key(grain: Grain, day: Day) -> String {
    format!("{CURRENT}{grain}/day={day}/data.parquet")
}

/// 128 bits of the hash name the file; the ledger holds all of it.
fn short(hash: &str) -> &str {
    hash.get(..32).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pinned() {
        let day = "2026-03-01".parse().unwrap();
        let hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert_eq!(
            rev_key(12, Grain::Minute, day, hash),
            "tables/rev/00000000000000000012/minute-2026-03-01-0123456789abcdef0123456789abcdef.parquet"
        );
        assert_eq!(
            adjustments_key(12, hash),
            "tables/rev/00000000000000000012/adjustments-0123456789abcdef0123456789abcdef.parquet"
        );
        assert_eq!(current_key(Grain::Hour, day), "tables/current/hour/day=2026-03-01/data.parquet");
    }
}
