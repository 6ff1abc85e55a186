//! For tests of operators, without an engine: a [`Harness`] that drives one operator by hand, [`three_phases`], which
//! restarts one on other numbers of workers, and [`outputs`], which evaluates a stream from sources in memory.

mod checkpoint;
mod evaluate;
mod harness;
mod phases;
#[cfg(test)]
mod restarts;

pub use self::checkpoint::Checkpoint;
pub use self::evaluate::{nowhere, numbers, outputs, source_of};
pub use self::harness::Harness;
pub use self::phases::{EpochInput, operator_of, restart_each_epoch, three_phases};
