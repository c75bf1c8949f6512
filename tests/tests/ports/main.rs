//! Every port's conformance suite against the real servers. A binary of its own, because it links no DataFusion.
#![allow(clippy::unwrap_used, missing_docs)]

mod groups;
mod log;
mod objects;
mod store;
mod workspace;
