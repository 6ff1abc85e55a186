//! Sources that end while others of the same query live on.

mod common;

use std::time::Duration;

use tempfile::TempDir;
use tidemill::prelude::*;

/// What depends on the source that ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Rows,
    Counts,
    Windows,
    Joins,
}

/// One source ends at once, the other one lives on. Epochs are committed all the same, whatever depends on the source that has ended; and
/// a later run on the checkpoint continues.
#[test]
fn epochs_are_committed_after_one_of_two_sources_has_ended() {
    let second = Duration::from_secs(1);
    for ends in [Ends::Rows, Ends::Counts, Ends::Windows, Ends::Joins] {
        for (mode, workers) in [(Mode::Continuous, 1), (Mode::Continuous, 2), (Mode::MicroBatch, 2)] {
            let directory = TempDir::new().unwrap();
            for run in 0..2 {
                let graph = Graph::new("one ends");
                let ended = |uid: &'static str| {
                    let source = graph.source(memory(rows("a", 3))).uid(uid);
                    source.with_watermark(|row: &(String, i64)| EventTime::from_secs(row.1), second)
                };
                let (sink, table) = memory_sink();
                let rows = ended("ended");
                match ends {
                    Ends::Rows => rows.map(|row| row.1).sink(sink),
                    Ends::Counts => {
                        rows.key_by(|row| row.1).count().update().as_inserts().map(|it| it.0).sink(sink)
                    }
                    Ends::Windows => {
                        let windows = rows.key_by(|row| row.1).window(tumbling(second));
                        windows.count().append().map(|row| row.key).sink(sink);
                    }
                    Ends::Joins => {
                        let joined = rows.key_by(|row| row.1).join(ended("too").key_by(|row| row.1));
                        let joined = joined.within(Bounds::between(second, second)).left_outer();
                        joined.map(|(n, _, _)| n).sink(sink);
                    }
                }
                let (sink, totals) = memory_sink();
                graph.source(rate(1_000)).uid("live").key_by(|row| row.value % 2).count().update().sink(sink);
                let options = common::options(mode, workers).with_checkpoint(directory.path());
                let query = graph.start(options.with_checkpoint_interval(Duration::from_millis(5))).unwrap();
                for _ in 0..10 {
                    let before = query.progress().epoch;
                    common::wait_until(&query, "another epoch", |query| query.progress().epoch > before);
                }
                query.stop();
                common::end(query, "one ends").unwrap();
                let shown = common::sorted(table.snapshot());
                let expected = if run == 0 { vec![0, 1, 2] } else { vec![] };
                assert_eq!(shown, expected, "{ends:?} {mode} {workers} run {run}");
                assert!(!totals.snapshot().is_empty(), "{ends:?} {mode} {workers} run {run}");
            }
        }
    }
}

fn rows(name: &str, until: i64) -> Vec<(String, i64)> {
    (0..until).map(|n| (name.to_owned(), n)).collect()
}

/// All sources have ended, and a later run has more rows of them: with the states dropped that the errors name, no row is late, also
/// not behind what joins their streams.
#[test]
fn watermark_that_is_reset_is_reset_downstream() {
    let second = Duration::from_secs(1);
    for (mode, workers, is_join) in [
        (Mode::MicroBatch, 1, true),
        (Mode::MicroBatch, 2, false),
        (Mode::Continuous, 2, true),
        (Mode::Continuous, 1, false),
    ] {
        let directory = TempDir::new().unwrap();
        let run = |until, dropped: &[String]| {
            let graph = Graph::new("more rows");
            let source = |name: &'static str| {
                let source = graph.source(memory(rows(name, until))).uid(name);
                source.with_watermark(|row: &(String, i64)| EventTime::from_secs(row.1), second)
            };
            let (sink, table) = memory_sink();
            let (a, b) = (source("a"), source("b"));
            if is_join {
                let joined = a.key_by(|row| row.1).join(b.key_by(|row| row.1));
                joined.within(Bounds::between(second, second)).inner().map(|(n, _, _)| n).sink(sink);
            } else {
                let windows = a.union(b).key_by(|row| row.1).window(tumbling(second));
                windows.count().append().map(|row| row.key).sink(sink);
            }
            let options = common::options(mode, workers).with_checkpoint(directory.path());
            let options = dropped.iter().fold(options, |options, uid| options.with_drop_state(uid));
            graph.run(options).map(|summary| (summary.late_rows, table.snapshot().len()))
        };
        assert_eq!(run(10, &[]).unwrap(), (0, 10));
        let mut dropped = Vec::new();
        let (late, rows) = loop {
            match run(20, &dropped) {
                Ok(result) => break result,
                Err(error) => {
                    let text = error.to_string();
                    let uid = text.split("--drop-state ").nth(1).and_then(|it| it.split_whitespace().next());
                    dropped.push(uid.unwrap_or_else(|| panic!("{text}")).to_owned());
                    assert!(dropped.len() < 4, "{dropped:?}");
                }
            }
        };
        assert_eq!(late, 0, "{mode} {workers} {dropped:?}");
        assert!(rows >= 10, "{mode} {workers} {rows}");
    }
}
