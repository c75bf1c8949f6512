//! The merged answer: one HTTP API and one page over both layers.
//!
//! What is closed comes from the ledger, closed days from the files that it names, everything else from the speed
//! store; the merge itself is [`clicks::view`]. This crate fetches, caches and speaks HTTP.
//!
//! * One request uses one ledger position; the books are caught up in the background.
//! * Any source may be away at any time: the answer is then still an answer, flagged, with the reason in words. Only a
//!   ledger that was never read leaves nothing to say (503), and one that contradicts itself ends the process.
//! * Memory is bounded: tables that are kept by [`Options::tables_bytes_max`], live counts that are kept by
//!   [`Options::live_bytes_max`], answers that are given again by [`Options::answers_bytes_max`], tables on their way into an answer by
//!   [`Options::reads_bytes_max`], answers by [`Options::rows_max`]. What grows with the number of ads, live counts of all of
//!   them and a ranking's sums, is held by [`Options::wide_max`] questions at a time.

mod answers;
mod archived;
mod catalog;
mod front;
mod gate;
mod live;
mod nights;
mod position;
mod room;
mod sources;
mod subject;
mod table_cache;
mod tables;

mod api;
mod page;
mod params;
mod problem;
mod server;

pub use archived::{Archive, Reach};
pub use platform::settings::Access;
pub use server::{Options, Server, ServingError};
