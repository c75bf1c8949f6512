//! The meaning of the data: what a click is, which window it belongs to, whether it counts, and under which name
//! everything is stored.
//!
//! Values in, values out. This crate performs no IO, reads no clock, writes no log and knows no `async`, so it cannot
//! fail for any reason that is not in its arguments. Both layers call it, so there is one definition of every number.

pub mod ads;
pub mod books;
#[doc(hidden)]
pub mod bugs;
pub mod control;
pub mod counter;
pub mod dedup;
pub mod event;
pub mod id;
pub mod inputs;
pub mod keyspace;
pub mod layout;
pub mod ledger;
pub mod live;
pub mod partitioner;
pub mod position;
mod prefetch;
pub mod rules;
pub mod tables;
pub mod time;
pub mod verdict;
pub mod view;
pub mod watermark;
pub mod window;
pub mod wire;
pub mod zone;

/// Lower-case hexadecimal, the one spelling of hashes in keys and records.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
