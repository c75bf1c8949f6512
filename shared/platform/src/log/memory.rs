//! The log in memory.
#[derive(Debug)]
pub struct MemoryLog;
