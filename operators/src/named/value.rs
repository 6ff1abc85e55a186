//! One value for each key.

use std::time::Duration;

use super::flat::Flat;
use super::life::Ttl;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Data, Key};

/// A value for each key that has one: Flink's `ValueState`.
///
/// A look-up and an update of an existing key cost one probe of a hash table.
///
/// ```
/// use tidemill::operator::{HashedKey, ValueState};
///
/// let mut visits = ValueState::<String, u64>::new();
/// for user in ["ann", "bob", "ann"].map(String::from) {
///     *visits.get_or_insert_with(HashedKey::of(&user), || 0) += 1;
/// }
/// assert_eq!(visits.get(HashedKey::of(&"ann".to_owned())), Some(&2));
/// assert_eq!(visits.len(), 2);
/// ```
pub struct ValueState<K, V>(Flat<K, V>);

impl<K: Key, V: Data> ValueState<K, V> {
    /// A state without values, which are kept until they are removed.
    #[expect(clippy::new_without_default, reason = "a state is declared by what it is")]
    pub fn new() -> Self {
        ValueState(Flat::new(Ttl::none()))
    }

    /// A state without values; each expires `ttl` after its last write, by the engine's clock.
    ///
    /// A restart may change the TTL, which then applies to existing values, from the time of their last write. For
    /// values that were written without a TTL it begins with the restart.
    pub fn with_ttl(ttl: Duration) -> Self {
        ValueState(Flat::new(Ttl::of(ttl)))
    }

    /// Returns the value of a key.
    #[inline]
    pub fn get(&self, key: HashedKey<'_, K>) -> Option<&V> {
        self.0.get(key)
    }

    /// Returns the value of a key for a change. This counts as a write.
    #[inline]
    pub fn get_mut(&mut self, key: HashedKey<'_, K>) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Returns the value of a key for a change, and inserts one first if there is none. This counts as a write.
    #[inline]
    pub fn get_or_insert_with(&mut self, key: HashedKey<'_, K>, make: impl FnOnce() -> V) -> &mut V {
        self.0.get_or_insert_with(key, make)
    }

    /// Sets the value of a key and returns the previous one.
    #[inline]
    pub fn insert(&mut self, key: HashedKey<'_, K>, value: V) -> Option<V> {
        self.0.put(key, value, std::mem::replace)
    }

    /// Inserts a value unless the key has one; returns whether it was inserted. Otherwise this is no write.
    #[inline]
    pub(crate) fn add(&mut self, key: HashedKey<'_, K>, value: V) -> bool {
        self.0.add(key, value)
    }

    /// Removes the value of a key and returns it.
    pub fn remove(&mut self, key: HashedKey<'_, K>) -> Option<V> {
        self.0.remove(key)
    }

    /// Returns the number of keys with a value. With a TTL this visits all entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Iterates over all keys of this worker and their values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }
}

impl<K: Key, V: Data> Held for ValueState<K, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<K: Key, V: Data> NamedState for ValueState<K, V> {
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
    use crate::named::sweep::STEPS_PER_CALL;
    use crate::{ProcessingTime, SnapshotWriter};

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn delta(state: &mut ValueState<u64, u32>) -> Vec<Vec<u8>> {
        let mut writer = SnapshotWriter::new();
        States::snapshot(|states| states.add("it", state), &mut writer, |_| None).unwrap();
        writer.into_groups().map(|(_, bytes)| bytes).collect()
    }

    fn restore(mut state: ValueState<u64, u32>, chain: &[Vec<u8>]) -> ValueState<u64, u32> {
        state.track();
        for bytes in chain {
            States::restore(|states| states.add("it", &mut state), bytes, true).unwrap();
        }
        state
    }

    /// A state that wrote 1 at 100 and 2 at 105.
    fn written(mut state: ValueState<u64, u32>) -> Vec<Vec<u8>> {
        state.track();
        for (key, now) in [(1, 100), (2, 105)] {
            state.set_now(ProcessingTime::from_micros(now));
            state.insert(HashedKey::of(&key), 0);
        }
        delta(&mut state)
    }

