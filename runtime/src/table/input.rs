//! From streams to tables.

use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use tidemill_operators::build::{Append, ByKey};
use tidemill_operators::stream::{Chain, Keying};
use tidemill_operators::table::{InputPlace, InputStreams, append, changelog, latest, newest, recent};
use tidemill_operators::{Data, HasEventTime, KeyedStream, RowChange};

use super::handle::{Table, TableKey, TableRow};
use super::region::{At, Part, Region};
use super::rows::Of;
use super::ticks::entry;
use crate::engine::Edge;
use crate::error::RunError;

/// Makes tables of a keyed stream.
pub trait IntoTable<K: TableKey, T: Data>: Sized {
    /// Whether the stream has event times: what [`HasEventTime`] asks.
    #[doc(hidden)]
    type Time;

    /// Returns a table of the newest row of each key.
    ///
    /// Takes inserts and upserts. The last row of a key is the newest one, in the order in which rows arrive; this order is
    /// defined only among the rows of a partition, so those of a key should be in one.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("prices");
    /// let prices = graph.source(memory([("tea", 3u64), ("salt", 1), ("tea", 4)].map(|(name, price)| (name.to_owned(), price))));
    /// let (sink, rows) = memory_sink();
    /// prices.key_by(|price| price.0.clone()).into_table().complete().map(|(_, price)| price).sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [("salt".to_owned(), 1), ("tea".to_owned(), 4)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn into_table(self) -> Table<K, T>
    where
        T: TableRow,
    {
        self.into_table_with(Some)
    }

    /// As [`into_table`](Self::into_table) with the row that `value` returns; `None` deletes the key.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("sessions");
    /// let logins = graph.source(memory([(1u32, true), (2, true), (1, false)]));
    /// let (sink, rows) = memory_sink();
    /// logins.key_by(|login| login.0).into_table_with(|(_, is_in)| is_in.then_some(())).complete().sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(rows.snapshot(), [(2, ())]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn into_table_with<V, F>(self, value: F) -> Table<K, V>
    where
        V: TableRow,
        F: Fn(T) -> Option<V> + Clone + Send + Sync + 'static;

    /// Returns a table of all rows, which grows with each.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("visits");
    /// let (sink, rows) = memory_sink();
    /// graph.source(memory([(1u32, 7u32), (2, 7), (1, 7)])).key_by(|it| it.0).into_append_table().count().complete().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(1, 2), (2, 1)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn into_append_table(self) -> Table<K, T>
    where
        T: TableRow;

    /// Returns a table of the `count` newest rows of each key.
    ///
    /// The newest rows are those that arrive last; this order is defined only among the rows of a partition, so those of a key
    /// should be in one. A restart with another `count` is refused.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("last two prices");
    /// let (sink, rows) = memory_sink();
    /// let prices = graph.source(memory([(1u32, 30u64), (1, 31), (2, 7), (1, 29)])).key_by(|price| price.0);
    /// prices.into_newest_table(2).map(|_, price| price.1).complete().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(1, 29), (1, 31), (2, 7)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn into_newest_table(self, count: usize) -> Table<K, T>
    where
        T: TableRow;

    /// Returns a table of the rows of the last `span` of event time.
    ///
    /// A row is deleted when the watermark reaches its event time plus `span`. A row that comes later than that is counted as late
    /// and left out. When the input ends, the table keeps its rows. A restart with another `span` is refused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("visits of the last minute");
    /// let (sink, rows) = memory_sink();
    /// let visits = graph.source(memory([("tea", 0i64), ("tea", 30), ("salt", 70), ("tea", 80)])); // (page, second)
    /// let visits = visits.map(|(page, second)| (page.to_owned(), second));
    /// visits
    ///     .with_watermark(|visit| EventTime::from_secs(visit.1), Duration::ZERO)
    ///     .key_by(|visit| visit.0.clone())
    ///     .into_recent_table(Duration::from_secs(60))
    ///     .count()
    ///     .complete()
    ///     .sink(sink);
    /// // An epoch for each record: the watermark advances between epochs.
    /// graph.run(Options::default().with_max_records_per_epoch(1))?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [("salt".to_owned(), 1), ("tea".to_owned(), 2)]); // those of 30 s, 70 s and 80 s
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn into_recent_table(self, span: Duration) -> Table<K, T>
    where
        T: TableRow,
        Self::Time: HasEventTime;
}

