//! Aggregates without windows: one accumulator for each key, for ever.

use std::borrow::Borrow;
use std::hash::Hash;

use super::known::Known;
use super::table::{Table, relieve};
use super::{GroupState, Intake, Mark, PartialState, Reach, split};
use crate::aggregate::kept;
use crate::{
    Aggregate, Change, EventTime, Key, KeyGroup, OperatorError, SnapshotReader, SnapshotWriter, decode,
    hash_key,
};

/// One accumulator for each key. Nothing is ever late and nothing closes.
pub struct RunningState<K, A: Aggregate, M> {
    /// Everything; if there are no marks to tell what has changed and the state is tracked, only what came since the
    /// last snapshot.
    table: Table<K, A::Acc, M>,
    /// The rest.
    settled: Table<K, A::Acc, M>,
    /// The hash of every marked entry.
    changes: Vec<u64>,
    tracked: bool,
    /// The hash of every entry whose change has been told and not yet written.
    kept: Vec<u64>,
    /// Keys for a table that is emptied again and again.
    known: Known<K, A::Acc, M>,
}

impl<K: Key, A: Aggregate, M: Mark> RunningState<K, A, M> {
    /// A state without keys.
    pub fn new() -> Self {
        RunningState {
            table: Table::new(),
            settled: Table::new(),
            changes: Vec::new(),
            tracked: false,
            kept: Vec::new(),
            known: Known::new(),
        }
    }

    /// Writes what is marked.
    fn write_marked(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let mut hashes = std::mem::take(&mut self.kept);
        // What has not been told is written too, and stays to be told.
        for hash in &self.changes {
            let untold = self.table.of_hash_mut(*hash).filter(|entry| entry.mark.is_set());
            hashes.extend(untold.filter_map(|entry| entry.mark.keep().then_some(*hash)));
        }
        for hash in hashes {
            for entry in self.table.of_hash_mut(hash) {
                if entry.mark.take_kept() {
                    writer.put(writer.key_groups().of(hash), &(), &entry.key, &entry.acc)?;
                }
            }
        }
        Ok(())
    }

    /// Where what is restored belongs.
    fn written(&mut self) -> &mut Table<K, A::Acc, M> {
        if self.tracked && !M::TRACKED { &mut self.settled } else { &mut self.table }
    }
}

impl<K: Key, A: Aggregate, M: Mark> Default for RunningState<K, A, M> {
    fn default() -> Self {
        RunningState::new()
    }
}

impl<K: Key, A: Aggregate, M: Mark> Intake<K, A> for RunningState<K, A, M> {
    type Slot = ();

    fn is_late(&self, _time: EventTime, _value: &A::In, _watermark: EventTime) -> bool {
        false
    }

    fn slot(&mut self, _time: EventTime, _value: &A::In) {}

    #[inline(always)]
    fn add<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, _time: EventTime, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (first, add) =
            (|| kept::create(aggregate, value), |acc: &mut A::Acc| kept::add(aggregate, acc, value));
        if Known::<K, A::Acc, M>::PAYS {
            self.known.bump(&mut self.table, hash, key, first, add);
        } else if self.table.bump(hash, key, first, add) {
            self.changes.push(hash);
        }
    }

    fn len(&self) -> usize {
        split::len(&self.settled, &self.table)
    }
}

impl<K: Key, A: Aggregate, M: Mark> PartialState<K, A> for RunningState<K, A, M> {
    fn drain(&mut self, emit: &mut impl FnMut(u64, K, (), A::Acc)) {
        self.changes.clear();
        self.known.hand_over(&mut self.table, |hash, key, acc| emit(hash, key, (), acc));
    }
}

impl<K: Key, A: Aggregate, M: Mark> GroupState<K, A> for RunningState<K, A, M> {
    type Scope = ();
    type Stored = A::Acc;

    #[inline]
    fn reach(&self) -> Option<Reach> {
        self.table.reach()
    }

    fn merge(&mut self, aggregate: &A, hash: u64, key: K, _slot: (), acc: A::Acc) {
        let entry = self.table.merge(hash, key, acc, |acc, other| aggregate.merge(acc, other));
        if entry.mark.set() {
            self.changes.push(hash);
        }
    }

    fn closes(&self, _watermark: EventTime) -> bool {
        false
    }

    fn close(&mut self, _aggregate: &A, _watermark: EventTime, _emit: &mut impl FnMut(K, (), A::Out)) {}

