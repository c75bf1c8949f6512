//! The collector seen from outside: through its router, and through sockets where connections matter.
#![allow(clippy::unwrap_used)]

mod accepted;
mod drain;
mod outage;
mod refused;
mod sockets;
mod support;
