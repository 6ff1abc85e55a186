//! Requests that fail without a side output, and functions that panic: the query ends with the operator and the line.

use std::time::Duration;

use tidemill::RunError;
use tidemill::prelude::*;

use super::common::{MODES, options, run, run_well};
use super::service::{Bad, Row, Service};

fn failure(row: Row, requests: Requests, mode: Mode, workers: usize) -> RunError {
    let graph = Graph::new("failing");
    let service = Service::default();
    let mut rows: Vec<Row> = (0..50).map(|n| Row::good(n, 2)).collect();
    rows[30] = row;
    graph
        .source(memory(rows))
        .map_async(requests, move |row| service.clone().ask(row))
        .name("ask the service")
        .sink(memory_sink().0);
    run(&graph, options(mode, workers)).unwrap_err()
}

#[test]
fn failed_request_fails_query_with_operator_and_line() {
    let retry = Retry::attempts(3).with_backoff(Duration::ZERO, Duration::ZERO);
    // Only a request that hangs may time out: on a busy machine 20 ms may be too little for any of them.
    let (hour, short) = (Duration::from_secs(3_600), Duration::from_millis(20));
    let said = [
        (Bad::Fails, hour, "3 attempts: no answer to 30."),
        (Bad::Hangs, short, "3 attempts: not answered in time."),
    ];
    for (bad, timeout, text) in said {
        let row = Row { bad, bad_attempts: 9, ..Row::good(30, 0) };
        let requests = Requests::at_most(5).with_timeout(timeout).with_retry(retry);
        for mode in MODES {
            for workers in [1, 2] {
                let error = failure(row, requests, mode, workers);
                let (is_operator, said) = (matches!(error, RunError::Operator { .. }), error.to_string());
                assert!(is_operator, "{said}");
                for part in ["ask the service", "failures.rs:", text, "map_async_with_failed"] {
                    assert!(said.contains(part), "{part} is not in: {said}");
                }
            }
        }
    }
}

#[test]
fn panic_in_future_ends_query_with_operator_and_line() {
    for mode in MODES {
        for workers in [1, 2] {
            for is_at_once in [false, true] {
                let graph = Graph::new("panics");
                let (answers, failed) =
                    graph.source(memory(0..50u64)).map_async_with_failed(Requests::at_most(5), move |row| {
                        assert!(!is_at_once || row != 30, "30 is too much");
                        async move {
                            super::service::turns(2).await;
                            assert!(row != 30, "30 is too much");
                            Ok::<_, String>(row)
                        }
                    });
                answers.sink(memory_sink().0);
                failed.sink(memory_sink().0);
                let error = run(&graph, options(mode, workers)).unwrap_err();
                let RunError::Panic { site, message, .. } = &error else { panic!("{error}") };
                assert!(message.contains("30 is too much"), "{message}");
                assert!(site.location.contains("failures.rs:"), "{site}");
                assert_eq!(site.operator, "map_async");
            }
        }
    }
}

#[test]
fn settings_of_zero_are_refused_with_line() {
    let refused = |requests: Requests| {
        let graph = Graph::new("zero");
        let service = Service::default();
        let rows = memory([Row::good(1, 0)]);
        graph.source(rows).map_async(requests, move |row| service.clone().ask(row)).sink(memory_sink().0);
        graph.validate().unwrap_err().to_string()
    };
    let said = refused(Requests::at_most(0));
    assert!(said.contains("failures.rs:") && said.contains("must be at least 1 (got 0)"), "{said}");
    let said = refused(Requests::at_most(1).with_timeout(Duration::ZERO));
    assert!(said.contains("must be greater than zero (got 0s)"), "{said}");
    let error = options(Mode::MicroBatch, 1).with_async_threads(0);
    let graph = Graph::new("no threads");
    graph.source(memory(0..3u64)).sink(memory_sink().0);
    assert!(run(&graph, error).unwrap_err().to_string().contains("--async-threads"));
}

#[test]
fn upserts_are_refused() {
    let graph = Graph::new("upserts");
    let counts = graph.source(memory(0..9u64)).key_by(|n| n % 2).count().update();
    counts.map_async(Requests::at_most(1), |row| async move { Ok::<_, String>(row) }).sink(memory_sink().0);
    assert!(graph.validate().unwrap_err().to_string().contains("upserts"));
}

#[test]
fn boxed_error_of_function_is_taken() {
    let graph = Graph::new("errors");
    let (sink, table) = memory_sink();
    let parse = |text: String| async move {
        let number: u64 = text.parse()?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(number)
    };
    let texts = memory(["1", "x", "3"].map(str::to_owned));
    let (numbers, failed) = graph.source(texts).map_async_with_failed(Requests::at_most(2), parse);
    let (failed_sink, rest) = memory_sink();
    numbers.sink(sink);
    failed.sink(failed_sink);
    run_well(&graph, options(Mode::MicroBatch, 1));
    assert_eq!((table.snapshot(), rest.snapshot()[0].row.clone()), (vec![1, 3], "x".to_owned()));
}
