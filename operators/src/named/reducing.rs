//! One value for each key, which new values are merged into.

use std::time::Duration;

use super::flat::Flat;
use super::life::Ttl;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Data, Key};

/// The reduction of all values that were added for a key: Flink's `ReducingState`.
///
/// The first value of a key is kept unchanged; each further one goes through the function. A state that is a field with
/// the default `F` takes a closure that captures nothing.
///
/// ```
/// use tidemill::operator::{HashedKey, ReducingState};
///
/// let mut highest = ReducingState::<u32, i64>::new(|old, new| *old = new.max(*old));
/// for (sensor, level) in [(1, 5), (2, 7), (1, 3)] {
///     highest.add(HashedKey::of(&sensor), level);
/// }
/// assert_eq!(highest.get(HashedKey::of(&1)), Some(&5));
/// ```
pub struct ReducingState<K, V, F = fn(&mut V, V)> {
    values: Flat<K, V>,
    reduce: F,
}

impl<K: Key, V: Data, F: Fn(&mut V, V) + 'static> ReducingState<K, V, F> {
    /// A state without values; `reduce` merges its second argument into the first.
    pub fn new(reduce: F) -> Self {
        ReducingState { values: Flat::new(Ttl::none()), reduce }
    }

    /// As [`new`](Self::new); a key's value expires `ttl` after the last one was added, by the engine's clock.
    ///
    /// A restart may change the TTL, as with [`ValueState::with_ttl`](super::ValueState::with_ttl).
    pub fn with_ttl(ttl: Duration, reduce: F) -> Self {
        ReducingState { values: Flat::new(Ttl::of(ttl)), reduce }
    }

    /// Merges a value into that of a key.
    #[inline]
    pub fn add(&mut self, key: HashedKey<'_, K>, value: V) {
        self.values.put(key, value, &self.reduce);
    }

    /// Returns the reduction for a key.
    #[inline]
    pub fn get(&self, key: HashedKey<'_, K>) -> Option<&V> {
        self.values.get(key)
    }

    /// Removes the value of a key and returns it.
    pub fn remove(&mut self, key: HashedKey<'_, K>) -> Option<V> {
        self.values.remove(key)
    }

    /// Returns how many keys have a value. With a TTL all entries are looked at.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Iterates over all keys of this worker and their values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter()
    }
}

impl<K: Key, V: Data, F: Fn(&mut V, V) + 'static> Held for ReducingState<K, V, F> {
    fn store(&self) -> &dyn Store {
        &self.values
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.values
    }
}

impl<K: Key, V: Data, F: Fn(&mut V, V) + 'static> NamedState for ReducingState<K, V, F> {
    fn kind(&self) -> &'static str {
        "reducing"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<K, V>()
    }
}
