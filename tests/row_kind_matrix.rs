//! Every kind of rows with every consumer, and changes from an operator of one's own to a sink of one's own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::vec::Drain;

use tidemill::connectors::{
    at_commit, channel_sink, console, csv_dir, csv_sink, discard, for_each, for_each_epoch, json_lines_dir,
    json_lines_sink, memory, memory_sink,
};
use tidemill::operator::{Changes, Dealt, Rows, Snapshots, StatefulOperator, Takes, To, Upserts, ValueState};
use tidemill::operator::{HashedKey, States};
use tidemill::table::{IntoChangelogTable, IntoTable};
use tidemill::{
    Either, Epoch, EventTime, Graph, OperatorError, RowChange, RowKind, Sink, SinkError, StaticSide, Stream,
    tumbling,
};

use common::{run_well, ways};

/// A row, of the same type for all kinds.
type Row = RowChange<u64>;

/// Emits nothing, of all four kinds.
struct Kinds;

impl StatefulOperator for Kinds {
    type Key = ();
    type Outputs = (Rows<Row>, Upserts<Row>, Snapshots<Row>, Changes<u64>);
}

impl Takes<0> for Kinds {
    type Row = (EventTime, u64);

    fn take(&mut self, _: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        Ok(())
    }
}

/// The line on which the operator `kinds` begins.
const KINDS: u32 = line!() + 5;

/// Streams of inserts, upserts, snapshots and changes.
fn kinds(graph: &Graph) -> [Stream<Row>; 4] {
    let (inserts, upserts, snapshots, changes) =
        graph.operator("kinds").local(graph.source(memory(0..3u64))).stateful(|_| Kinds);
    [inserts, upserts, snapshots, changes]
}

/// Declares what it takes.
macro_rules! taker {
    ($name:ident, $($kinds:tt)*) => {
        struct $name;

        impl StatefulOperator for $name {
            type Key = u64;
            type Outputs = (Rows<u64>,);
        }

        impl Takes<0> for $name {
            type Row = Dealt<u64, Row>;
            $($kinds)*

            fn take(&mut self, _: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
                Ok(())
            }
        }
    };
}

