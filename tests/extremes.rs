//! Many keys, one key, no records, the ends of time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use tidemill::connectors::{
    MemorySource, discard, for_each, iterate_partitions, json_lines_dir, memory, memory_sink, text_files,
};
use tidemill::{
    EventTime, Graph, Idle, Mode, Restart, Run, Trigger, WindowResult, session, sliding, tumbling,
};

use common::{MODES, assert_same, end, options, run_well, wait_until};

#[test]
fn a_million_keys_are_a_million_results() {
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("many");
            let (seen_sender, seen) = std::sync::mpsc::channel();
            graph
                .source(iterate_partitions(2, |p| (0..500_000u64).map(move |n| n * 2 + u64::from(p))))
                .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::from_secs(3_600))
                .key_by(|n| *n)
                .window(tumbling(Duration::from_secs(60)))
                .count()
                .append()
                .sink(for_each(move |r: WindowResult<u64, u64>| seen_sender.send((r.key, r.value)).unwrap()));
            let summary = run_well(&graph, options(mode, workers));
            let mut keys = vec![0u64; 1_000_000];
            seen.try_iter().for_each(|(key, count)| keys[key as usize] += count);
            assert!(keys.iter().all(|count| *count == 1), "{mode:?}, {workers} workers");
            assert_eq!((summary.input_rows, summary.output_rows), (1_000_000, 1_000_000));
        }
    }
}

/// As many as it takes for the accumulators of one window to take more memory than a core has caches, with keys that come again, late
/// records among the others, and a window that ends in the middle of a batch.
#[test]
fn keys_come_again_and_late_in_large_windows() {
    const KEYS: u64 = 300_000;
    const RECORDS: u64 = 1_000_001;
    let event = |n: u64| {
        let time = if n > 900_000 && n.is_multiple_of(1_000) { 0 } else { n as i64 };
        (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS, time)
    };
    let width = 500_003;
    let mut expected = vec![[0u64; 2]; KEYS as usize];
    let mut late = 0;
    for (key, time) in (0..RECORDS).map(|n| (n, event(n))).filter_map(|(n, event)| {
        let in_time = n <= 900_000 || event.1 > 0;
        late += u64::from(!in_time);
        in_time.then_some(event)
    }) {
        expected[key as usize][(time / width) as usize] += 1;
    }
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("large");
            let (seen_sender, seen) = std::sync::mpsc::channel();
            let (counts, stragglers) = graph
                .source(iterate_partitions(1, move |_| (0..RECORDS).map(event)))
                .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
                .key_by(|event| event.0)
                .window(tumbling(Duration::from_micros(width as u64)))
                .count()
                .append_with_late();
            counts.sink(for_each(move |r: WindowResult<u64, u64>| {
                seen_sender.send((r.key, r.window.start.as_micros() / width, r.value)).unwrap();
            }));
            let (sink, lost) = memory_sink();
            stragglers.sink(sink);
            run_well(&graph, options(mode, workers).with_max_records_per_epoch(200_000));
            let mut counts = vec![[0u64; 2]; KEYS as usize];
            for (key, window, count) in seen.try_iter() {
                assert_eq!(std::mem::replace(&mut counts[key as usize][window as usize], count), 0);
            }
            assert!(counts == expected, "{mode:?}, {workers} workers");
            assert_eq!(lost.snapshot().len() as u64, late, "{mode:?}, {workers} workers");
        }
    }
}

#[test]
fn one_key_takes_everything() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("one");
            let (sink, table) = memory_sink();
            graph
                .source(iterate_partitions(4, |_| 0..100_000u64))
                .key_by(|_| ())
                .sum(|n| *n)
                .complete()
                .sink(sink);
            run_well(&graph, options(mode, workers).with_max_queued(100));
            assert_eq!(table.snapshot(), [((), 4 * 99_999 * 100_000 / 2)], "{mode:?}, {workers} workers");
        }
    }
}

#[test]
fn nothing_in_is_nothing_out() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            for partitions in [0, 1, 3] {
                let graph = Graph::new("empty");
                let input = MemorySource::partitioned(vec![Vec::<i64>::new(); partitions]);
                let (sink, table) = memory_sink();
                let (running_sink, running) = memory_sink();
                let numbers = graph.source(input);
                numbers.clone().key_by(|n| *n).count().complete().sink(running_sink);
                numbers
                    .with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO)
                    .window(sliding(Duration::from_secs(2), Duration::from_secs(1)))
                    .count()
                    .append()
                    .sink(sink);
                let summary = run_well(&graph, options(mode, workers));
                assert!(table.snapshot().is_empty() && running.snapshot().is_empty());
                assert_eq!((summary.input_rows, summary.output_rows), (0, 0));
            }
        }
    }
}

