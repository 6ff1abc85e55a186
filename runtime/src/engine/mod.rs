//! Timely dataflow, in one room: the plan is lowered to a dataflow here, and nothing outside names timely.

mod assigner;
mod early;
mod gather;
mod host;
mod lower;
mod parcel;
mod port;
mod route;
mod seat;
mod sink;
mod source;
mod stateful;
mod stateless;
#[cfg(test)]
mod tests;
mod ticket;
mod time;
#[cfg(test)]
mod timer_tests;
mod turns;
mod worker;

pub(crate) use self::worker::{LocalWorker, WorkerThreads};

pub(crate) use self::time::Time;
