//! Results and failures against a naive loop, in the test kit's time and on the pool of threads.

use std::time::Duration;

use proptest::prelude::*;
use tidemill::prelude::*;
use tidemill::testing::{SimClock, TestDriver};
use tidemill::{FailedRequest, Summary};

use super::common::{MODES, assert_same, options, run_well};
use super::service::{Bad, Ended, Row, Service, expected, result};

const MILLI: Duration = Duration::from_millis(1);

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let bad = prop_oneof![Just(Bad::Fails), Just(Bad::Hangs)];
    let bad_attempts = prop_oneof![4 => Just(0u32), 2 => 1..4u32];
    let row = (-50i64..50, 0u8..6, bad, bad_attempts);
    prop::collection::vec(row, 0..most).prop_map(|rows| {
        let row = |(number, (time, turns, bad, bad_attempts))| Row {
            number: number as u64,
            time,
            turns,
            bad,
            bad_attempts,
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn requests() -> impl Strategy<Value = Requests> {
    (1usize..6, any::<bool>(), 1u32..4).prop_map(|(capacity, is_ordered, attempts)| {
        let retry = Retry::attempts(attempts).with_backoff(MILLI, MILLI * 2);
        let requests = Requests::at_most(capacity).with_timeout(MILLI * 5).with_retry(retry);
        if is_ordered { requests } else { requests.unordered() }
    })
}

/// How many attempts there are, and whether results keep the order of their rows.
fn read(requests: &Requests) -> (u32, bool) {
    let text = requests.to_string();
    let attempts = text.split(", ").find_map(|part| part.strip_suffix(" attempts"));
    (attempts.map_or(1, |attempts| attempts.parse().unwrap()), !text.contains("unordered"))
}

type Found = (Vec<u64>, Vec<FailedRequest<Row>>);

/// The result of each row by a plain loop.
fn naive(rows: &[Row], result: impl Fn(&Row) -> Result<u64, FailedRequest<Row>>) -> Found {
    let (mut answers, mut failures) = (vec![], vec![]);
    for row in rows {
        match result(row) {
            Ok(answer) => answers.push(answer),
            Err(failed) => failures.push(failed),
        }
    }
    (answers, failures)
}

/// What the service has done with a row, in wall-clock time: it is requested until it is answered, or no attempt is left.
fn observed(row: &Row, attempts: u32, service: &Service) -> Result<u64, FailedRequest<Row>> {
    let ended = service.ended(row.number);
    let answered = ended.iter().position(|it| *it == Ended::Answered);
    assert_eq!(ended.len(), answered.map_or(attempts as usize, |at| at + 1), "{row:?}: {ended:?}");
    result(row, attempts, ended[ended.len() - 1])
}

#[track_caller]
fn compare(found: Found, wanted: Found, in_order: bool, what: &str) {
    let numbers = |failed: &[FailedRequest<Row>]| {
        failed.iter().map(|it| (it.row, it.attempts, it.failure.to_string())).collect::<Vec<_>>()
    };
    if in_order {
        assert_eq!(found, wanted, "{what}");
    } else {
        assert_same(&found.0, &wanted.0, what);
        assert_same(&numbers(&found.1), &numbers(&wanted.1), what);
    }
}

/// Asks the service for each row.
fn ask(rows: Vec<Row>, requests: Requests, service: &Service, run: impl FnOnce(&Graph)) -> Found {
    let graph = Graph::new("requests");
    let (sinks, tables) = (memory_sink(), memory_sink());
    let service = service.clone();
    let (answers, failures) = graph
        .source(memory(rows))
        .with_watermark(Row::event_time, MILLI)
        .rebalance()
        .map_async_with_failed(requests, move |row| service.clone().ask(row));
    answers.sink(sinks.0);
    failures.sink(tables.0);
    run(&graph);
    (sinks.1.snapshot(), tables.1.snapshot())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn answers_in_simulated_time_agree_with_loop(
        rows in rows(40),
        requests in requests(),
        records in 1u64..20,
    ) {
        for mode in MODES {
            let service = Service::default();
            let found = ask(rows.clone(), requests, &service, |graph| {
                let clock = SimClock::new();
                let options = options(mode, 1).with_max_records_per_epoch(records);
                let mut driver = TestDriver::new(graph, options, &clock).unwrap();
                driver.settle().unwrap();
                // Enough for each row alone to use up all of its attempts.
                for _ in 0..rows.len() * 30 + 1 {
                    if driver.is_over() {
                        break;
                    }
                    driver.advance(MILLI).unwrap();
                }
                assert!(driver.is_over(), "{mode}: {service:?}");
            });
            let (attempts, is_ordered) = read(&requests);
            let wanted = naive(&rows, |row| expected(row, attempts));
            compare(found, wanted, is_ordered, &format!("{mode} {requests}"));
            assert_eq!(service.in_flight(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn answers_on_several_workers_agree_with_loop(
        rows in rows(60),
        requests in requests(),
        records in 1u64..30,
    ) {
        for mode in MODES {
            for workers in [1, 2, 4] {
                let service = Service::default();
                let found = ask(rows.clone(), requests, &service, |graph| {
                    let options = options(mode, workers)
                        .with_max_records_per_epoch(records)
                        .with_checkpoint_interval(MILLI * 10);
                    run_well(graph, options);
                });
                let (attempts, is_ordered) = read(&requests);
                let wanted = naive(&rows, |row| observed(row, attempts, &service));
                compare(found, wanted, is_ordered && workers == 1, &format!("{mode} {workers} {requests}"));
            }
        }
    }
}

fn windows(rows: Vec<Row>, mode: Mode, workers: usize) -> (Vec<(i64, u64)>, Summary) {
    let graph = Graph::new("windows");
    let (sink, table) = memory_sink();
    let service = Service::default();
    graph
        .source(memory(rows))
        .with_watermark(Row::event_time, Duration::from_micros(20))
        .map_async(Requests::at_most(7).unordered(), move |row| service.clone().ask(row))
        .window(tumbling(Duration::from_micros(10)))
        .count()
        .append()
        .map(|it| (it.window.start.as_micros(), it.value))
        .sink(sink);
    let options = options(mode, workers).with_max_records_per_epoch(30).with_checkpoint_interval(MILLI * 5);
    let summary = run_well(&graph, options);
    (table.snapshot(), summary)
}

/// A row in flight holds the watermark behind, so answers out of order are not late.
#[test]
fn rows_in_flight_hold_watermark_of_results() {
    let rows: Vec<Row> = (0..400).map(|n| Row::good(n, (n * 13 % 40) as u8)).collect();
    for mode in MODES {
        for workers in [1, 2, 4] {
            let (counts, summary) = windows(rows.clone(), mode, workers);
            let expected: Vec<_> = (0..40).map(|n| (n * 10, 10)).collect();
            assert_same(&counts, &expected, format!("{mode} {workers}"));
            assert_eq!(summary.late_rows, 0, "{mode} {workers}");
        }
    }
}

#[test]
fn stream_without_rows_ends_in_order() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let service = Service::default();
            let found = ask(vec![], Requests::at_most(1), &service, |graph| {
                run_well(graph, options(mode, workers));
            });
            assert_eq!(found, (vec![], vec![]));
        }
    }
}

/// Event time that is assigned behind requests comes from their results.
#[test]
fn watermark_assigned_behind_requests_counts_all_rows() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("behind");
            let (sink, table) = memory_sink();
            let service = Service::default();
            graph
                .source(memory((0..200).map(|n| Row::good(n, (n % 5) as u8)).collect::<Vec<_>>()))
                .map_async(Requests::at_most(4), move |row| service.clone().ask(row))
                .with_watermark(|answer| EventTime::from_micros(*answer as i64), Duration::ZERO)
                .window(tumbling(Duration::from_micros(100)))
                .count()
                .append()
                .map(|it| it.value)
                .sink(sink);
            let options = options(mode, workers).with_max_records_per_epoch(30);
            let summary = run_well(&graph, options.with_checkpoint_interval(MILLI * 5));
            assert_eq!((summary.late_rows, table.snapshot()), (0, vec![50; 4]), "{mode} {workers}");
        }
    }
}
