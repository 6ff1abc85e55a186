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
/// A look-up costs one probe of a hash table, an update of a key that is there no more than that.
///
/// ```
/// use tidemill_operators::named::{HashedKey, ValueState};
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
    /// A restart may change the TTL: it holds for values that were written before it, by the time of their last write.
    /// Values that were written without a TTL count from the restart.
    pub fn with_ttl(ttl: Duration) -> Self {
        ValueState(Flat::new(Ttl::of(ttl)))
    }

    /// Returns the value of a key.
    #[inline]
    pub fn get(&self, key: HashedKey<'_, K>) -> Option<&V> {
        self.0.get(key)
    }

    /// Returns the value of a key to be changed. This is a write.
    #[inline]
    pub fn get_mut(&mut self, key: HashedKey<'_, K>) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Returns the value of a key to be changed, made first if there is none. This is a write.
    #[inline]
    pub fn get_or_insert_with(&mut self, key: HashedKey<'_, K>, make: impl FnOnce() -> V) -> &mut V {
        self.0.get_or_insert_with(key, make)
    }

    /// Sets the value of a key; returns the one that it had.
    #[inline]
    pub fn insert(&mut self, key: HashedKey<'_, K>, value: V) -> Option<V> {
        self.0.put(key, value, std::mem::replace)
    }

    /// Removes the value of a key and returns it.
    pub fn remove(&mut self, key: HashedKey<'_, K>) -> Option<V> {
        self.0.remove(key)
    }

    /// Returns how many keys have a value. With a TTL all entries are looked at.
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
