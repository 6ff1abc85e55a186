//! Tables against plain loops that compute everything again: under inserts, updates and deletes, in both modes, on any number of
//! workers, across restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod graphs;
mod loops;
mod model;
mod outputs;
mod reads;
mod recent;
mod restarts;
mod results;
mod ticks;
mod wrong;