taker!(TakesDefault,);
taker!(TakesUpserts, const KINDS: &'static [RowKind] = &[RowKind::Upsert];);
taker!(TakesSnapshots, const KINDS: &'static [RowKind] = &[RowKind::Insert, RowKind::Snapshot];);
taker!(TakesChanges, const KINDS: &'static [RowKind] = &[RowKind::Changes];);

/// Sends the rows into an operator of one's own.
macro_rules! into {
    ($operator:expr) => {
        |rows: Stream<Row>| {
            let graph = rows.graph();
            let out = graph.operator("taker").keyed(rows, |row| row.row).stateful(|_| $operator);
            out.sink(discard().0);
        }
    };
}

/// A sink that takes one kind.
struct Only(RowKind);

impl<T: Send + 'static> Sink<T> for Only {
    fn takes(&self, kind: RowKind) -> bool {
        kind == self.0
    }
    fn write(&mut self, _: Epoch, _: &mut Vec<T>) -> Result<(), SinkError> {
        Ok(())
    }
    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A sink that says nothing of kinds.
struct Plain;

impl<T: Send + 'static> Sink<T> for Plain {
    fn write(&mut self, _: Epoch, _: &mut Vec<T>) -> Result<(), SinkError> {
        Ok(())
    }
    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

type Consumer = (&'static str, fn(Stream<Row>), [bool; 4]);

const ALL: [bool; 4] = [true; 4];
const NO_CHANGES: [bool; 4] = [true, true, true, false];
const NO_UPSERTS: [bool; 4] = [true, false, true, true];
const INSERTS: [bool; 4] = [true, false, false, false];
const UPSERTS: [bool; 4] = [false, true, false, false];
const SNAPSHOTS: [bool; 4] = [false, false, true, false];
const CHANGES: [bool; 4] = [false, false, false, true];

/// Inserts of the same graph.
fn others(rows: &Stream<Row>) -> Stream<Row> {
    rows.graph().source(memory(0..3u64)).map(RowChange::insert).boxed()
}

fn join(left: Stream<Row>, right: Stream<Row>) {
    left.key_by(|row| row.row).join(right.key_by(|row| row.row)).unbounded().inner().sink(discard().0);
}

fn side() -> StaticSide<u64, u64> {
    StaticSide::read(memory(0..3u64), |row| *row)
}

fn join_static(rows: Stream<Row>, side: StaticSide<u64, u64>) {
    rows.key_by(|row| row.row).join_static(side).left_outer().sink(discard().0);
}

/// What takes inserts, upserts, snapshots and changes.
fn consumers() -> Vec<Consumer> {
    vec![
        ("filter", |rows| rows.filter(|row| row.diff > 0).sink(discard().0), ALL),
        ("inspect", |rows| rows.inspect(|_| {}).boxed().sink(discard().0), ALL),
        ("broadcast", |rows| rows.broadcast().sink(discard().0), ALL),
        ("rebalance", |rows| rows.rebalance().sink(discard().0), NO_UPSERTS),
        ("branch", |rows| rows.branch([|row: &Row| row.diff > 0]).remove(1).sink(discard().0), ALL),
        (
            "branch to changes",
            |rows| rows.branch([|row: &Row| row.diff > 0]).remove(0).sink(Only(RowKind::Changes)),
            CHANGES,
        ),
        ("map", |rows| rows.map(|row| row.row).sink(discard().0), NO_CHANGES),
        (
            "map behind filter",
            |rows| rows.filter(|_| true).map(|row| row).boxed().sink(discard().0),
            NO_CHANGES,
        ),
        ("flat_map", |rows| rows.flat_map(|row| [row]).sink(discard().0), NO_CHANGES),
        ("filter_map", |rows| rows.filter_map(Some).sink(discard().0), NO_CHANGES),
        ("split", |rows| rows.split(Either::<Row, Row>::Left).0.sink(discard().0), NO_CHANGES),
        (
            "as_inserts",
            |rows| rows.as_inserts().map(|row| row.diff).sum(|diff| *diff).update().sink(discard().0),
            ALL,
        ),
        ("as_changes", |rows| rows.as_changes().sink(Only(RowKind::Changes)), [true, false, false, true]),
        (
            "as_changes behind map",
            |rows| rows.as_inserts().map(|row| row).as_changes().sink(Only(RowKind::Changes)),
            ALL,
        ),
        ("count of all", |rows| rows.count().update().sink(discard().0), INSERTS),
        ("count by key", |rows| rows.key_by(|row| row.row).count().complete().sink(discard().0), INSERTS),
        (
            "count by keys",
            |rows| rows.flat_key_by(|row, keys| keys.push(&row.row)).count().update().sink(discard().0),
            INSERTS,
        ),
        (
            "watermark",
            |rows| rows.with_watermark(|_| EventTime::from_micros(0), Duration::ZERO).sink(discard().0),
            INSERTS,
        ),
        (
            "window",
            |rows| {
                let timed = rows.with_watermark(|_| EventTime::from_micros(0), Duration::ZERO);
                timed.window(tumbling(Duration::from_secs(1))).count().append().sink(discard().0);
            },
            INSERTS,
        ),
        ("union with itself", |rows| rows.clone().union(rows).sink(discard().0), ALL),
        ("union with inserts", |rows| rows.clone().union(rows.as_inserts()).sink(discard().0), INSERTS),
        (
            "union with changes",
            |rows| rows.clone().union(rows.as_inserts().as_changes()).sink(discard().0),
            CHANGES,
        ),
        ("operator", into!(TakesDefault), INSERTS),
        ("operator of upserts", into!(TakesUpserts), UPSERTS),
        ("operator of inserts and snapshots", into!(TakesSnapshots), [true, false, true, false]),
        ("operator of changes", into!(TakesChanges), CHANGES),
        (
            "left side of a join",
            |rows| {
                let other = others(&rows);
                join(rows, other);
            },
            INSERTS,
        ),
        (
            "right side of a join",
            |rows| {
                let other = others(&rows);
                join(other, rows);
            },
            INSERTS,
        ),
        (
            "table of the newest rows",
            |rows| rows.key_by(|row| row.row).into_table().changes().sink(discard().0),
            [true, true, false, false],
        ),
        (
            "table of all rows",
            |rows| rows.key_by(|row| row.row).into_append_table().changes().sink(discard().0),
            INSERTS,
        ),
        (
            "table of a changelog",
            |rows| rows.key_by(|row| row.row).into_changelog_table().changes().sink(discard().0),
            CHANGES,
        ),
        ("static join", |rows| join_static(rows, side()), INSERTS),
        ("static join, broadcast", |rows| join_static(rows, side().broadcast()), INSERTS),
        (
            "signal of a static side",
            |rows| {
                let other = others(&rows);
                join_static(other, side().refresh_on(rows));
            },
            NO_CHANGES,
        ),
        ("sink that says nothing", |rows| rows.sink(Plain), NO_CHANGES),
        ("sink of inserts", |rows| rows.sink(Only(RowKind::Insert)), INSERTS),
        ("sink of upserts", |rows| rows.sink(Only(RowKind::Upsert)), UPSERTS),
        ("sink of snapshots", |rows| rows.sink(Only(RowKind::Snapshot)), SNAPSHOTS),
        ("sink of changes", |rows| rows.filter(|_| true).sink(Only(RowKind::Changes)), CHANGES),
        ("at_commit", |rows| rows.sink(at_commit(Only(RowKind::Changes))), CHANGES),
        ("for_each", |rows| rows.sink(for_each(|_| {})), ALL),
        ("for_each_epoch", |rows| rows.sink(for_each_epoch(|_| Ok::<(), SinkError>(()))), ALL),
        ("channel", |rows| rows.sink(channel_sink(crossbeam_channel::unbounded().0)), ALL),
        ("memory", |rows| rows.sink(memory_sink().0), ALL),
        ("console", |rows| rows.sink(console()), ALL),
        ("discard", |rows| rows.sink(discard().0), ALL),
        ("file", |rows| rows.sink(json_lines_sink("rows.jsonl")), [true, false, true, false]),
        ("file that is added to", |rows| rows.sink(json_lines_sink("rows.jsonl").append()), INSERTS),
        ("file of values", |rows| rows.sink(csv_sink("rows.csv").append()), INSERTS),
        ("directory", |rows| rows.sink(json_lines_dir("rows")), INSERTS),
        ("directory of values", |rows| rows.sink(csv_dir("rows")), INSERTS),
    ]
}

#[test]
fn each_consumer_takes_its_kinds_and_refuses_the_others() {
    for (name, consume, takes) in consumers() {
        for (kind, takes) in takes.into_iter().enumerate() {
            let graph = Graph::new("matrix");
            let mut streams = kinds(&graph).map(Some);
            consume(streams[kind].take().unwrap());
            let said = graph.validate().map_err(|error| error.to_string());
            assert_eq!(said.is_ok(), takes, "{name}, kind {kind}: {said:?}");
            let Err(said) = said else { continue };
            assert_eq!(said.lines().count(), 2, "one reason is enough: {said}");
            // The consumer, the producer, and a way out.
            assert!(said.matches("tests/row_kind_matrix.rs:").count() >= 2, "{name}: {said}");
            let kind = ["inserts", "upserts", "snapshots", "changes"][kind];
            assert!(said.contains(kind) && said.contains(": "), "{name}: {said}");
            assert!(kind == "inserts" || said.contains("`.as_inserts()`"), "{name}: {said}");
        }
    }
}

#[test]
fn refusal_of_changes_names_both_lines_and_ways_out() {
    let graph = Graph::new("matrix");
    let [_, _, _, changes] = kinds(&graph);
    let line = line!() + 1;
    changes.map(|change| change.row).sink(discard().0);
    let said = graph.validate().unwrap_err().to_string();
    let expected = format!(
        "`kinds` at tests/row_kind_matrix.rs:{KINDS} emits changes (each adds a row to a table or takes it away), but `map` at \
         tests/row_kind_matrix.rs:{line} can change the type of the rows: call `.as_inserts()` before it, and \
         `.as_changes()` behind it if its rows are `RowChange`s"
    );
    assert!(said.ends_with(&expected), "{said}");
}

/// Counts by key: takes the former count away and adds the new one.
struct Counts {
    counts: ValueState<u64, u64>,
}

impl Counts {
    fn add(&mut self, key: HashedKey<'_, u64>, diff: u64, out: &mut Changes<(u64, u64)>) {
        let before = self.counts.get(key).copied();
        if let Some(before) = before {
            out.delete((*key.key, before));
        }
        let now = before.unwrap_or(0) + diff;
        out.insert((*key.key, now));
        self.counts.insert(key, now);
    }
}

impl StatefulOperator for Counts {
    type Key = u64;
    type Outputs = (Changes<(u64, u64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("counts", &mut self.counts);
    }
}

impl Takes<0> for Counts {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            self.add(row.hashed(), 1, &mut to.out.0);
        }
        Ok(())
    }
}

/// How many keys have each count, from the changes of the counts.
struct Histogram {
    keys: ValueState<u64, i64>,
}

impl StatefulOperator for Histogram {
    type Key = u64;
    type Outputs = (Upserts<(u64, i64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("keys", &mut self.keys);
    }
}

impl Takes<0> for Histogram {
    type Row = Dealt<u64, RowChange<(u64, u64)>>;
    const KINDS: &'static [RowKind] = &[RowKind::Changes];

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for change in rows {
            let keys = self.keys.get(change.hashed()).copied().unwrap_or(0) + change.value.diff;
            self.keys.insert(change.hashed(), keys);
            to.out.0.push((change.value.row.1, keys));
        }
        Ok(())
    }
}

/// A sink that adds changes up.
struct Table(Arc<Mutex<BTreeMap<(u64, u64), i64>>>);

impl Sink<RowChange<(u64, u64)>> for Table {
    fn takes(&self, kind: RowKind) -> bool {
        kind == RowKind::Changes
    }

    fn write(&mut self, _: Epoch, changes: &mut Vec<RowChange<(u64, u64)>>) -> Result<(), SinkError> {
        let mut table = self.0.lock().unwrap();
        for change in changes.drain(..) {
            *table.entry(change.row).or_default() += change.diff;
        }
        table.retain(|_, diff| *diff != 0);
        Ok(())
    }

    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn changes_from_own_operator_add_up_in_own_sink_and_operator() {
    // Key `k` comes `k + 1` times, and so does key `k + 10`.
    let rows: Vec<u64> = (0..10).flat_map(|key| (0..=key).flat_map(move |_| [key, key + 10])).collect();
    for way in ways(&[1, usize::MAX], 7) {
        let graph = Graph::new("changes");
        let rows = graph.source(memory(rows.clone()));
        let changes = graph
            .operator("counts")
            .keyed(rows, |key| *key)
            .stateful(|_| Counts { counts: ValueState::new() });
        let table = Table(Arc::default());
        let summed = Arc::clone(&table.0);
        changes.clone().rebalance().filter(|change| change.row.0 < 10).sink(table);
        let histogram = graph
            .operator("histogram")
            .keyed(changes, |change| change.row.1)
            .stateful(|_| Histogram { keys: ValueState::new() });
        let (sink, keys) = memory_sink();
        histogram.sink(sink);
        run_well(&graph, way.clone());
        let expected: BTreeMap<(u64, u64), i64> = (0..10).map(|key| ((key, key + 1), 1)).collect();
        assert_eq!(*summed.lock().unwrap(), expected, "{way:?}");
        let newest: BTreeMap<u64, i64> = keys.snapshot().into_iter().collect();
        let expected: BTreeMap<u64, i64> = (1..=10).map(|count| (count, 2)).collect();
        assert_eq!(newest, expected, "{way:?}");
    }
}
