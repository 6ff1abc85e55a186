//! Timers by key, in event time and in processing time, that survive a restart.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::life::Ttl;
use super::nested::Nested;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Change, EventTime, Key, OperatorError, ProcessingTime, hash_key};

/// A timer of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Timer {
    /// Fires when the watermark reaches the time.
    Event(EventTime),
    /// Fires when the engine's clock reaches the time.
    Processing(ProcessingTime),
}

/// Any number of timers for each key: Flink's timer service.
///
/// A key has a timer once for each instant and clock, however often it is set. Timers fire in order of time, and by the
/// hash of their keys where times are equal. What is set for a time at or before the present fires at the next advance;
/// so does a timer that is set while timers fire, for a time before the one that fires.
///
/// ```
/// use tidemill_operators::EventTime;
/// use tidemill_operators::named::{HashedKey, Timers};
///
/// let mut timers = Timers::<String>::new();
/// let key = "ann".to_owned();
/// for second in [30, 10, 10] {
///     timers.set_event(HashedKey::of(&key), EventTime::from_secs(second));
/// }
/// let watermark = EventTime::from_secs(20);
/// let mut fired = vec![];
/// while let Some((time, _, key)) = timers.next_event(watermark) {
///     fired.push((time, key));
/// }
/// assert_eq!(fired, [(EventTime::from_secs(10), key)]);
/// assert_eq!(timers.len(), 1);
/// ```
pub struct Timers<K> {
    /// Which timers there are.
    set: Nested<K, Timer, ()>,
    /// When to look for them.
    event: Index,
    processing: Index,
    /// Whether the indexes have what `set` has: not after a restore.
    is_indexed: bool,
    is_closing: bool,
    dropped: u64,
}

impl<K: Key> Timers<K> {
    /// No timers.
    #[expect(clippy::new_without_default, reason = "a state is declared by what it is")]
    pub fn new() -> Self {
        Timers {
            set: Nested::new(Ttl::none()),
            event: Index::default(),
            processing: Index::default(),
            is_indexed: true,
            is_closing: false,
            dropped: 0,
        }
    }

    /// Sets a timer of event time.
    #[inline]
    pub fn set_event(&mut self, key: HashedKey<'_, K>, time: EventTime) {
        if self.add(key, Timer::Event(time)) {
            self.event.set((time.0, key.hash), |item| count(&self.set, event(item)));
        }
    }

    /// Sets a timer of processing time.
    #[inline]
    pub fn set_processing(&mut self, key: HashedKey<'_, K>, time: ProcessingTime) {
        if self.add(key, Timer::Processing(time)) {
            self.processing.set((time.0, key.hash), |item| count(&self.set, processing(item)));
        }
    }

    /// Deletes a timer of event time; returns whether it was set.
    pub fn delete_event(&mut self, key: HashedKey<'_, K>, time: EventTime) -> bool {
        self.index();
        let was_set = self.set.remove(key, &Timer::Event(time)).is_some();
        self.event.stale += usize::from(was_set);
        was_set
    }

    /// Deletes a timer of processing time; returns whether it was set.
    pub fn delete_processing(&mut self, key: HashedKey<'_, K>, time: ProcessingTime) -> bool {
        self.index();
        let was_set = self.set.remove(key, &Timer::Processing(time)).is_some();
        self.processing.stale += usize::from(was_set);
        was_set
    }

    /// Iterates over the timers of a key: those of event time first, both in order.
    pub fn of(&self, key: HashedKey<'_, K>) -> impl DoubleEndedIterator<Item = Timer> {
        self.set.range(key, ..).map(|(timer, ())| *timer)
    }

    /// Takes out the next timer of event time that has been reached, with its time, and the hash and the key that it is
    /// of. `None` ends the advance; whoever advances the watermark calls until then.
    #[inline]
    pub fn next_event(&mut self, watermark: EventTime) -> Option<(EventTime, u64, K)> {
        self.index();
        let take = |item: Item| self.set.take_of_hash(item.1, &event(item).1);
        let ((time, hash), key) = self.event.next(watermark.0, take)?;
        Some((EventTime(time), hash, key))
    }

    /// As [`next_event`](Self::next_event), for processing time.
    #[inline]
    pub fn next_processing(&mut self, now: ProcessingTime) -> Option<(ProcessingTime, u64, K)> {
        self.index();
        let take = |item: Item| self.set.take_of_hash(item.1, &processing(item).1);
        let ((time, hash), key) = self.processing.next(now.0, take)?;
        Some((ProcessingTime(time), hash, key))
    }

    /// Returns when the next timer of processing time fires.
    pub fn earliest_processing(&mut self) -> Option<ProcessingTime> {
        self.index();
        self.processing.earliest(|item| count(&self.set, processing(item)) > 0).map(ProcessingTime)
    }

