//! Operators of one's own: several inputs and outputs, every kind of state, timers; in both modes, on any number of workers,
//! across restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod restarts;
mod results;
mod timers;
mod wrong;
