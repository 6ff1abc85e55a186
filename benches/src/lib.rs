//! Comparisons of Tidemill with programs written by hand: the inputs, the baselines, and the measuring.
//!
//! A comparison runs both programs by turns on the same input and checks that both give the same answer; a wrong
//! answer voids the number.

pub mod allocator;
pub mod baseline;
pub mod generator;
pub mod harness;
pub mod jobs;
pub mod measure;
pub mod nexmark;
#[cfg(feature = "peers")]
pub mod renoir;
pub mod report;
#[cfg(feature = "tables")]
pub mod tables;
pub mod text;
pub mod throughput;
