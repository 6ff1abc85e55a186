//! How long an event takes from the moment it was due to the sink, through a keyed count, under an open load.
//!
//! The source does not wait for anybody: event k is due at k / rate, and a source that comes late emits what is due
//! with the old stamps, so a stall shows in every event that it delayed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a baseline fails loudly"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use hdrhistogram::Histogram;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};

use super::{route, run};
use crate::generator::{key, row_checksum};

/// How many keys there are.
pub const KEYS: u64 = 1_000;
/// A source whose next event is further away than this lets its worker park.
const PARK_BEYOND: Duration = Duration::from_micros(100);
/// The most events a source emits per activation, when it is behind.
const BATCH: usize = 1024;
/// How long before the first event the workers start.
const LEAD: Duration = Duration::from_millis(50);

/// An event: key, and the nanosecond at which it was due.
type Event = (u64, u64);
/// A count: key, how many so far, and when the event that made it so was due.
type Count = (u64, u64, u64);
/// Builds containers of events.
type Events = CapacityContainerBuilder<Vec<Event>>;
/// Builds containers of counts.
type Counts = CapacityContainerBuilder<Vec<Count>>;

/// The answer of [`latency`].
#[derive(Clone, Debug)]
pub struct Latency {
    /// Nanoseconds from due to the sink, of all events on all workers.
    pub histogram: Histogram<u64>,
    /// Events that reached the sink.
    pub count: u64,
    /// The wrapping sum of [`row_checksum`] over `(key, 0, count so far)` of all events.
    pub checksum: u64,
    /// The time from the first event's due time until all workers had ended.
    pub elapsed: Duration,
}

/// A histogram from a nanosecond to a minute, with three digits.
///
/// # Panics
/// Never: the bounds are valid.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

/// When event `index` is due, in nanoseconds after the first.
#[must_use]
pub const fn due(index: u64, rate: u64) -> u64 {
    ((index as u128 * 1_000_000_000) / rate as u128) as u64
}

/// Emits `rate * seconds` events at `rate` a second, divided among the workers, and measures each.
/// `idle_spin` is how long an idle worker looks for work before it parks; longer than the gap between events, it never parks.
///
/// # Panics
/// If `rate` is 0.
#[must_use]
pub fn latency(rate: u64, seconds: f64, workers: usize, idle_spin: Duration) -> Latency {
    latency_waking_early(rate, seconds, workers, idle_spin, Duration::ZERO)
}

/// [`latency`] with a source that ends its sleep `early` before the next event is due and waits out the rest awake:
/// what the kernel takes to wake a thread, some tens of microseconds, is then not counted with every event of a slow
/// stream.
///
/// # Panics
/// If `rate` is 0.
#[must_use]
pub fn latency_waking_early(
    rate: u64,
    seconds: f64,
    workers: usize,
    idle_spin: Duration,
    early: Duration,
) -> Latency {
    assert!(rate > 0, "a rate of 0 has no events");
    let total = (rate as f64 * seconds) as u64;
    let origin = Instant::now() + LEAD;
    let parts = run(workers, Some(idle_spin), move |worker| {
        let answer = Rc::new(RefCell::new((histogram(), 0_u64, 0_u64)));
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);
        let now = move || Instant::now().saturating_duration_since(origin).as_nanos() as u64;

        worker.dataflow::<u64, _, _>(|scope| {
            let events = source(scope, "Generate", |first, info| {
                let activator = scope.activator_for(info.address);
                let mut capability = Some(first);
                let mut next = index;
                move |output: &mut OutputBuilderSession<'_, u64, Events>| {
                    let Some(held) = capability.as_mut() else { return };
                    if Instant::now() < origin {
                        activator.activate_after(origin.saturating_duration_since(Instant::now()));
                        return;
                    }
                    let present = now();
                    let mut batch = Vec::new();
                    while next < total && batch.len() < BATCH && due(next, rate) <= present {
                        batch.push((key(next, KEYS), due(next, rate)));
                        next += peers;
                    }
                    if !batch.is_empty() {
                        output.session(held).give_container(&mut batch);
                    }
                    if next >= total {
                        capability = None;
                        return;
                    }
                    let due = due(next, rate);
                    if due > *held.time() {
                        held.downgrade(&due);
                    }
                    let wait = Duration::from_nanos(due.saturating_sub(now()));
                    if wait > PARK_BEYOND.max(early) {
                        activator.activate_after(wait - early);
                    } else {
                        activator.activate();
                    }
                }
            });

            let exchange = Exchange::new(|event: &Event| route(event.0));
            let counts = events.unary::<Counts, _, _, _>(exchange, "Count", |first, _| {
                drop(first);
                let mut table = hashbrown::HashMap::<u64, u64, FixedState>::default();
                move |input, output| {
                    input.for_each(|capability, batch| {
                        let mut rows = Vec::with_capacity(batch.len());
                        rows.extend(batch.drain(..).map(|(key, due)| {
                            let count = table.entry(key).or_insert(0);
                            *count += 1;
                            (key, *count, due)
                        }));
                        output.session(&capability).give_container(&mut rows);
                    });
                }
            });
            counts.sink(Pipeline, "Measure", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                let (histogram, count, checksum) = &mut *seen;
                input.for_each(|_, batch| {
                    for (key, so_far, due) in batch.iter() {
                        histogram.saturating_record(now().saturating_sub(*due).max(1));
                        *count += 1;
                        *checksum = checksum.wrapping_add(row_checksum(*key, 0, *so_far));
                    }
                });
            });
        });
        while worker.step_or_park(None) {}
        answer.replace((histogram(), 0, 0))
    });

    let elapsed = Instant::now().saturating_duration_since(origin);
    let mut answer = Latency { histogram: histogram(), count: 0, checksum: 0, elapsed };
    for (histogram, count, checksum) in parts {
        answer.histogram.add(histogram).expect("the histograms have the same bounds");
        answer.count += count;
        answer.checksum = answer.checksum.wrapping_add(checksum);
    }
    answer
}

/// The checksum that [`latency`] must arrive at for its first `total` events.
#[must_use]
pub fn expected_checksum(total: u64) -> u64 {
    let mut counts = vec![0_u64; KEYS as usize];
    let mut sum = 0_u64;
    for index in 0..total {
        let key = key(index, KEYS);
        counts[key as usize] += 1;
        sum = sum.wrapping_add(row_checksum(key, 0, counts[key as usize]));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_counted_once() {
        for workers in [1, 2] {
            for (rate, idle_spin) in [(1_000, 10), (50_000, 10), (1_000, 5_000)] {
                let answer = latency(rate, 0.2, workers, Duration::from_micros(idle_spin));
                let total = rate / 5;
                assert_eq!(answer.count, total);
                assert_eq!(answer.histogram.len(), total);
                assert_eq!(answer.checksum, expected_checksum(total));
                assert!(answer.elapsed >= Duration::from_nanos(due(total - 1, rate)));
            }
        }
    }

    #[test]
    fn due_times() {
        assert_eq!(due(0, 3), 0);
        assert_eq!(due(3, 3), 1_000_000_000);
        assert_eq!(due(u64::from(u32::MAX), 1), u64::from(u32::MAX) * 1_000_000_000);
    }
}
