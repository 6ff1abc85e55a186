//! Results: of each epoch in micro-batch, at the end in both modes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill::connectors::MemorySource;
use tidemill::table::IntoTable;
use tidemill::testing::{ScriptedSource, collecting_sink};
use tidemill::{EventTime, Graph, Mode, RowChange, Stream, tumbling};

use crate::common::{MODES, options, run_well};
use crate::graphs::{Change, Outputs, chains, chains_of, content, operators, operators_of};
use crate::loops::{loops, loops_of};
use crate::model::{Command, Inputs, commands};

/// Builds a graph; and the same in plain loops.
type Case = (fn(&Stream<Command>) -> Stream<Change>, fn(&Inputs) -> Outputs);

const CASES: [Case; 3] = [(operators, operators_of), (chains, chains_of), (loops, loops_of)];

/// Compares all outputs; says only what differs.
#[track_caller]
pub(crate) fn assert_same(found: &Outputs, expected: &Outputs, what: &str) {
    let differs =
        |(row, copies): &(&(String, String), &i64), other: &Outputs| other.get(*row) != Some(*copies);
    let extra: Vec<_> = found.iter().filter(|it| differs(it, expected)).take(5).collect();
    let missing: Vec<_> = expected.iter().filter(|it| differs(it, found)).take(5).collect();
    assert!(extra.is_empty() && missing.is_empty(), "{what}\n  found {extra:?}\n  expected {missing:?}");
}

/// Commands in partitions, all of a key in one.
fn partitioned(commands: &[Command], partitions: u32) -> Vec<Vec<Command>> {
    let of = |partition: u32| {
        commands.iter().filter(move |it| it.key % partitions == partition).copied().collect()
    };
    (0..partitions).map(of).collect()
}

#[test]
fn each_epochs_changes_lead_to_tables_of_plain_loops() {
    const RECORDS: usize = 7;
    for (seed, (build, expected)) in CASES.into_iter().enumerate() {
        let commands = commands(seed as u64, 6, 300);
        for workers in [1, 2, 4] {
            let graph = Graph::new("tables");
            let (sink, changes) = collecting_sink();
            build(&graph.source(MemorySource::partitioned([commands.clone()])).boxed()).sink(sink);
            run_well(
                &graph,
                options(Mode::MicroBatch, workers)
                    .with_max_records_per_epoch(RECORDS as u64)
                    .with_max_in_flight(3),
            );
            let (mut inputs, mut found) = (Inputs::default(), Vec::new());
            for (epoch, read) in changes.committed_epochs().into_iter().zip(commands.chunks(RECORDS)) {
                read.iter().for_each(|command| inputs.apply(command));
                let of_epoch = changes.of_epoch(epoch);
                let mut copies = BTreeMap::<_, u64>::new();
                for (name, row, _) in &of_epoch {
                    *copies.entry((name, row)).or_default() += 1;
                }
                assert!(copies.values().all(|copies| *copies == 1), "each row changes once: {copies:?}");
                found.extend(of_epoch);
                let what = format!("epoch {epoch:?}, {workers} workers");
                assert_same(&content(&found), &expected(&inputs), &what);
            }
            assert_same(&content(&changes.committed()), &expected(&Inputs::after(&commands)), "at the end");
        }
    }
}

#[test]
fn tables_in_both_modes_are_those_of_plain_loops() {
    for (seed, (build, expected)) in CASES.into_iter().enumerate() {
        for mode in MODES {
            for workers in [1, 2, 4] {
                let commands = commands(10 + seed as u64, 40, 2_000);
                let graph = Graph::new("tables");
                let (sink, changes) = collecting_sink();
                let source = MemorySource::partitioned(partitioned(&commands, 3));
                build(&graph.source(source).boxed()).sink(sink);
                let interval = Duration::from_millis(1);
                run_well(&graph, options(mode, workers).with_checkpoint_interval(interval));
                let expected = expected(&Inputs::after(&commands));
                let names: BTreeSet<&String> = expected.keys().map(|(name, _)| name).collect();
                assert!(names.len() >= 4 && expected.len() > 20, "{} rows of {names:?}", expected.len());
                assert_same(&content(&changes.committed()), &expected, &format!("{mode}, {workers} workers"));
            }
        }
    }
}

/// Rows of twenty epochs, five in each, whose watermark advances by `step` seconds in each.
fn script(step: i64) -> ScriptedSource<(u32, u32)> {
    let epochs = (0..20).fold(ScriptedSource::new(), |script, epoch| {
        let time = EventTime::from_secs(epoch * step);
        let rows = (0..5).fold(script, |script, n| {
            let number = (epoch * 5 + n) as u32;
            script.row(time, (number % 7, number))
        });
        rows.watermark(time).end_epoch()
    });
    epochs.end()
}

#[test]
fn tables_of_streams_with_differing_watermarks_join_by_epoch() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("watermarks");
            let (fast, slow) = (script(1_000).stream(&graph), script(1).stream(&graph));
            let fast = fast.key_by(|row| row.0).into_table();
            let slow = slow.map(|(key, number)| (key + 1, number)).key_by(|row| row.0).into_append_table();
            let joined = slow.join(&fast, |_, slow, fast| (slow.1, fast.1)).changes();
            let (sink, changes) = collecting_sink();
            let (window_sink, windows) = collecting_sink();
            joined.clone().sink(sink);
            // Event time begins again behind a table.
            let inserted = joined.as_inserts().filter(|change| change.diff > 0);
            let time = |change: &RowChange<(u32, (u32, u32))>| EventTime::from_secs(change.row.1.0.into());
            let timed = inserted.with_watermark(time, Duration::from_secs(1_000));
            timed.window(tumbling(Duration::from_secs(10))).count().append().sink(window_sink);
            run_well(&graph, options(mode, workers).with_checkpoint_interval(Duration::from_millis(1)));
            let mut found = BTreeMap::new();
            for RowChange { row, diff } in changes.committed() {
                crate::model::add(&mut found, row, diff);
            }
            let newest = |key: u32| (0..100).rev().find(|number| number % 7 == key);
            let pair = |number: u32| Some(((number % 7 + 1, (number, newest(number % 7 + 1)?)), 1));
            let expected: BTreeMap<(u32, (u32, u32)), i64> = (0..100).filter_map(pair).collect();
            assert_eq!(found, expected, "{mode}, {workers} workers");
            let counted: u64 = windows.committed().iter().map(|window| window.value).sum();
            assert_eq!(counted as usize, changes.committed().iter().filter(|it| it.diff > 0).count());
        }
    }
}
