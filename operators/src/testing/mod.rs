//! For tests of operators, without an engine: a [`Harness`] that drives one operator by hand, and [`outputs`], which
//! evaluates a stream from sources in memory.

mod evaluate;
mod harness;

pub use self::evaluate::{nowhere, numbers, outputs, source_of};
pub use self::harness::Harness;
