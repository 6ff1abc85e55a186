//! Tables of other rows: `map`, `filter`, `rekey`. They keep nothing.

use std::sync::Arc;

use super::handle::{Table, TableKey, TableRow};
use super::region::{At, Part, Region};
use super::rows::{each, map_rows};
use super::time::Tick;
use crate::engine::Edge;
use crate::error::RunError;

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Returns a table of the rows that `function` makes, under the same keys.
    ///
    /// `function` must return the same for the same row: it is called again when a row is removed, and after a restart.
    #[track_caller]
    pub fn map<W, F>(&self, function: F) -> Table<K, W>
    where
        W: TableRow,
        F: Fn(&K, V) -> W + Send + Sync + 'static,
    {
        let function = move |key: K, row| {
            let row = function(&key, row);
            Some((key, row))
        };
        Table::made(
            self.part("map"),
            self.is_unique,
            Mapped::<K, V, K, W> { function: Arc::new(function), keeps_key: true },
        )
    }

    /// Returns a table of the rows for which `predicate` returns `true`.
    ///
    /// `predicate` must return the same for the same row.
    #[track_caller]
    pub fn filter<F>(&self, predicate: F) -> Table<K, V>
    where
        F: Fn(&K, &V) -> bool + Send + Sync + 'static,
    {
        let function = move |key: K, row: V| predicate(&key, &row).then_some((key, row));
        Table::made(
            self.part("filter"),
            self.is_unique,
            Mapped { function: Arc::new(function), keeps_key: true },
        )
    }

    /// Returns a table of other rows under other keys.
    ///
    /// `function` must return the same for the same row. The rows go to the workers of their new keys once an operator needs
    /// them there.
    #[track_caller]
    pub fn rekey<K2, W, F>(&self, function: F) -> Table<K2, W>
    where
        K2: TableKey,
        W: TableRow,
        F: Fn(K, V) -> (K2, W) + Send + Sync + 'static,
    {
        let function = move |key, row| Some(function(key, row));
        Table::made(self.part("rekey"), false, Mapped { function: Arc::new(function), keeps_key: false })
    }
}

struct Mapped<K, V, K2, W> {
    function: Arc<dyn Fn(K, V) -> Option<(K2, W)> + Send + Sync>,
    keeps_key: bool,
}

impl<K: TableKey, V: TableRow, K2: TableKey, W: TableRow> Part for Mapped<K, V, K2, W> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let (updates, is_placed) = region.updates(&at, 0)?;
        let function = Arc::clone(&self.function);
        let step = map_rows::<K, V, K2, W, Tick>(move |key, row| function(key, row));
        let mapped = each(updates, &at.host, &at.node.label(), step);
        region.keep(&at, mapped, is_placed && self.keeps_key);
        Ok(Vec::new())
    }
}
