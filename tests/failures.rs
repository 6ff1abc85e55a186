//! How queries fail: each failure is one typed error that says where, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use tidemill::connectors::{
    BadRecords, MemorySource, OnDisconnect, channel, for_each, iterate, json_lines, json_lines_sink, memory,
    memory_sink, socket, text_files, try_for_each,
};
use tidemill::{
    EventTime, Fault, Graph, Idle, Mode, Options, Run, RunError, SinkError, SourceError, Trigger, sliding,
    tumbling,
};

use common::{MODES, alone, available_now, end, no_thread_is_left, options, run, takes_at_most, wait_until};

/// Two partitions; the second has a record that is fatal.
fn two_partitions() -> MemorySource<i64> {
    MemorySource::partitioned([(0..50_000).collect(), (50_000..100_000).chain([-1]).collect()])
}

fn fatal(n: i64) -> i64 {
    assert!(n >= 0, "cannot take {n}");
    n
}

/// The operator, the line and the worker of a panic.
#[track_caller]
fn panic_of(graph: &Graph, options: Options) -> (usize, String, String, String) {
    let error = run(graph, options).unwrap_err();
    no_thread_is_left();
    assert_eq!(error.fault(), Fault::User);
    match error {
        RunError::Panic { worker: Some(worker), site, message } => {
            (worker, site.operator, site.location, message)
        }
        other => panic!("not a panic: {other}"),
    }
}

#[test]
fn panic_on_one_worker_ends_query_with_operator_and_line() {
    let _alone = alone();
    for mode in MODES {
        let graph = Graph::new("panic");
        let first = line!();
        graph
            .source(two_partitions())
            .map(|n| {
                // Either worker: an idle one takes over the other's partition.
                assert!(n >= 0, "cannot take {n} on {:?}", thread::current().name());
                n
            })
            .name("careful")
            .key_by(|n| n % 10)
            .count()
            .update()
            .sink(memory_sink().0);
        let last = line!();
        let (worker, operator, location, message) = panic_of(&graph, options(mode, 2));
        assert_eq!(message, format!("cannot take -1 on {:?}", Some(format!("timely:work-{worker}"))));
        // The line of the operator that the step is part of: of a chain that an aggregate ends, the aggregate's.
        let line: u32 = location.rsplit_once("failures.rs:").unwrap().1.parse().unwrap();
        assert!(first < line && line < last, "{location}");
        assert!(operator.contains("careful") || operator.contains("count"), "{operator}");
    }
}

#[test]
fn a_panic_of_any_function_of_the_user_is_an_error() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2, 4] {
            let source = |graph: &Graph| graph.source(two_partitions());
            // With a delay so long that the fatal record is not late.
            let timed = |graph: &Graph| {
                source(graph).with_watermark(|n| EventTime::from_micros(*n), Duration::from_secs(1)).boxed()
            };
            let graphs: Vec<(&str, Box<dyn Fn(&Graph)>)> = vec![
                ("filter", Box::new(|g| source(g).filter(|n| fatal(*n) > 3).sink(memory_sink().0))),
                (
                    "time",
                    Box::new(|g| {
                        source(g)
                            .with_watermark(|n| EventTime::from_micros(fatal(*n)), Duration::ZERO)
                            .sink(memory_sink().0);
                    }),
                ),
                ("key", Box::new(|g| source(g).key_by(|n| fatal(*n)).count().update().sink(memory_sink().0))),
                (
                    "sum",
                    Box::new(|g| {
                        source(g).key_by(|n| n % 3).sum(|n| fatal(*n)).update().sink(memory_sink().0)
                    }),
                ),
                (
                    "merge",
                    Box::new(|g| {
                        source(g)
                            .key_by(|_| 1)
                            .fold(0, |s, n| *s += fatal(*n), |s, more| *s += more)
                            .complete()
                            .sink(memory_sink().0);
                    }),
                ),
                (
                    "window",
                    Box::new(move |g| {
                        timed(g)
                            .window(tumbling(Duration::from_micros(10)))
                            .max(|n| fatal(*n))
                            .append()
                            .sink(memory_sink().0);
                    }),
                ),
                (
                    "after the window",
                    Box::new(move |g| {
                        let counts = timed(g).window(tumbling(Duration::from_micros(10))).count().append();
                        counts
                            .map(|r| fatal(if r.window.start.as_micros() < 0 { -1 } else { 1 }))
                            .sink(memory_sink().0);
                    }),
                ),
                ("sink", Box::new(|g| source(g).sink(for_each(|n| assert!(fatal(n) >= 0))))),
                (
                    "generator",
                    Box::new(|g| {
                        g.source(iterate(|| (0..10_000).rev().map(|n| fatal(n - 1)))).sink(memory_sink().0)
                    }),
                ),
            ];
            for (what, build) in graphs {
                let graph = Graph::new(what);
                build(&graph);
                let (_, _, location, message) = panic_of(&graph, options(mode, workers));
                assert!(message.contains("cannot take -1"), "{what}: {message}");
                assert!(location.contains("failures.rs:"), "{what}: {location}");
            }
        }
    }
}

