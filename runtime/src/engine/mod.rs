//! Timely dataflow, in one room: the plan is lowered to a dataflow here, and nothing outside names timely.

mod aligned;
mod announcement;
mod assigner;
mod edge_batch;
mod epoch_buffer;
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the engine's tests are the only makers of fragments with an entry so far")
)]
mod fragment;
#[cfg(test)]
mod fragment_tests;
mod gather;
mod host;
mod hosted_sink;
#[cfg(test)]
mod late_ends_tests;
mod lower;
#[cfg(feature = "tables")]
mod merging;
mod output;
#[cfg_attr(not(feature = "tables"), allow(dead_code, reason = "only tables are parts"))]
mod part;
mod route;
mod sink;
mod source;
mod stateless;
#[cfg(test)]
mod tests;
mod time;
#[cfg(test)]
mod timer_tests;
mod turns;
mod worker;

#[cfg(feature = "tables")]
pub(crate) use self::merging::merge_effort;
pub(crate) use self::worker::{LocalWorker, WorkerThreads};

pub(crate) use self::time::Time;
#[cfg(feature = "tables")]
pub(crate) use self::{
    edge_batch::EdgeBatch,
    fragment::{FragmentHost, Inside},
    part::{LowerAll, LowerPart, OpenRegion, PartLowering, PartSpec},
    stateless::Edge,
};
