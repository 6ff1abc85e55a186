//! Timers by key, in event time and in processing time, that survive a restart.

mod calendar;
mod index;
mod keyed;
mod listed;
#[cfg(test)]
mod tests;

use std::time::Duration;

use either::Either;
use serde::{Deserialize, Serialize};

use self::keyed::Keyed;
use self::listed::Listed;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::key::is_plain;
use crate::schema::StateSchema;
use crate::state::Reach;
use crate::{Change, EventTime, Key, OperatorError, ProcessingTime, SnapshotWriter};

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
pub struct Timers<K: Key> {
    /// As long as no key's timers are asked for or deleted, if copying a key costs next to nothing: timers in lists are set and
    /// fire much faster.
    listed: Option<Listed<K>>,
    /// Otherwise, and while timers are restored: timers in a table can be found by key.
    keyed: Keyed<K>,
    is_closing: bool,
    dropped: u64,
}

impl<K: Key> Timers<K> {
    /// No timers.
    #[expect(clippy::new_without_default, reason = "a state is declared by what it is")]
    pub fn new() -> Self {
        Timers {
            listed: const { is_plain::<K>() }.then(Listed::new),
            keyed: Keyed::new(),
            is_closing: false,
            dropped: 0,
        }
    }

    /// Sets a timer of event time.
    #[inline]
    pub fn set_event(&mut self, key: HashedKey<'_, K>, time: EventTime) {
        if self.may_set() {
            match &mut self.listed {
                Some(listed) => listed.set_event(key, time.as_micros()),
                None => self.keyed.set_event(key, time.as_micros()),
            }
        }
    }

    /// Sets a timer of processing time.
    #[inline]
    pub fn set_processing(&mut self, key: HashedKey<'_, K>, time: ProcessingTime) {
        if self.may_set() {
            match &mut self.listed {
                Some(listed) => listed.set_processing(key, time.as_micros()),
                None => self.keyed.set_processing(key, time.as_micros()),
            }
        }
    }

    /// Deletes a timer of event time; returns whether it was set.
    ///
    /// The first call makes a table of all timers, in which they stay.
    pub fn delete_event(&mut self, key: HashedKey<'_, K>, time: EventTime) -> bool {
        self.in_table().delete(key, Timer::Event(time))
    }

    /// Deletes a timer of processing time; returns whether it was set.
    ///
    /// The first call makes a table of all timers, in which they stay.
    pub fn delete_processing(&mut self, key: HashedKey<'_, K>, time: ProcessingTime) -> bool {
        self.in_table().delete(key, Timer::Processing(time))
    }

    /// Iterates over the timers of a key: those of event time first, both in order.
    ///
    /// The first call makes a table of all timers, in which they stay.
    pub fn of(&self, key: HashedKey<'_, K>) -> impl DoubleEndedIterator<Item = Timer> {
        match &self.listed {
            Some(listed) => Either::Left(listed.of_key(key)),
            None => Either::Right(self.keyed.set.range(key, ..).map(|(timer, ())| *timer)),
        }
    }

    /// Takes out the next timer of event time that has been reached, with its time, and the hash and the key that it is
    /// of. Who advances the watermark calls until it returns `None`.
    #[inline]
    pub fn next_event(&mut self, watermark: EventTime) -> Option<(EventTime, u64, K)> {
        self.prepare();
        let (time, hash, key) = match &mut self.listed {
            Some(listed) => listed.next_event(watermark.as_micros()),
            None => self.keyed.next_event(watermark.as_micros()),
        }?;
        Some((EventTime::from_micros(time), hash, key))
    }

    /// As [`next_event`](Self::next_event), for processing time.
    #[inline]
    pub fn next_processing(&mut self, now: ProcessingTime) -> Option<(ProcessingTime, u64, K)> {
        self.prepare();
        let (time, hash, key) = match &mut self.listed {
            Some(listed) => listed.next_processing(now.as_micros()),
            None => self.keyed.next_processing(now.as_micros()),
        }?;
        Some((ProcessingTime::from_micros(time), hash, key))
    }

