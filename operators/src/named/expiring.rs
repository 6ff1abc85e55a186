//! Keys that are kept until the watermark reaches a time, each its own: what deduplication by event time remembers.
//!
//! An entry is ignored from the watermark on that has reached its time, and removed later by a sweep, which looks at some places of
//! the table whenever the watermark advances, more the more keys have come. A sweep begins when it can remove something and either
//! as many keys have come as the last one left, or the watermark has passed all keys that it left. So the table holds at most
//! about three times the keys that are remembered, and a key that comes pays for a constant number of places.

use std::time::Duration;

use hashbrown::hash_table::Entry as Slot;

use super::changes::Changes;
use super::life::Life;
use super::store::{Held, Store};
use super::written::{dropped, read_value, value};
use super::{HashedKey, NamedState, written};
use crate::keeping::keep;
use crate::schema::StateSchema;
use crate::state::{Entry, Reach, Table, relieve};
use crate::{Change, Data, EventTime, Key, OperatorError, ProcessingTime, SnapshotWriter, decode, hash_key};

/// Places to look at for each key that has come.
const PLACES_PER_KEY: usize = 4;
/// Places to look at when the watermark advances, and at the end of an epoch.
const PLACES: usize = 16;
const PLACES_PER_EPOCH: usize = 4_096;

/// Tables of fewer keys are not swept for their number.
const SMALL: usize = 1_024;

/// Keys with a value, from which follows how long they are kept.
pub(crate) struct ExpiringKeys<K, V> {
    /// An entry is written once and has no mark, so that it takes no more memory than its key and value.
    table: Table<K, V, ()>,
    /// The hash of every entry that has come since the last snapshot, if changes are tracked.
    changes: Changes<u64>,
    /// Keys that were removed since then, and that snapshots may hold; some may be back.
    removed: Vec<K>,
    is_tracked: bool,
    /// Whether snapshots hold any entry.
    is_saved: bool,
    /// The watermark that ends an entry.
    until: fn(&K, &V) -> EventTime,
    /// No entry ends before.
    earliest: EventTime,
    /// How many entries the last sweep left, and when the last of them ends.
    left: (usize, EventTime),
    /// How many have come since the last sweep began.
    added: usize,
    /// The sweep that is under way.
    sweep: Option<Sweep>,
    /// The first and the last end of the entries that it has left, and of those that have come since it began.
    kept: (EventTime, EventTime),
    /// For how many of these places have been looked at.
    paid: usize,
}

struct Sweep {
    /// The place to look at next.
    place: usize,
    /// How large the table was when it began.
    buckets: usize,
}

const NONE_KEPT: (EventTime, EventTime) = (EventTime::MAX, EventTime::MIN);

impl<K: Key, V: Data> ExpiringKeys<K, V> {
    pub(crate) fn new(until: fn(&K, &V) -> EventTime) -> Self {
        ExpiringKeys {
            table: Table::new(),
            changes: Changes::new(),
            removed: Vec::new(),
            is_tracked: false,
            is_saved: false,
            until,
            // A restore may add any entries.
            earliest: EventTime::MIN,
            left: (0, EventTime::MIN),
            added: 0,
            sweep: None,
            kept: NONE_KEPT,
            paid: 0,
        }
    }

