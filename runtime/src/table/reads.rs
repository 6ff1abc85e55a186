//! Reads of tables from any thread, while the query runs.

use std::any::{TypeId, type_name};
use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use tidemill_operators::{Epoch, hash_key};

use super::handle::{TableKey, TableRow};
use super::rows::Of;
use super::runs::Content;
use crate::published::{Board, CurrentBoard, PublishedTable, Snapshot, TablePart};
use crate::query::QueryHandle;

impl QueryHandle {
    /// Returns a reader of the tables that are [queryable](super::Table::queryable), which may be sent to other threads.
    pub fn table_reader(&self) -> TableReader {
        TableReader(Arc::clone(self.published()))
    }

    /// Returns all queryable tables as of the last committed epoch. What is read of them is consistent.
    pub fn tables(&self) -> Tables {
        Tables(self.published().newest())
    }

    /// Returns a queryable table as of the last committed epoch.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if there is no table of that name, or its keys and rows have other types.
    pub fn table<K: TableKey, V: TableRow>(&self, name: &str) -> Result<TableView<K, V>, ReadError> {
        self.tables().table(name)
    }
}

/// Reads the [queryable](super::Table::queryable) tables of a query, from any thread.
///
/// A reader stays valid when the query has ended, and when it starts again after a failure: then the last committed epoch can be
/// read. It takes no lock.
///
/// ```
/// use tidemill::prelude::*;
///
/// let graph = Graph::new("visits");
/// let visits = graph.source(memory([(1u32, "a"), (2, "b"), (1, "c")].map(|(id, page)| (id, page.to_owned()))));
/// let visits = visits.key_by(|visit| visit.0).into_append_table();
/// visits.count().queryable("visits");
/// visits.map(|_, (_, page)| page).top_k(1).queryable("last pages");
///
/// let query = graph.start(Options::default())?;
/// let reader = query.table_reader();
/// let other = std::thread::spawn(move || {
///     // Both tables are of one epoch.
///     let tables = reader.tables();
///     let (visits, pages) = (tables.table::<u32, u64>("visits")?, tables.table::<u32, String>("last pages")?);
///     assert_eq!(visits.get(&1).is_some(), pages.get(&1).is_some());
///     Ok::<_, tidemill::table::ReadError>(reader)
/// });
/// let reader = other.join().unwrap()?;
/// query.wait()?;
/// assert_eq!(reader.table::<u32, u64>("visits")?.scan(10), [(1, 2), (2, 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TableReader(Arc<CurrentBoard>);

impl fmt::Debug for TableReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables().fmt(f)
    }
}

impl TableReader {
    /// That of a run without a handle.
    pub(crate) fn of(board: Option<Arc<Board>>) -> TableReader {
        let current = CurrentBoard::default();
        current.replace(board);
        TableReader(Arc::new(current))
    }

    /// Returns all queryable tables as of the last committed epoch.
    pub fn tables(&self) -> Tables {
        Tables(self.0.newest())
    }

    /// Returns a queryable table as of the last committed epoch.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if there is no table of that name, or its keys and rows have other types.
    pub fn table<K: TableKey, V: TableRow>(&self, name: &str) -> Result<TableView<K, V>, ReadError> {
        self.tables().table(name)
    }

    /// Returns all queryable tables as of an earlier committed epoch.
    ///
    /// By default only the last one is kept, see [`Options::with_table_epochs`](crate::Options::with_table_epochs). Epochs in which
    /// the query committed nothing have no tables.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("prices");
    /// graph.source(memory([(1u32, 3u64), (1, 5)])).key_by(|price| price.0).into_table().queryable("prices");
    /// let query = graph.start(Options::default().with_max_records_per_epoch(1).with_table_epochs(2))?;
    /// let reader = query.table_reader();
    /// query.wait()?;
    /// let epochs = reader.epochs();
    /// assert_eq!(reader.as_of(epochs[0])?.table::<u32, (u32, u64)>("prices")?.get(&1), Some((1, 3)));
    /// assert_eq!(reader.as_of(epochs[1])?.table::<u32, (u32, u64)>("prices")?.get(&1), Some((1, 5)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError::NotRetained`] if the epoch is not committed, or is not kept any more.
    pub fn as_of(&self, epoch: u64) -> Result<Tables, ReadError> {
        let mut retained = self.0.epochs();
        match retained.iter().position(|it| it.epoch == Some(Epoch::new(epoch))) {
            Some(at) => Ok(Tables(retained.swap_remove(at))),
            None => Err(ReadError::NotRetained { epoch, retained: self.epochs() }),
        }
    }

    /// Returns the committed epochs that can be read, oldest first.
    pub fn epochs(&self) -> Vec<u64> {
        self.0.epochs().iter().filter_map(|it| it.epoch).map(Epoch::number).collect()
    }
}

