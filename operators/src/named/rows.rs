//! A table of rows by key that is replaced as a whole: the static side of a join.

use std::collections::HashMap;

use super::life::Ttl;
use super::nested::Nested;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::keeping::keep;
use crate::schema::StateSchema;
use crate::{Data, Key, OperatorError};

/// Rows for each key, in the order in which they were loaded; either those of the worker's keys, or all of them on every
/// worker. In a checkpoint it is a map.
pub(crate) struct LoadedRows<K, V> {
    rows: Nested<K, u32, V>,
    is_shared: bool,
}

impl<K: Key, V: Data> LoadedRows<K, V> {
    /// Without rows. Where it `is_shared`, every worker has all of them, and one writes them.
    pub(crate) fn new(is_shared: bool) -> Self {
        let mut rows = Nested::new(Ttl::none());
        if is_shared {
            rows.share(true);
        }
        LoadedRows { rows, is_shared }
    }

    /// Returns the rows of a key.
    #[inline]
    pub(crate) fn get(&self, key: HashedKey<'_, K>) -> impl Iterator<Item = &V> {
        self.rows.range(key, ..).map(|(_, row)| row)
    }

    /// Replaces the rows. Those that stay the same, to the last byte of what a checkpoint has of them, are no changes.
    pub(crate) fn replace<'r>(
        &mut self,
        rows: impl Iterator<Item = (HashedKey<'r, K>, &'r V)>,
    ) -> Result<(), OperatorError>
    where
        V: Clone,
    {
        let mut counts: HashMap<&K, u32> = HashMap::new();
        for (key, row) in rows {
            let number = counts.entry(key.key).or_default();
            let is_same = match self.rows.get(key, number) {
                Some(before) => bytes(before)? == bytes(row)?,
                None => false,
            };
            if !is_same {
                self.rows.insert(key, *number, keep(|| row.clone()));
            }
            *number = number.saturating_add(1);
        }
        let is_gone = |(key, number): (&K, &u32)| counts.get(key).is_none_or(|count| number >= count);
        let gone: Vec<(K, u32)> = self
            .rows
            .iter()
            .filter(|(key, number, _)| is_gone((key, number)))
            .map(|(key, number, _)| (key.clone(), *number))
            .collect();
        for (key, number) in gone {
            self.rows.remove(HashedKey::of(&key), &number);
        }
        Ok(())
    }
}

fn bytes<V: Data>(value: &V) -> Result<Vec<u8>, OperatorError> {
    postcard::to_allocvec(value).map_err(OperatorError::Codec)
}

impl<K: Key, V: Data> Held for LoadedRows<K, V> {
    fn store(&self) -> &dyn Store {
        &self.rows
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.rows
    }
}

impl<K: Key, V: Data> NamedState for LoadedRows<K, V> {
    fn kind(&self) -> &'static str {
        if self.is_shared { "shared" } else { "map" }
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, u32), V>()
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn set_writer(&mut self, writes: bool) {
        if self.is_shared {
            self.rows.share(writes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(rows: &mut LoadedRows<u8, char>, with: &[(u8, char)]) {
        rows.replace(with.iter().map(|(key, row)| (HashedKey::of(key), row))).unwrap();
    }

    fn of(rows: &LoadedRows<u8, char>, key: u8) -> String {
        rows.get(HashedKey::of(&key)).collect()
    }

    #[test]
    fn replaced_rows_are_those_that_were_loaded_last() {
        let mut rows = LoadedRows::new(false);
        replace(&mut rows, &[(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')]);
        assert_eq!([1, 2, 3, 4].map(|key| of(&rows, key)), ["ac", "b", "d", ""]);
        replace(&mut rows, &[(1, 'c'), (3, 'd'), (3, 'e')]);
        assert_eq!([1, 2, 3, 4].map(|key| of(&rows, key)), ["c", "", "de", ""]);
        replace(&mut rows, &[]);
        assert_eq!(rows.rows(), 0);
    }

    #[test]
    fn row_that_stays_the_same_is_no_change() {
        let mut rows = LoadedRows::new(false);
        rows.track();
        replace(&mut rows, &[(1, 'a'), (2, 'b')]);
        assert_eq!(rows.unsaved(), 2);
        rows.snapshot("rows", &mut crate::SnapshotWriter::new()).unwrap();
        replace(&mut rows, &[(2, 'b'), (1, 'z')]);
        assert_eq!(rows.unsaved(), 1);
    }
}
