//! Timers by key, in event time and in processing time, that survive a restart.

use serde::{Deserialize, Serialize};

use super::index::{Index, Item};
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
/// Setting the same timer of a key twice has no effect. Timers fire in the order of their times, and with equal times
/// in the order of the hashes of their keys. A timer for a time that has been reached already fires at the next
/// advance; so does a timer that is set while timers fire, for a time before the one that fires.
///
/// ```
/// use tidemill::operator::{HashedKey, Timers};
/// use tidemill::prelude::*;
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
            event: Index::in_advances(),
            processing: Index::in_order(),
            is_indexed: true,
            is_closing: false,
            dropped: 0,
        }
    }

    /// Sets a timer of event time.
    #[inline]
    pub fn set_event(&mut self, key: HashedKey<'_, K>, time: EventTime) {
        if self.add(key, Timer::Event(time)) {
            self.event.set((time.as_micros(), key.hash), |item| count(&self.set, event(item)));
        }
    }

    /// Sets a timer of processing time.
    #[inline]
    pub fn set_processing(&mut self, key: HashedKey<'_, K>, time: ProcessingTime) {
        if self.add(key, Timer::Processing(time)) {
            self.processing.set((time.as_micros(), key.hash), |item| count(&self.set, processing(item)));
        }
    }

    /// Deletes a timer of event time; returns whether it was set.
    pub fn delete_event(&mut self, key: HashedKey<'_, K>, time: EventTime) -> bool {
        self.index();
        let was_set = self.set.remove(key, &Timer::Event(time)).is_some();
        self.event.deleted(was_set);
        was_set
    }

    /// Deletes a timer of processing time; returns whether it was set.
    pub fn delete_processing(&mut self, key: HashedKey<'_, K>, time: ProcessingTime) -> bool {
        self.index();
        let was_set = self.set.remove(key, &Timer::Processing(time)).is_some();
        self.processing.deleted(was_set);
        was_set
    }

    /// Iterates over the timers of a key: those of event time first, both in order.
    pub fn of(&self, key: HashedKey<'_, K>) -> impl DoubleEndedIterator<Item = Timer> {
        self.set.range(key, ..).map(|(timer, ())| *timer)
    }

    /// Takes out the next timer of event time that has been reached, with its time, and the hash and the key that it is
    /// of. Who advances the watermark calls until it returns `None`.
    #[inline]
    pub fn next_event(&mut self, watermark: EventTime) -> Option<(EventTime, u64, K)> {
        self.index();
        self.event.advance(watermark.as_micros(), || self.set.reach());
        let take = |item: Item| self.set.take_of_hash(item.1, &event(item).1);
        let ((time, hash), key) = self.event.next(watermark.as_micros(), take)?;
        Some((EventTime::from_micros(time), hash, key))
    }

    /// As [`next_event`](Self::next_event), for processing time.
    #[inline]
    pub fn next_processing(&mut self, now: ProcessingTime) -> Option<(ProcessingTime, u64, K)> {
        self.index();
        let take = |item: Item| self.set.take_of_hash(item.1, &processing(item).1);
        let ((time, hash), key) = self.processing.next(now.as_micros(), take)?;
        Some((ProcessingTime::from_micros(time), hash, key))
    }

    /// Returns when the next timer of processing time fires.
    pub fn earliest_processing(&mut self) -> Option<ProcessingTime> {
        self.index();
        self.processing
            .earliest(|item| count(&self.set, processing(item)) > 0)
            .map(ProcessingTime::from_micros)
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
            let timer = Timer::Processing(ProcessingTime::from_micros(time));
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
        (self.event, self.processing) = (Index::in_advances(), Index::in_order());
        for (key, timer, ()) in self.set.iter() {
            match timer {
                Timer::Event(time) => self.event.add((time.as_micros(), hash_key(key))),
                Timer::Processing(time) => self.processing.add((time.as_micros(), hash_key(key))),
            }
        }
        self.is_indexed = true;
    }
}

fn event((time, hash): Item) -> (u64, Timer) {
    (hash, Timer::Event(EventTime::from_micros(time)))
}

fn processing((time, hash): Item) -> (u64, Timer) {
    (hash, Timer::Processing(ProcessingTime::from_micros(time)))
}

