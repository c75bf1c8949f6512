//! The night against a naive oracle, on raw objects that the archive's own codec has made, in memory.

mod crash;
mod damage;
mod epochs;
mod hooked;
mod lives;
mod model;
mod nights;
mod oracle;
mod periods;
mod random;
mod refused;
mod tables;
mod withheld;
mod world;
