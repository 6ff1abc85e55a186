//! Dropping rows whose id has been there: every tenth event repeats the id of an earlier one.
//!
//! Rows go to the worker that owns their id. An id is kept with the time at which it is forgotten; those are removed from the table
//! once in a delay's time. A row that is older than the watermark is late.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{Scope, StreamVec};

use super::generate::{Share, generate};
use super::windowed_count::{Event, Events, Windowed};
use super::{Wide, route, run};
use crate::generator::splitmix64;

/// The event time between two events, in microseconds.
pub const STEP: i64 = 1;

/// What to deduplicate, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distinct {
    /// How many events; nine tenths of them have an id of their own.
    pub events: u64,
    /// How far the watermark is behind the events, and how long an id is kept.
    pub delay: i64,
    /// How many workers.
    pub workers: usize,
    /// How many events a source emits, as one container, per activation.
    pub batch: usize,
}

impl Distinct {
    /// The job in which all ids are kept to the end.
    #[must_use]
    pub const fn new(events: u64, workers: usize) -> Self {
        Self { events, delay: events as i64 * STEP + 1, workers, batch: 8192 }
    }
}

/// Event `index`: an id and a time. Every tenth is the seventh before it once more.
#[inline]
#[must_use]
pub const fn event(index: u64) -> Event {
    let number = if index % 10 == 9 { index - 7 } else { index };
    (splitmix64(number), number as i64 * STEP)
}

/// Runs the job. A row is an event that has passed.
#[must_use]
pub fn distinct(job: Distinct) -> Windowed {
    let start = Instant::now();
    let parts = run(job.workers, None, move |worker| {
        let answer: Rc<RefCell<Windowed>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let events = events(scope, job, index, peers);
            let exchange = ExchangeCore::<Wide<Event>, _>::new_core(|event: &Event| route(event.0));
            let rows = events.unary_frontier::<Events, _, _, _>(exchange, "Distinct", |first, _| {
                let mut held = Some(first);
                let mut ids = Ids::new(job.delay);
                move |(input, frontier), output| {
                    let Some(capability) = held.as_mut() else { return };
                    input.for_each(|_, batch| {
                        ids.pass(batch);
                        if !batch.is_empty() {
                            output.session(&*capability).give_container(batch);
                        }
                    });
                    match frontier.frontier().first().copied() {
                        Some(watermark) if watermark > *capability.time() => {
                            capability.downgrade(&watermark);
                            ids.advance(watermark);
                        }
                        Some(_) => {}
                        None => held = None,
                    }
                }
            });
            rows.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch| batch.iter().for_each(|(id, time)| seen.add(*id, *time, 1)));
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });
    let mut answer = Windowed { elapsed: start.elapsed(), ..Windowed::default() };
    parts.iter().for_each(|part| answer.join(part));
    answer
}

/// Worker `index`'s share of the events. Its timestamp is the watermark.
fn events<'scope>(
    scope: Scope<'scope, i64>,
    job: Distinct,
    index: u64,
    peers: u64,
) -> StreamVec<'scope, i64, Event> {
    let share = Share { first: index, step: peers, end: job.events, batch: job.batch };
    generate(scope, share, event, move |next| next as i64 * STEP - 10 * STEP - job.delay)
}

/// The ids that are kept, each until a watermark.
struct Ids {
    delay: i64,
    watermark: i64,
    /// When ids were last removed.
    swept: i64,
    until: hashbrown::HashMap<u64, i64, FixedState>,
}

impl Ids {
    fn new(delay: i64) -> Self {
        let until = hashbrown::HashMap::with_hasher(FixedState::with_seed(1));
        Self { delay, watermark: i64::MIN, swept: i64::MIN, until }
    }

    /// Leaves the events whose ids are not kept.
    #[inline]
    fn pass(&mut self, batch: &mut Vec<Event>) {
        let (watermark, delay) = (self.watermark, self.delay);
        batch.retain(|&(id, time)| {
            if time < watermark {
                return false;
            }
            match self.until.entry(id) {
                Entry::Occupied(mut entry) => {
                    let is_over = *entry.get() <= watermark;
                    if is_over {
                        entry.insert(time + delay);
                    }
                    is_over
                }
                Entry::Vacant(entry) => {
                    entry.insert(time + delay);
                    true
                }
            }
        });
    }

    /// Removes ids, once in a delay's time.
    fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
        if watermark >= self.swept.saturating_add(self.delay) {
            self.swept = watermark;
            self.until.retain(|_, until| *until > watermark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_passes_once_while_it_is_kept() {
        for workers in [1, 2, 3] {
            for delay in [1_000, 100_001] {
                let answer = distinct(Distinct { delay, batch: 64, ..Distinct::new(100_000, workers) });
                assert_eq!(answer.rows, 90_000, "{workers} workers, {delay}");
            }
        }
    }

    #[test]
    fn an_id_passes_again_when_it_was_forgotten() {
        let mut ids = Ids::new(10);
        let mut passed = |batch: &[Event]| {
            let mut batch = batch.to_vec();
            ids.pass(&mut batch);
            ids.advance(batch.last().map_or(0, |event| event.1));
            batch
        };
        assert_eq!(passed(&[(1, 5), (1, 6), (2, 7)]), [(1, 5), (2, 7)]);
        assert_eq!(passed(&[(1, 14), (3, 16)]), [(3, 16)]);
        assert_eq!(passed(&[(1, 16), (2, 15), (2, 20)]), [(1, 16)]);
    }
}
