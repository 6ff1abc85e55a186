//! Counting events per key and session: a session lasts as long as a key is never silent for longer than a gap.
//!
//! Events go to the worker that owns their key. A key's sessions lie in a short list, mostly of one: what comes late
//! from another worker may open a second, or join two. Which sessions are over is not looked for among all keys: a
//! session has a place in a calendar of days as long as the gap, under its end when it was put there. When its day comes
//! it is over, or has been extended and is filed under its new end.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::generic::Operator;

use super::windowed_count::{Event, Row, Rows, STEP, Windowed, events};
use super::{Wide, route, run};

/// What to count, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// How many events; see [`event`](crate::generator::event) for what they are.
    pub events: u64,
    /// How many different keys.
    pub keys: u64,
    /// An event extends a session at most so much later than the one before.
    pub gap: i64,
    /// How many workers.
    pub workers: usize,
    /// How many events a source emits, as one container, per activation.
    pub batch: usize,
}

impl Sessions {
    /// The job with a gap of four times the mean distance of a key's events: a session has some 55 of them.
    #[must_use]
    pub const fn new(events: u64, keys: u64, workers: usize) -> Self {
        Self { events, keys, gap: 4 * keys as i64 * STEP, workers, batch: 8192 }
    }
}

/// Runs the job. A row is a session: its key, its first event's time, how many events it has.
#[must_use]
pub fn sessions(job: Sessions) -> Windowed {
    let start = Instant::now();
    let parts = run(job.workers, None, move |worker| {
        let answer: Rc<RefCell<Windowed>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let events = events(scope, job.events, job.keys, job.batch, index, peers);
            let exchange = ExchangeCore::<Wide<Event>, _>::new_core(|event: &Event| route(event.0));
            let rows = events.unary_frontier::<Rows, _, _, _>(exchange, "Sessions", |first, _| {
                let mut held = Some(first);
                let mut open = Open::new(job.gap);
                move |(input, frontier), output| {
                    input.for_each(|_, batch| batch.iter().for_each(|(key, time)| open.count(*key, *time)));
                    let watermark = frontier.frontier().first().copied();
                    let Some(capability) = held.as_mut() else { return };
                    let mut rows = Vec::new();
                    open.close(watermark.unwrap_or(i64::MAX), |row| rows.push(row));
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
                input.for_each(|_, batch| {
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

/// A session.
#[derive(Clone, Copy, Debug)]
struct Session {
    first: i64,
    last: i64,
    count: u64,
}

/// The sessions of a key: the one with the latest events, and those before it that are not over yet.
#[derive(Clone, Debug)]
struct OfKey {
    latest: Session,
    earlier: Vec<Session>,
}

/// The open sessions of one operator.
#[derive(Clone)]
pub(crate) struct Open {
    gap: i64,
    keys: hashbrown::HashMap<u64, OfKey, FixedState>,
    /// By day, the keys that are to be looked at when it is over; one entry a key.
    calendar: BTreeMap<i64, Vec<u64>>,
    /// Emptied lists of the calendar.
    spare: VecDeque<Vec<u64>>,
}

impl Open {
    /// No open sessions.
    pub(crate) fn new(gap: i64) -> Self {
        Self {
            gap,
            keys: hashbrown::HashMap::with_hasher(FixedState::with_seed(1)),
            calendar: BTreeMap::new(),
            spare: VecDeque::new(),
        }
    }

    /// Takes an event into account.
    #[inline]
    pub(crate) fn count(&mut self, key: u64, time: i64) {
        match self.keys.entry(key) {
            Entry::Occupied(mut of_key) => {
                let of_key = of_key.get_mut();
                let latest = &mut of_key.latest;
                if time >= latest.last && time - latest.last <= self.gap {
                    latest.last = time;
                    latest.count += 1;
                } else {
                    of_key.add(Session { first: time, last: time, count: 1 }, self.gap);
                }
            }
            Entry::Vacant(place) => {
                let latest = Session { first: time, last: time, count: 1 };
                place.insert(OfKey { latest, earlier: Vec::new() });
                let day = (time + self.gap).div_euclid(self.gap);
                let spare = &mut self.spare;
                self.calendar.entry(day).or_insert_with(|| spare.pop_back().unwrap_or_default()).push(key);
            }
        }
    }

    /// Emits the sessions that nothing at or after `watermark` can join.
    pub(crate) fn close(&mut self, watermark: i64, mut emit: impl FnMut(Row)) {
        let gap = self.gap;
        while let Some(entry) = self.calendar.first_entry() {
            // All sessions of this day end before the next begins.
            if entry.key().saturating_add(1).saturating_mul(gap) > watermark {
                return;
            }
            let mut day = entry.remove();
            for key in day.drain(..) {
                let Entry::Occupied(mut of_key) = self.keys.entry(key) else { continue };
                let sessions = of_key.get_mut();
                sessions.earlier.retain(|session| {
                    let over = session.last + gap < watermark;
                    if over {
                        emit((key, session.first, session.count));
                    }
                    !over
                });
                let latest = sessions.latest;
                if latest.last + gap < watermark {
                    emit((key, latest.first, latest.count));
                    of_key.remove();
                    continue;
                }
                let first_end =
                    sessions.earlier.iter().map(|session| session.last).min().unwrap_or(latest.last);
                let day = (first_end + gap).div_euclid(gap);
                let spare = &mut self.spare;
                self.calendar.entry(day).or_insert_with(|| spare.pop_back().unwrap_or_default()).push(key);
            }
            self.spare.push_back(day);
        }
    }
}

impl OfKey {
    /// Adds a session that is not simply a later event of the latest, and joins what it touches.
    #[cold]
    fn add(&mut self, mut new: Session, gap: i64) {
        let mut join = |other: &Session| {
            let touches = other.first <= new.last + gap && new.first <= other.last + gap;
            if touches {
                new.first = new.first.min(other.first);
                new.last = new.last.max(other.last);
                new.count += other.count;
            }
            touches
        };
        if join(&self.latest) {
            self.earlier.retain(|other| !join(other));
            self.latest = new;
        } else {
            self.earlier.retain(|other| !join(other));
            let before =
                if new.last > self.latest.last { std::mem::replace(&mut self.latest, new) } else { new };
            self.earlier.push(before);
        }
    }
}