    /// Adds a key unless it is there and has not ended by `now`, which is the watermark or later; returns whether it was added.
    #[inline]
    pub(crate) fn add(&mut self, key: HashedKey<'_, K>, value: V, now: EventTime) -> bool {
        let until = (self.until)(key.key, &value);
        match self.table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                if (self.until)(&entry.key, &entry.acc) > now {
                    return false;
                }
                entry.acc = value;
            }
            Slot::Vacant(slot) => {
                slot.insert(Entry { key: keep(|| key.key.clone()), acc: value, mark: () });
            }
        }
        if self.is_tracked {
            self.changed(key.hash);
        }
        self.added += 1;
        self.earliest = self.earliest.min(until);
        self.kept = (self.kept.0.min(until), self.kept.1.max(until));
        true
    }

    fn changed(&mut self, hash: u64) {
        if self.changes.is_full(self.table.len()) {
            let table = &self.table;
            self.changes.tidy(|hash| table.of_hash(*hash).next().is_some());
        }
        self.changes.push(hash);
    }

    /// Removes keys that a watermark has ended; at the end of time all.
    pub(crate) fn advance(&mut self, watermark: EventTime) {
        if watermark == EventTime::MAX {
            return self.clear();
        }
        let (left, last) = self.left;
        let is_due = self.added >= left.max(SMALL) || last <= watermark;
        if self.sweep.is_none() && is_due && self.earliest <= watermark {
            self.sweep = Some(Sweep { place: 0, buckets: self.table.buckets() });
            (self.kept, self.added, self.paid) = (NONE_KEPT, 0, 0);
        }
        let places = PLACES_PER_KEY * (self.added - self.paid) + PLACES;
        self.paid = self.added;
        self.look(watermark, places);
    }

    /// Continues a sweep at the end of an epoch.
    pub(crate) fn epoch_end(&mut self, watermark: EventTime) {
        self.look(watermark, PLACES_PER_EPOCH);
    }

    fn look(&mut self, watermark: EventTime, places: usize) {
        let Some(sweep) = &mut self.sweep else { return };
        let (buckets, end) = (self.table.buckets(), sweep.place.saturating_add(places));
        for place in sweep.place..end.min(buckets) {
            let Some(slot) = self.table.bucket(place) else { continue };
            let until = (self.until)(&slot.get().key, &slot.get().acc);
            if until > watermark {
                self.kept = (self.kept.0.min(until), self.kept.1.max(until));
                continue;
            }
            let key = slot.remove().0.key;
            if self.is_tracked && self.is_saved {
                self.removed.push(key);
            }
        }
        if end < buckets {
            sweep.place = end;
            return;
        }
        // A table that has grown has moved entries to places that had been looked at.
        self.earliest = if sweep.buckets == buckets { self.kept.0 } else { EventTime::MIN };
        self.left = (self.table.len(), self.kept.1);
        self.sweep = None;
        self.table.shrink();
    }

    fn clear(&mut self) {
        let mut table = std::mem::replace(&mut self.table, Table::new());
        if self.is_tracked && self.is_saved {
            self.removed.extend(table.extract_if(|_| true).map(|entry| entry.key));
        }
        self.changes = Changes::new();
        (self.sweep, self.left, self.added, self.paid) = (None, (0, EventTime::MIN), 0, 0);
    }
}

impl<K: Key, V: Data> Store for ExpiringKeys<K, V> {
    fn rows(&self) -> usize {
        self.table.len()
    }

    fn reach(&self) -> Option<Reach> {
        self.table.reach()
    }

    fn unsaved(&self) -> usize {
        self.changes.len() + self.removed.len()
    }

    fn track(&mut self) {
        self.is_tracked = true;
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let groups = writer.key_groups();
        let mut put = |hash, entry: &Entry<K, V, ()>| {
            writer.put(groups.of(hash), name, &entry.key, &value(Life::default(), &entry.acc))
        };
        if !self.is_tracked {
            return self.table.iter().try_for_each(|entry| put(hash_key(&entry.key), entry));
        }
        let changes = self.changes.take();
        for hash in &changes {
            self.table.of_hash(*hash).try_for_each(|entry| put(*hash, entry))?;
        }
        self.is_saved |= !changes.is_empty();
        self.changes.recycle(changes);
        let gone = self.removed.len();
        for key in self.removed.drain(..) {
            let hash = hash_key(&key);
            // A key that is back has been put.
            if self.table.find(hash, &key).is_none() {
                writer.remove(groups.of(hash), name, &key)?;
            }
        }
        relieve(&mut self.removed, gone);
        Ok(())
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        match change {
            Change::Put { key, value, .. } => {
                let key: K = decode(key)?;
                let (_, value) = read_value(value)?;
                self.table.set(hash_key(&key), key, value);
                self.is_saved = true;
            }
            Change::Remove { key, .. } => {
                let key: K = decode(key)?;
                self.table.remove(hash_key(&key), |entry| entry.key == key);
            }
            Change::DropSlot { .. } => return Err(dropped()),
        }
        Ok(())
    }

    fn expire(&mut self) {}

    fn ttl(&self) -> Option<Duration> {
        None
    }

    fn set_now(&mut self, _: ProcessingTime) {}
}

impl<K: Key, V: Data> Held for ExpiringKeys<K, V> {
    fn store(&self) -> &dyn Store {
        self
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        self
    }
}

impl<K: Key, V: Data> NamedState for ExpiringKeys<K, V> {
    fn kind(&self) -> &'static str {
        "value"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<K, V>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::States;

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    fn keys() -> ExpiringKeys<u64, EventTime> {
        ExpiringKeys::new(|_, until| *until)
    }

    impl ExpiringKeys<u64, EventTime> {
        fn unsaved_changes(&self) -> usize {
            Store::unsaved(self)
        }
    }

