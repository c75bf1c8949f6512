//! The speed store in memory.
#[derive(Debug)]
pub struct MemoryStore;
