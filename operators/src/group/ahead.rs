//! Looking ahead, where state is larger than the caches: the next few keys' entries are fetched before the first of them
//! is looked up, so that the records wait for memory together and not one after the other.
//!
//! Done where a record is copied without effort. No record waits longer than for the end of its batch.

use crate::EventTime;
use crate::key::is_plain;
use crate::state::Reach;

/// A record on its way: hash, key, event time, value.
pub(super) type Coming<K, V> = (u64, K, EventTime, V);

/// Records whose entries have been asked for.
pub(super) struct Ahead<K, V> {
    coming: Vec<Coming<K, V>>,
    reach: Reach,
}

impl<K, V> Ahead<K, V> {
    /// Whether such records can be materialised and read again for less than it saves.
    pub(super) const PAYS: bool = is_plain::<K>() && is_plain::<V>();

    pub(super) fn new(reach: Reach) -> Self {
        Ahead { coming: Vec::with_capacity(Reach::AHEAD), reach }
    }

    /// Asks for the entry of a record; says whether it is time to [take](Self::take) all of them.
    #[inline(always)]
    pub(super) fn put(&mut self, hash: u64, key: K, time: EventTime, value: V) -> bool {
        self.reach.fetch(hash);
        self.coming.push((hash, key, time, value));
        self.coming.len() == Reach::AHEAD
    }

    /// Hash and key of each record, in the order in which they came.
    pub(super) fn keys(&self) -> impl Iterator<Item = (u64, &K)> {
        self.coming.iter().map(|(hash, key, ..)| (*hash, key))
    }

    /// The records, in the order in which they came.
    #[inline(always)]
    pub(super) fn take(&mut self) -> impl Iterator<Item = Coming<K, V>> {
        self.coming.drain(..)
    }

    /// After [`take`](Self::take): the table may have grown, and be elsewhere.
    #[inline(always)]
    pub(super) fn moved(&mut self, reach: Option<Reach>) {
        self.reach = reach.unwrap_or(self.reach);
    }
}