    fn add(keys: &mut ExpiringKeys<u64, EventTime>, key: u64, until: i64, watermark: i64) -> bool {
        keys.add(HashedKey::of(&key), at(until), at(watermark))
    }

    #[test]
    fn key_is_new_again_when_watermark_reaches_its_end() {
        let mut keys = keys();
        assert!(add(&mut keys, 1, 10, -5));
        assert!(!add(&mut keys, 1, 30, 9), "not prolonged");
        assert!(add(&mut keys, 1, 30, 10));
        assert!(!add(&mut keys, 1, 99, 29));
        assert_eq!(keys.table.len(), 1);
    }

    #[test]
    fn ended_keys_are_removed_while_others_come() {
        let mut keys = keys();
        let mut most = 0;
        for n in 0..200_000 {
            assert!(add(&mut keys, n, n as i64 + 5_000, n as i64));
            keys.advance(at(n as i64));
            most = most.max(keys.table.len());
        }
        assert!(most < 20_000, "{most} rows for 5000 that are remembered");
    }

    #[test]
    fn ended_keys_are_removed_by_epochs_without_rows() {
        let mut keys = keys();
        (0..50_000).for_each(|n| assert!(add(&mut keys, n, if n % 10 == 0 { 100 } else { 50 }, 0)));
        keys.advance(at(49));
        (0..50).for_each(|_| keys.epoch_end(at(49)));
        assert_eq!(keys.table.len(), 50_000);
        // A sweep waits for the last of what the one before has left.
        for (watermark, left) in [(50, 50_000), (99, 50_000), (100, 0)] {
            keys.advance(at(watermark));
            (0..50).for_each(|_| keys.epoch_end(at(watermark)));
            assert_eq!(keys.table.len(), left, "at {watermark}");
        }
    }

    /// A key of the far future does not keep others.
    #[test]
    fn one_late_end_does_not_stop_sweeps() {
        let mut keys = keys();
        assert!(add(&mut keys, u64::MAX, i64::MAX, 0));
        for n in 0..100_000 {
            assert!(add(&mut keys, n, n as i64 + 100, n as i64));
            keys.advance(at(n as i64));
        }
        assert!(keys.table.len() < 5_000, "{}", keys.table.len());
        keys.advance(EventTime::MAX);
        assert_eq!(keys.table.len(), 0);
    }

    fn written(keys: &mut ExpiringKeys<u64, EventTime>) -> Vec<Vec<u8>> {
        let mut writer = SnapshotWriter::new();
        States::snapshot(|states| states.add("it", keys), &mut writer, |_| None).unwrap();
        writer.into_groups().map(|(_, bytes)| bytes).collect()
    }

    #[test]
    fn removed_keys_leave_the_checkpoint_unless_they_are_back() {
        let mut all = keys();
        Store::track(&mut all);
        (0..100).for_each(|n| assert!(add(&mut all, n, 10, 0)));
        let mut chain = written(&mut all);
        assert_eq!(all.unsaved_changes(), 0);
        all.advance(at(10));
        all.epoch_end(at(10));
        assert_eq!(all.table.len(), 0);
        (90..110).for_each(|n| assert!(add(&mut all, n, 20, 10)));
        chain.extend(written(&mut all));
        let mut back = keys();
        Store::track(&mut back);
        for bytes in &chain {
            States::restore(|states| states.add("it", &mut back), bytes, true).unwrap();
        }
        assert!((0..110).all(|n| add(&mut back, n, 20, 10) == (n < 90)));
        back.advance(EventTime::MAX);
        chain.extend(written(&mut back));
        let mut none = keys();
        for bytes in &chain {
            States::restore(|states| states.add("it", &mut none), bytes, true).unwrap();
        }
        assert_eq!(none.table.len(), 0);
    }

    #[test]
    fn changes_of_keys_that_are_gone_are_dropped() {
        let mut keys = keys();
        Store::track(&mut keys);
        for n in 0..50_000 {
            assert!(add(&mut keys, n, n as i64 + 10, n as i64));
            keys.advance(at(n as i64));
        }
        assert!(keys.unsaved_changes() < 10_000, "{}", keys.unsaved_changes());
    }

    #[test]
    fn nothing_is_looked_at_before_the_first_end() {
        let mut keys = keys();
        keys.advance(at(0));
        (0..10_000).for_each(|n| assert!(add(&mut keys, n, 1_000, 0)));
        (0..10).for_each(|watermark| {
            keys.advance(at(watermark));
            keys.epoch_end(at(watermark));
        });
        assert!(keys.sweep.is_none() && keys.table.len() == 10_000);
    }
}
