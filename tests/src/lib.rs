//! What the tests of the system's promises stand on. The promises themselves are the files of `tests/tests`.

pub mod binary;
pub mod oracle;
pub mod services;
