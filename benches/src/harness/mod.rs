//! The measuring harness: an open load, three latencies, answers that are checked, and what is shown of them.
//!
//! A [`run`] offers a [`schedule`]'s events to an engine, through the same [`source`](mod@source) rules and the same
//! [`recorder`] whatever the engine is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails loudly"
)]

pub mod answer;
pub mod burst;
pub mod comparison;
pub mod epochs;
pub mod grid;
pub mod hgrm;
pub mod lateness;
pub mod plot;
pub mod provenance;
pub mod recorder;
pub mod result;
pub mod run;
pub mod schedule;
pub mod slots;
pub mod source;
pub mod sustain;
pub mod windows;
pub mod witness;
pub mod words;