#[test]
fn a_panic_with_no_text_is_an_error_too() {
    let _alone = alone();
    let graph = Graph::new("panic");
    graph
        .source(memory(0..10))
        .map(|n| if n == 5 { std::panic::panic_any(n) } else { n })
        .sink(memory_sink().0);
    assert!(panic_of(&graph, options(Mode::MicroBatch, 2)).3.contains("not a text"));
}

#[test]
fn a_malformed_record_names_its_file_and_line() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers.jsonl");
    std::fs::write(&path, "1\n2\nthree\n4\n").unwrap();
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("bad");
            let line = line!() + 1;
            graph.source(json_lines::<i64>(path.display().to_string()).bounded()).sink(memory_sink().0);
            let error = run(&graph, options(mode, workers)).unwrap_err();
            let RunError::Source { site, error: SourceError::BadRecord { place, .. } } = &error else {
                panic!("{error}")
            };
            assert!(place.contains("numbers.jsonl") && place.contains('3'), "{place}");
            assert!(site.location.ends_with(&format!("failures.rs:{line}")), "{site}");
            no_thread_is_left();

            let graph = Graph::new("skip");
            let (sink, table) = memory_sink();
            let source =
                json_lines::<i64>(path.display().to_string()).bounded().on_bad_record(BadRecords::Skip);
            graph.source(source).sink(sink);
            let summary = common::run_well(&graph, options(mode, workers));
            assert_eq!((table.snapshot(), summary.skipped_rows), (vec![1, 2, 4], 1));
        }
    }
}

#[test]
fn bytes_that_are_no_text_fail_the_query() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("latin1.txt");
    std::fs::write(&path, b"caf\xE9\n").unwrap();
    for mode in MODES {
        let graph = Graph::new("latin 1");
        graph.source(text_files(path.display().to_string()).bounded()).sink(memory_sink().0);
        let error = run(&graph, options(mode, 2)).unwrap_err();
        assert!(matches!(error, RunError::Source { .. }), "{error:?}");
        assert!(
            error.to_string().contains("latin1.txt, byte 3") && error.to_string().contains(".lossy()"),
            "{error}"
        );
        no_thread_is_left();
        let graph = Graph::new("latin 1, replaced");
        let (sink, table) = memory_sink();
        graph.source(text_files(path.display().to_string()).bounded().lossy()).sink(sink);
        common::run_well(&graph, options(mode, 2));
        assert_eq!(table.snapshot(), ["caf\u{FFFD}"]);
    }
}

#[test]
fn missing_directory_is_error_or_empty_but_no_hang() {
    let _alone = alone();
    for mode in MODES {
        let graph = Graph::new("nowhere");
        let (sink, table) = memory_sink();
        graph.source(text_files("/nonexistent/files/*.txt").bounded()).sink(sink);
        match run(&graph, options(mode, 2)) {
            Ok(_) => assert!(table.snapshot().is_empty()),
            Err(error) => assert!(matches!(error, RunError::Source { .. }), "{error}"),
        }
    }
}

#[test]
fn a_sink_that_refuses_a_row_ends_the_query_with_its_error() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("refuse");
            let refuse =
                |n: i64| if n < 0 { Err(std::io::Error::other("the table is full")) } else { Ok(()) };
            let line = line!() + 1;
            graph.source(two_partitions()).sink(try_for_each(refuse));
            let error = run(&graph, options(mode, workers)).unwrap_err();
            let RunError::Sink { site, error: SinkError::Other(inner) } = &error else { panic!("{error}") };
            assert_eq!(inner.to_string(), "the table is full");
            assert!(site.location.ends_with(&format!("failures.rs:{line}")), "{site}");
            assert!(error.is_retryable());
            no_thread_is_left();
        }
    }
}

