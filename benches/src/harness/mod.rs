//! The measuring harness.

pub mod provenance;
