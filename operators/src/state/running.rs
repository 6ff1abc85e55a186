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

/// How many keys of partials are kept until their entries are emitted.
const MOST_KEYS: usize = 16_384;

/// One accumulator for each key. Nothing is ever late and nothing closes.
pub struct RunningState<K, A: Aggregate, M> {
    /// Everything; if there are no marks to tell what has changed and the state is tracked, only what came since the
    /// last snapshot.
    table: Table<K, A::Acc, M>,
    /// The rest.
    settled: Table<K, A::Acc, M>,
    /// The hash of every marked entry that is not in `partials`.
    changes: Vec<u64>,
    /// The others: with the key of the partial that marked the entry. Its memory is used again for the key that is emitted.
    partials: Vec<(u64, K)>,
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
            partials: Vec::new(),
            tracked: false,
            kept: Vec::new(),
            known: Known::new(),
        }
    }

    /// Writes what is marked.
    fn write_marked(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let mut hashes = std::mem::take(&mut self.kept);
        // What has not been told is written too, and stays to be told.
        for hash in self.changes.iter().chain(self.partials.iter().map(|(hash, _)| hash)) {
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
        let merge = |acc: &mut A::Acc, other| aggregate.merge(acc, other);
        let (entry, key) = self.table.merge_key(hash, key, acc, merge);
        if entry.mark.set() {
            match key {
                Some(key) if const { std::mem::needs_drop::<K>() } && self.partials.len() < MOST_KEYS => {
                    self.partials.push((hash, key));
                }
                _ => self.changes.push(hash),
            }
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
        let told = self.partials.len();
        for (hash, mut key) in self.partials.drain(..) {
            let Some(entry) = self.table.find_mut(hash, &key) else { continue };
            if entry.mark.clear() {
                if self.tracked && entry.mark.keep() {
                    self.kept.push(hash);
                }
                key.clone_from(&entry.key);
                emit(key, (), aggregate.finish(&entry.acc));
            }
        }
        relieve(&mut self.partials, told);
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
        if M::TRACKED { self.kept.len() + self.changes.len() + self.partials.len() } else { self.table.len() }
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
    use std::fmt::Debug;
    use std::hash::Hasher;

    use proptest::prelude::*;
    use proptest::test_runner::TestCaseResult;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::aggregate::{Count, Sum};
    use crate::state::Stamp;

    /// Records, each with a key, a value, and what follows it.
    type Records = Vec<(u8, u64, u8)>;

    fn records() -> impl Strategy<Value = Records> {
        proptest::collection::vec((0..9u8, 0..100u64, 0..8u8), 1..60)
    }

    fn check<K: Key + Ord + Debug>(records: Records, key: impl Fn(u8) -> K) -> TestCaseResult {
        let sum = Sum::of(|n: &u64| *n);
        let mut expected: BTreeMap<K, u64> = BTreeMap::new();
        let mut touched: BTreeMap<K, u64> = BTreeMap::new();
        let mut state = RunningState::<K, _, Stamp>::new();
        let mut local = RunningState::<K, _, ()>::new();
        for (number, value, step) in records {
            let key = key(number);
            *expected.entry(key.clone()).or_default() += value;
            touched.insert(key.clone(), expected[&key]);
            local.add(&sum, hash_key(&key), &key, EventTime::from_micros(0), &value);
            prop_assert!(!local.is_late(EventTime::MIN, &value, EventTime::MAX));
            if step > 2 {
                continue;
            }
            local.drain(&mut |hash, key, (), acc| state.merge(&sum, hash, key, (), acc));
            prop_assert!(local.is_empty());
            if step > 1 {
                continue;
            }
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
        Ok(())
    }

    proptest! {
        #[test]
        fn running_sums_agree_with_a_map(records in records()) {
            check(records, |number| number)?;
        }

        #[test]
        fn running_sums_of_keys_that_own_memory_agree_with_a_map(records in records()) {
            check(records, |number| format!("key {number}"))?;
        }
    }

    /// A name in which case does not matter.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Name(String);

    impl PartialEq for Name {
        fn eq(&self, other: &Name) -> bool {
            self.0.eq_ignore_ascii_case(&other.0)
        }
    }

    impl Eq for Name {}

    impl Hash for Name {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.to_ascii_lowercase().hash(state);
        }
    }

    #[test]
    fn result_has_the_key_that_came_first() {
        let mut state = RunningState::<Name, Count<()>, Stamp>::new();
        let mut results = vec![];
        for name in ["Tide", "tide", "TIDE"].map(|name| Name(name.to_owned())) {
            state.merge(&Count::new(), hash_key(&name), name, (), 1);
            state.changed(&Count::new(), &mut |name, (), count| results.push((name.0, count)));
        }
        assert_eq!(results, [("Tide".to_owned(), 1), ("Tide".to_owned(), 2), ("Tide".to_owned(), 3)]);
    }

    #[test]
    fn changes_that_are_not_emitted_keep_a_bounded_number_of_keys() {
        let mut state = RunningState::<String, Count<()>, Stamp>::new();
        let merge_all = |state: &mut RunningState<_, _, _>| {
            for key in (0..2 * MOST_KEYS).map(|number| number.to_string()) {
                state.merge(&Count::new(), hash_key(&key), key, (), 1);
            }
        };
        merge_all(&mut state);
        state.changed(&Count::new(), &mut |_, (), _| ());
        merge_all(&mut state);
        assert_eq!(state.partials.len(), MOST_KEYS);
        let mut changed = 0;
        state.changed(&Count::new(), &mut |key, (), count| {
            assert_eq!(count, 2, "{key}");
            changed += 1;
        });
        assert_eq!(changed, 2 * MOST_KEYS);
    }
}