/// How many keys of that hash have the timer.
fn count<K: Key>(set: &Nested<K, Timer, ()>, (hash, timer): (u64, Timer)) -> usize {
    set.count_of_hash(hash, &timer)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fire(timers: &mut Timers<u32>, watermark: i64) -> Vec<(i64, u32)> {
        let mut fired = vec![];
        while let Some((time, _, key)) = timers.next_event(EventTime::from_micros(watermark)) {
            fired.push((time.as_micros(), key));
        }
        fired
    }

    fn set(timers: &mut Timers<u32>, key: u32, time: i64) {
        timers.set_event(HashedKey::of(&key), EventTime::from_micros(time));
    }

    #[test]
    fn timer_that_is_set_twice_fires_once() {
        let mut timers = Timers::new();
        (0..3).for_each(|_| set(&mut timers, 7, 5));
        assert_eq!((timers.len(), fire(&mut timers, 5)), (1, vec![(5, 7)]));
        assert!(timers.is_empty() && fire(&mut timers, 9).is_empty());
    }

    #[test]
    fn timer_at_or_before_watermark_fires_at_next_advance() {
        let mut timers = Timers::new();
        assert!(fire(&mut timers, 10).is_empty());
        [10, 3, 11].into_iter().for_each(|time| set(&mut timers, 1, time));
        assert_eq!(fire(&mut timers, 10), [(3, 1), (10, 1)]);
        assert_eq!(fire(&mut timers, 11), [(11, 1)]);
    }

    #[test]
    fn timers_at_one_time_fire_by_hash() {
        let mut timers = Timers::new();
        (0..100).for_each(|key| set(&mut timers, key, i64::from(key) % 2));
        let fired = fire(&mut timers, 1);
        assert!(fired.is_sorted_by_key(|(time, key)| (*time, hash_key(key))) && fired.len() == 100);
    }

    #[test]
    fn periodic_timer_fires_for_each_period_of_an_advance() {
        let mut timers = Timers::new();
        set(&mut timers, 1, 10);
        set(&mut timers, 2, 25);
        let mut fired = vec![];
        while let Some((time, hash, key)) = timers.next_event(EventTime::from_micros(40)) {
            fired.push((time.as_micros(), key));
            if key == 1 {
                timers
                    .set_event(HashedKey { hash, key: &key }, EventTime::from_micros(time.as_micros() + 10));
            }
        }
        assert_eq!(fired, [(10, 1), (20, 1), (25, 2), (30, 1), (40, 1)]);
        assert_eq!(
            timers.of(HashedKey::of(&1)).collect::<Vec<_>>(),
            [Timer::Event(EventTime::from_micros(50))]
        );
    }

    #[test]
    fn timer_set_behind_the_one_that_fires_waits_for_next_advance() {
        let mut timers = Timers::new();
        set(&mut timers, 1, 10);
        let mut fired = vec![];
        while let Some((time, hash, key)) = timers.next_event(EventTime::from_micros(20)) {
            fired.push(time.as_micros());
            let key = HashedKey { hash, key: &key };
            timers.set_event(key, time);
            timers.set_event(key, EventTime::from_micros(4));
        }
        assert_eq!((fired, fire(&mut timers, 20)), (vec![10], vec![(4, 1), (10, 1)]));
    }

    #[test]
    fn periodic_timers_end_while_closing_and_are_counted() {
        let mut timers = Timers::new();
        set(&mut timers, 1, 10);
        set(&mut timers, 2, i64::MAX);
        timers.closing(true);
        while let Some((time, hash, key)) = timers.next_event(EventTime::MAX) {
            let key = HashedKey { hash, key: &key };
            timers.set_event(key, EventTime::from_micros(time.as_micros().saturating_add(10)));
            timers.set_processing(key, ProcessingTime::from_micros(1));
        }
        assert_eq!((timers.take_dropped(), timers.take_dropped(), timers.len()), (4, 0, 0));
        timers.closing(false);
        set(&mut timers, 1, 10);
        assert_eq!((timers.len(), timers.take_dropped()), (1, 0));
    }

    #[test]
    fn pending_processing_timers_can_be_dropped_alone() {
        let mut timers = Timers::new();
        for key in 0..5u32 {
            timers.set_processing(HashedKey::of(&key), ProcessingTime::from_micros(i64::from(key)));
            set(&mut timers, key, 1);
        }
        timers.delete_processing(HashedKey::of(&3), ProcessingTime::from_micros(3));
        timers.drop_processing();
        assert_eq!((timers.take_dropped(), timers.len()), (4, 5));
        assert_eq!(
            (timers.earliest_processing(), timers.next_processing(ProcessingTime::from_micros(99))),
            (None, None)
        );
        assert_eq!(fire(&mut timers, 1).len(), 5);
    }

    #[test]
    fn earliest_processing_timer_is_one_that_is_set() {
        let mut timers = Timers::<u32>::new();
        let key = HashedKey::of(&1);
        [30, 10, 20]
            .into_iter()
            .for_each(|time| timers.set_processing(key, ProcessingTime::from_micros(time)));
        assert_eq!(timers.earliest_processing(), Some(ProcessingTime::from_micros(10)));
        assert!(timers.delete_processing(key, ProcessingTime::from_micros(10)));
        assert!(!timers.delete_processing(key, ProcessingTime::from_micros(10)));
        assert_eq!(timers.earliest_processing(), Some(ProcessingTime::from_micros(20)));
    }

    #[test]
    fn timers_that_move_on_with_each_record_take_no_memory() {
        let mut timers = Timers::<u32>::new();
        for time in 0..50_000i64 {
            let key = time as u32 % 10;
            let key = HashedKey::of(&key);
            timers.delete_event(key, EventTime::from_micros(time + 1_000_000 - 10));
            timers.set_event(key, EventTime::from_micros(time + 1_000_000));
            timers.delete_processing(key, ProcessingTime::from_micros(time + 1_000_000 - 10));
            timers.set_processing(key, ProcessingTime::from_micros(time + 1_000_000));
        }
        assert_eq!(timers.len(), 20);
        assert!(timers.event.len() < 3_000 && timers.processing.len() < 3_000);
        assert_eq!(fire(&mut timers, i64::MAX).len(), 10);
    }

    #[test]
    fn timer_held_back_stays_so_while_many_are_deleted() {
        let mut timers = Timers::<u32>::new();
        set(&mut timers, 1, 10);
        let (time, hash, key) = timers.next_event(EventTime::from_micros(20)).unwrap();
        timers.set_event(HashedKey { hash, key: &key }, time);
        for later in 100..10_000 {
            set(&mut timers, 2, later);
            timers.delete_event(HashedKey::of(&2), EventTime::from_micros(later));
        }
        assert_eq!(timers.next_event(EventTime::from_micros(20)), None);
        assert_eq!(fire(&mut timers, 20), [(10, 1)]);
    }
}
