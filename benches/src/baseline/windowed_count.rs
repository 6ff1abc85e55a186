//! Counting events per key and tumbling event-time window.
//!
//! Each worker generates its share of the events in order and moves its timestamp (the watermark) once per batch.
//! The counting operator has a table per open window and closes windows as its frontier passes their end. In two
//! phases, every worker first counts its own events per window and key, and only these counts are exchanged.

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
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, ExchangeCore, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::dataflow::{Scope, StreamVec};
use timely::progress::frontier::MutableAntichain;

use super::{Wide, route, run};
use crate::generator::{event, row_checksum, window_width};

/// The event time between two events.
pub const STEP: i64 = 1;

/// An event: key and time.
pub(super) type Event = (u64, i64);
/// A result, or a part of one: key, start of the window, count.
pub(super) type Row = (u64, i64, u64);
/// Builds containers of events.
pub(super) type Events = CapacityContainerBuilder<Vec<Event>>;
/// Builds containers of rows.
pub(super) type Rows = CapacityContainerBuilder<Vec<Row>>;
/// Counts by key.
pub(crate) type Table = hashbrown::HashMap<u64, u64, FixedState>;

/// What to count, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowedCount {
    /// How many events; see [`event`] for what they are.
    pub events: u64,
    /// How many different keys.
    pub keys: u64,
    /// Into how many windows the events fall.
    pub windows: u64,
    /// How many workers.
    pub workers: usize,
    /// How many events a source emits, as one container, per activation.
    pub batch: usize,
    /// Whether workers count their own events before the exchange.
    pub two_phase: bool,
}

impl WindowedCount {
    /// The job with ten windows, and the batch size and the number of phases that were the fastest when measured.
    #[must_use]
    pub const fn new(events: u64, keys: u64, workers: usize) -> Self {
        Self { events, keys, windows: 10, workers, batch: 8192, two_phase: workers > 1 && keys < 100_000 }
    }

    /// How wide a window is.
    #[must_use]
    pub const fn width(&self) -> i64 {
        window_width(self.events, STEP, self.windows)
    }
}

/// The answer of [`windowed_count`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windowed {
    /// How many rows (a key in a window) came out.
    pub rows: u64,
    /// The sum of their counts: the number of events.
    pub events: u64,
    /// The wrapping sum of [`row_checksum`] over the rows.
    pub checksum: u64,
    /// The time from starting the workers until all had ended.
    pub elapsed: Duration,
}

impl Windowed {
    /// Takes a row into account.
    pub fn add(&mut self, key: u64, window: i64, count: u64) {
        self.rows += 1;
        self.events += count;
        self.checksum = self.checksum.wrapping_add(row_checksum(key, window, count));
    }

    /// Adds what another worker has seen.
    pub fn join(&mut self, other: &Windowed) {
        self.rows += other.rows;
        self.events += other.events;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

/// Runs the job.
#[must_use]
pub fn windowed_count(job: WindowedCount) -> Windowed {
    let start = Instant::now();
    let parts = run(job.workers, None, move |worker| {
        let answer: Rc<RefCell<Windowed>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let rows = counted(scope, job, index, peers);
            rows.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch| {
                    batch.iter().for_each(|(key, window, count)| seen.add(*key, *window, *count))
                });
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });

    let elapsed = start.elapsed();
    let mut answer = Windowed { elapsed, ..Windowed::default() };
    parts.iter().for_each(|part| answer.join(part));
    answer
}

/// The counts of every key in every window of worker `index`'s share of the keys: the events of all `peers` workers,
/// counted and closed as the frontier passes.
pub(super) fn counted<'scope>(
    scope: Scope<'scope, i64>,
    job: WindowedCount,
    index: u64,
    peers: u64,
) -> StreamVec<'scope, i64, Row> {
    let events = events(scope, job.events, job.keys, job.batch, index, peers);
    if job.two_phase {
        let partial = events.unary_frontier::<Rows, _, _, _>(Pipeline, "Count locally", |first, _| {
            drop(first);
            let mut windows = Windows::new(job.width(), 1);
            move |(input, frontier), output| {
                input.for_each(|cap, batch| {
                    windows.hold(*cap.least().unwrap(), || cap.retain_least(0).unwrap());
                    windows.count_events(batch);
                });
                windows.close(frontier, output);
            }
        });
        let exchange = Exchange::new(|row: &Row| route(row.0));
        partial.unary_frontier::<Rows, _, _, _>(exchange, "Add", |first, _| {
            drop(first);
            let mut windows = Windows::new(job.width(), 2);
            move |(input, frontier), output| {
                input.for_each(|cap, batch| {
                    windows.hold(*cap.least().unwrap(), || cap.retain_least(0).unwrap());
                    windows.add_rows(batch);
                });
                windows.close(frontier, output);
            }
        })
    } else {
        let exchange = ExchangeCore::<Wide<Event>, _>::new_core(|event: &Event| route(event.0));
        events.unary_frontier::<Rows, _, _, _>(exchange, "Count", |first, _| {
            drop(first);
            let mut windows = Windows::new(job.width(), 1);
            move |(input, frontier), output| {
                input.for_each(|cap, batch| {
                    windows.hold(*cap.least().unwrap(), || cap.retain_least(0).unwrap());
                    windows.count_events(batch);
                });
                windows.close(frontier, output);
            }
        })
    }
}

