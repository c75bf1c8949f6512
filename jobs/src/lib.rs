//! The parts of the one binary: settings to options, subcommands, and the demo.

pub mod ads;
pub mod batch;
pub mod billing;
pub mod check;
pub mod cli;
pub mod connect;
pub mod demo;
pub mod exit;
pub mod input;
pub mod key;
pub mod period;
pub mod prune;
pub mod reach;
pub mod services;
pub mod speed;
pub mod tables;
pub mod topic;
