//! The timestamp of the region.

use differential_dataflow::lattice::Lattice;
use serde::{Deserialize, Serialize};
use tidemill_operators::EventTime;
use timely::order::{PartialOrder, Product, TotalOrder};
use timely::progress::Timestamp;
use timely::progress::timestamp::{PathSummary, Refines};

use crate::engine::Time;

/// Bits of the number that are the tick.
const BITS: u32 = 24;

/// An epoch and a tick in it, in one number, totally ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tick(u64);

impl Tick {
    /// The last tick of an epoch.
    const LAST: u64 = (1 << BITS) - 1;

    /// The tick in which inputs emit what they have restored.
    pub(super) fn load(epoch: u64) -> Tick {
        Tick(epoch << BITS)
    }

    /// The first tick of an epoch in which rows come.
    pub(super) fn first(epoch: u64) -> Tick {
        Tick((epoch << BITS) + 1)
    }

    pub(super) fn epoch(self) -> u64 {
        self.0 >> BITS
    }

    /// Whether it is that in which inputs emit what they have restored.
    pub(super) fn is_load(self) -> bool {
        self.0 & Self::LAST == 0
    }

    /// The next tick of the epoch, if there is one. After 16 million ticks the last one stays open until the epoch ends.
    pub(super) fn next(self) -> Option<Tick> {
        (self.0 & Self::LAST < Self::LAST).then_some(Tick(self.0 + 1))
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn of_number(number: u64) -> Tick {
        Tick(number)
    }
}

/// A tick, and a round of a loop in it.
pub(super) type Round = Product<Tick, u64>;

impl PartialOrder for Tick {
    fn less_equal(&self, other: &Tick) -> bool {
        self.0 <= other.0
    }
}

impl TotalOrder for Tick {}

impl Lattice for Tick {
    fn join(&self, other: &Tick) -> Tick {
        *self.max(other)
    }

    fn meet(&self, other: &Tick) -> Tick {
        *self.min(other)
    }
}

impl Timestamp for Tick {
    /// No path of the region changes a tick.
    type Summary = ();

    fn minimum() -> Tick {
        Tick(0)
    }
}

impl PathSummary<Tick> for () {
    fn results_in(&self, tick: &Tick) -> Option<Tick> {
        Some(*tick)
    }

    fn followed_by(&self, (): &()) -> Option<()> {
        Some(())
    }
}

/// What enters the region is at the least watermark, so that the way in and out is the identity. From another watermark timely
/// would be told that a message was consumed at a time at which none was sent.
impl Refines<Time> for Tick {
    fn to_inner(time: Time) -> Tick {
        debug_assert_eq!(time.watermark, EventTime::MIN.as_micros());
        Tick::load(time.epoch)
    }

    fn to_outer(self) -> Time {
        Time { epoch: self.epoch(), watermark: EventTime::MIN.as_micros() }
    }

    fn summarize((): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_an_epoch_are_before_those_of_the_next() {
        let (load, first) = (Tick::load(7), Tick::first(7));
        assert!(load.is_load() && !first.is_load() && load < first && first.next() < Some(Tick::load(8)));
        assert_eq!((first.epoch(), Tick::load(8).epoch()), (7, 8));
        let last = Tick(Tick::load(8).0 - 1);
        assert_eq!((last.epoch(), last.next()), (7, None));
    }
}