#[test]
fn a_full_disk_ends_the_query() {
    let _alone = alone();
    for mode in MODES {
        let graph = Graph::new("full");
        graph.source(memory(0..100_000)).sink(json_lines_sink("/dev/full"));
        let error = run(&graph, options(mode, 2)).unwrap_err();
        let RunError::Sink { error: SinkError::Io { what, error: io }, .. } = &error else {
            panic!("{error}")
        };
        assert!(what.contains("/dev/full"), "{what}");
        assert_eq!(io.kind(), std::io::ErrorKind::StorageFull);
        no_thread_is_left();
    }
}

#[test]
fn a_peer_that_goes_away_ends_the_query_if_it_is_to() {
    let _alone = alone();
    for mode in MODES {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"one\ntwo\n").unwrap());
        let graph = Graph::new("peer");
        graph.source(socket(address.clone()).on_disconnect(OnDisconnect::Fail)).sink(memory_sink().0);
        let error = run(&graph, options(mode, 2)).unwrap_err();
        peer.join().unwrap();
        let RunError::Source { error: SourceError::Disconnected { peer }, .. } = &error else {
            panic!("{error}")
        };
        assert!(peer.contains(&address), "{peer}");
        no_thread_is_left();
    }
}

#[test]
fn a_cancelled_query_ends_at_once_and_says_so() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2, 4] {
            takes_at_most(Duration::from_secs(1), "a cancel", || {
                let (sender, source) = channel::<i64>(16);
                let graph = Graph::new("cancel");
                graph.source(source).key_by(|n| *n).count().update().sink(memory_sink().0);
                let handle = graph.start(options(mode, workers)).unwrap();
                sender.send(1).unwrap();
                let begun = Instant::now();
                handle.cancel();
                let error = end(handle, "cancelled").unwrap_err();
                let time = begun.elapsed();
                assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
                assert_eq!(error.fault(), Fault::Nobody);
                no_thread_is_left();
                drop(graph);
                assert!(sender.send(2).is_err(), "a sender learns that the query is over");
                time
            });
        }
    }
}

#[test]
fn a_stopped_query_has_committed_everything_that_it_read() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2, 4] {
            let (sender, source) = channel::<u64>(64);
            let graph = Graph::new("stop");
            let (sink, table) = memory_sink();
            let (counts_sink, counts) = memory_sink();
            let numbers = graph.source(source).rebalance();
            numbers.clone().sink(sink);
            numbers.key_by(|n| n % 7).count().update().sink(counts_sink);
            let way = options(mode, workers).with_checkpoint_interval(Duration::from_millis(1));
            let handle = graph.start(way).unwrap();
            let feeder = std::thread::spawn(move || (0..).take_while(|n| sender.send(*n).is_ok()).count());
            wait_until(&handle, "an epoch is committed", |handle| {
                handle.progress().epoch.is_some_and(|e| e > 3)
            });
            handle.stop();
            let summary = end(handle, "stopped").unwrap();
            let sent = feeder.join().unwrap();
            let rows = common::sorted(table.snapshot());
            assert_eq!(rows.len() as u64, summary.input_rows, "{mode:?}, {workers} workers");
            assert!(rows.len() <= sent);
            assert!(rows.iter().copied().eq(0..rows.len() as u64), "a prefix of what was sent");
            let last: std::collections::BTreeMap<u64, u64> = counts.snapshot().into_iter().collect();
            assert_eq!(last.values().sum::<u64>(), summary.input_rows);
            assert_eq!(table.committed_epoch().map(|e| e.number() + 1), Some(summary.epochs));
            no_thread_is_left();
        }
    }
}

#[test]
fn a_query_that_is_stopped_before_it_reads_anything_ends() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2, 4] {
            // Not simulated: the caller's thread stops the query while its threads start, and these have no schedule yet.
            for _ in 0..20 {
                let (_sender, source) = channel::<u64>(64);
                let graph = Graph::new("stop at once");
                graph.source(source).sink(memory_sink().0);
                let handle = graph.start(options(mode, workers)).unwrap();
                handle.stop();
                assert_eq!(end(handle, "stopped at once").unwrap().input_rows, 0);
            }
        }
    }
}