/// Makes a table of a keyed stream of changes.
pub trait IntoChangelogTable<K: TableKey, V: TableRow>: Sized {
    /// Returns the table to which the changes belong.
    ///
    /// A change that deletes a row that is not there ends the query with an error. The changes of a row have an order only
    /// among those of a partition, so they should be in one.
    ///
    /// ```
    /// use tidemill::RowChange;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("stock");
    /// let log = [RowChange::insert((1u32, "tea")), RowChange::insert((2, "salt")), RowChange::delete((1, "tea"))];
    /// let log = log.map(|change| RowChange { row: (change.row.0, change.row.1.to_owned()), diff: change.diff });
    /// let (sink, rows) = memory_sink();
    /// graph.source(memory(log)).as_changes().key_by(|change| change.row.0).into_changelog_table().count().complete().sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(rows.snapshot(), [(2, 1)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn into_changelog_table(self) -> Table<K, V>;
}

impl<K, T, P, Y> IntoTable<K, T> for KeyedStream<K, T, P, Y>
where
    K: TableKey,
    T: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = T>,
    (): Append<ByKey<K, T>, All = (ByKey<K, T>,)>,
{
    type Time = P::Time;

    #[track_caller]
    fn into_table_with<V, F>(self, value: F) -> Table<K, V>
    where
        V: TableRow,
        F: Fn(T) -> Option<V> + Clone + Send + Sync + 'static,
    {
        entered(latest(self, here("into_table"), value), true)
    }

    #[track_caller]
    fn into_append_table(self) -> Table<K, T>
    where
        T: TableRow,
    {
        entered(append(self, here("into_append_table")), false)
    }

    #[track_caller]
    fn into_newest_table(self, count: usize) -> Table<K, T>
    where
        T: TableRow,
    {
        entered(newest(self, here("into_newest_table"), count), count == 1)
    }

    #[track_caller]
    fn into_recent_table(self, span: Duration) -> Table<K, T>
    where
        T: TableRow,
        P::Time: HasEventTime,
    {
        entered(recent(self, here("into_recent_table"), span), false)
    }
}

impl<K, V, P, Y> IntoChangelogTable<K, V> for KeyedStream<K, RowChange<V>, P, Y>
where
    K: TableKey,
    V: TableRow,
    RowChange<V>: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = RowChange<V>>,
    (): Append<ByKey<K, RowChange<V>>, All = (ByKey<K, RowChange<V>>,)>,
{
    #[track_caller]
    fn into_changelog_table(self) -> Table<K, V> {
        entered(changelog(self, here("into_changelog_table")), false)
    }
}

#[track_caller]
fn here(op: &'static str) -> InputPlace {
    InputPlace { op, location: Location::caller() }
}

/// The table of an input.
#[track_caller]
fn entered<K: TableKey, V: TableRow>((changes, loads): InputStreams<K, V>, is_unique: bool) -> Table<K, V> {
    let input = Some(changes.clone());
    let builder = changes.graph().operator("table").local(changes).local(loads);
    Table { input, ..Table::made(builder, is_unique, Entry::<K, V>(PhantomData)) }
}

/// The way into the region.
struct Entry<K, V>(Of<(K, V)>);

impl<K: TableKey, V: TableRow> Part for Entry<K, V> {
    fn build<'s>(&self, mut at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let changes = region.enter(at.outside(0)?);
        let loads = region.enter(at.outside(1)?);
        let updates = entry::<K, V>(changes, loads, &at.host, &region.ticks, at.node);
        region.keep(&at, updates, true);
        Ok(Vec::new())
    }
}