    fn keys(state: &mut ValueState<u64, u32>, now: i64) -> Vec<u64> {
        state.set_now(ProcessingTime::from_micros(now));
        let mut keys: Vec<u64> = state.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn snapshot_after_many_removals_holds_what_stays() {
        let mut state = ValueState::<u64, u32>::new();
        state.track();
        for key in 0..20_000 {
            state.insert(HashedKey::of(&key), 1);
        }
        for key in (0..20_000).filter(|key| key % 50 != 0) {
            state.remove(HashedKey::of(&key));
        }
        // Writes after the removals: the list of changes is tidied on the way.
        for key in (0..20_000).step_by(100) {
            state.insert(HashedKey::of(&key), 2);
        }
        let restored = restore(ValueState::new(), &delta(&mut state));
        let mut values: Vec<(u64, u32)> = restored.iter().map(|(key, value)| (*key, *value)).collect();
        values.sort_unstable();
        let expected = (0..20_000).step_by(50).map(|key| (key, if key % 100 == 0 { 2 } else { 1 }));
        assert!(values.into_iter().eq(expected));
    }

    #[test]
    fn growing_table_keeps_what_has_changed_and_when() {
        let ttl = || ValueState::<u64, u32>::with_ttl(micros(100));
        for make in [ValueState::new, ttl] {
            let mut state = make();
            state.track();
            state.set_now(ProcessingTime::from_micros(0));
            for key in 0..1_000 {
                state.insert(HashedKey::of(&key), 0);
            }
            let mut chain = delta(&mut state);
            state.set_now(ProcessingTime::from_micros(50));
            for key in (0..1_000).step_by(10) {
                *state.get_mut(HashedKey::of(&key)).unwrap() = 1;
            }
            for key in (5..1_000).step_by(10) {
                state.remove(HashedKey::of(&key));
            }
            for key in 1_000..30_000 {
                state.insert(HashedKey::of(&key), 2);
            }
            let second = delta(&mut state);
            // What has not changed is not written again.
            assert_eq!(restore(make(), &second).rows(), 29_000 + 100);
            chain.extend(second);
            let mut restored = restore(make(), &chain);
            let is_there = |key: &u64| key % 10 != 5 || *key >= 1_000;
            let all: Vec<u64> = (0..30_000).filter(is_there).collect();
            let young: Vec<u64> = all.iter().copied().filter(|key| key % 10 == 0 || *key >= 1_000).collect();
            let expected = [all.clone(), if state.ttl().is_some() { young } else { all }];
            for state in [&mut state, &mut restored] {
                assert_eq!([99, 120].map(|now| keys(state, now)), expected);
                assert_eq!(state.get(HashedKey::of(&20)), Some(&1));
                assert!(delta(state).is_empty());
            }
        }
    }

    #[test]
    fn add_keeps_value_and_its_life_until_it_expires() {
        let mut state = ValueState::<u64, u32>::with_ttl(micros(10));
        let key = HashedKey::of(&1);
        let mut add = |now, value| {
            state.set_now(ProcessingTime::from_micros(now));
            (state.add(key, value), state.get(key).copied())
        };
        assert_eq!(add(0, 5), (true, Some(5)));
        assert_eq!(add(9, 6), (false, Some(5)));
        assert_eq!(add(10, 7), (true, Some(7)));
        assert_eq!(add(19, 8), (false, Some(7)));
    }

    #[test]
    fn read_does_not_prolong_life_and_write_does() {
        let mut state = ValueState::<u64, u32>::with_ttl(micros(10));
        let key = HashedKey::of(&1);
        state.insert(key, 5);
        state.set_now(ProcessingTime::from_micros(9));
        assert_eq!(state.get(key), Some(&5));
        state.set_now(ProcessingTime::from_micros(10));
        assert_eq!((state.get(key), state.len(), state.rows()), (None, 0, 1));
        assert_eq!(state.get_mut(key), None);
        assert_eq!(state.insert(key, 6), None);
        state.set_now(ProcessingTime::from_micros(19));
        *state.get_mut(key).unwrap() += 1;
        state.set_now(ProcessingTime::from_micros(28));
        assert_eq!(state.remove(key), Some(7));
    }

    #[test]
    fn expired_value_starts_anew() {
        let mut state = ValueState::<u64, u32>::with_ttl(micros(10));
        *state.get_or_insert_with(HashedKey::of(&1), || 40) += 2;
        state.set_now(ProcessingTime::from_micros(10));
        assert_eq!(*state.get_or_insert_with(HashedKey::of(&1), || 7), 7);
    }

    #[test]
    fn expiry_survives_restart() {
        let chain = written(ValueState::with_ttl(micros(10)));
        let mut state = restore(ValueState::with_ttl(micros(10)), &chain);
        assert_eq!(keys(&mut state, 109), [1, 2]);
        assert_eq!(keys(&mut state, 110), [2]);
        state.expire();
        assert_eq!(state.rows(), 1);
        assert_eq!(restore(ValueState::with_ttl(micros(10)), &[chain, delta(&mut state)].concat()).rows(), 1);
    }

    #[test]
    fn changed_ttl_holds_for_values_written_before() {
        let chain = written(ValueState::with_ttl(micros(10)));
        let mut longer = restore(ValueState::with_ttl(micros(20)), &chain);
        assert_eq!((keys(&mut longer, 119), keys(&mut longer, 120)), (vec![1, 2], vec![2]));
        let mut shorter = restore(ValueState::with_ttl(micros(3)), &chain);
        assert_eq!((keys(&mut shorter, 105), keys(&mut shorter, 108)), (vec![2], vec![]));
        let mut none = restore(ValueState::new(), &chain);
        assert_eq!(keys(&mut none, i64::MAX), [1, 2]);
    }

    #[test]
    fn added_ttl_counts_from_restart() {
        let mut chain = written(ValueState::new());
        let mut state = restore(ValueState::with_ttl(micros(10)), &chain);
        state.set_now(ProcessingTime::from_micros(1_000));
        state.expire();
        assert_eq!((keys(&mut state, 1_009), keys(&mut state, 1_010)), (vec![1, 2], vec![]));
        // The time that it began to count is written.
        chain.extend(delta(&mut state));
        let mut state = restore(ValueState::with_ttl(micros(20)), &chain);
        assert_eq!((keys(&mut state, 1_019), keys(&mut state, 1_020)), (vec![1, 2], vec![]));
    }

    #[test]
    fn memory_is_flat_over_a_day_of_expiring_keys() {
        let mut state = ValueState::<u64, u32>::with_ttl(Duration::from_secs(3_600));
        state.track();
        let (mut most, mut key) = (0, 0);
        for minute in 0..24 * 60 {
            state.set_now(ProcessingTime::from_micros(minute * 60_000_000));
            state.expire();
            for _ in 0..500 {
                key = (key + 1) % 100_000;
                state.insert(HashedKey::of(&key), 0);
            }
            if minute % 10 == 0 {
                delta(&mut state);
            }
            if minute == 600 {
                assert_eq!(state.len(), 30_000);
            }
            most = most.max(state.rows());
        }
        // 30,000 have not expired, and a pass takes a quarter of the hour and some more.
        assert!(most < 50_000, "{most}");
        state.set_now(ProcessingTime::from_micros(25 * 3_600_000_000));
        while state.rows() > 0 {
            state.expire();
        }
        assert!(state.is_empty());
    }

    #[test]
    fn call_of_expire_looks_at_bounded_number_of_values() {
        let mut state = ValueState::<u64, u32>::with_ttl(micros(10));
        for key in 0..10_000 {
            state.insert(HashedKey::of(&key), 0);
        }
        state.set_now(ProcessingTime::from_micros(10));
        let mut rows = state.rows();
        while rows > 0 {
            state.expire();
            assert!(rows - state.rows() <= STEPS_PER_CALL);
            rows = state.rows();
        }
    }

    #[test]
    fn key_that_comes_and_goes_is_noted_few_times() {
        let mut state = ValueState::<u64, u32>::new();
        state.track();
        for value in 0..20_000 {
            state.insert(HashedKey::of(&1), value);
            state.remove(HashedKey::of(&1));
        }
        assert!(state.unsaved() < 3_000);
        assert!(delta(&mut state).is_empty());
        state.insert(HashedKey::of(&1), 1);
        assert_eq!(delta(&mut state).len(), 1);
        state.remove(HashedKey::of(&1));
        state.insert(HashedKey::of(&1), 2);
        state.remove(HashedKey::of(&1));
        assert_eq!(restore(ValueState::new(), &delta(&mut state)).rows(), 0);
    }
}
