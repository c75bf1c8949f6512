//! The night against a naive oracle, on raw objects that the archive's own codec has made, in memory.

mod audit;
mod crash;
mod damage;
mod gc;
mod hooked;
mod lease;
mod lives;
mod nights;
mod oracle;
mod random;
mod refused;
mod report;
mod tables;
mod world;
