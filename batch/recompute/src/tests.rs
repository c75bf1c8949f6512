//! The night against a naive oracle, on raw objects that the archive's own codec has made, in memory.

mod audit;
mod crash;
mod damage;
mod drift;
mod epochs;
mod gaps;
mod gc;
mod hooked;
mod lease;
mod lives;
mod model;
mod nights;
mod oracle;
mod periods;
mod random;
mod refused;
mod report;
mod tables;
mod withheld;
mod world;
