//! A burst: how long it takes until all of it is shown, and until those after it are answered as before.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::median;

/// After a burst the median of so much time decides whether latency is as before.
const SLOT: u64 = 5_000_000;
/// A median below this is low enough, whatever it was before.
pub const CALM: Duration = Duration::from_micros(10);
/// So much more than before the burst is as before.
const AS_BEFORE: f64 = 1.25;

/// What one worker's sink has seen of a burst and of what was due after it.
#[derive(Clone, Debug, Default)]
pub struct Burst {
    /// When it was due, in nanoseconds after the beginning.
    due: u64,
    /// When the last of its events was shown.
    drained: u64,
    /// How long each event took that was due before it, without those of the first half of that time.
    before: Vec<u64>,
    /// When each later event was due, and how long it took.
    after: Vec<(u64, u64)>,
    /// What has come and is shown with the commit of its epoch.
    waiting: Vec<(u64, u64)>,
}

impl Burst {
    /// A burst that is due then.
    #[must_use]
    pub fn due(due: u64) -> Burst {
        Burst { due, ..Burst::default() }
    }

    /// An event is shown.
    pub fn shown(&mut self, due: u64, now: u64) {
        if due == self.due {
            self.drained = self.drained.max(now);
        } else if due > self.due {
            self.after.push((due, now.saturating_sub(due)));
        } else if due >= self.due / 2 {
            self.before.push(now.saturating_sub(due));
        }
    }

    /// An event has come, and is shown when its epoch is committed.
    pub fn came(&mut self, epoch: u64, due: u64) {
        if due >= self.due / 2 && self.waiting.last() != Some(&(epoch, due)) {
            self.waiting.push((epoch, due));
        }
    }

    /// What has come of the epochs up to this one is shown.
    pub fn committed(&mut self, epoch: u64, now: u64) {
        for (of, due) in std::mem::take(&mut self.waiting) {
            if of <= epoch {
                self.shown(due, now);
            } else {
                self.waiting.push((of, due));
            }
        }
    }

    /// Adds what another worker has seen.
    pub fn join(&mut self, other: Burst) {
        self.drained = self.drained.max(other.drained);
        self.before.extend(other.before);
        self.after.extend(other.after);
    }

    /// Its description.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        let mut after: Vec<(u64, u64)> = self.after.clone();
        after.retain(|(due, _)| *due >= self.drained);
        after.sort_unstable();
        let before: Vec<f64> = self.before.iter().map(|latency| *latency as f64).collect();
        let before = median(&before);
        let calm = (CALM.as_nanos() as f64).max(AS_BEFORE * before);
        let slots = after.chunk_by(|(a, _), (b, _)| (a - self.drained) / SLOT == (b - self.drained) / SLOT);
        let first = slots.into_iter().find(|slot| {
            let latencies: Vec<f64> = slot.iter().map(|(_, latency)| *latency as f64).collect();
            median(&latencies) < calm
        });
        let calm = first.and_then(|slot| slot.first()).map(|(due, _)| (due - self.drained) / SLOT * SLOT);
        Recovery {
            before: before / 1e6,
            drained: self.drained.saturating_sub(self.due) as f64 / 1e6,
            calm: calm.map(|nanos| nanos as f64 / 1e6),
        }
    }
}

/// How long a burst took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// The median latency before it was due.
    #[serde(default)]
    pub before: f64,
    /// From when it was due until the last of it was shown.
    pub drained: f64,
    /// From then until the first slot of 5 ms whose events' median latency is below [`CALM`], or at most a quarter above the one
    /// before the burst; none if there was none.
    pub calm: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn latency_is_as_before_in_the_first_slot_whose_median_is_low() {
        let mut burst = Burst::due(100 * MILLI);
        burst.shown(50 * MILLI, 51 * MILLI);
        burst.shown(100 * MILLI, 120 * MILLI);
        burst.shown(100 * MILLI, 150 * MILLI);
        // Due while it was drained: not counted.
        burst.shown(149 * MILLI, 149 * MILLI + 1);
        for (at, latency) in [(151, 3 * MILLI), (152, 1), (153, 2 * MILLI), (161, 5_000), (162, 5_000)] {
            burst.shown(at * MILLI, at * MILLI + latency);
        }
        assert_eq!(burst.recovery(), Recovery { before: 1.0, drained: 50.0, calm: Some(10.0) });
        let mut other = Burst::due(100 * MILLI);
        other.shown(100 * MILLI, 158 * MILLI);
        burst.join(other);
        assert_eq!(burst.recovery(), Recovery { before: 1.0, drained: 58.0, calm: Some(0.0) });
        assert_eq!(Burst::due(5).recovery().calm, None);
    }

    #[test]
    fn latency_that_was_high_before_is_as_before_at_a_quarter_more() {
        let mut burst = Burst::due(100 * MILLI);
        // Of the first half of the time before, when the run was starting: not counted.
        burst.shown(40 * MILLI, 60 * MILLI);
        for (at, latency) in [(60, 30_000), (70, 32_000), (80, 34_000), (100, MILLI)] {
            burst.shown(at * MILLI, at * MILLI + latency);
        }
        for (at, latency) in [(102, 41_000), (107, 39_000)] {
            burst.shown(at * MILLI, at * MILLI + latency);
        }
        assert_eq!(burst.recovery(), Recovery { before: 0.032, drained: 1.0, calm: Some(5.0) });
    }

    #[test]
    fn what_is_committed_later_is_shown_later() {
        let mut burst = Burst::due(100);
        for (epoch, due) in [(3, 49), (4, 100), (4, 100), (5, 100), (5, 200)] {
            burst.came(epoch, due);
        }
        assert_eq!(burst.waiting.len(), 3);
        burst.committed(4, 2 * MILLI);
        assert_eq!((burst.drained, burst.waiting.len()), (2 * MILLI, 2));
        burst.committed(5, 3 * MILLI);
        assert_eq!((burst.drained, burst.after.clone()), (3 * MILLI, vec![(200, 3 * MILLI - 200)]));
    }
}
