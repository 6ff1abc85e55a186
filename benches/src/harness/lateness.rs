//! How late a generator is itself: from when an event was due until the generator saw that.
//!
//! All engines' generators record it alike, once a batch: each event of the batch counts as late as the batch's first,
//! so the figures are upper bounds. The clock is not read for it, and a batch is recorded at the next look, when it is on
//! its way: recording takes a tenth of an event's whole latency, which must not be measured as the engine's. An engine
//! that is busy polls its source late, which counts as well: a generator is the limit only if it is late while the
//! engine waits for it, so [`alone`] says what it reaches without an engine.

use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Instant;

use super::run::Setting;
use super::schedule::{Load, Schedule};
use super::slots::Slots;
use super::source::Emitted;

/// Events a batch that a generator by itself makes.
const BATCH: u64 = 8_192;

/// What all generators of a run recorded, once they have ended.
#[derive(Clone, Debug, Default)]
pub struct Latenesses(Arc<Mutex<Vec<Slots>>>);

impl Latenesses {
    /// All of them in one, over a run of that length in nanoseconds.
    #[must_use]
    pub fn total(&self, duration: u64) -> Slots {
        let mut total = Slots::over(duration);
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.iter().for_each(|own| total.merge(own));
        total
    }
}

/// One generator's record, which it leaves behind when it ends.
#[derive(Debug)]
pub struct Lateness {
    schedule: Arc<Schedule>,
    own: Slots,
    /// The last batch: its first event, when the generator saw that it is due, and its events.
    last: Option<(u64, u64, u32)>,
    all: Latenesses,
}

impl Lateness {
    /// Of a generator of the run.
    #[must_use]
    pub fn new(schedule: Arc<Schedule>, all: Latenesses) -> Lateness {
        let own = Slots::over(schedule.duration());
        Lateness { schedule, own, last: None, all }
    }

    /// The generator looked for events at `now`, and emits a batch of lines, the first of which begins with event `first`.
    #[inline]
    pub fn emitted(&mut self, first: u64, lines: u64, now: u64) {
        if self.last.is_some() {
            self.record();
        }
        let (load, prefill) = (self.schedule.load(), self.schedule.prefill());
        let (mut first, mut lines) = (first, lines);
        if first < prefill {
            // A batch that comes late may have more than what fills the state.
            let filling = self.schedule.lines(first, prefill).min(lines);
            first += filling * self.schedule.step();
            lines -= filling;
        }
        if lines == 0 || load.closed {
            return;
        }
        self.last = Some((first, now, u32::try_from(lines * load.line).unwrap_or(u32::MAX)));
    }

    fn record(&mut self) {
        if let Some((first, now, events)) = self.last.take() {
            let due = self.schedule.due(first);
            self.own.record(due, now.saturating_sub(due), events);
        }
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.record();
        let own = std::mem::replace(&mut self.own, Slots::over(0));
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).push(own);
    }
}

/// Events a second that the generators of all partitions reach together, without an engine.
///
/// # Panics
/// If a generator panics.
#[must_use]
pub fn alone<T: Emitted>(load: &Load, partitions: usize) -> f64 {
    let load = Load { closed: true, prefill: false, ..*load };
    let schedule = Schedule::beginning_at(load, partitions, Instant::now());
    let barrier = Barrier::new(partitions + 1);
    let begun = std::thread::scope(|scope| {
        for partition in 0..partitions as u64 {
            let (schedule, barrier) = (&schedule, &barrier);
            scope.spawn(move || {
                let mut at = schedule.walk(schedule.first(partition));
                let mut batch = Vec::with_capacity(BATCH as usize);
                barrier.wait();
                while at.index() < schedule.total() {
                    let lines =
                        schedule.lines(at.index(), schedule.total()).min(BATCH / schedule.load().line);
                    batch.extend((0..lines).map(|_| T::next(&mut at, schedule)));
                    std::hint::black_box(&mut batch).clear();
                }
            });
        }
        barrier.wait();
        Instant::now()
    });
    schedule.load().events as f64 / begun.elapsed().as_secs_f64().max(1e-9)
}

/// The same for the graph of a run.
#[must_use]
pub fn alone_for(setting: &Setting) -> f64 {
    let (load, partitions) = (setting.schedule.load(), setting.schedule.partitions() as usize);
    if load.line > 1 {
        alone::<String>(load, partitions)
    } else {
        alone::<super::source::Event>(load, partitions)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_event_counts_as_late_as_the_first_of_its_batch() {
        let load = Load { events: 100, ..Load::open(100, 1.0) };
        let past = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let schedule = Arc::new(Schedule::beginning_at(load, 1, past));
        let all = Latenesses::default();
        let mut late = Lateness::new(Arc::clone(&schedule), all.clone());
        let second = 1_000_000_000;
        late.emitted(0, 30, 10 * second);
        late.emitted(30, 70, 10 * second);
        late.emitted(100, 0, 11 * second);
        drop(late);
        let total = all.total(schedule.duration()).total(Duration::ZERO);
        assert_eq!(total.len(), 100);
        // The first batch was due 10 s ago, the second 9.7 s.
        assert!(total.min() > 9_650_000_000 && total.min() < 9_900_000_000, "{}", total.min());
        assert!(total.max() >= 9_990_000_000, "{}", total.max());
    }

    #[test]
    fn batch_that_also_fills_the_state_counts_from_its_first_event() {
        let load = Load { keys: 10, prefill: true, ..Load::open(100, 1.0) };
        for partitions in [1, 2] {
            let past = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
            let schedule = Arc::new(Schedule::beginning_at(load, partitions, past));
            let all = Latenesses::default();
            for partition in 0..partitions as u64 {
                let mut late = Lateness::new(Arc::clone(&schedule), all.clone());
                let lines = schedule.lines(partition, schedule.total());
                late.emitted(partition, lines, 10_000_000_000);
            }
            let total = all.total(schedule.duration()).total(Duration::ZERO);
            assert_eq!(total.len(), 100, "{partitions} partitions");
            assert!(total.min() > 9_900_000_000, "{}", total.min());
        }
    }

    #[test]
    fn generators_alone_emit_everything() {
        let load = Load { events: 10_000, line: 8, ..Load::open(1_000, 10.0) };
        for partitions in [1, 2, 3] {
            assert!(alone::<String>(&load, partitions) > 1_000.0);
        }
    }
}
