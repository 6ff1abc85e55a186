//! A list for each key.

use std::time::Duration;

use super::life::Ttl;
use super::nested::Nested;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Data, Key};

/// A list for each key that has elements, in the order in which they were pushed: Flink's `ListState`.
///
/// Elements are written and removed one by one: an epoch that adds one element to a list of 100,000 writes one element.
///
/// ```
/// use tidemill::operator::{HashedKey, ListState};
///
/// let mut waiting = ListState::<u32, String>::new();
/// let key = HashedKey::of(&7);
/// waiting.push(key, "first".to_owned());
/// waiting.push(key, "second".to_owned());
/// waiting.retain(key, |order| order != "first");
/// assert_eq!(waiting.drain(key), ["second"]);
/// assert!(waiting.is_empty());
/// ```
pub struct ListState<K, V>(Nested<K, u64, V>);

impl<K: Key, V: Data> ListState<K, V> {
    /// A state without lists, whose elements are kept until they are removed.
    #[expect(clippy::new_without_default, reason = "a state is declared by what it is")]
    pub fn new() -> Self {
        ListState(Nested::new(Ttl::none()))
    }

    /// A state without lists; each element expires `ttl` after it was pushed, by the engine's clock.
    ///
    /// A restart may change the TTL, as with [`ValueState::with_ttl`](super::ValueState::with_ttl).
    pub fn with_ttl(ttl: Duration) -> Self {
        ListState(Nested::new(Ttl::of(ttl)))
    }

    /// Appends an element to the list of a key.
    #[inline]
    pub fn push(&mut self, key: HashedKey<'_, K>, value: V) {
        self.0.push(key, value, |list| list.last().map_or(0, |last| last.saturating_add(1)));
    }

    /// Iterates over the list of a key: over nothing if it has none.
    #[inline]
    pub fn get(&self, key: HashedKey<'_, K>) -> impl DoubleEndedIterator<Item = &V> {
        self.0.range(key, ..).map(|(_, value)| value)
    }

    /// Removes the elements of a key's list that `keep` does not want.
    pub fn retain(&mut self, key: HashedKey<'_, K>, mut keep: impl FnMut(&V) -> bool) {
        self.0.retain_range(key, .., |_, value| keep(value));
    }

    /// Removes the list of a key.
    pub fn remove(&mut self, key: HashedKey<'_, K>) {
        self.0.retain_range(key, .., |_, _| false);
    }

    /// Removes the list of a key and returns its elements.
    pub fn drain(&mut self, key: HashedKey<'_, K>) -> Vec<V> {
        self.0.drain_range(key, ..).into_iter().map(|(_, value)| value).collect()
    }

    /// Returns how many elements all lists have. With a TTL all are looked at.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key has a list.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Iterates over the elements of all keys of this worker: keys in no order, those of a key in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, _, value)| (key, value))
    }
}

impl<K: Key, V: Data> Held for ListState<K, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<K: Key, V: Data> NamedState for ListState<K, V> {
    fn kind(&self) -> &'static str {
        "list"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, u64), V>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::States;
    use crate::named::sweep::STEPS_PER_CALL;
    use crate::{ProcessingTime, SnapshotWriter};

    fn delta(state: &mut ListState<u32, u32>) -> usize {
        let mut writer = SnapshotWriter::new();
        state.snapshot("it", &mut writer).unwrap();
        writer.len()
    }

    #[test]
    fn snapshot_after_many_evictions_holds_what_stays() {
        let mut state = ListState::<u32, u32>::new();
        state.track();
        for key in 0..20_000 {
            state.push(HashedKey::of(&key), key);
        }
        for key in (0..20_000).filter(|key| key % 50 != 0) {
            state.remove(HashedKey::of(&key));
        }
        let mut writer = SnapshotWriter::new();
        state.snapshot("it", &mut writer).unwrap();
        let mut restored = ListState::<u32, u32>::new();
        for (_, bytes) in writer.into_groups() {
            States::restore(|states| states.add("it", &mut restored), &bytes, true).unwrap();
        }
        let mut keys: Vec<u32> = restored.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..20_000).step_by(50).collect::<Vec<_>>());
    }

    #[test]
    fn element_added_to_long_list_is_written_alone() {
        let (mut state, key) = (ListState::<u32, u32>::new(), HashedKey::of(&7));
        state.track();
        (0..100_000).for_each(|n| state.push(key, n));
        assert_eq!(state.unsaved(), 100_000);
        assert!(delta(&mut state) > 100_000);
        state.push(key, 1);
        assert_eq!(state.unsaved(), 1);
        assert!(delta(&mut state) < 30);
        state.retain(key, |n| *n != 50_000);
        assert_eq!((state.unsaved(), state.len()), (1, 100_000));
        assert!(delta(&mut state) < 30);
    }

    #[test]
    fn elements_expire_one_by_one_by_when_they_were_pushed() {
        let (mut state, key) =
            (ListState::<u32, u32>::with_ttl(Duration::from_micros(10)), HashedKey::of(&7));
        for n in 0..1_000 {
            state.set_now(ProcessingTime::from_micros(i64::from(n)));
            state.push(key, n);
            assert!(state.get(key).eq((n.saturating_sub(9)..=n).collect::<Vec<_>>().iter()));
            assert!(state.rows() < 30, "{}", state.rows());
        }
        state.set_now(ProcessingTime::from_micros(1_009));
        assert!(state.is_empty() && state.drain(key).is_empty());
    }

    #[test]
    fn call_of_expire_looks_at_bounded_number_of_elements() {
        let (mut state, key) =
            (ListState::<u32, u32>::with_ttl(Duration::from_micros(10)), HashedKey::of(&7));
        (0..10_000).for_each(|n| state.push(key, n));
        state.set_now(ProcessingTime::from_micros(10));
        let mut rows = state.rows();
        while rows > 0 {
            state.expire();
            assert!(rows - state.rows() <= STEPS_PER_CALL);
            rows = state.rows();
        }
    }

    #[test]
    fn key_without_elements_takes_no_memory() {
        let mut state = ListState::<u32, u32>::new();
        state.track();
        (0..1_000).for_each(|key| state.push(HashedKey::of(&key), 1));
        delta(&mut state);
        (0..1_000).for_each(|key| state.remove(HashedKey::of(&key)));
        assert_eq!((state.rows(), state.0.keys()), (0, 1_000));
        delta(&mut state);
        assert_eq!(state.0.keys(), 0);
        (0..1_000).for_each(|key| state.push(HashedKey::of(&key), 1));
        (0..1_000).for_each(|key| state.remove(HashedKey::of(&key)));
        assert_eq!(state.0.keys(), 0);
    }
}