/// The queryable tables of a query as of one epoch. Cheap to clone.
///
/// It never changes while the query runs, and keeps its rows in memory.
#[derive(Clone)]
pub struct Tables(Arc<Snapshot>);

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.tables.iter().map(|table| table.name.as_str()).collect();
        f.debug_struct("Tables").field("epoch", &self.epoch()).field("names", &names).finish()
    }
}

impl Tables {
    /// Returns the epoch; `None` before the first commit: then all tables are empty.
    ///
    /// A query that resumes from a checkpoint has its tables, as of the epoch from which it resumes, once they have been computed
    /// again.
    pub fn epoch(&self) -> Option<u64> {
        self.0.epoch.map(Epoch::number)
    }

    /// Returns the names of the tables, in the order of the graph.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.tables.iter().map(|table| table.name.as_str())
    }

    /// Returns a table.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if there is no table of that name, or its keys and rows have other types.
    pub fn table<K: TableKey, V: TableRow>(&self, name: &str) -> Result<TableView<K, V>, ReadError> {
        let number = self.0.tables.iter().position(|table| table.name == name);
        let Some((number, table)) = number.and_then(|number| Some((number, self.0.tables.get(number)?)))
        else {
            let tables = self.0.tables.iter().map(described).collect();
            return Err(ReadError::NoTable { name: name.to_owned(), tables });
        };
        if table.of != TypeId::of::<(K, V)>() {
            return Err(ReadError::OtherTypes {
                table: described(table),
                location: table.location.clone(),
                asked: (type_name::<K>(), type_name::<V>()),
            });
        }
        Ok(TableView { snapshot: Arc::clone(&self.0), number, of: PhantomData })
    }
}

/// The name and the types of a table.
fn described(table: &PublishedTable) -> String {
    format!("`{}` ({} → {})", table.name, table.types.0, table.types.1)
}

/// A queryable table as of one epoch. Cheap to clone.
///
/// Rows are sorted by key, then by row. A row of several copies is returned once for each.
pub struct TableView<K, V> {
    snapshot: Arc<Snapshot>,
    number: usize,
    of: Of<(K, V)>,
}

impl<K, V> Clone for TableView<K, V> {
    fn clone(&self) -> Self {
        TableView { snapshot: Arc::clone(&self.snapshot), number: self.number, of: PhantomData }
    }
}

impl<K, V> fmt::Debug for TableView<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.snapshot.tables.get(self.number).map(|table| &table.name);
        f.debug_struct("TableView").field("name", &name).field("epoch", &self.snapshot.epoch).finish()
    }
}

impl<K: TableKey, V: TableRow> TableView<K, V> {
    /// Returns the epoch; `None` before the first commit: then the table is empty.
    pub fn epoch(&self) -> Option<u64> {
        self.snapshot.epoch.map(Epoch::number)
    }

    /// Returns the row of a key; of several, the greatest.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let rows = self.found(key);
        rows.into_iter().rev().find(|(_, copies)| *copies > 0).map(|(row, _)| row.clone())
    }

    /// Returns all rows of a key, sorted.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("best three");
    /// let scores = graph.source(memory([4u64, 8, 15, 16, 23, 42])).key_by(|_| "all".to_owned()).into_append_table();
    /// scores.top_k(3).queryable("best");
    /// let query = graph.start(Options::default())?;
    /// let reader = query.table_reader();
    /// query.wait()?;
    /// let best = reader.table::<String, u64>("best")?;
    /// assert_eq!(best.rows("all"), [16, 23, 42]);
    /// assert_eq!(best.get("all"), Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rows<Q>(&self, key: &Q) -> Vec<V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let rows = self.found(key).into_iter();
        rows.flat_map(|(row, copies)| (0..copies).map(move |_| row.clone())).collect()
    }

    /// The rows of a key with the number of their copies, sorted, each once.
    fn found<Q>(&self, key: &Q) -> Vec<(&V, i64)>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        let mut found: Vec<(&V, i64)> = Vec::new();
        let part = self.snapshot.part_of(self.number, hash_key(key)).and_then(content::<K, V>);
        for run in part.iter().flat_map(|part| &part.runs) {
            let from = run.partition_point(|((of, _), _)| of.borrow() < key);
            let rows = run.get(from..).unwrap_or_default();
            let rows = rows.iter().take_while(|((of, _), _)| of.borrow() == key);
            found.extend(rows.map(|((_, row), diff)| (row, *diff)));
        }
        found.sort_unstable_by(|left, right| left.0.cmp(right.0));
        found.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            kept.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        found
    }

    /// Returns whether a key has rows.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.found(key).iter().any(|(_, copies)| *copies > 0)
    }

    /// Returns how many rows there are, without looking at them.
    pub fn len(&self) -> usize {
        let rows: i64 = self.contents().map(|part| part.rows).sum();
        usize::try_from(rows).unwrap_or(0)
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all rows, sorted.
    pub fn iter(&self) -> Rows<'_, K, V> {
        self.range::<K, _>(..)
    }

    /// Returns the rows of a range of keys, sorted.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("squares");
    /// graph.source(memory(0..100u32)).key_by(|n| *n).into_table().map(|n, _| n * n).queryable("squares");
    /// let query = graph.start(Options::default())?;
    /// let reader = query.table_reader();
    /// query.wait()?;
    /// let squares = reader.table::<u32, u32>("squares")?;
    /// assert_eq!(squares.range(10..12).collect::<Vec<_>>(), [(&10, &100), (&11, &121)]);
    /// assert_eq!(squares.range(98..).count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range<Q, R>(&self, keys: R) -> Rows<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        R: RangeBounds<Q>,
    {
        let mut rows = Rows { runs: Vec::new(), least: BinaryHeap::new(), row: None, copies: 0 };
        for run in self.contents().flat_map(|part| &part.runs) {
            let from = run.partition_point(|((key, _), _)| match keys.start_bound() {
                Bound::Included(from) => key.borrow() < from,
                Bound::Excluded(from) => key.borrow() <= from,
                Bound::Unbounded => false,
            });
            let until = run.partition_point(|((key, _), _)| match keys.end_bound() {
                Bound::Included(until) => key.borrow() <= until,
                Bound::Excluded(until) => key.borrow() < until,
                Bound::Unbounded => true,
            });
            rows.runs.push(run.get(from..until).unwrap_or_default().iter());
        }
        (0..rows.runs.len()).for_each(|run| rows.pull(run));
        rows
    }

    /// Returns the first rows, at most `limit`, sorted.
    pub fn scan(&self, limit: usize) -> Vec<(K, V)> {
        self.iter().take(limit).map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    fn contents(&self) -> impl Iterator<Item = &Content<K, V>> {
        self.snapshot.parts(self.number).iter().flatten().filter_map(content::<K, V>)
    }
}

