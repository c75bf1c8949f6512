//! The world behind small ports: the log, the speed store, the object store, the clock; and settings and telemetry.
//!
//! Every port states its contract in its documentation and has one conformance suite that runs against every
//! implementation. The in-memory implementations are what `twofold demo` and the simulation stand on.

pub mod ads;
pub mod clock;
pub mod keys;
pub mod ledger;
pub mod log;
pub mod objects;
pub mod settings;
pub mod store;
pub mod telemetry;