    fn changed(&mut self, aggregate: &A, emit: &mut impl FnMut(K, (), A::Out)) {
        let mut changes = std::mem::take(&mut self.changes);
        let told = changes.len();
        for hash in changes.drain(..) {
            for entry in self.table.near_hash_mut(hash) {
                if entry.mark.clear() {
                    if self.tracked && entry.mark.keep() {
                        self.kept.push(hash_key(&entry.key));
                    }
                    emit(entry.key.clone(), (), aggregate.finish(&entry.acc));
                }
            }
        }
        relieve(&mut changes, told);
        self.changes = changes;
    }

    fn all(&self, aggregate: &A, emit: &mut impl FnMut(K, (), A::Out)) {
        split::each(aggregate, &self.settled, &self.table, |key, acc| {
            emit(key.clone(), (), aggregate.finish(acc));
        });
    }

    fn relieve(&mut self, aggregate: &A) {
        self.table.each_mut(|acc| aggregate.relieve(acc));
    }

    fn unsaved(&self) -> usize {
        if M::TRACKED { self.kept.len() + self.changes.len() } else { self.table.len() }
    }

    fn track(&mut self) {
        self.tracked = true;
    }

    fn snapshot(&mut self, aggregate: &A, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        if self.tracked && M::TRACKED {
            return self.write_marked(writer);
        }
        let mut put = |hash, key: &K, acc: &A::Acc| writer.put(writer.key_groups().of(hash), &(), key, acc);
        if self.tracked {
            return split::settle(aggregate, &mut self.settled, &mut self.table, put);
        }
        self.table.iter().try_for_each(|entry| put(hash_key(&entry.key), &entry.key, &entry.acc))
    }

    fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        let mut reader = SnapshotReader::new(bytes);
        while let Some(change) = reader.next_change()? {
            match change {
                Change::Put { key, value, .. } => {
                    let key: K = decode(key)?;
                    self.written().set(hash_key(&key), key, decode(value)?);
                }
                Change::Remove { key, .. } => {
                    let key: K = decode(key)?;
                    self.written().remove(hash_key(&key), |entry| entry.key == key);
                }
                Change::DropSlot { .. } => self.written().drop_group(group, |_| ()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::Sum;
    use crate::state::Stamp;

    type Key = u8;

    proptest! {
        #[test]
        fn running_sums_agree_with_a_map(records in proptest::collection::vec((0..9u8, 0..100u64, 0..8u8), 1..60)) {
            let sum = Sum::of(|n: &u64| *n);
            let mut expected: BTreeMap<Key, u64> = BTreeMap::new();
            let mut touched: BTreeMap<Key, u64> = BTreeMap::new();
            let mut state = RunningState::<Key, _, Stamp>::new();
            let mut local = RunningState::<Key, _, ()>::new();
            for (key, value, step) in records {
                *expected.entry(key).or_default() += value;
                touched.insert(key, expected[&key]);
                local.add(&sum, hash_key(&key), &key, EventTime::from_micros(0), &value);
                prop_assert!(!local.is_late(EventTime::MIN, &value, EventTime::MAX));
                if step > 1 {
                    continue;
                }
                local.drain(&mut |hash, key, (), acc| state.merge(&sum, hash, key, (), acc));
                prop_assert!(local.is_empty());
                let mut changed = vec![];
                state.changed(&sum, &mut |key, (), value| changed.push((key, value)));
                changed.sort();
                prop_assert_eq!(changed, std::mem::take(&mut touched).into_iter().collect::<Vec<_>>());
                if step == 1 {
                    let mut writer = SnapshotWriter::new();
                    state.snapshot(&sum, &mut writer).unwrap();
                    state = RunningState::new();
                    for (group, bytes) in writer.into_groups() {
                        state.restore(group, &bytes).unwrap();
                        // A put replaces: twice is once.
                        state.restore(group, &bytes).unwrap();
                    }
                    state.changed(&sum, &mut |_, (), _| panic!("a restart changes nothing"));
                }
                state.close(&sum, EventTime::MAX, &mut |_, (), _| panic!("a running sum never closes"));
                let mut all = BTreeMap::new();
                state.all(&sum, &mut |key, (), value| all.extend([(key, value)]));
                prop_assert_eq!(&all, &expected);
                prop_assert_eq!(state.len(), expected.len());
            }
        }
    }
}