/// The types have been compared when the view was made.
fn content<K: TableKey, V: TableRow>(part: &TablePart) -> Option<&Content<K, V>> {
    part.downcast_ref()
}

/// The rows of a [table](TableView), sorted by key and row.
pub struct Rows<'a, K, V> {
    runs: Vec<std::slice::Iter<'a, ((K, V), i64)>>,
    /// The next row of each run.
    least: BinaryHeap<Reverse<(&'a (K, V), usize, i64)>>,
    /// The row of which there are more copies to return.
    row: Option<&'a (K, V)>,
    copies: i64,
}

impl<K, V> fmt::Debug for Rows<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("runs", &self.runs.len()).finish_non_exhaustive()
    }
}

impl<K: Ord, V: Ord> Rows<'_, K, V> {
    /// Takes the next row of a run.
    fn pull(&mut self, run: usize) {
        if let Some((row, diff)) = self.runs.get_mut(run).and_then(Iterator::next) {
            self.least.push(Reverse((row, run, *diff)));
        }
    }
}

impl<'a, K: Ord, V: Ord> Iterator for Rows<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        while self.copies <= 0 {
            let Reverse((row, run, diff)) = self.least.pop()?;
            self.pull(run);
            (self.row, self.copies) = (Some(row), diff);
            while let Some(Reverse((next, run, diff))) = self.least.peek().filter(|next| next.0.0 == row) {
                debug_assert!(*next == row);
                let (run, diff) = (*run, *diff);
                self.least.pop();
                self.pull(run);
                self.copies += diff;
            }
        }
        self.copies -= 1;
        self.row.map(|(key, row)| (key, row))
    }
}

/// Why a table cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The query publishes no table of that name.
    #[error("no table is queryable as `{name}`: {}", others(tables))]
    NoTable {
        /// The name.
        name: String,
        /// The tables that are queryable: name, type of the keys and type of the rows.
        tables: Vec<String>,
    },
    /// Keys or rows have other types.
    #[error(
        "the table {table}, made queryable at {location}, cannot be read as ({} → {}): call `table::<K, V>` with its types",
        asked.0,
        asked.1
    )]
    OtherTypes {
        /// The table: name, type of the keys and type of the rows.
        table: String,
        /// The user's file and line at which it is made queryable.
        location: String,
        /// The types of keys and rows that the reader asked for.
        asked: (&'static str, &'static str),
    },
    /// The epoch cannot be read.
    #[error("epoch {epoch} cannot be read: {}", epochs(retained))]
    NotRetained {
        /// The epoch.
        epoch: u64,
        /// The epochs that can be read.
        retained: Vec<u64>,
    },
}

fn others(tables: &[String]) -> String {
    match tables {
        [] => "the query has no queryable tables; call `.queryable(name)` on a table before it starts"
            .to_owned(),
        tables => format!("the query has {}", tables.join(", ")),
    }
}

fn epochs(retained: &[u64]) -> String {
    match retained {
        [] => "nothing has been committed yet".to_owned(),
        [only] => format!("only epoch {only} can; --table-epochs keeps more of them"),
        [first, .., last] => format!("those from {first} to {last} can; --table-epochs keeps more of them"),
    }
}
