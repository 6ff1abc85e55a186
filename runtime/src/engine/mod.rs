//! Timely dataflow, in one room: the graph is lowered to a dataflow here, and nothing outside names timely.

mod assigner;
mod host;
mod lower;
mod parcel;
mod route;
mod sink;
mod source;
mod stateful;
mod stateless;
mod worker;

pub(crate) use self::lower::{Layout, SinkSeat};
pub(crate) use self::worker::{Crew, LocalWorker};

use timely::order::Product;

/// The timestamp: epoch and watermark, under the product order. Each coordinate's frontier is the least that may still
/// come: an epoch is complete when its coordinate has passed it, and the watermark is the other one.
pub(crate) type Time = Product<u64, i64>;

pub(crate) fn time(epoch: tidemill_operators::Epoch, watermark: tidemill_operators::EventTime) -> Time {
    Product::new(epoch.0, watermark.0)
}
