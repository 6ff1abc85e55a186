//! Stop and cancel while requests hang.

use std::future::pending;
use std::time::{Duration, Instant};

use tidemill::prelude::*;
use tidemill::{QueryHandle, RunError};

use super::common::{MODES, alone, end, no_thread_is_left, options, takes_at_most, wait_until};
use super::service::Service;

const LONG: Duration = Duration::from_secs(3_600);

/// A query all of whose requests hang until their timeout.
fn hanging(options: Options, timeout: Duration) -> (QueryHandle, Service) {
    let (service, graph) = (Service::default(), Graph::new("hangs"));
    let asked = service.clone();
    let (answers, failed) = graph.source(iterate(|| 0u64..)).map_async_with_failed(
        Requests::at_most(8).with_timeout(timeout),
        move |row| {
            let service = asked.clone();
            async move {
                let _in_flight = service.enter();
                if row >= 20 {
                    pending::<()>().await;
                }
                Ok::<_, String>(row)
            }
        },
    );
    answers.sink(discard().0);
    failed.sink(discard().0);
    // All in one epoch: rows of the next one would wait for its end.
    let query = graph.start(options.with_checkpoint_interval(LONG)).unwrap();
    wait_until(&query, "requests hang", |_| service.in_flight() == 8);
    (query, service)
}

/// Cancels a query, and returns how long that takes.
fn cancel(query: QueryHandle) -> Duration {
    let begun = Instant::now();
    query.cancel();
    let error = end(query, "cancelled").unwrap_err();
    let time = begun.elapsed();
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    time
}

#[test]
fn cancel_ends_query_while_requests_hang() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2] {
            takes_at_most(Duration::from_secs(1), "a cancel", || {
                let (query, service) = hanging(options(mode, workers), LONG);
                let time = cancel(query);
                assert_eq!(service.in_flight(), 0, "requests are dropped");
                no_thread_is_left();
                time
            });
        }
    }
}

#[test]
fn stop_becomes_cancel_while_requests_hang() {
    let _alone = alone();
    for mode in MODES {
        let timeout = Duration::from_millis(200);
        let (query, _) = hanging(options(mode, 1).with_stop_timeout(timeout), LONG);
        query.stop();
        let error = end(query, "stopped").unwrap_err();
        assert!(matches!(error, RunError::Cancelled { stop_timeout: Some(_), .. }), "{error}");
        no_thread_is_left();
    }
}

#[test]
fn stop_waits_until_requests_time_out() {
    let _alone = alone();
    for mode in MODES {
        let (query, service) = hanging(options(mode, 1), Duration::from_millis(50));
        query.stop();
        let summary = end(query, "stopped").unwrap();
        assert_eq!(summary.input_rows, summary.output_rows, "{mode}: every row is answered or has failed");
        assert_eq!(service.in_flight(), 0);
        no_thread_is_left();
    }
}

#[test]
fn future_that_blocks_its_thread_does_not_block_cancel() {
    let _alone = alone();
    takes_at_most(Duration::from_secs(1), "a cancel", || {
        let graph = Graph::new("blocks");
        let (release, gate) = crossbeam_channel::bounded::<()>(0);
        let (blocked, is_blocked) = crossbeam_channel::bounded::<()>(9);
        graph
            .source(memory(0..2u64))
            .map_async(Requests::at_most(1), move |row| {
                let (gate, blocked) = (gate.clone(), blocked.clone());
                async move {
                    let _ = blocked.send(());
                    let _ = gate.recv();
                    Ok::<_, String>(row)
                }
            })
            .sink(discard().0);
        let query = graph.start(options(Mode::MicroBatch, 1)).unwrap();
        is_blocked.recv().unwrap();
        let time = cancel(query);
        drop(release);
        no_thread_is_left();
        time
    });
}
