//! The timestamp of the dataflow.

use serde::{Deserialize, Serialize};
use tidemill_operators::{Epoch, EventTime};
use timely::order::PartialOrder;
use timely::progress::Timestamp;
use timely::progress::timestamp::{PathSummary, Refines};

/// Epoch and watermark under the product order: each coordinate's frontier is the least that may still come. An epoch
/// is complete when its coordinate has passed it, and the watermark is the other one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Time {
    pub(crate) epoch: u64,
    pub(crate) watermark: i64,
}

impl Time {
    pub(crate) fn new(epoch: Epoch, watermark: EventTime) -> Time {
        Time { epoch: epoch.number(), watermark: watermark.as_micros() }
    }
}

impl PartialOrder for Time {
    fn less_equal(&self, other: &Time) -> bool {
        self.epoch <= other.epoch && self.watermark <= other.watermark
    }
}

impl Timestamp for Time {
    /// No path of the dataflow changes a time: it has no loops.
    type Summary = ();
    fn minimum() -> Time {
        Time { epoch: 0, watermark: i64::MIN }
    }
}

impl PathSummary<Time> for () {
    fn results_in(&self, time: &Time) -> Option<Time> {
        Some(*time)
    }
    fn followed_by(&self, (): &()) -> Option<()> {
        Some(())
    }
}

impl Refines<()> for Time {
    fn to_inner((): ()) -> Time {
        Time::minimum()
    }
    fn to_outer(self) {}
    fn summarize((): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use timely::progress::frontier::Antichain;

    #[test]
    fn times_that_differ_both_ways_hold_a_frontier_together() {
        let mut frontier = Antichain::new();
        frontier.insert(Time { epoch: 1, watermark: 5 });
        frontier.insert(Time { epoch: 2, watermark: 3 });
        assert_eq!(frontier.len(), 2);
        frontier.insert(Time { epoch: 1, watermark: 3 });
        assert_eq!(frontier.elements(), [Time { epoch: 1, watermark: 3 }]);
    }
}