/// Worker `index`'s share of `count` events, `size` to a container and activation, with a watermark after each.
pub(super) fn events<'scope>(
    scope: Scope<'scope, i64>,
    count: u64,
    keys: u64,
    size: usize,
    index: u64,
    peers: u64,
) -> StreamVec<'scope, i64, Event> {
    source(scope, "Generate", |mut first, info| {
        let activator = scope.activator_for(info.address);
        first.downgrade(&(index as i64 * STEP));
        let mut capability = Some(first);
        let mut next = index;
        move |output: &mut OutputBuilderSession<'_, i64, Events>| {
            let Some(held) = capability.as_mut() else { return };
            let left = count.saturating_sub(next).div_ceil(peers);
            let mut batch = Vec::with_capacity(size.min(left as usize));
            batch.extend((0..left.min(size as u64)).map(|k| event(next + k * peers, keys, STEP)));
            next += batch.len() as u64 * peers;
            if !batch.is_empty() {
                output.session(held).give_container(&mut batch);
            }
            if next < count {
                held.downgrade(&(next as i64 * STEP));
                activator.activate();
            } else {
                capability = None;
            }
        }
    })
}

/// The open windows of one operator.
struct Windows {
    width: i64,
    seed: u64,
    /// Start and counts, in no order: few are open at a time.
    open: Vec<(i64, Table)>,
    /// Emptied tables, with the room they had.
    spare: Vec<Table>,
    /// One capability for all open windows, at the least time that brought them records.
    held: Option<Capability<i64>>,
}

impl Windows {
    /// Rows in one container.
    const CONTAINER: usize = 4096;

    /// No open windows. Tables that feed each other must differ in their seed: the rows of one come in the order of
    /// its hash, and would fill the next in clumps.
    fn new(width: i64, seed: u64) -> Self {
        Self { width, seed, open: Vec::new(), spare: Vec::new(), held: None }
    }

    /// Makes sure that a capability not later than `time` is held.
    fn hold(&mut self, time: i64, retain: impl FnOnce() -> Capability<i64>) {
        if self.held.as_ref().is_none_or(|held| time < *held.time()) {
            self.held = Some(retain());
        }
    }

    /// The table of the window that starts at `start`.
    fn table(&mut self, start: i64) -> &mut Table {
        let at = self.open.iter().position(|(other, _)| *other == start).unwrap_or_else(|| {
            let table =
                self.spare.pop().unwrap_or_else(|| Table::with_hasher(FixedState::with_seed(self.seed)));
            self.open.push((start, table));
            self.open.len() - 1
        });
        &mut self.open[at].1
    }

    /// Counts events, run by run of the same window.
    fn count_events(&mut self, events: &[Event]) {
        let mut events = events.iter().peekable();
        while let Some(&&(_, time)) = events.peek() {
            let start = time.div_euclid(self.width) * self.width;
            let window = start..start + self.width;
            let table = self.table(start);
            while let Some((key, _)) = events.next_if(|event| window.contains(&event.1)) {
                *table.entry(*key).or_insert(0) += 1;
            }
        }
    }

    /// Adds up rows, run by run of the same window.
    fn add_rows(&mut self, rows: &[Row]) {
        let mut rows = rows.iter().peekable();
        while let Some(&&(_, start, _)) = rows.peek() {
            let table = self.table(start);
            while let Some((key, _, count)) = rows.next_if(|row| row.1 == start) {
                *table.entry(*key).or_insert(0) += count;
            }
        }
    }

    /// Emits the windows that the frontier has passed.
    fn close(&mut self, frontier: &MutableAntichain<i64>, output: &mut OutputBuilderSession<'_, i64, Rows>) {
        let watermark = frontier.frontier().first().copied().unwrap_or(i64::MAX);
        let width = self.width;
        let is_over = |start: i64| start.saturating_add(width) <= watermark;
        if !self.open.iter().any(|(start, _)| is_over(*start)) {
            return;
        }
        let mut held = self.held.take().expect("an open window has a capability");
        let mut session = output.session(&held);
        let spare = &mut self.spare;
        self.open.retain_mut(|(start, table)| {
            if !is_over(*start) {
                return true;
            }
            let mut left = table.len();
            let mut container = Vec::with_capacity(Self::CONTAINER.min(left));
            for (key, count) in table.drain() {
                container.push((key, *start, count));
                left -= 1;
                if container.len() == Self::CONTAINER || left == 0 {
                    session.give_container(&mut container);
                    container = Vec::with_capacity(Self::CONTAINER.min(left));
                }
            }
            spare.push(std::mem::take(table));
            false
        });
        drop(session);
        if !self.open.is_empty() {
            held.downgrade(&watermark.max(*held.time()));
            self.held = Some(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn agrees_with_a_loop() {
        for (events, keys, windows) in
            [(0, 5, 1), (1, 1, 1), (10_000, 7, 10), (50_001, 20_000, 3), (9_999, 100, 400)]
        {
            let mut job = WindowedCount { windows, batch: 512, ..WindowedCount::new(events, keys, 1) };
            let mut counts: HashMap<(u64, i64), u64> = HashMap::new();
            for index in 0..events {
                let (key, time) = event(index, keys, STEP);
                *counts.entry((key, time / job.width() * job.width())).or_default() += 1;
            }
            let mut expected = Windowed::default();
            for ((key, window), count) in counts {
                expected.add(key, window, count);
            }
            assert_eq!(expected.events, events);
            for (workers, two_phase) in [(1, false), (1, true), (2, false), (2, true), (3, true)] {
                (job.workers, job.two_phase) = (workers, two_phase);
                let answer = windowed_count(job);
                assert_eq!(Windowed { elapsed: Duration::ZERO, ..answer }, expected, "{job:?}");
            }
        }
    }
}
