//! Windows that fire early, on time and late, windows by count and by the clock, against plain loops: out of order, late, duplicates,
//! negative times, a hot key, epochs without rows; in both modes, on any number of workers, with restarts between any two rows.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod changed;
#[path = "../common/mod.rs"]
mod common;
mod input;
mod inspected;
mod model;
mod steps;
mod whole;
mod wrong;
