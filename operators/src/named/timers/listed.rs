//! Timers in lists by time, each with its key: setting one is a push, and no table is asked when it is set or fires.
//!
//! A timer that is set twice is in the lists twice, and its copies are found when it fires, since they are neighbours then. To
//! find the timers of a key, or to delete one, takes a table: see [`Keyed`].

use std::cell::OnceCell;

use super::Timer;
use super::calendar::Timed;
use super::index::{Due, Index, Queued};
use super::keyed::{Keyed, Pointer, event_timer, processing_timer};
use crate::named::HashedKey;
use crate::named::life::{Life, Ttl};
use crate::named::nested::Nested;
use crate::named::store::Store;
use crate::named::written::value;
use crate::state::{Reach, relieve};
use crate::{Key, OperatorError, SnapshotWriter, hash_key};

/// With fewer timers it is not looked whether most are set several times.
const FEW: usize = 16 << 10;

/// How many timers are looked at for that.
const SAMPLE: usize = 4096;

/// A timer that lies ahead.
#[derive(Clone)]
struct Ahead<K> {
    time: i64,
    key: K,
}

/// The key of a timer, and whether snapshots hold it.
type Rest<K> = (K, bool);

impl<K> Timed for Ahead<K> {
    #[inline]
    fn time(&self) -> i64 {
        self.time
    }
}

impl<K: Key> Queued for Ahead<K> {
    type Rest = Rest<K>;

    #[inline]
    fn hash(&self) -> u64 {
        hash_key(&self.key)
    }

    #[inline]
    fn due(self, is_saved: bool) -> Due<Rest<K>> {
        Due { time: self.time, hash: self.hash(), rest: (self.key, is_saved) }
    }

    fn ahead(due: Due<Rest<K>>) -> (Self, bool) {
        let (key, is_saved) = due.rest;
        (Ahead { time: due.time, key }, is_saved)
    }
}

/// The timers.
pub(super) struct Listed<K: Key> {
    event: List<K>,
    processing: List<K>,
    log: Log<K>,
    /// With more timers than these it is looked whether most are set several times.
    check_above: usize,
    /// The timers by key, once they have been asked for.
    table: OnceCell<Nested<K, Timer, ()>>,
}

/// The timers of one clock.
struct List<K: Key> {
    index: Index<Ahead<K>>,
    timer: fn(i64) -> Timer,
}

/// What the next snapshot has to know of both clocks.
struct Log<K> {
    is_tracked: bool,
    /// Timers that snapshots hold and that have fired.
    removed: Vec<(Timer, K)>,
}

impl<K: Key> Listed<K> {
    pub(super) fn new() -> Self {
        Listed {
            event: List::new(event_timer),
            processing: List::new(processing_timer),
            log: Log { is_tracked: false, removed: Vec::new() },
            check_above: FEW,
            table: OnceCell::new(),
        }
    }

    /// Timers that were restored to a table.
    pub(super) fn of(restored: Keyed<K>) -> Self {
        let mut listed = Listed::new();
        listed.log.is_tracked = restored.set.is_tracked();
        for (key, timer, ()) in restored.set.iter() {
            let (list, time) = listed.list_of(*timer);
            list.index.add(Ahead { time, key: key.clone() }, true);
        }
        listed.check_above = FEW.max(2 * listed.rows());
        listed
    }

    fn list_of(&mut self, timer: Timer) -> (&mut List<K>, i64) {
        match timer {
            Timer::Event(time) => (&mut self.event, time.as_micros()),
            Timer::Processing(time) => (&mut self.processing, time.as_micros()),
        }
    }

    #[inline]
    pub(super) fn set_event(&mut self, key: HashedKey<'_, K>, time: i64) {
        self.event.set(&self.log, key, time);
    }

    #[inline]
    pub(super) fn set_processing(&mut self, key: HashedKey<'_, K>, time: i64) {
        self.processing.set(&self.log, key, time);
    }

    #[inline]
    pub(super) fn next_event(&mut self, limit: i64) -> Option<(i64, u64, K)> {
        self.event.next(&mut self.log, limit)
    }

    #[inline]
    pub(super) fn next_processing(&mut self, limit: i64) -> Option<(i64, u64, K)> {
        self.processing.next(&mut self.log, limit)
    }

    #[inline]
    pub(super) fn earliest_processing(&mut self) -> Option<i64> {
        self.processing.index.earliest()
    }

