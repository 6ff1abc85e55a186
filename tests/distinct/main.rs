//! Deduplication against plain loops: out of order, late, negative times, hot keys, the clock; in both modes, on any number of workers,
//! across restarts. `tests/golden.rs` has the scenario that Spark has computed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod model;
mod shown;
mod steps;
mod whole;
mod wrong;
