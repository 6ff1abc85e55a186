//! A function by key with one value and one timer per record: counts the records of each key whose timer is still to come.
//!
//! Events go to the worker that owns their key. Timers lie in a calendar of days, each a list of times and keys; when the
//! watermark has passed a day, the list is sorted and its timers fire in order. Of the day under way those fire that are due.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::FixedState;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::generic::Operator;

use super::windowed_count::{Event, Row, Rows, Table, Windowed, events};
use super::{Wide, route, run};

/// What to do, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// How many events; see [`event`](crate::generator::event) for what they are.
    pub events: u64,
    /// How many different keys.
    pub keys: u64,
    /// How long after its event a timer fires.
    pub delay: i64,
    /// How many workers.
    pub workers: usize,
    /// How many events a source emits, as one container, per activation.
    pub batch: usize,
}

impl Process {
    /// The job with a million timers that are set at a time.
    #[must_use]
    pub const fn new(events: u64, keys: u64, workers: usize) -> Self {
        Self { events, keys, delay: 1_000_000, workers, batch: 8192 }
    }
}

/// Runs the job. A row is a timer: its key and time; it speaks of one event.
#[must_use]
pub fn process(job: Process) -> Windowed {
    let start = Instant::now();
    let parts = run(job.workers, None, move |worker| {
        let answer: Rc<RefCell<Windowed>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let events = events(scope, job.events, job.keys, job.batch, index, peers);
            let exchange = ExchangeCore::<Wide<Event>, _>::new_core(|event: &Event| route(event.0));
            let rows = events.unary_frontier::<Rows, _, _, _>(exchange, "Process", |first, _| {
                let mut held = Some(first);
                let mut pending = Table::with_hasher(FixedState::with_seed(1));
                let mut calendar = Calendar::default();
                move |(input, frontier), output| {
                    input.for_each(|_, batch| {
                        for (key, time) in batch.iter() {
                            *pending.entry(*key).or_insert(0) += 1;
                            calendar.set(time + job.delay, *key);
                        }
                    });
                    let watermark = frontier.frontier().first().copied();
                    let Some(capability) = held.as_mut() else { return };
                    let mut rows = Vec::new();
                    calendar.fire(watermark.unwrap_or(i64::MAX), |time, key| {
                        if let Some(count) = pending.get_mut(&key) {
                            *count -= 1;
                            if *count == 0 {
                                pending.remove(&key);
                            }
                        }
                        rows.push((key, time, 1));
                    });
                    if !rows.is_empty() {
                        output.session(capability).give_container(&mut rows);
                    }
                    match watermark {
                        Some(watermark) if watermark > *capability.time() => capability.downgrade(&watermark),
                        Some(_) => {}
                        None => held = None,
                    }
                }
            });
            rows.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch: &mut Vec<Row>| {
                    batch.iter().for_each(|(key, window, count)| seen.add(*key, *window, *count))
                });
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });
    let mut answer = Windowed { elapsed: start.elapsed(), ..Windowed::default() };
    parts.iter().for_each(|part| answer.join(part));
    answer
}

/// The event time of a day, as a binary logarithm: a list then has some thousands of timers.
const DAY: u32 = 13;

/// Timers by day.
#[derive(Default)]
pub(super) struct Calendar {
    days: BTreeMap<i64, Vec<(i64, u64)>>,
    /// The day of the last timer that was set, which most others share, and its list.
    latest: (i64, Vec<(i64, u64)>),
    spare: VecDeque<Vec<(i64, u64)>>,
}

impl Calendar {
    #[inline]
    pub(super) fn set(&mut self, time: i64, key: u64) {
        let day = time >> DAY;
        if day != self.latest.0 {
            self.turn(day);
        }
        self.latest.1.push((time, key));
    }

    /// Files the list of the latest day, and takes that of another one.
    #[inline(never)]
    fn turn(&mut self, day: i64) {
        let list = self.days.remove(&day).or_else(|| self.spare.pop_front()).unwrap_or_default();
        let (before, filed) = std::mem::replace(&mut self.latest, (day, list));
        if !filed.is_empty() {
            self.days.insert(before, filed);
        }
    }

    /// Takes out the timers up to the watermark, in order.
    pub(super) fn fire(&mut self, watermark: i64, mut each: impl FnMut(i64, u64)) {
        if self.latest.0 <= watermark >> DAY {
            self.turn(i64::MAX);
        }
        while let Some(entry) = self.days.first_entry().filter(|entry| *entry.key() <= watermark >> DAY) {
            let (day, mut list) = entry.remove_entry();
            list.sort_unstable();
            let due = list.partition_point(|timer| timer.0 <= watermark);
            list.drain(..due).for_each(|(time, key)| each(time, key));
            if !list.is_empty() {
                self.days.insert(day, list);
                return;
            }
            self.spare.push_back(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_up_to_the_watermark() {
        let mut calendar = Calendar::default();
        let times = [70_000, 5, 9_000, 8_191, 8_192, 70_001, 6];
        times.into_iter().enumerate().for_each(|(key, time)| calendar.set(time, key as u64));
        let mut fire = |watermark| {
            let mut fired = vec![];
            calendar.fire(watermark, |time, _| fired.push(time));
            fired
        };
        assert_eq!(fire(5), [5]);
        assert_eq!(fire(8_192), [6, 8_191, 8_192]);
        assert_eq!(fire(i64::MAX), [9_000, 70_000, 70_001]);
    }

    #[test]
    fn every_event_has_its_timer() {
        for workers in [1, 2] {
            let answer = process(Process { delay: 10_000, ..Process::new(100_000, 1_000, workers) });
            assert_eq!((answer.rows, answer.events), (100_000, 100_000));
        }
    }
}
