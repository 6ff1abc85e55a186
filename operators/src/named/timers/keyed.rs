//! Timers in a table by key, which an index points to: each can be found, and deleted.

use super::Timer;
use super::calendar::Timed;
use super::index::{Due, Index, Place, Queued};
use crate::named::HashedKey;
use crate::named::life::Ttl;
use crate::named::nested::Nested;
use crate::state::Reach;
use crate::{EventTime, Key, ProcessingTime, hash_key};

/// Fewer deleted timers than these are not worth looking for.
const SMALL: usize = 1024;

/// When to look for a timer, and the hash of its key.
#[derive(Clone, Copy)]
pub(super) struct Pointer(pub(super) Place);

impl Timed for Pointer {
    #[inline]
    fn time(&self) -> i64 {
        self.0.0
    }
}

impl Queued for Pointer {
    type Rest = ();

    #[inline]
    fn hash(&self) -> u64 {
        self.0.1
    }

    #[inline]
    fn due(self, _: bool) -> Due<()> {
        Due { time: self.0.0, hash: self.0.1, rest: () }
    }

    fn ahead(due: Due<()>) -> (Self, bool) {
        (Pointer(due.place()), true)
    }
}

/// The timers.
pub(super) struct Keyed<K> {
    pub(super) set: Nested<K, Timer, ()>,
    event: Pointers,
    processing: Pointers,
    /// Whether the indexes have what `set` has: not after a restore.
    pub(super) is_indexed: bool,
}

/// The index of one clock. A deleted timer stays until its time, or until there are many.
struct Pointers {
    index: Index<Pointer>,
    /// How many are of deleted timers.
    stale: usize,
    /// Where the advance under way has found several pointers, and how many of them are of timers that have yet to fire. A timer
    /// that was deleted and set again has two, and the second must not find the timer that the first one sets while it fires.
    several: Option<(Place, usize)>,
    timer: fn(i64) -> Timer,
}

impl<K: Key> Keyed<K> {
    pub(super) fn new() -> Self {
        Keyed::of(Nested::new(Ttl::none()), (Index::in_days(), Index::in_heap()))
    }

    /// The timers of a table, and of the indexes of event time and processing time that point to them.
    pub(super) fn of(
        set: Nested<K, Timer, ()>,
        (event, processing): (Index<Pointer>, Index<Pointer>),
    ) -> Self {
        Keyed {
            set,
            event: Pointers { index: event, stale: 0, several: None, timer: event_timer },
            processing: Pointers { index: processing, stale: 0, several: None, timer: processing_timer },
            is_indexed: true,
        }
    }

    /// Adds all timers to the indexes, unless they are there.
    #[cold]
    pub(super) fn index_all(&mut self) {
        (self.event.index, self.processing.index) = (Index::in_days(), Index::in_heap());
        for (key, timer, ()) in self.set.iter() {
            match timer {
                Timer::Event(time) => self.event.index.add(Pointer((time.as_micros(), hash_key(key))), true),
                Timer::Processing(time) => {
                    self.processing.index.add(Pointer((time.as_micros(), hash_key(key))), true)
                }
            };
        }
        self.is_indexed = true;
    }

    #[inline]
    pub(super) fn set_event(&mut self, key: HashedKey<'_, K>, time: i64) {
        self.event.set(&mut self.set, key, time);
    }

    #[inline]
    pub(super) fn set_processing(&mut self, key: HashedKey<'_, K>, time: i64) {
        self.processing.set(&mut self.set, key, time);
    }

    pub(super) fn delete(&mut self, key: HashedKey<'_, K>, timer: Timer) -> bool {
        let was_set = self.set.remove(key, &timer).is_some();
        match timer {
            Timer::Event(_) => self.event.stale += usize::from(was_set),
            Timer::Processing(_) => self.processing.stale += usize::from(was_set),
        }
        was_set
    }

    #[inline]
    pub(super) fn next_event(&mut self, limit: i64) -> Option<(i64, u64, K)> {
        self.event.next(&mut self.set, limit)
    }

    #[inline]
    pub(super) fn next_processing(&mut self, limit: i64) -> Option<(i64, u64, K)> {
        self.processing.next(&mut self.set, limit)
    }

    pub(super) fn earliest_processing(&mut self) -> Option<i64> {
        let Pointers { index, stale, timer, .. } = &mut self.processing;
        let before = index.len();
        let earliest = index.first_near(|(time, hash)| self.set.count_of_hash(hash, &timer(time)) > 0);
        *stale = stale.saturating_sub(before - index.len());
        earliest
    }

    /// Takes out all timers of processing time; returns how many there were.
    pub(super) fn drop_processing(&mut self) -> u64 {
        let Pointers { index, stale, timer, .. } = &mut self.processing;
        *stale = 0;
        index.take_all().filter(|due| self.set.take_of_hash(due.hash, &timer(due.time)).is_some()).count()
            as u64
    }

    pub(super) fn prefetch(&mut self, reaches: &[Reach]) {
        self.event.index.prefetch(reaches);
    }

    #[cfg(test)]
    pub(super) fn indexed(&self) -> usize {
        self.event.index.len().max(self.processing.index.len())
    }
}

impl Pointers {
    #[inline]
    fn set<K: Key>(&mut self, set: &mut Nested<K, Timer, ()>, key: HashedKey<'_, K>, time: i64) {
        if set.add(key, (self.timer)(time), ()) {
            if self.stale > self.index.len() / 2 + SMALL {
                let timer = self.timer;
                self.tidy(|(time, hash)| set.count_of_hash(hash, &timer(time)));
            }
            self.index.add(Pointer((time, key.hash)), true);
        }
    }

    /// Drops the pointers to deleted timers, which are more than half. `count` returns how many keys of a hash have the timer.
    #[cold]
    fn tidy(&mut self, count: impl Fn(Place) -> usize) {
        let mut places: Vec<Place> = self.index.take_all().map(|due| due.place()).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            for _ in 0..count(place) {
                self.index.add(Pointer(place), true);
            }
        }
        self.stale = 0;
    }

    #[inline]
    fn next<K: Key>(&mut self, set: &mut Nested<K, Timer, ()>, limit: i64) -> Option<(i64, u64, K)> {
        while let Some(due) = self.index.next(limit) {
            let is_set = match &mut self.several {
                Some((place, left)) if *place == due.place() => {
                    let is_set = *left > 0;
                    *left = left.saturating_sub(1);
                    is_set
                }
                _ => {
                    let count = |place: Place| set.count_of_hash(place.1, &(self.timer)(place.0));
                    let is_one_of_several = self.index.is_next_at(due.place());
                    self.several =
                        is_one_of_several.then(|| (due.place(), count(due.place()).saturating_sub(1)));
                    true
                }
            };
            let fires = is_set.then(|| set.take_of_hash(due.hash, &(self.timer)(due.time))).flatten();
            match fires {
                Some(key) => {
                    self.index.fires(due.place());
                    return Some((due.time, due.hash, key));
                }
                None => self.stale = self.stale.saturating_sub(1),
            }
        }
        self.several = None;
        None
    }
}

pub(super) fn event_timer(time: i64) -> Timer {
    Timer::Event(EventTime::from_micros(time))
}

pub(super) fn processing_timer(time: i64) -> Timer {
    Timer::Processing(ProcessingTime::from_micros(time))
}