    /// Drops, from now on or no longer, every timer that is set. For the firing at `EventTime::MAX`, which would never end
    /// if periodic timers set themselves again.
    pub fn closing(&mut self, is_closing: bool) {
        self.is_closing = is_closing;
    }

    /// Drops all timers of processing time: there is no clock after the end of the input.
    pub fn drop_processing(&mut self) {
        self.index();
        for (time, hash) in self.processing.take_all() {
            let timer = Timer::Processing(ProcessingTime(time));
            self.dropped += u64::from(self.set.take_of_hash(hash, &timer).is_some());
        }
    }

    /// Returns how many timers have been dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Returns how many timers are set.
    pub fn len(&self) -> usize {
        self.set.rows()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn add(&mut self, key: HashedKey<'_, K>, timer: Timer) -> bool {
        if self.is_closing {
            self.dropped += 1;
            return false;
        }
        self.index();
        self.set.add(key, timer, ())
    }

    #[inline]
    fn index(&mut self) {
        if !self.is_indexed {
            self.index_all();
        }
    }

    #[cold]
    fn index_all(&mut self) {
        (self.event, self.processing) = (Index::default(), Index::default());
        for (key, timer, ()) in self.set.iter() {
            match timer {
                Timer::Event(time) => self.event.heap.push(Reverse((time.0, hash_key(key)))),
                Timer::Processing(time) => self.processing.heap.push(Reverse((time.0, hash_key(key)))),
            }
        }
        self.is_indexed = true;
    }
}

fn event((time, hash): Item) -> (u64, Timer) {
    (hash, Timer::Event(EventTime(time)))
}

fn processing((time, hash): Item) -> (u64, Timer) {
    (hash, Timer::Processing(ProcessingTime(time)))
}

/// How many keys of that hash have the timer.
fn count<K: Key>(set: &Nested<K, Timer, ()>, (hash, timer): (u64, Timer)) -> usize {
    set.count_of_hash(hash, &timer)
}

/// When to look for a timer, and the hash of its key.
type Item = (i64, u64);

/// The timers of one clock in order. A deleted timer stays until its time, or until there are many.
#[derive(Default)]
struct Index {
    heap: BinaryHeap<Reverse<Item>>,
    /// How many items in the heap are of deleted timers.
    stale: usize,
    /// The last timer that has fired in the advance that is under way.
    fired: Option<Item>,
    /// What was set in this advance for a time before that one.
    held: Vec<Item>,
}

/// Fewer deleted timers than these are not worth looking for.
const SMALL: usize = 1024;

impl Index {
    #[inline]
    fn set(&mut self, item: Item, count: impl Fn(Item) -> usize) {
        if self.stale > self.heap.len() / 2 + SMALL {
            self.tidy(count);
        }
        if self.fired.is_some_and(|fired| item <= fired) {
            self.held.push(item);
        } else {
            self.heap.push(Reverse(item));
        }
    }

    /// Drops the items of deleted timers, which are more than half.
    #[cold]
    fn tidy(&mut self, count: impl Fn(Item) -> usize) {
        let mut items = std::mem::take(&mut self.heap).into_vec();
        items.sort_unstable();
        items.dedup();
        let live =
            items.into_iter().flat_map(|Reverse(item)| std::iter::repeat_n(Reverse(item), count(item)));
        self.heap = live.collect();
        self.stale = 0;
    }

    fn next<K>(&mut self, limit: i64, mut take: impl FnMut(Item) -> Option<K>) -> Option<(Item, K)> {
        while let Some(Reverse(item)) = self.heap.peek().copied()
            && item.0 <= limit
        {
            self.heap.pop();
            match take(item) {
                Some(key) => {
                    self.fired = Some(item);
                    return Some((item, key));
                }
                None => self.stale = self.stale.saturating_sub(1),
            }
        }
        self.fired = None;
        self.heap.extend(self.held.drain(..).map(Reverse));
        None
    }

    fn earliest(&mut self, is_set: impl Fn(Item) -> bool) -> Option<i64> {
        while let Some(Reverse(item)) = self.heap.peek().copied() {
            if is_set(item) {
                return Some(item.0);
            }
            self.heap.pop();
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    fn take_all(&mut self) -> impl Iterator<Item = Item> + use<> {
        let Index { heap, held, .. } = std::mem::take(self);
        heap.into_iter().map(|Reverse(item)| item).chain(held)
    }
}

impl<K: Key> Held for Timers<K> {
    fn store(&self) -> &dyn Store {
        &self.set
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.set
    }
}

impl<K: Key> NamedState for Timers<K> {
    fn kind(&self) -> &'static str {
        "timers"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, Timer), ()>()
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        self.is_indexed = false;
        self.set.restore(change)
    }
}
