//! How many records an epoch should take of a source that always has more.
//!
//! Between epochs workers wait for each other, and something is written for each: where an epoch takes a few milliseconds
//! that is felt, and where it takes seconds nothing can be seen of what has been done. How long so many records take
//! depends on what is done with them, so it is learnt. What was planned is kept with the checkpoint, and read again as it
//! was.

use std::ops::RangeInclusive;
use std::time::Duration;

use tidemill_operators::PlanLimits;

/// An epoch should not take less, nor more.
const WANTED: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(40);
/// So many records are enough for one, at least and at most.
const BOUNDS: RangeInclusive<u64> = 10_000..=16_000_000;

/// What is learnt from one epoch to the next.
pub(super) struct Pace {
    enough: u64,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { enough: PlanLimits::ENOUGH }
    }

    /// So many records of a partition are enough.
    pub(super) fn enough(&self) -> u64 {
        self.enough
    }

    /// An epoch has been read, with so many records of one source.
    pub(super) fn learn(&mut self, records: u64, took: Duration) {
        // One that took what there was says nothing.
        if records < self.enough {
            return;
        }
        let next = if took < *WANTED.start() {
            self.enough.saturating_mul(2)
        } else if took > *WANTED.end() {
            self.enough / 2
        } else {
            return;
        };
        self.enough = next.clamp(*BOUNDS.start(), *BOUNDS.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is enough after many epochs at so many records in a millisecond.
    fn settles_at(pace: &mut Pace, per_millisecond: u64) -> u64 {
        for _ in 0..20 {
            let records = pace.enough();
            pace.learn(records, Duration::from_millis(records / per_millisecond));
        }
        pace.enough()
    }

    #[test]
    fn epochs_take_tens_of_milliseconds_whatever_is_done_with_records() {
        let mut pace = Pace::new();
        for per_millisecond in [1_000, 100_000, 10_000, 300] {
            let took = Duration::from_millis(settles_at(&mut pace, per_millisecond) / per_millisecond);
            assert!(WANTED.contains(&took), "{took:?}");
        }
        assert_eq!(settles_at(&mut pace, 1), *BOUNDS.start());
        assert_eq!(settles_at(&mut pace, 100_000_000), *BOUNDS.end());
    }

    #[test]
    fn an_epoch_that_took_what_there_was_says_nothing() {
        let mut pace = Pace::new();
        pace.learn(PlanLimits::ENOUGH - 1, Duration::ZERO);
        pace.learn(5, Duration::from_secs(5));
        assert_eq!(pace.enough(), PlanLimits::ENOUGH);
    }
}
