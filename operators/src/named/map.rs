//! A sorted map for each key.

use std::ops::RangeBounds;
use std::time::Duration;

use super::life::Ttl;
use super::nested::{Nested, UserKey};
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Data, Key};

/// A map for each key that has entries, sorted by a key of the user's: Flink's `MapState`.
///
/// Entries are written and removed one by one. With event times as keys, a join reads or evicts a range of the map.
///
/// ```
/// use tidemill::operator::{HashedKey, MapState};
/// use tidemill::prelude::*;
///
/// let mut orders = MapState::<u32, EventTime, String>::new();
/// let key = HashedKey::of(&7);
/// for second in [10, 20, 30] {
///     orders.insert(key, EventTime::from_secs(second), format!("at {second}"));
/// }
/// let late: Vec<_> = orders.range(key, EventTime::from_secs(15)..).map(|(_, order)| order).collect();
/// assert_eq!(late, ["at 20", "at 30"]);
/// orders.retain_range(key, ..EventTime::from_secs(25), |_, _| false);
/// assert_eq!(orders.iter_of(key).count(), 1);
/// ```
pub struct MapState<K, U, V>(Nested<K, U, V>);

impl<K: Key, U: UserKey, V: Data> MapState<K, U, V> {
    /// A state without maps, whose entries are kept until they are removed.
    #[expect(clippy::new_without_default, reason = "a state is declared by what it is")]
    pub fn new() -> Self {
        MapState(Nested::new(Ttl::none()))
    }

    /// A state without maps; each entry expires `ttl` after its last write, by the engine's clock.
    ///
    /// A restart may change the TTL, as with [`ValueState::with_ttl`](super::ValueState::with_ttl).
    pub fn with_ttl(ttl: Duration) -> Self {
        MapState(Nested::new(Ttl::of(ttl)))
    }

    /// Returns the value of an entry.
    #[inline]
    pub fn get(&self, key: HashedKey<'_, K>, user: &U) -> Option<&V> {
        self.0.get(key, user)
    }

    /// Returns the value of an entry to be changed. This is a write.
    #[inline]
    pub fn get_mut(&mut self, key: HashedKey<'_, K>, user: &U) -> Option<&mut V> {
        self.0.get_mut(key, user)
    }

    /// Sets the value of an entry; returns the one that it had.
    #[inline]
    pub fn insert(&mut self, key: HashedKey<'_, K>, user: U, value: V) -> Option<V> {
        self.0.insert(key, user, value)
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, key: HashedKey<'_, K>, user: &U) -> Option<V> {
        self.0.remove(key, user)
    }

    /// Whether the map of a key has no entries.
    pub fn is_vacant(&self, key: HashedKey<'_, K>) -> bool {
        self.iter_of(key).next().is_none()
    }

    /// Iterates over the map of a key, in order.
    pub fn iter_of(&self, key: HashedKey<'_, K>) -> impl DoubleEndedIterator<Item = (&U, &V)> {
        self.0.range(key, ..)
    }

    /// Iterates over a range of the map of a key, in order. A range that is the wrong way round is empty.
    pub fn range(
        &self,
        key: HashedKey<'_, K>,
        range: impl RangeBounds<U>,
    ) -> impl DoubleEndedIterator<Item = (&U, &V)> {
        self.0.range(key, range)
    }

    /// Removes the entries in a range of a key's map that `keep` does not want.
    pub fn retain_range(
        &mut self,
        key: HashedKey<'_, K>,
        range: impl RangeBounds<U>,
        keep: impl FnMut(&U, &V) -> bool,
    ) {
        self.0.retain_range(key, range, keep);
    }

    /// Removes the entries in a range of a key's map and returns them, in order.
    pub fn drain_range(&mut self, key: HashedKey<'_, K>, range: impl RangeBounds<U>) -> Vec<(U, V)> {
        self.0.drain_range(key, range)
    }

    /// Removes the map of a key.
    pub fn clear(&mut self, key: HashedKey<'_, K>) {
        self.0.retain_range(key, .., |_, _| false);
    }

    /// Returns how many entries all maps have. With a TTL all are looked at.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key has a map.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Iterates over the maps of all keys of this worker: keys in no order, the entries of a key in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &U, &V)> {
        self.0.iter()
    }
}

impl<K: Key, U: UserKey, V: Data> Held for MapState<K, U, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<K: Key, U: UserKey, V: Data> NamedState for MapState<K, U, V> {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, U), V>()
    }
}
