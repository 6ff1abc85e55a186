//! Sources that end while others of the same query live on.

mod common;

use std::time::Duration;

use tempfile::TempDir;
use tidemill::prelude::*;

/// One source ends at once, and what depends on it alone has state; the other one lives on. Epochs are committed all the same.
#[test]
fn epochs_are_committed_after_one_of_two_sources_has_ended() {
    for mode in [Mode::Continuous, Mode::MicroBatch] {
        for workers in [1, 2] {
            let directory = TempDir::new().unwrap();
            let graph = Graph::new("one ends");
            let (sink, counts) = memory_sink();
            let ended = graph.source(memory(["a", "b", "a"])).uid("ended");
            ended.key_by(|word| word.to_string()).count().update().sink(sink);
            let (sink, totals) = memory_sink();
            graph.source(rate(1_000)).uid("live").key_by(|row| row.value % 2).count().update().sink(sink);
            let interval = Duration::from_millis(5);
            let options = Options::default()
                .with_mode(mode)
                .with_workers(workers)
                .with_checkpoint(directory.path())
                .with_checkpoint_interval(interval);
            let query = graph.start(options).unwrap();
            for _ in 0..20 {
                let before = query.progress().epoch;
                common::wait_until(&query, "another epoch", |query| query.progress().epoch > before);
            }
            query.stop();
            common::end(query, "one ends").unwrap();
            assert!(counts.snapshot().len() >= 2, "{mode} {workers}");
            assert!(!totals.snapshot().is_empty(), "{mode} {workers}");
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
