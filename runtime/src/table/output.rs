//! From tables to streams.

use std::panic::Location;

use tidemill_operators::build::{Changes, Output, Rows, Upserts};
use tidemill_operators::table::{ContentChange, InputPlace, complete, content};
use tidemill_operators::{Batch, RowChange, Stream};

use super::exit::{Leaving, TickChanges, exit};
use super::handle::{INSERTS, Table, TableKey, TableRow, lowering};
use super::region::{At, Part, Region};
use crate::engine::Edge;
use crate::error::RunError;

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Returns the changes of the table: rows that are added and removed.
    ///
    /// In micro-batch they are those of an epoch, each row once. In continuous mode they come as soon as they are computed.
    /// After a restart there are none for the rows that were there before. The stream has no event time.
    ///
    /// ```
    /// use tidemill::RowChange;
    /// use tidemill::prelude::*;
    /// use tidemill::testing::collecting_sink;
    ///
    /// let graph = Graph::new("prices");
    /// let prices = graph.source(memory([(1u32, 3u64), (1, 4)])).key_by(|price| price.0).into_table();
    /// let (sink, rows) = collecting_sink();
    /// prices.map(|_, price| price.1).changes().sink(sink);
    /// // The second record, in an epoch of its own, replaces the first.
    /// graph.run(Options::default().with_max_records_per_epoch(1))?;
    /// assert_eq!(rows.committed(), [RowChange::insert((1, 3)), RowChange::delete((1, 3)), RowChange::insert((1, 4))]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn changes(&self) -> Stream<RowChange<(K, V)>> {
        self.leaves::<Changes<(K, V)>>("changes", Leaving { rows: row_changes, emits_load: false }, None)
    }

    /// Returns the newest row of each key that changes; `None` once a key has no row.
    ///
    /// The table must have at most one row of a key, as tables of [`into_table`](super::IntoTable::into_table), `group` and `count`
    /// have. Otherwise the graph is refused.
    #[track_caller]
    pub fn upserts(&self) -> Stream<(K, Option<V>)> {
        let problem = (!self.is_unique).then_some(
            "its table may have several rows of a key, and an upsert replaces all of them: use `changes()`, or make one row of them \
             first, with `group` or `top_k(1)`",
        );
        self.leaves::<Upserts<(K, Option<V>)>>(
            "upserts",
            Leaving { rows: newest, emits_load: false },
            problem,
        )
    }

    /// Returns all rows of the table, at the end of each epoch.
    #[track_caller]
    pub fn complete(&self) -> Stream<(K, V)> {
        let place = InputPlace { op: "complete", location: Location::caller() };
        let changes =
            self.leaves::<Changes<(K, V)>>("rows", Leaving { rows: row_changes, emits_load: true }, None);
        complete(changes, place)
    }

    /// Adds the way out of the region, and the checksum of what leaves.
    #[track_caller]
    fn leaves<O: Output>(
        &self,
        op: &'static str,
        leaving: Leaving<K, V>,
        problem: Option<&str>,
    ) -> O::Stream {
        let by = self.part(op);
        let by = match problem {
            Some(problem) => by.problem(problem.to_owned()),
            None => by,
        };
        let (rows, sums) = by.part::<(O, Rows<ContentChange>)>(INSERTS, lowering(Exit { leaving }));
        content(sums, InputPlace { op: "content", location: Location::caller() }, self.edge.node_uid());
        rows
    }
}

struct Exit<K, V> {
    leaving: Leaving<K, V>,
}

impl<K: TableKey, V: TableRow> Part for Exit<K, V> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let updates = region.placed::<K, V>(&at, 0)?;
        let leaving = Leaving { rows: self.leaving.rows, emits_load: self.leaving.emits_load };
        Ok(exit(updates, &at, region, leaving))
    }
}

fn row_changes<K: TableKey, V: TableRow>(changes: TickChanges<K, V>) -> Batch {
    let changes = changes.into_iter().map(|(row, diff)| RowChange { row, diff });
    Batch::from_vec(changes.collect::<Vec<RowChange<(K, V)>>>())
}

/// The row that is added of each key; none if rows are only removed.
fn newest<K: TableKey, V: TableRow>(changes: TickChanges<K, V>) -> Batch {
    let mut newest: Vec<(K, Option<V>)> = Vec::with_capacity(changes.len());
    for ((key, row), diff) in changes {
        let row = (diff > 0).then_some(row);
        match newest.last_mut() {
            Some((last, of_last)) if *last == key => *of_last = row.or(of_last.take()),
            _ => newest.push((key, row)),
        }
    }
    Batch::from_vec(newest)
}
