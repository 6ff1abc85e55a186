//! How many requests are in flight, and how far sources read ahead of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill::Run;
use tidemill::prelude::*;

use super::common::{MODES, end, options, run_well, wait_until};
use super::service::{Service, turns};

const HOUR: Duration = Duration::from_secs(3_600);

/// Waits for something by turns of the executor.
async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        turns(1).await;
    }
}

#[test]
fn requests_in_flight_reach_capacity_and_never_exceed_it() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            for capacity in [1, 3, 16] {
                for is_ordered in [true, false] {
                    let (service, graph) = (Service::default(), Graph::new("full"));
                    let (sink, table) = memory_sink();
                    let requests = Requests::at_most(capacity);
                    let requests = if is_ordered { requests } else { requests.unordered() };
                    let asked = service.clone();
                    graph
                        .source(memory(0..300u64))
                        .map_async(requests, move |row| {
                            let service = asked.clone();
                            async move {
                                let _in_flight = service.enter();
                                // Ends only because as many requests as are allowed are in flight at once.
                                until(|| service.most() >= capacity).await;
                                Ok::<_, String>(row)
                            }
                        })
                        .sink(sink);
                    // All in one epoch: rows of the next one would wait for its end.
                    run_well(&graph, options(mode, workers).with_checkpoint_interval(HOUR));
                    assert_eq!(table.snapshot().len(), 300);
                    // The source has one partition: all of its rows are on one worker.
                    assert_eq!(service.most(), capacity, "{mode} {workers} {requests}");
                }
            }
        }
    }
}

#[test]
fn requests_of_each_worker_are_bounded() {
    for mode in MODES {
        let (service, graph) = (Service::default(), Graph::new("full"));
        let (sink, table) = memory_sink();
        let asked = service.clone();
        graph
            .source(memory(0..2_000u64))
            .rebalance()
            .map_async(Requests::at_most(5).unordered(), move |row| {
                let service = asked.clone();
                async move {
                    let _in_flight = service.enter();
                    turns(3).await;
                    Ok::<_, String>(row)
                }
            })
            .sink(sink);
        run_well(&graph, options(mode, 4));
        assert_eq!(table.snapshot().len(), 2_000);
        assert!(service.most() <= 20, "{mode}: {}", service.most());
    }
}

/// While requests hang, the source reads no further than a few times the capacity; then it resumes.
#[test]
fn source_pauses_while_requests_hang() {
    const CAPACITY: usize = 10;
    for mode in MODES {
        for workers in [1, 2] {
            let (service, graph) = (Service::default(), Graph::new("hangs"));
            let (read, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let furthest = Arc::new(AtomicU64::new(0));
            let is_open = Arc::new(AtomicBool::new(false));
            let (asked, gate, counted) = (service.clone(), Arc::clone(&is_open), Arc::clone(&answered));
            let (reads, is_closed, most) = (Arc::clone(&read), Arc::clone(&is_open), Arc::clone(&furthest));
            let ahead = move |_: &u64| {
                let read = reads.fetch_add(1, Ordering::SeqCst) + 1;
                if !is_closed.load(Ordering::SeqCst) {
                    most.store(read, Ordering::SeqCst);
                }
            };
            graph
                .source(iterate(|| 0u64..))
                .inspect(ahead)
                .rebalance()
                .map_async(Requests::at_most(CAPACITY), move |row| {
                    let (service, gate, answered) = (asked.clone(), Arc::clone(&gate), Arc::clone(&counted));
                    async move {
                        let _in_flight = service.enter();
                        until(|| gate.load(Ordering::SeqCst)).await;
                        answered.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, String>(row)
                    }
                })
                .sink(discard().0);
            let way = options(mode, workers).with_checkpoint_interval(Duration::from_millis(20));
            let query = graph.start(way).unwrap();
            let full = CAPACITY * workers;
            // In continuous mode the next epoch may begin before: its rows wait for the end of the first one.
            let some = if mode == Mode::MicroBatch { full } else { 1 };
            wait_until(&query, "requests are in flight", |_| service.in_flight() >= some);
            // Long enough to read a million rows, if the source did not pause.
            let begun = Instant::now();
            wait_until(&query, "some time has passed", |_| begun.elapsed() > Duration::from_millis(100));
            is_open.store(true, Ordering::SeqCst);
            wait_until(&query, "rows are answered", |_| answered.load(Ordering::SeqCst) > 50_000);
            query.stop();
            end(query, "hangs").unwrap();
            let furthest = furthest.load(Ordering::SeqCst) as usize;
            // In flight, taken, held back, and read of the next epoch: each at most the capacity, or a portion beyond it.
            assert!(furthest <= 10 * full, "{mode} {workers}: {furthest} rows ahead");
        }
    }
}
