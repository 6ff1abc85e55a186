//! A sorted map that does not belong to keys: the same on every worker, or on one.

use std::ops::RangeBounds;
use std::time::Duration;

use super::life::Ttl;
use super::nested::{Nested, UserKey};
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::Data;
use crate::schema::StateSchema;

/// A map that belongs to no key: Flink's broadcast state, and the state of inputs that one worker takes.
///
/// What a broadcast input puts here has to be the same on every worker, so changes may depend on that input alone. The
/// worker that owns key group 0 writes it; a restart restores it on every worker.
///
/// ```
/// use tidemill::operator::SharedState;
///
/// let mut rates = SharedState::<String, f64>::new();
/// rates.insert("EUR".to_owned(), 1.0);
/// rates.insert("USD".to_owned(), 1.1);
/// assert_eq!(rates.get(&"USD".to_owned()), Some(&1.1));
/// ```
pub struct SharedState<U, V>(Nested<(), U, V>);

/// The key of everything that belongs to no key.
fn no_key() -> HashedKey<'static, ()> {
    HashedKey::of(&())
}

impl<U: UserKey, V: Data> SharedState<U, V> {
    /// An empty map, whose entries are kept until they are removed.
    #[expect(clippy::new_without_default, reason = "a state is declared by what it is")]
    pub fn new() -> Self {
        SharedState::expiring(Ttl::none())
    }

    /// An empty map; each entry expires `ttl` after its last write, by the engine's clock.
    ///
    /// A restart may change the TTL, as with [`ValueState::with_ttl`](super::ValueState::with_ttl).
    pub fn with_ttl(ttl: Duration) -> Self {
        SharedState::expiring(Ttl::of(ttl))
    }

    fn expiring(ttl: Ttl) -> Self {
        let mut entries = Nested::new(ttl);
        entries.share(true);
        SharedState(entries)
    }

    /// Returns the value of an entry.
    #[inline]
    pub fn get(&self, user: &U) -> Option<&V> {
        self.0.get(no_key(), user)
    }

    /// Returns the value of an entry to be changed. This is a write.
    #[inline]
    pub fn get_mut(&mut self, user: &U) -> Option<&mut V> {
        self.0.get_mut(no_key(), user)
    }

    /// Sets the value of an entry; returns the one that it had.
    pub fn insert(&mut self, user: U, value: V) -> Option<V> {
        self.0.insert(no_key(), user, value)
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, user: &U) -> Option<V> {
        self.0.remove(no_key(), user)
    }

    /// Iterates over the entries, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&U, &V)> {
        self.0.range(no_key(), ..)
    }

    /// Iterates over the entries in a range, in order. A range that is the wrong way round is empty.
    pub fn range(&self, range: impl RangeBounds<U>) -> impl DoubleEndedIterator<Item = (&U, &V)> {
        self.0.range(no_key(), range)
    }

    /// Removes the entries in a range that `keep` does not want.
    pub fn retain_range(&mut self, range: impl RangeBounds<U>, keep: impl FnMut(&U, &V) -> bool) {
        self.0.retain_range(no_key(), range, keep);
    }

    /// Removes the entries in a range and returns them, in order.
    pub fn drain_range(&mut self, range: impl RangeBounds<U>) -> Vec<(U, V)> {
        self.0.drain_range(no_key(), range)
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.0.retain_range(no_key(), .., |_, _| false);
    }

    /// Returns how many entries there are. With a TTL all are looked at.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<U: UserKey, V: Data> Held for SharedState<U, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<U: UserKey, V: Data> NamedState for SharedState<U, V> {
    fn kind(&self) -> &'static str {
        "shared"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<((), U), V>()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn set_writer(&mut self, writes: bool) {
        self.0.share(writes);
    }
}