    /// Returns when the next timer of processing time fires.
    pub fn earliest_processing(&mut self) -> Option<ProcessingTime> {
        self.prepare();
        let earliest = match &mut self.listed {
            Some(listed) => listed.earliest_processing(),
            None => self.keyed.earliest_processing(),
        };
        earliest.map(ProcessingTime::from_micros)
    }

    /// Drops, from now on or no longer, every timer that is set. For the firing at `EventTime::MAX`, which would never end
    /// if periodic timers set themselves again.
    pub fn closing(&mut self, is_closing: bool) {
        self.is_closing = is_closing;
    }

    /// Drops all timers of processing time: there is no clock after the end of the input.
    pub fn drop_processing(&mut self) {
        self.prepare();
        self.dropped += match &mut self.listed {
            Some(listed) => listed.drop_processing(),
            None => self.keyed.drop_processing(),
        };
    }

    /// Drops all timers of processing time, which have no use any more.
    pub(crate) fn forget_processing(&mut self) {
        self.prepare();
        match &mut self.listed {
            Some(listed) => listed.drop_processing(),
            None => self.keyed.drop_processing(),
        };
    }

    /// Returns how many timers have been dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Returns how many timers are set. This may visit all of them.
    pub fn len(&self) -> usize {
        match &self.listed {
            Some(listed) => listed.len(),
            None => self.keyed.set.rows(),
        }
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        Store::rows(self) == 0
    }

    /// Has state of keys prefetched while their timers of event time fire.
    pub(crate) fn prefetch(&mut self, reaches: &[Reach]) {
        match &mut self.listed {
            Some(listed) => listed.prefetch(reaches),
            None => self.keyed.prefetch(reaches),
        }
    }

    #[inline]
    fn may_set(&mut self) -> bool {
        if self.is_closing {
            self.dropped += 1;
        } else {
            self.prepare();
        }
        !self.is_closing
    }

    /// Brings the timers into the form that they should have.
    #[inline]
    fn prepare(&mut self) {
        match &mut self.listed {
            Some(listed) => {
                if listed.should_be_keyed() {
                    self.in_table();
                }
            }
            None => {
                if !self.keyed.is_indexed {
                    self.restored();
                }
            }
        }
    }

    /// The first use after a restore.
    #[cold]
    fn restored(&mut self) {
        if const { is_plain::<K>() } {
            self.listed = Some(Listed::of(std::mem::replace(&mut self.keyed, Keyed::new())));
        } else {
            self.keyed.index_all();
        }
    }

    /// The timers in a table.
    #[inline]
    fn in_table(&mut self) -> &mut Keyed<K> {
        if let Some(listed) = self.listed.take() {
            self.keyed = listed.into_keyed();
        }
        if !self.keyed.is_indexed {
            self.keyed.index_all();
        }
        &mut self.keyed
    }
}

impl<K: Key> Store for Timers<K> {
    fn rows(&self) -> usize {
        match &self.listed {
            Some(listed) => listed.rows(),
            None => self.keyed.set.rows(),
        }
    }

    fn reach(&self) -> Option<Reach> {
        match &self.listed {
            Some(_) => None,
            None => self.keyed.set.reach(),
        }
    }

    fn unsaved(&self) -> usize {
        match &self.listed {
            Some(listed) => listed.unsaved(),
            None => self.keyed.set.unsaved(),
        }
    }

    fn track(&mut self) {
        match &mut self.listed {
            Some(listed) => listed.track(),
            None => self.keyed.set.track(),
        }
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        match &mut self.listed {
            Some(listed) => listed.snapshot(name, writer),
            None => self.keyed.set.snapshot(name, writer),
        }
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        if let Some(listed) = self.listed.take() {
            self.keyed = listed.into_keyed();
        }
        self.keyed.is_indexed = false;
        self.keyed.set.restore(change)
    }

    fn expire(&mut self) {}

    fn ttl(&self) -> Option<Duration> {
        None
    }

    fn set_now(&mut self, _: ProcessingTime) {}
}

impl<K: Key> Held for Timers<K> {
    fn store(&self) -> &dyn Store {
        self
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        self
    }
}

impl<K: Key> NamedState for Timers<K> {
    fn kind(&self) -> &'static str {
        "timers"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, Timer), ()>()
    }
}
