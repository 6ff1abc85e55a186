//! Joins against plain loops: out of order, late, with any bounds; in both modes, on any number of workers, across restarts;
//! and against results of Apache Spark.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod chained;
#[path = "../common/mod.rs"]
mod common;
mod equi;
mod model;
mod spark;
mod static_side;
mod steps;
mod temporal;
mod windows;
mod wrong;