    pub(super) fn prefetch(&mut self, reaches: &[Reach]) {
        self.event.index.prefetch(reaches);
    }

    /// Takes out all timers of processing time; returns how many there were.
    pub(super) fn drop_processing(&mut self) -> u64 {
        let List { index, timer } = &mut self.processing;
        let all = distinct(index.take_all().collect());
        let gone = all.len() as u64;
        all.into_iter().for_each(|due| self.log.remove(due, *timer));
        gone
    }

    /// How many timers are in the lists, with all copies.
    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.event.index.len() + self.processing.index.len()
    }

    /// How many timers are set.
    pub(super) fn len(&self) -> usize {
        let all = |list: &List<K>| {
            let copies = list.iter().map(|(time, key, is_saved)| Due {
                time,
                hash: hash_key(key),
                rest: (key.clone(), is_saved),
            });
            distinct(copies.collect()).len()
        };
        all(&self.event) + all(&self.processing)
    }

    /// The timers of a key: those of event time first, both in order. The first call makes a table of all timers.
    pub(super) fn of_key(&self, key: HashedKey<'_, K>) -> impl DoubleEndedIterator<Item = Timer> {
        let table = self.table.get_or_init(|| {
            let mut table = Nested::new(Ttl::none());
            for (list, (time, key, _)) in self.all() {
                table.load(HashedKey::of(key), (list.timer)(time), (), true);
            }
            table
        });
        table.range(key, ..).map(|(timer, ())| *timer)
    }

    /// Whether timers would be better in a table: their keys have been asked for, or most are set several times.
    #[inline]
    pub(super) fn should_be_keyed(&mut self) -> bool {
        self.table.get().is_some() || self.rows() > self.check_above && self.is_repetitive()
    }

    #[cold]
    fn is_repetitive(&mut self) -> bool {
        self.check_above = 2 * self.rows();
        let parts = (self.rows() / SAMPLE + 1) as u64;
        // Copies of a timer have one time and one key: either decides whether the sample has all of them.
        let (seen, distinct) = match self.sample(|time, _| is_in_first(parts, time.cast_unsigned())) {
            // A few times have most of the timers, or a few keys.
            (seen, _) if seen < SAMPLE / 4 => match self.sample(|_, key| is_in_first(parts, hash_key(key))) {
                (seen, _) if seen < SAMPLE / 4 => self.sample(|_, _| true),
                sampled => sampled,
            },
            sampled => sampled,
        };
        distinct < seen / 2
    }

    /// Returns how many timers are in a sample, and how many of them differ.
    fn sample(&self, is_in: impl Fn(i64, &K) -> bool) -> (usize, usize) {
        let all = self.all().filter(|(_, (time, key, _))| is_in(*time, key));
        let mut sample: Vec<_> =
            all.map(|(list, (time, key, _))| ((list.timer)(time), hash_key(key))).collect();
        let seen = sample.len();
        sample.sort_unstable();
        sample.dedup();
        (seen, sample.len())
    }

    /// The timers in a table, at the same point of an advance.
    pub(super) fn into_keyed(self) -> Keyed<K> {
        let Log { is_tracked, removed } = self.log;
        let mut set = Nested::new(Ttl::none());
        if is_tracked {
            set.track();
        }
        let mut load = |due: Due<Rest<K>>, timer: Timer| {
            let Due { time, hash, rest: (key, is_saved) } = due;
            // A copy does not need a pointer of its own.
            set.load(HashedKey { hash, key: &key }, timer, (), is_saved).then_some(Pointer((time, hash)))
        };
        let event = self.event.index.convert(Index::in_days(), |due| {
            let timer = event_timer(due.time);
            load(due, timer)
        });
        let processing = self.processing.index.convert(Index::in_heap(), |due| {
            let timer = processing_timer(due.time);
            load(due, timer)
        });
        for (timer, key) in removed {
            set.load_removed(HashedKey::of(&key), timer);
        }
        Keyed::of(set, (event, processing))
    }

    fn all(&self) -> impl Iterator<Item = (&List<K>, (i64, &K, bool))> {
        let lists = [&self.event, &self.processing].into_iter();
        lists.flat_map(|list| list.iter().map(move |timer| (list, timer)))
    }

    pub(super) fn unsaved(&self) -> usize {
        let unsaved = |list: &List<K>| list.index.unsaved(|rest| rest.1);
        unsaved(&self.event) + unsaved(&self.processing) + self.log.removed.len()
    }

    pub(super) fn track(&mut self) {
        self.log.is_tracked = true;
    }

    pub(super) fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        if !self.log.is_tracked {
            let mut put = putting(name, writer);
            return self.all().try_for_each(|(list, (time, key, _))| put(time, key, list.timer));
        }
        for (timer, key) in &self.log.removed {
            writer.remove(writer.key_groups().of(hash_key(key)), name, &(key, timer))?;
        }
        // A timer that is set again after it has fired is put after it was removed.
        let mut put = putting(name, writer);
        for List { index, timer } in [&mut self.event, &mut self.processing] {
            index.save_ahead(|ahead| put(ahead.time, &ahead.key, *timer))?;
            index.save_reached(|due| match std::mem::replace(&mut due.rest.1, true) {
                true => Ok(()),
                false => put(due.time, &due.rest.0, *timer),
            })?;
        }
        let used = self.log.removed.len();
        self.log.removed.clear();
        relieve(&mut self.log.removed, used);
        Ok(())
    }
}