#[test]
fn times_at_the_ends_of_time_are_in_windows() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("ends");
            let timed = graph
                .source(memory(times))
                .with_watermark(|t| EventTime::from_micros(*t), Duration::MAX)
                .boxed();
            let (tumbling_sink, tumblings) = memory_sink();
            let (sliding_sink, slidings) = memory_sink();
            let (session_sink, sessions) = memory_sink();
            let second = Duration::from_secs(1);
            timed.clone().window(tumbling(second)).count().append().map(|r| r.value).sink(tumbling_sink);
            timed
                .clone()
                .window(sliding(2 * second, second))
                .count()
                .append()
                .map(|r| r.value)
                .sink(sliding_sink);
            timed
                .window(session(second))
                .count()
                .append()
                .map(|r| (r.window.end.as_micros(), r.value))
                .sink(session_sink);
            let summary = run_well(&graph, options(mode, workers));
            assert_eq!(summary.late_rows, 0, "{mode:?}, {workers} workers");
            assert_eq!(tumblings.snapshot().iter().sum::<u64>(), 7, "{mode:?}, {workers} workers");
            assert_eq!(slidings.snapshot().iter().sum::<u64>(), 14, "{mode:?}, {workers} workers");
            let ends = [(i64::MIN + 1_000_001, 2), (1_000_001, 3), (i64::MAX, 2)];
            assert_same(&sessions.snapshot(), &ends, format!("{mode:?}, {workers} workers"));
        }
    }
}

#[test]
fn a_time_at_the_end_of_time_closes_everything_else() {
    for workers in [1, 2] {
        let graph = Graph::new("end");
        let (main, late) = graph
            .source(memory([5, i64::MAX, 6]))
            .with_watermark(|t| EventTime::from_micros(*t), Duration::ZERO)
            .window(tumbling(Duration::from_micros(10)))
            .count()
            .append_with_late();
        let (sink, table) = memory_sink();
        let (late_sink, late_table) = memory_sink();
        main.map(|r| r.value).sink(sink);
        late.sink(late_sink);
        run_well(&graph, options(Mode::MicroBatch, workers).with_max_records_per_epoch(1));
        assert_eq!((table.snapshot(), late_table.snapshot()), (vec![1, 1], vec![6]), "{workers} workers");
    }
}

#[test]
fn a_small_queue_slows_a_query_and_does_not_stop_it() {
    for mode in MODES {
        for workers in [2, 4] {
            let graph = Graph::new("queue");
            let (sink, count) = discard();
            graph.source(iterate_partitions(3, |_| 0..20_000u64)).rebalance().rebalance().sink(sink);
            let way = options(mode, workers).with_max_queued(1).with_max_records_per_epoch(1_000);
            let summary = run_well(&graph, way);
            assert_eq!(summary.output_rows, 60_000);
            drop(count);
        }
    }
}

/// Whatever is as long as a duration can be is for ever.
#[test]
fn longest_durations_are_for_ever() {
    let max = Duration::MAX;
    // Windows are in whole microseconds.
    let size = Duration::from_micros(u64::MAX);
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let lines = place.path().join("lines");
        std::fs::write(&lines, "to be\nor not\nto be\n").unwrap();
        let graph = Graph::new("long");
        let lines = graph.source(text_files(lines.display().to_string()).poll_interval(max));
        let timed =
            lines.with_watermark(|line| EventTime::from_secs(line.len() as i64), max).idle_after(max).boxed();
        let keyed = || timed.clone().key_by(|line| line.clone());
        let directory = json_lines_dir(place.path().join("tumbling")).roll_every(max);
        keyed().window(tumbling(size)).count().append().sink(directory);
        keyed().window(sliding(size, size)).count().append().sink(discard().0);
        keyed().window(session(size)).count().append().sink(discard().0);
        keyed().count().update_every(max).sink(discard().0);
        let way = options(mode, 1)
            .with_idle(Idle::Spin(Duration::from_micros(1)))
            .with_checkpoint(place.path().join("checkpoint"))
            .with_stop_timeout(max)
            .with_restart(Restart::Times { times: 9, backoff: max });
        let way = match mode {
            Mode::MicroBatch => way,
            Mode::Continuous => way.with_checkpoint_interval(max),
        };
        let query = graph.start(way).unwrap();
        if mode == Mode::MicroBatch {
            wait_until(&query, "rows", |query| query.progress().total_input_rows == 3);
        }
        query.stop();
        end(query, "long").unwrap();
    }
    let graph = Graph::new("never");
    graph.source(memory([1])).sink(discard().0);
    let query = graph.start(options(Mode::MicroBatch, 1).with_trigger(Trigger::Every(max))).unwrap();
    query.stop();
    assert_eq!(end(query, "never").unwrap().input_rows, 0);
}

#[test]
fn restart_after_longest_backoff_can_be_stopped() {
    let place = tempfile::tempdir().unwrap();
    let graph = Graph::new("fails");
    let (sender, failed) = std::sync::mpsc::channel();
    let fails = move |_: &u64| {
        sender.send(()).unwrap();
        panic!("no");
    };
    graph.source(memory([1u64])).inspect(fails).sink(discard().0);
    let way = options(Mode::MicroBatch, 1)
        .with_checkpoint(place.path().join("checkpoint"))
        .with_restart(Restart::Times { times: 3, backoff: Duration::MAX });
    let query = graph.start(way).unwrap();
    failed.recv().unwrap();
    query.stop();
    let error = end(query, "fails").unwrap_err().to_string();
    assert!(error.contains("no"), "{error}");
}