#[test]
fn an_invalid_graph_names_every_operator_and_line() {
    let graph = Graph::new("invalid");
    let error = run(&graph, options(Mode::MicroBatch, 1)).unwrap_err();
    assert!(matches!(error, RunError::Graph(_)), "{error}");

    let graph = Graph::new("invalid");
    let timed =
        graph.source(memory([1i64])).with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO).boxed();
    let minute = Duration::from_secs(60);
    let first = line!() + 1;
    timed.clone().window(tumbling(Duration::ZERO)).count().append().sink(memory_sink().0);
    timed.clone().window(sliding(minute, 2 * minute)).count().append().sink(memory_sink().0);
    let forgotten = timed.map(|n| n + 1).boxed();
    let RunError::Graph(error) = graph.start(options(Mode::MicroBatch, 1)).unwrap_err() else {
        panic!("a graph")
    };
    drop(forgotten);
    let text = error.to_string();
    assert_eq!(error.problems.len(), 3, "{text}");
    for (n, (operator, words)) in
        [("window", "size is zero"), ("window", "would be lost"), ("map", "nothing reads its output")]
            .into_iter()
            .enumerate()
    {
        let problem = &error.problems[n];
        let line = first + n as u32;
        assert!(problem.location.ends_with(&format!("failures.rs:{line}")), "{problem}");
        assert!(problem.operator.contains(operator) && problem.message.contains(words), "{problem}");
        assert!(text.contains(&problem.location) && text.contains(words), "{text}");
    }

    let (one, other) = (Graph::new("one"), Graph::new("other"));
    one.source(memory([1])).union(other.source(memory([2]))).sink(memory_sink().0);
    let error = run(&one, options(Mode::MicroBatch, 1)).unwrap_err();
    assert!(error.to_string().contains("different graphs"), "{error}");

    let graph = Graph::new("twice");
    let named = graph.source(memory([1])).uid("same");
    named.map(|n| n + 1).uid("same").sink(memory_sink().0);
    let error = run(&graph, options(Mode::MicroBatch, 1)).unwrap_err();
    assert!(error.to_string().contains("`same` is taken"), "{error}");
}

#[test]
fn options_that_cannot_be_are_refused_by_name() {
    let graph = Graph::new("options");
    graph.source(memory([1])).sink(memory_sink().0);
    let default = || options(Mode::MicroBatch, 1);
    let restarted = default().with_restart(tidemill::Restart::Times { times: 1, backoff: Duration::ZERO });
    let refused = [
        (default().with_workers(0), "--workers"),
        (default().with_workers(129), "--workers"),
        (default().with_max_in_flight(0), "--max-in-flight"),
        (default().with_max_queued(0), "--max-queued"),
        (default().with_max_records_per_epoch(0), "--max-records-per-epoch"),
        (default().with_checkpoint_interval(Duration::ZERO), "--checkpoint-interval"),
        (default().with_trigger(Trigger::Every(Duration::ZERO)), "--trigger"),
        (options(Mode::Continuous, 1).with_trigger(Trigger::Every(Duration::from_millis(250))), "--trigger"),
        (default().with_retain(0), "--retain"),
        (default().with_from_savepoint("savepoint"), "--from-savepoint"),
        (restarted, "--restart"),
        (default().with_retain(4), "--retain"),
        (default().with_drop_state("counts"), "--drop-state"),
        (default().with_allow_loss(), "--allow-loss"),
    ];
    for (options, name) in refused {
        match run(&graph, options) {
            Err(error @ RunError::Options { option, .. }) => {
                assert_eq!(option, name);
                assert_eq!(error.fault(), Fault::User);
                assert!(error.to_string().starts_with(name), "{error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    common::run_well(&graph, default().with_idle(Idle::Spin(Duration::from_micros(50))));
}

#[test]
fn a_channel_cannot_be_read_by_two_queries() {
    let _alone = alone();
    let (sender, source) = channel::<i64>(16);
    sender.send(1).unwrap();
    drop(sender);
    let graph = Graph::new("twice");
    let (sink, table) = memory_sink();
    graph.source(source).sink(sink);
    common::run_well(&graph, available_now(Mode::MicroBatch, 1));
    assert_eq!(table.snapshot(), [1]);
    let error = run(&graph, available_now(Mode::MicroBatch, 1)).unwrap_err();
    assert!(matches!(error, RunError::Source { error: SourceError::Setup(_), .. }), "{error}");
    assert_eq!(error.fault(), Fault::User);
}
