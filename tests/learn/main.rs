//! Learning against plain loops over the sorted examples: out of order, late, with ties and failures; in both modes, on any number of
//! workers, across restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod k_means;
mod model;
mod regression;
mod restarts;
mod steps;
mod whole;
mod wrong;
