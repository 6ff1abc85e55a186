//! `map_async`: requests to a service that answers out of order, late, with errors or not at all.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod failures;
mod restarts;
mod results;
mod service;
mod stopping;
