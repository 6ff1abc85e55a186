//! Process functions against plain loops: out of order, late, negative times, timers of both clocks, TTL; in both modes, on any number
//! of workers, across restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod broadcast;
#[path = "../common/mod.rs"]
mod common;
mod connected;
mod failures;
mod function;
mod inspected;
mod lifecycle;
mod model;
mod short_forms;
mod steps;
mod whole;
