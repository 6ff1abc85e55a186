//! The ten events with the greatest words of each key and tumbling event-time window.
//!
//! Events go to the worker that owns their key. It has a table per open window, whose entries have room for ten events in order, and
//! emits a window when its frontier has passed the end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{Scope, StreamVec};

use super::generate::{Share, generate};
use super::join::{Event, STEP, event};
use super::{Wide, route, run};
use crate::generator::{row_checksum, splitmix64, window_width};

/// How many events of a key and window are the top.
pub const N: usize = 10;

/// What to rank, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// How many events; see [`event`].
    pub events: u64,
    /// How many different keys.
    pub keys: u64,
    /// Into how many windows the events fall.
    pub windows: u64,
    /// How many workers.
    pub workers: usize,
    /// How many events a source emits, as one container, per activation.
    pub batch: usize,
}

impl Top {
    /// The job with ten windows.
    #[must_use]
    pub const fn new(events: u64, keys: u64, workers: usize) -> Self {
        Self { events, keys, windows: 10, workers, batch: 8192 }
    }

    /// How wide a window is, in microseconds.
    #[must_use]
    pub const fn width(&self) -> i64 {
        window_width(self.events, STEP, self.windows)
    }
}

/// The answer of [`top`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tops {
    /// How many keys and windows.
    pub rows: u64,
    /// The wrapping sum of a number made of each.
    pub checksum: u64,
    /// The time from starting the workers until all had ended.
    pub elapsed: Duration,
}

impl Tops {
    /// Takes the words of a key and window into account, the greatest first.
    #[inline]
    pub fn add(&mut self, key: u64, window: i64, words: impl Iterator<Item = u64>) {
        self.rows += 1;
        let words = words.fold(0, |mixed, word| splitmix64(mixed ^ word));
        self.checksum = self.checksum.wrapping_add(row_checksum(key, window, words));
    }

    /// Adds what another worker has seen.
    pub fn join(&mut self, other: &Tops) {
        self.rows += other.rows;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

/// The events of a key and window, the one with the greatest word first. No two events have the same word.
#[derive(Clone, Copy, Default)]
struct Best {
    len: usize,
    events: [Event; N],
}

impl Best {
    #[inline]
    fn add(&mut self, event: Event) {
        if self.len == N {
            if event.2 <= self.events[N - 1].2 {
                return;
            }
            self.len -= 1;
        }
        let mut at = self.len;
        while at > 0 && self.events[at - 1].2 < event.2 {
            self.events[at] = self.events[at - 1];
            at -= 1;
        }
        self.events[at] = event;
        self.len += 1;
    }
}

/// A result: key, start of the window, events.
type Row = (u64, i64, Best);
type Table = hashbrown::HashMap<u64, Best, FixedState>;

/// Runs the job.
#[must_use]
pub fn top(job: Top) -> Tops {
    let start = Instant::now();
    let parts = run(job.workers, None, move |worker| {
        let answer: Rc<RefCell<Tops>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let events = events(scope, job, index, peers);
            let exchange = ExchangeCore::<Wide<Event>, _>::new_core(|event: &Event| route(event.0));
            let rows = events.unary_frontier::<CapacityContainerBuilder<Vec<Row>>, _, _, _>(
                exchange,
                "Top",
                |first, _| {
                    let mut held = Some(first);
                    let mut windows = Windows { width: job.width(), open: Vec::new(), spare: Vec::new() };
                    move |(input, frontier), output| {
                        input.for_each(|_, batch| windows.take(batch));
                        let watermark = frontier.frontier().first().copied();
                        let Some(capability) = held.as_mut() else { return };
                        windows.close(watermark.unwrap_or(i64::MAX), |rows| {
                            output.session(&*capability).give_container(rows);
                        });
                        match watermark {
                            Some(watermark) if watermark > *capability.time() => {
                                capability.downgrade(&watermark)
                            }
                            Some(_) => {}
                            None => held = None,
                        }
                    }
                },
            );
            rows.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch| {
                    for (key, window, best) in batch.iter() {
                        seen.add(*key, *window, best.events[..best.len].iter().map(|event| event.2));
                    }
                });
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });
    let mut answer = Tops { elapsed: start.elapsed(), ..Tops::default() };
    parts.iter().for_each(|part| answer.join(part));
    answer
}

/// Worker `index`'s share of the events, with a watermark after each container.
fn events<'scope>(
    scope: Scope<'scope, i64>,
    job: Top,
    index: u64,
    peers: u64,
) -> StreamVec<'scope, i64, Event> {
    let share = Share { first: index, step: peers, end: job.events, batch: job.batch };
    generate(scope, share, move |number| event(number, job.keys), |next| next as i64 * STEP)
}

/// The open windows of one operator.
struct Windows {
    width: i64,
    /// Start and events by key, in no order: few are open at a time.
    open: Vec<(i64, Table)>,
    /// Emptied tables, with the room they had.
    spare: Vec<Table>,
}

impl Windows {
    /// Rows in one container.
    const CONTAINER: usize = 256;

    /// The table of the window that starts at `start`.
    fn table(&mut self, start: i64) -> &mut Table {
        let at = self.open.iter().position(|(other, _)| *other == start).unwrap_or_else(|| {
            let table = self.spare.pop().unwrap_or_else(|| Table::with_hasher(FixedState::with_seed(1)));
            self.open.push((start, table));
            self.open.len() - 1
        });
        &mut self.open[at].1
    }

    /// Takes events, run by run of the same window.
    fn take(&mut self, events: &[Event]) {
        let mut events = events.iter().peekable();
        while let Some(&&(_, time, _)) = events.peek() {
            let start = time.div_euclid(self.width) * self.width;
            let window = start..start + self.width;
            let table = self.table(start);
            while let Some(event) = events.next_if(|event| window.contains(&event.1)) {
                table.entry(event.0).or_default().add(*event);
            }
        }
    }

    /// Emits the windows that the watermark has passed.
    fn close(&mut self, watermark: i64, mut emit: impl FnMut(&mut Vec<Row>)) {
        let (width, spare) = (self.width, &mut self.spare);
        self.open.retain_mut(|(start, table)| {
            if start.saturating_add(width) > watermark {
                return true;
            }
            let mut rows = Vec::with_capacity(Self::CONTAINER);
            for (key, best) in table.drain() {
                rows.push((key, *start, best));
                if rows.len() == Self::CONTAINER {
                    emit(&mut rows);
                    rows.clear();
                    rows.reserve(Self::CONTAINER);
                }
            }
            if !rows.is_empty() {
                emit(&mut rows);
            }
            spare.push(std::mem::take(table));
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn agrees_with_a_loop() {
        for (events, keys) in [(0, 3), (1, 1), (10_001, 7), (20_000, 3_000)] {
            let mut job = Top { batch: 64, ..Top::new(events, keys, 1) };
            let mut words = BTreeMap::<(u64, i64), Vec<u64>>::new();
            for (key, time, word) in (0..events).map(|index| event(index, keys)) {
                words.entry((key, time / job.width() * job.width())).or_default().push(word);
            }
            let mut expected = Tops::default();
            for ((key, window), mut words) in words {
                words.sort_unstable_by(|a, b| b.cmp(a));
                expected.add(key, window, words.into_iter().take(N));
            }
            for workers in [1, 2, 3] {
                job.workers = workers;
                assert_eq!(Tops { elapsed: Duration::ZERO, ..top(job) }, expected, "{job:?}");
            }
        }
    }
}
