//! The events that wait for the commit of their epoch: how many were due when.
//!
//! All events of an epoch are committed at one instant, so it is enough to count them by when they were due, in steps
//! of 4 µs. The latencies are made out of the counts when the run is over: an epoch of a million events then costs its
//! commit nothing.

use std::collections::VecDeque;

use super::slots::Slots;

/// A step is 4,096 ns: a latency is too large by less than that.
const STEP_BITS: u32 = 12;

/// An epoch that has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its number.
    pub epoch: u64,
    /// When all of it had come to the sink, in nanoseconds after the beginning.
    pub prepared: u64,
    /// When it was committed.
    pub committed: u64,
}

/// What one instance of a sink has been given by epoch.
#[derive(Debug, Default)]
pub struct Epochs {
    open: VecDeque<Counts>,
    done: Vec<Counts>,
    /// How much room the next epoch is given at once: as much as the last one has taken.
    room: usize,
}

/// An epoch's events by when they were due.
#[derive(Clone, Debug)]
struct Counts {
    epoch: u64,
    prepared: u64,
    committed: u64,
    /// The step that the first count is of.
    first: u64,
    counts: Vec<u32>,
}

impl Epochs {
    /// An event of the epoch that is being written has come, which was due at `due`. `epoch` must have been begun.
    #[inline]
    pub fn add(&mut self, due: u64) {
        if let Some(epoch) = self.open.back_mut() {
            epoch.add(due >> STEP_BITS);
        }
    }

    /// What comes from here on is of this epoch. Epochs come in order.
    pub fn begin(&mut self, epoch: u64) {
        if self.open.back().is_none_or(|last| last.epoch < epoch) {
            let counts = Vec::with_capacity(self.room);
            self.open.push_back(Counts { epoch, prepared: 0, committed: 0, first: 0, counts });
        }
    }

    /// All of an epoch has come.
    pub fn prepare(&mut self, epoch: u64, now: u64) {
        self.begin(epoch);
        if let Some(own) = self.open.iter_mut().find(|own| own.epoch == epoch) {
            own.prepared = now;
        }
    }

    /// An epoch, and all before it, has been committed.
    pub fn commit(&mut self, epoch: u64, now: u64) {
        while self.open.front().is_some_and(|first| first.epoch <= epoch) {
            let Some(mut first) = self.open.pop_front() else { return };
            first.committed = now;
            self.room = first.counts.len();
            self.done.push(first);
        }
    }

    /// Records the latencies of all committed events, and says when which epoch was committed. What was never committed
    /// has none.
    pub fn finish(self, into: &mut Slots) -> Vec<Mark> {
        let mark = |epoch: Counts| {
            for (step, count) in (epoch.first..).zip(&epoch.counts).filter(|(_, count)| **count > 0) {
                let due = step << STEP_BITS;
                into.record(due, epoch.committed.saturating_sub(due), *count);
            }
            Mark { epoch: epoch.epoch, prepared: epoch.prepared, committed: epoch.committed }
        };
        self.done.into_iter().map(mark).collect()
    }
}

impl Counts {
    #[inline]
    fn add(&mut self, step: u64) {
        if self.counts.is_empty() {
            self.first = step;
        }
        if step < self.first {
            // Another partition, or another key of a batch, was due a little earlier.
            let before = (self.first - step) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
            self.first = step;
        }
        let place = (step - self.first) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn events_count_until_the_commit_of_their_own_epoch() {
        let mut epochs = Epochs::default();
        epochs.begin(3);
        [5, 4, 9].iter().for_each(|due| epochs.add(due * MILLI));
        epochs.prepare(3, 10 * MILLI);
        epochs.begin(4);
        epochs.add(10 * MILLI);
        epochs.commit(3, 20 * MILLI);
        epochs.prepare(4, 25 * MILLI);
        epochs.commit(4, 30 * MILLI);
        epochs.begin(5);
        epochs.add(29 * MILLI);

        let mut slots = Slots::over(1_000 * MILLI);
        let marks = epochs.finish(&mut slots);
        let mark = |epoch, prepared, committed| Mark {
            epoch,
            prepared: prepared * MILLI,
            committed: committed * MILLI,
        };
        assert_eq!(marks, [mark(3, 10, 20), mark(4, 25, 30)]);
        let total = slots.total(Duration::ZERO);
        // 15, 16, 11 and 20 ms; the event of epoch 5 has not been committed.
        assert_eq!(total.len(), 4);
        // As exactly as steps and histograms are.
        assert!(total.min().abs_diff(11 * MILLI) < 20_000, "{}", total.min());
        assert!(total.max().abs_diff(20 * MILLI) < 30_000, "{}", total.max());
    }

    #[test]
    fn an_epoch_without_events_is_committed_too() {
        let mut epochs = Epochs::default();
        epochs.prepare(0, 1);
        epochs.commit(0, 2);
        let marks = epochs.finish(&mut Slots::over(1));
        assert_eq!(marks, [Mark { epoch: 0, prepared: 1, committed: 2 }]);
    }
}
