//! Rows of several keys, gathered by key until a function takes those of each at once.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::EventTime;
use crate::build::Dealt;
use crate::named::HashedKey;

/// The rows of a key, in the order in which they came.
pub(super) struct Group<K, T> {
    pub(super) hash: u64,
    pub(super) key: K,
    /// The latest event time of a row.
    pub(super) latest: EventTime,
    pub(super) rows: Vec<T>,
}

pub(super) struct Gathered<K, T> {
    groups: HashTable<Group<K, T>>,
}

impl<K: Eq, T> Gathered<K, T> {
    pub(super) fn new() -> Self {
        Gathered { groups: HashTable::new() }
    }

    pub(super) fn push(&mut self, row: Dealt<K, T>) {
        let Dealt { hash, key, time, value } = row;
        match self.groups.entry(hash, |group| group.key == key, |group| group.hash) {
            Entry::Occupied(mut slot) => {
                let group = slot.get_mut();
                group.latest = group.latest.max(time);
                group.rows.push(value);
            }
            Entry::Vacant(slot) => {
                slot.insert(Group { hash, key, latest: time, rows: vec![value] });
            }
        }
    }

    /// Takes out the rows of a key.
    pub(super) fn take(&mut self, key: HashedKey<'_, K>) -> Vec<T> {
        match self.groups.find_entry(key.hash, |group| group.key == *key.key) {
            Ok(slot) => slot.remove().0.rows,
            Err(_) => Vec::new(),
        }
    }

    /// Takes out all groups. Their order depends on their keys.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Group<K, T>> + use<K, T> {
        std::mem::take(&mut self.groups).into_iter()
    }
}