/// Whether a number is in the first of `parts` equal parts, when numbers are divided at random.
fn is_in_first(parts: u64, number: u64) -> bool {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed * parts) >> 32 == 0
}

/// Writes that timers are set.
fn putting<K: Key>(
    name: &str,
    writer: &mut SnapshotWriter,
) -> impl FnMut(i64, &K, fn(i64) -> Timer) -> Result<(), OperatorError> {
    |time, key, timer| {
        let group = writer.key_groups().of(hash_key(key));
        writer.put(group, name, &(key, timer(time)), &value(Life::default(), &()))
    }
}

impl<K: Key> List<K> {
    fn new(timer: fn(i64) -> Timer) -> Self {
        List { index: Index::in_days(), timer }
    }

    #[inline]
    fn set(&mut self, log: &Log<K>, key: HashedKey<'_, K>, time: i64) {
        // Nothing is written of timers that are not tracked.
        self.index.add(Ahead { time, key: key.cloned() }, !log.is_tracked);
    }

    #[inline]
    fn next(&mut self, log: &mut Log<K>, limit: i64) -> Option<(i64, u64, K)> {
        let mut due = self.index.next(limit)?;
        let place = due.place();
        if self.index.is_next_at(place) {
            due = self.without_copies(due);
        }
        self.index.fires(place);
        let key = due.rest.0.clone();
        log.remove(due, self.timer);
        Some((place.0, place.1, key))
    }

    /// Drops the copies of a timer, which are at its place as those of other keys with the same hash.
    #[cold]
    fn without_copies(&mut self, due: Due<Rest<K>>) -> Due<Rest<K>> {
        let (place, mut all) = (due.place(), vec![due]);
        while self.index.is_next_at(place) {
            all.extend(self.index.next(place.0));
        }
        let mut all = distinct(all);
        let due = all.swap_remove(0);
        all.into_iter().for_each(|other| self.index.put_back(other));
        due
    }

    fn iter(&self) -> impl Iterator<Item = (i64, &K, bool)> {
        let ahead = self.index.ahead().map(|(ahead, is_saved)| (ahead.time, &ahead.key, is_saved));
        ahead.chain(self.index.reached().map(|due| (due.time, &due.rest.0, due.rest.1)))
    }
}

impl<K: Key> Log<K> {
    /// Notes that a timer is gone, if snapshots hold it.
    #[inline]
    fn remove(&mut self, due: Due<Rest<K>>, timer: fn(i64) -> Timer) {
        let (key, is_saved) = due.rest;
        if self.is_tracked && is_saved {
            self.removed.push((timer(due.time), key));
        }
    }
}

/// Sorts timers and drops copies; of the copies of one timer a saved one stays.
fn distinct<K: Key>(mut all: Vec<Due<Rest<K>>>) -> Vec<Due<Rest<K>>> {
    all.sort_unstable();
    let mut distinct: Vec<Due<Rest<K>>> = Vec::with_capacity(all.len());
    for due in all {
        let mut same = distinct.iter_mut().rev().take_while(|other| other.place() == due.place());
        match same.find(|other| other.rest.0 == due.rest.0) {
            Some(other) => other.rest.1 |= due.rest.1,
            None => distinct.push(due),
        }
    }
    distinct
}
