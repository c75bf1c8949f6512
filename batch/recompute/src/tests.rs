//! The night against a naive oracle, on raw objects that the archive's own codec has made, in memory.

mod crash;
mod damage;
mod hooked;
mod lives;
mod nights;
mod oracle;
mod random;
mod refused;
mod tables;
mod world;
