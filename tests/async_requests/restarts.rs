//! Crashes between a request and the commit of its answer: rows are requested again, and written once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill::RunError;
use tidemill::checkpoint::MemoryStorage;
use tidemill::prelude::*;
use tidemill::testing::{SimClock, TestDriver, collecting_sink};

use super::common::{MODES, assert_same, options, run};
use super::service::{Row, Service, turns};

const ROWS: u64 = 400;

/// Writes the answers to files. Of the requests of all runs, each one at which `crashes` is over panics.
fn graph(input: &Path, output: &Path, requests: Arc<AtomicU64>, crashes_at: u64, is_ordered: bool) -> Graph {
    let graph = Graph::new("restarts");
    let settings = Requests::at_most(9);
    let settings = if is_ordered { settings } else { settings.unordered() };
    graph
        .source(json_lines::<Row>(format!("{}/*.jsonl", input.display())).bounded())
        .rebalance()
        .map_async(settings, move |row: Row| {
            let requests = Arc::clone(&requests);
            async move {
                turns((row.number % 7) as u8).await;
                let request = requests.fetch_add(1, Ordering::SeqCst);
                assert!(!(request + 1).is_multiple_of(crashes_at), "request {request}: the process crashes");
                Ok::<_, String>(row.number)
            }
        })
        .sink(json_lines_dir(output));
    graph
}

fn input(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for file in 0..4 {
        let rows = (0..ROWS / 4).map(|n| serde_json::to_string(&Row::good(file * ROWS / 4 + n, 0)).unwrap());
        let text = rows.collect::<Vec<_>>().join("\n") + "\n";
        std::fs::write(directory.join(format!("{file}.jsonl")), text).unwrap();
    }
}

fn written(directory: &Path) -> Vec<u64> {
    let mut rows = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "jsonl")
            && !path.file_name().unwrap().to_string_lossy().starts_with('.')
        {
            let text = std::fs::read_to_string(path).unwrap();
            rows.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
        }
    }
    rows
}

/// Runs it again after each crash.
fn run_until_it_ends(graph: &Graph, options: impl Fn() -> Options) {
    let mut crashes = 0;
    while let Err(error) = run(graph, options()) {
        assert!(matches!(error, RunError::Panic { .. }), "{error}");
        crashes += 1;
        assert!(crashes < 50, "{error}");
    }
    assert!(crashes > 0);
}

#[test]
fn rows_in_flight_at_crash_are_written_once() {
    let expected: Vec<u64> = (0..ROWS).collect();
    for workers in [1, 2, 4] {
        for is_ordered in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let (from, to) = (directory.path().join("in"), directory.path().join("out"));
            input(&from);
            let requests = Arc::new(AtomicU64::new(0));
            let graph = graph(&from, &to, Arc::clone(&requests), 101, is_ordered);
            let options = || {
                options(Mode::MicroBatch, workers)
                    .with_max_records_per_epoch(20)
                    .with_checkpoint(directory.path().join("checkpoint"))
            };
            run_until_it_ends(&graph, options);
            assert_same(&written(&to), &expected, format!("{workers} {is_ordered}"));
        }
    }
}

/// In continuous mode output since the last commit may repeat, but nothing is lost.
#[test]
fn rows_in_flight_at_crash_of_continuous_query_are_not_lost() {
    for workers in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("in"), directory.path().join("out"));
        input(&from);
        let requests = Arc::new(AtomicU64::new(0));
        let graph = graph(&from, &to, Arc::clone(&requests), 350, true);
        let options = || {
            options(Mode::Continuous, workers)
                .with_checkpoint_interval(Duration::from_millis(1))
                .with_checkpoint(directory.path().join("checkpoint"))
        };
        run_until_it_ends(&graph, options);
        let mut rows = written(&to);
        rows.sort();
        rows.dedup();
        assert_same(&rows, &(0..ROWS).collect::<Vec<_>>(), workers);
    }
}

/// An epoch is not committed before its requests are answered; a crash before that makes them again.
#[test]
fn epoch_is_committed_after_its_last_answer() {
    const SECOND: Duration = Duration::from_secs(1);
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        let service = Service::default();
        let run = |clock: &SimClock, is_hanging: bool| {
            let graph = Graph::new("commits");
            let (sink, collected) = collecting_sink();
            let service = service.clone();
            let (answers, failed) = graph.source(memory(0..3u64)).map_async_with_failed(
                Requests::at_most(2).with_timeout(SECOND),
                move |number| {
                    let row = Row::good(number, 1);
                    let bad_attempts = if is_hanging && number == 1 { 99 } else { 0 };
                    service.clone().ask(Row { bad: super::service::Bad::Hangs, bad_attempts, ..row })
                },
            );
            answers.uid("answers").sink(sink);
            failed.sink(discard().0);
            let storage = Arc::<MemoryStorage>::clone(&storage);
            let options = options(mode, 1).with_max_records_per_epoch(3);
            (TestDriver::with_checkpoint(&graph, options, clock, storage).unwrap(), collected)
        };
        let clock = SimClock::new();
        let (mut driver, collected) = run(&clock, true);
        driver.settle().unwrap();
        driver.advance(SECOND / 2).unwrap();
        assert_eq!((driver.committed(), collected.committed()), (None, vec![]), "{mode}");
        assert_eq!(service.attempts(2), 1, "{mode}: the two others take a place each in turn");
        drop(driver);
        assert_eq!(service.in_flight(), 0, "{mode}: a query that has crashed makes no requests");

        let (mut driver, collected) = run(&clock, false);
        driver.settle().unwrap();
        driver.advance(SECOND * 2).unwrap();
        assert!(driver.committed().is_some(), "{mode}");
        assert_eq!(collected.committed(), [0, 2, 4], "{mode}");
        assert_eq!(service.attempts(1), 2, "{mode}");
    }
}
