//! The conformance suite of the object store port; also what `twofold check` probes a store with.
