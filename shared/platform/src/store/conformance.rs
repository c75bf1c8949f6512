//! The conformance suite of the speed store port.
