//! Joining two streams of events by key: pairs that lie at most a bound apart in event time.
//!
//! Rows go to the worker that owns their key. A key's rows of both sides lie in one entry of one table, in the order of
//! their times: one look-up finds what a row matches and where it is to be kept. What no row can match any more is removed
//! when its key is met again, and from all keys once in a bound's time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{Scope, StreamVec};

use super::generate::{Share, generate};
use super::{Wide, route, run};
use crate::generator::{key, splitmix64};

/// The event time between two events, in microseconds.
pub const STEP: i64 = 600;

/// An event: key, time, and what else it says.
pub type Event = (u64, i64, u64);
/// A pair: key, the left event's and the right event's word.
pub(crate) type Pair = (u64, u64, u64);

/// What to join, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalJoin {
    /// How many events, of both sides: every second one is of the right side.
    pub events: u64,
    /// How many different keys.
    pub keys: u64,
    /// How many workers.
    pub workers: usize,
    /// How many events a source emits, as one container, per activation.
    pub batch: usize,
}

impl IntervalJoin {
    /// The job with the batch size that was the fastest when measured.
    #[must_use]
    pub const fn new(events: u64, keys: u64, workers: usize) -> Self {
        Self { events, keys, workers, batch: 8192 }
    }

    /// How far apart the times of a pair may be: one minute with 100,000 keys. An event has one partner in the mean.
    #[must_use]
    pub const fn bound(&self) -> i64 {
        self.keys as i64 * STEP
    }
}

/// Event `index` of all; the even ones are of the left side.
#[inline]
#[must_use]
pub const fn event(index: u64, keys: u64) -> Event {
    (key(index, keys), index as i64 * STEP, splitmix64(!index))
}

/// The answer of [`interval_join`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// How many pairs.
    pub pairs: u64,
    /// The wrapping sum of a number made of each.
    pub checksum: u64,
    /// The time from starting the workers until all had ended.
    pub elapsed: Duration,
}

impl Joined {
    /// Takes a pair into account.
    #[inline]
    pub fn add(&mut self, (key, left, right): Pair) {
        self.pairs += 1;
        let mixed = splitmix64(key ^ left.rotate_left(17) ^ right.rotate_left(31));
        self.checksum = self.checksum.wrapping_add(mixed);
    }

    /// Adds what another worker has seen.
    pub fn join(&mut self, other: &Joined) {
        self.pairs += other.pairs;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

/// Runs the job.
#[must_use]
pub fn interval_join(job: IntervalJoin) -> Joined {
    let start = Instant::now();
    let parts = run(job.workers, None, move |worker| {
        let answer: Rc<RefCell<Joined>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let left = events(scope, job, 0, index, peers);
            let right = events(scope, job, 1, index, peers);
            let exchange = || ExchangeCore::<Wide<Event>, _>::new_core(|event: &Event| route(event.0));
            let pairs = left.binary_frontier::<_, CapacityContainerBuilder<Vec<Pair>>, _, _, _, _>(
                right,
                exchange(),
                exchange(),
                "Join",
                |first, _| {
                    let mut held = Some(first);
                    let mut open = Open::new(job.bound());
                    move |(left, left_frontier), (right, right_frontier), output| {
                        let Some(capability) = held.as_mut() else { return };
                        {
                            let mut session = output.session(capability);
                            left.for_each(|_, batch| open.take::<LEFT>(batch, |pair| session.give(pair)));
                            right.for_each(|_, batch| open.take::<RIGHT>(batch, |pair| session.give(pair)));
                        }
                        let frontiers = [left_frontier.frontier(), right_frontier.frontier()];
                        let times = frontiers.iter().filter_map(|frontier| frontier.first().copied());
                        match times.min() {
                            Some(watermark) if watermark > *capability.time() => {
                                capability.downgrade(&watermark);
                                open.advance(watermark);
                            }
                            Some(_) => {}
                            None => held = None,
                        }
                    }
                },
            );
            pairs.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch| batch.iter().for_each(|pair| seen.add(*pair)));
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });
    let mut answer = Joined { elapsed: start.elapsed(), ..Joined::default() };
    parts.iter().for_each(|part| answer.join(part));
    answer
}

/// Worker `index`'s share of a side.
fn events<'scope>(
    scope: Scope<'scope, i64>,
    job: IntervalJoin,
    side: u64,
    index: u64,
    peers: u64,
) -> StreamVec<'scope, i64, Event> {
    let share = Share { first: side + 2 * index, step: 2 * peers, end: job.events, batch: job.batch };
    generate(scope, share, move |number| event(number, job.keys), |next| next as i64 * STEP)
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// The rows of a key: times and words of the left and of the right side, in the order of their times.
type OfKey = [VecDeque<(i64, u64)>; 2];

/// The rows of an operator that others can match.
struct Open {
    bound: i64,
    watermark: i64,
    /// When rows were last removed from all keys.
    swept: i64,
    keys: hashbrown::HashMap<u64, OfKey, FixedState>,
}

impl Open {
    fn new(bound: i64) -> Self {
        let keys = hashbrown::HashMap::with_hasher(FixedState::with_seed(1));
        Self { bound, watermark: i64::MIN, swept: i64::MIN, keys }
    }

    /// Takes rows of a side into account; calls with each pair that they make.
    #[inline]
    fn take<const SIDE: usize>(&mut self, rows: &[Event], mut pair: impl FnMut(Pair)) {
        let oldest = self.watermark.saturating_sub(self.bound);
        for &(key, time, word) in rows {
            let of_key = self.keys.entry(key).or_default();
            let others = &mut of_key[1 - SIDE];
            while others.front().is_some_and(|(other, _)| *other < oldest) {
                others.pop_front();
            }
            for &(other, theirs) in others.iter() {
                if other > time + self.bound {
                    break;
                }
                if other >= time - self.bound {
                    pair(if SIDE == LEFT { (key, word, theirs) } else { (key, theirs, word) });
                }
            }
            let own = &mut of_key[SIDE];
            while own.front().is_some_and(|(other, _)| *other < oldest) {
                own.pop_front();
            }
            let mut at = own.len();
            while at > 0 && own[at - 1].0 > time {
                at -= 1;
            }
            own.insert(at, (time, word));
        }
    }

    /// Removes what no row at or after the watermark matches, once in a bound's time.
    fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
        if watermark < self.swept.saturating_add(self.bound) {
            return;
        }
        self.swept = watermark;
        let oldest = watermark.saturating_sub(self.bound);
        self.keys.retain(|_, sides| {
            for side in sides.iter_mut() {
                while side.front().is_some_and(|(time, _)| *time < oldest) {
                    side.pop_front();
                }
            }
            sides.iter().any(|side| !side.is_empty())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_two_loops() {
        for (events, keys) in [(0, 3), (1, 1), (2_001, 7), (4_000, 150)] {
            let mut job = IntervalJoin { batch: 64, ..IntervalJoin::new(events, keys, 1) };
            let mut expected = Joined::default();
            for left in (0..events).step_by(2).map(|index| event(index, keys)) {
                for right in (1..events).step_by(2).map(|index| event(index, keys)) {
                    if left.0 == right.0 && (left.1 - right.1).abs() <= job.bound() {
                        expected.add((left.0, left.2, right.2));
                    }
                }
            }
            assert!(expected.pairs > 0 || events < 2);
            for workers in [1, 2, 3] {
                job.workers = workers;
                let answer = interval_join(job);
                assert_eq!(Joined { elapsed: Duration::ZERO, ..answer }, expected, "{job:?}");
            }
        }
    }
}
