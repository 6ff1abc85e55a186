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
/// Elements are written and removed one by one: an epoch that adds one to a list of 100,000 writes one.
///
/// ```
/// use tidemill_operators::named::{HashedKey, ListState};
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
        self.0.push(key, value, |last| last.map_or(0, |last| last.saturating_add(1)));
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
