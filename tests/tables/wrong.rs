//! What ends a query, with an error that names the line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill::aggregate::{Max, Sum};
use tidemill::connectors::memory;
use tidemill::table::{IntoChangelogTable, IntoTable};
use tidemill::testing::collecting_sink;
use tidemill::{Graph, RowChange, RunError};

use crate::common::{MODES, options, run};

#[test]
fn delete_of_a_row_that_is_not_there_ends_the_query() {
    for mode in MODES {
        let graph = Graph::new("log");
        let log = [RowChange::insert((1u32, 5u32)), RowChange { row: (1, 5), diff: -2 }];
        let log = graph.source(memory(log)).as_changes().key_by(|it| it.row.0);
        log.into_changelog_table().name("stock").changes().sink(collecting_sink().0);
        let error = run(&graph, options(mode, 2)).unwrap_err();
        let RunError::Operator { site, error } = &error else { panic!("{error}") };
        assert_eq!(site.operator, "stock");
        assert!(site.location.contains("wrong.rs:"), "{}", site.location);
        assert!(error.to_string().contains("1 more copies of a row are deleted"), "{error}");
        assert!(error.to_string().contains("1, (1, 5)"), "{error}");
    }
}

#[test]
fn function_that_returns_another_row_ends_the_query() {
    for mode in MODES {
        let graph = Graph::new("odd");
        let rows = graph.source(memory([(1u32, 5u32), (1, 6)])).key_by(|row| row.0).into_table();
        let was_called = Arc::new(AtomicBool::new(false));
        // The second time, for the row that is removed, it returns another one.
        let odd = rows.map(move |_, row| row.1 + u32::from(was_called.swap(true, Ordering::Relaxed)));
        odd.distinct().changes().sink(collecting_sink().0);
        let error = run(&graph, options(mode, 1).with_max_records_per_epoch(1)).unwrap_err();
        let RunError::Operator { site, error } = &error else { panic!("{error}") };
        assert_eq!(site.operator, "distinct");
        assert!(error.to_string().contains("must return the same for the same row"), "{error}");
    }
}

#[test]
fn panic_in_a_function_names_its_operator() {
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("panics");
            let rows = || graph.source(memory((0..50u32).map(|n| (n, n)))).key_by(|row| row.0).into_table();
            let pairs = rows().join(&rows(), |key, left, right| {
                assert!(*key != 40, "forty");
                left.1 + right.1
            });
            pairs.count().changes().sink(collecting_sink().0);
            let error = run(&graph, options(mode, workers)).unwrap_err();
            let RunError::Panic { site, message, .. } = &error else { panic!("{error}") };
            assert_eq!((site.operator.as_str(), message.contains("forty")), ("join", true), "{error}");
            assert!(site.location.contains("wrong.rs:"), "{}", site.location);
        }
    }
}

/// How many copies of a row a table may have.
const MOST: i64 = 1 << 32;

/// A table of one row, which has this many copies, under key 0.
fn copies(graph: &Graph, diff: i64) -> tidemill::table::Table<u32, u32> {
    let log = graph.source(memory([RowChange { row: (0u32, 7u32), diff }]));
    log.as_changes().key_by(|row| row.row.0).into_changelog_table().map(|_, row| row.1)
}

fn refused(graph: &Graph, operator: &str, most: u64) {
    for mode in MODES {
        let error = run(graph, options(mode, 2)).unwrap_err();
        let RunError::Operator { site, error } = &error else { panic!("{error}") };
        assert_eq!(site.operator, operator, "{error}");
        assert!(site.location.contains("wrong.rs:"), "{}", site.location);
        assert!(error.to_string().contains(&format!("more than {most} copies of a row")), "{error}");
    }
}

#[test]
fn changelog_with_too_many_copies_ends_the_query() {
    for diff in [1 << 40, i64::MAX] {
        let graph = Graph::new("log");
        copies(&graph, diff).count().changes().sink(collecting_sink().0);
        refused(&graph, "into_changelog_table", MOST as u64);
    }
}

#[test]
fn copies_that_joins_multiply_too_often_end_the_query() {
    let graph = Graph::new("joins");
    let rows = copies(&graph, MOST);
    let pairs = rows.join(&rows, |_, left, right| left + right).name("pairs");
    pairs.join(&pairs, |_, left, right| left + right).changes().sink(collecting_sink().0);
    refused(&graph, "pairs", MOST as u64);
}

#[test]
fn copies_in_a_snapshot_have_a_bound() {
    let graph = Graph::new("snapshot");
    copies(&graph, MOST).complete().sink(collecting_sink().0);
    refused(&graph, "complete", 1 << 24);
}

#[test]
fn aggregate_of_many_copies_is_computed_at_once() {
    for mode in MODES {
        let graph = Graph::new("sums");
        let (sink, rows) = collecting_sink();
        let sums = copies(&graph, MOST).group(Sum::of(|row: &u32| u64::from(*row)));
        sums.changes().sink(sink);
        run(&graph, options(mode, 2)).unwrap();
        assert_eq!(rows.committed(), [RowChange::insert((0, 7 << 32))], "{mode:?}");

        let graph = Graph::new("greatest");
        let (sink, rows) = collecting_sink();
        copies(&graph, 1 << 24).group(Max::of(|row: &u32| *row)).changes().sink(sink);
        run(&graph, options(mode, 2)).unwrap();
        assert_eq!(rows.committed(), [RowChange::insert((0, 7))], "{mode:?}");
    }
    let graph = Graph::new("too many");
    let greatest = copies(&graph, MOST).group(Max::of(|row: &u32| *row)).name("greatest");
    greatest.changes().sink(collecting_sink().0);
    refused(&graph, "greatest", 1 << 24);
}
