//! Upserts, snapshots, and what goes with them.

use std::collections::BTreeMap;

use tidemill::connectors::{MemorySource, memory_sink};
use tidemill::table::IntoTable;
use tidemill::testing::collecting_sink;
use tidemill::{Graph, Mode, RowKind, Run};

use crate::common::{MODES, options, run_well, sorted};
use crate::graphs::{log, newest};
use crate::model::{Inputs, commands, map};

#[test]
fn upserts_are_the_newest_rows_and_none_for_deleted_keys() {
    let commands = commands(1, 5, 300);
    for mode in MODES {
        for workers in [1, 3] {
            let graph = Graph::new("upserts");
            let (sink, rows) = collecting_sink();
            let newest = newest(&graph.source(MemorySource::partitioned([commands.clone()])).boxed(), 0);
            let upserts = newest.map(|_, value| value + 1).upserts();
            upserts.sink(sink);
            run_well(&graph, options(mode, workers).with_max_records_per_epoch(9));
            let mut found = BTreeMap::new();
            for (key, value) in rows.committed() {
                match value {
                    Some(value) => {
                        found.insert(key, value);
                    }
                    None => assert!(found.remove(&key).is_some(), "{key} was not there"),
                }
            }
            let expected = Inputs::after(&commands).newest[0].clone();
            let expected: BTreeMap<u32, u32> =
                expected.into_iter().map(|(key, value)| (key, value + 1)).collect();
            assert_eq!(found, expected, "{mode}, {workers} workers");
        }
    }
}

#[test]
fn upserts_of_table_with_several_rows_of_a_key_are_refused() {
    let graph = Graph::new("upserts");
    let log = log(&graph.source(MemorySource::partitioned([commands(1, 5, 3)])).boxed());
    log.upserts().sink(memory_sink().0);
    let error = graph.validate().unwrap_err().to_string();
    assert!(
        error.contains("`upserts`") && error.contains("outputs.rs:") && error.contains("top_k(1)"),
        "{error}"
    );
}

#[test]
fn complete_emits_the_whole_table_in_each_epoch() {
    let commands = commands(2, 5, 120);
    for workers in [1, 3] {
        let graph = Graph::new("complete");
        let (sink, rows) = collecting_sink();
        let log = log(&graph.source(MemorySource::partitioned([commands.clone()])).boxed());
        log.rekey(|key, value| (value, key)).complete().sink(sink);
        run_well(&graph, options(Mode::MicroBatch, workers).with_max_records_per_epoch(10));
        let mut inputs = Inputs::default();
        for (epoch, read) in rows.committed_epochs().into_iter().zip(commands.chunks(10)) {
            read.iter().for_each(|command| inputs.apply(command));
            let mut expected = Vec::new();
            for (row, copies) in map(&inputs.log, |key, value| Some((value, key))) {
                (0..copies).for_each(|_| expected.push(row));
            }
            assert_eq!(sorted(rows.of_epoch(epoch)), expected, "{workers} workers");
        }
    }
}

#[test]
fn outputs_have_their_kinds_of_rows() {
    let graph = Graph::new("kinds");
    let newest = newest(&graph.source(MemorySource::partitioned([commands(1, 5, 3)])).boxed(), 0);
    newest.changes().sink(collecting_sink().0);
    newest.upserts().sink(collecting_sink().0);
    newest.complete().sink(collecting_sink().0);
    let nodes = graph.nodes();
    let kind_of = |op: &str| nodes.iter().rfind(|node| node.op == op).unwrap().row_kind();
    assert_eq!(kind_of("changes"), RowKind::Changes);
    assert_eq!(kind_of("upserts"), RowKind::Upsert);
    assert_eq!(kind_of("complete"), RowKind::Snapshot);
}

#[test]
fn plan_shows_operators_of_tables_with_lines() {
    let graph = Graph::new("plan");
    let rows = graph.source(MemorySource::partitioned([vec![(1u32, 2u32)]]));
    let table = rows.key_by(|row| row.0).into_table().uid("rows");
    table.rekey(|key, row| (row.1, key)).count().changes().sink(collecting_sink().0);
    let plan = graph.explain().to_string();
    for part in ["into_table", "rekey", "count", "changes", "content", "outputs.rs:"] {
        assert!(plan.contains(part), "{part} is not in\n{plan}");
    }
    let plan = graph.explain_run(&options(Mode::MicroBatch, 2)).unwrap().to_string();
    assert!(plan.contains("part of the nested dataflow of tables"), "{plan}");
}
