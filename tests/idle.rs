//! When a partition or a stream is idle, in both modes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{ChannelSender, channel, memory_sink};
use tidemill::testing::{
    Break, Collected, FaultyStorage, ScriptedSource, SimClock, TestDriver, collecting_sink,
};
use tidemill::{Chain, EventStream, EventTime, Graph, Mode, Options, Run, Stream, Untimed, tumbling};

use common::{MODES, end, options, wait_until};

const SECOND: Duration = Duration::from_secs(1);

fn at(secs: i64) -> EventTime {
    EventTime::from_secs(secs)
}

fn timed(
    stream: Stream<i64, impl Chain<Out = i64, Time = Untimed>>,
    delay: u64,
    idle_after: Option<Duration>,
) -> EventStream<i64> {
    let timed = stream.with_watermark(|secs| at(*secs), Duration::from_secs(delay));
    match idle_after {
        Some(idle_after) => timed.idle_after(idle_after).boxed(),
        None => timed.boxed(),
    }
}

/// The start of every window of ten seconds, and how many records it has.
fn counts(stream: EventStream<i64>) -> Collected<(i64, u64)> {
    let (sink, rows) = collecting_sink();
    let windows = stream.window(tumbling(10 * SECOND)).count().append();
    windows.map(|result| (result.window.start.as_micros() / 1_000_000, result.value)).sink(sink);
    rows
}

/// Two channels that meet in a union, before the watermark is assigned or behind it.
fn two_channels(
    graph: &Graph,
    before: bool,
    delay: u64,
    idle_after: Option<Duration>,
) -> (ChannelSender<i64>, ChannelSender<i64>, EventStream<i64>) {
    let ((one, first), (other, second)) = (channel(1_000), channel(1_000));
    let (first, second) = (graph.source(first), graph.source(second));
    let both = match before {
        true => timed(first, delay, idle_after).union(timed(second, delay, idle_after)),
        false => timed(first.union(second), delay, idle_after),
    };
    (one, other, both)
}

fn driver(graph: &Graph, mode: Mode, clock: &SimClock) -> TestDriver {
    let options = Options::default().with_mode(mode).with_checkpoint_interval(Duration::from_secs(3_600));
    TestDriver::new(graph, options, clock).unwrap()
}

#[test]
fn sources_in_turn_and_in_order_have_no_late_rows() {
    for mode in MODES {
        for idle_after in [None, Some(60 * SECOND)] {
            let graph = Graph::new("union");
            let (one, other, both) = two_channels(&graph, false, 5, idle_after);
            let counted = counts(both);
            let clock = SimClock::new();
            let mut driver = driver(&graph, mode, &clock);
            for i in 0..20 {
                for (sender, time) in [(&one, i * 10 + 20), (&other, i * 10)] {
                    sender.send(time).unwrap();
                    driver.advance(SECOND / 10).unwrap();
                }
            }
            drop((one, other));
            let summary = driver.run_to_end().unwrap();
            assert_eq!(summary.late_rows, 0, "{mode}, {idle_after:?}");
            assert_eq!(counted.committed().iter().map(|(_, count)| count).sum::<u64>(), 40, "{mode}");
        }
    }
}

#[test]
fn silent_source_holds_union_until_it_is_idle() {
    for (mode, before) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        for says_something in [false, true] {
            let graph = Graph::new("silent");
            let (one, other, both) = two_channels(&graph, before, 0, Some(30 * SECOND));
            let counted = counts(both);
            let clock = SimClock::new();
            let mut driver = driver(&graph, mode, &clock);
            let what = format!("{mode}, union behind the watermark: {before}, {says_something}");
            if says_something {
                other.send(1).unwrap();
            }
            for time in 0..100 {
                one.send(time).unwrap();
                driver.settle().unwrap();
            }
            driver.advance(29 * SECOND).unwrap();
            assert_eq!(counted.written(), [], "{what}: it may be older");
            one.send(100).unwrap();
            driver.settle().unwrap();
            // No record comes: the passing of time alone ends the wait.
            driver.advance(SECOND).unwrap();
            assert_eq!(counted.written().len(), 10, "{what}");
            // It speaks again, and holds the others again.
            other.send(105).unwrap();
            driver.settle().unwrap();
            (110..150).for_each(|time| one.send(time).unwrap());
            driver.settle().unwrap();
            assert_eq!(counted.written().len(), 10, "{what}: held at 105");
            other.send(131).unwrap();
            driver.settle().unwrap();
            assert_eq!(counted.written().len(), 13, "{what}");
            assert_eq!(driver.run_to_end().unwrap().late_rows, 0, "{what}");
        }
    }
}

#[test]
fn idle_stream_does_not_close_windows_of_its_own() {
    for mode in MODES {
        let graph = Graph::new("own");
        let ((one, first), (other, second)) = (channel(1_000), channel(1_000));
        let idle_after = Some(30 * SECOND);
        let quiet = timed(graph.source(second), 0, idle_after);
        let counted_alone = counts(quiet.clone());
        let counted = counts(timed(graph.source(first), 0, idle_after).union(quiet));
        let clock = SimClock::new();
        let mut driver = driver(&graph, mode, &clock);
        other.send(1).unwrap();
        driver.settle().unwrap();
        driver.advance(29 * SECOND).unwrap();
        (0..100).for_each(|time| one.send(time).unwrap());
        driver.settle().unwrap();
        driver.advance(SECOND).unwrap();
        assert_eq!(counted.written().len(), 9, "{mode}");
        assert_eq!(counted_alone.written(), [], "{mode}");
        [2, 15].into_iter().for_each(|time| other.send(time).unwrap());
        driver.settle().unwrap();
        assert_eq!(counted_alone.written(), [(0, 2)], "{mode}: nothing of it was late");
    }
}

#[test]
fn all_streams_of_a_union_idle_leave_it_the_greatest_watermark() {
    for mode in MODES {
        let graph = Graph::new("all");
        let (one, other, both) = two_channels(&graph, true, 0, Some(30 * SECOND));
        let counted = counts(both);
        let clock = SimClock::new();
        let mut driver = driver(&graph, mode, &clock);
        one.send(25).unwrap();
        other.send(5).unwrap();
        driver.settle().unwrap();
        assert_eq!(counted.written(), [], "{mode}");
        driver.advance(30 * SECOND).unwrap();
        assert_eq!(counted.written(), [(0, 1)], "{mode}");
    }
}

#[test]
fn watermark_of_a_union_survives_restart() {
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        let clock = SimClock::new();
        let run = |one: &[i64], two: &[i64], wait: bool| {
            let graph = Graph::new("restart");
            let script = |times: &[i64]| {
                let script = ScriptedSource::new();
                times.iter().fold(script, |script, time| script.row(at(*time), *time).end_epoch())
            };
            let stream = |times: &[i64], uid| {
                let rows = graph.source(script(times)).uid(uid).filter_map(|item| Some(item.ok()?.1));
                timed(rows, 0, Some(30 * SECOND))
            };
            let both = stream(one, "source 1").union(stream(two, "source 2"));
            let (sink, rows) = collecting_sink();
            let windows = both.window(tumbling(10 * SECOND)).count().append_with_late();
            windows.0.map(|result| (result.window.start.as_micros() / 1_000_000, result.value)).sink(sink);
            let (late_sink, late) = collecting_sink();
            windows.1.sink(late_sink);
            let options = Options::default().with_mode(mode).with_checkpoint_interval(SECOND);
            let mut driver = TestDriver::with_checkpoint(&graph, options, &clock, storage.clone()).unwrap();
            driver.settle().unwrap();
            if wait {
                (0..31).for_each(|_| driver.advance(SECOND).unwrap());
            }
            driver.advance(SECOND).unwrap();
            driver.stop().unwrap();
            (rows.committed(), late.committed())
        };
        assert_eq!(run(&[1, 95, 96], &[5], true).0, [(0, 2)], "{mode}");
        // The union is at 96, though its second stream is at 5.
        let (rows, late) = run(&[1, 95, 96, 120], &[5, 50], false);
        assert_eq!((rows, late), (vec![], vec![50]), "{mode}");
    }
}

#[test]
fn replay_decides_on_idle_partitions_as_the_first_run() {
    let graph_of = || {
        let script = ScriptedSource::new();
        // The second partition falls silent.
        let script =
            (0..12).fold(script, |script, n| script.row(at(n * 10 + 5), n).end_epoch()).next_partition();
        let script = (0..12).fold(script, |script, n| match n {
            0 | 9 => script.row(at(n * 10 + 3), n).end_epoch(),
            _ => script.end_epoch(),
        });
        let graph = Graph::new("replay");
        let (sink, rows) = collecting_sink();
        graph
            .source(script)
            .filter_map(|item| item.ok())
            .with_watermark(|(time, _)| *time, Duration::ZERO)
            .idle_after(25 * SECOND)
            .window(tumbling(10 * SECOND))
            .count()
            .append()
            .map(|result| (result.window.start.as_micros() / 1_000_000, result.value))
            .sink(sink);
        (graph, rows)
    };
    let run = |storage: Arc<dyn tidemill::checkpoint::Storage>, clock: &SimClock| {
        let (graph, rows) = graph_of();
        if let Ok(mut driver) = TestDriver::with_checkpoint(&graph, Options::default(), clock, storage) {
            while driver.epoch().is_ok_and(|epoch| epoch.is_some()) {
                clock.advance(10 * SECOND);
            }
        }
        rows
    };
    let whole = FaultyStorage::new(MemoryStorage::new(), u64::MAX, Break::CrashBefore);
    let rows = run(Arc::new(whole.clone()), &SimClock::new());
    assert_eq!(rows.committed().len(), 11, "all but the last window");
    let mut replayed = 0;
    for change in 1..=whole.changes() {
        let (memory, clock) = (MemoryStorage::new(), SimClock::new());
        let before = run(Arc::new(FaultyStorage::new(memory.clone(), change, Break::CrashBefore)), &clock);
        clock.advance(3_600 * SECOND);
        let after = run(Arc::new(memory), &clock);
        let last = before.committed_epochs().last().map_or(0, |epoch| epoch.number() + 1);
        let epoch = tidemill::Epoch::new(last);
        let written = before.of_epoch(epoch);
        if !written.is_empty() {
            assert_eq!(after.of_epoch(epoch), written, "{epoch:?} after a crash at change {change}");
            replayed += 1;
        }
    }
    assert!(replayed > 5, "{replayed} epochs with rows were replayed");
}

#[test]
fn partition_that_was_idle_at_the_last_commit_stays_idle() {
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        let clock = SimClock::new();
        let run = |times: &[i64], wait: u32| {
            let script = times
                .iter()
                .fold(ScriptedSource::new(), |script, time| script.row(at(*time), *time).end_epoch());
            let graph = Graph::new("idle");
            let source = script.next_partition().row(at(1), 1).end_epoch();
            let counted = counts(timed(
                graph.source(source).filter_map(|item| Some(item.ok()?.1)),
                0,
                Some(30 * SECOND),
            ));
            let options = Options::default().with_mode(mode).with_checkpoint_interval(SECOND);
            let mut driver = TestDriver::with_checkpoint(&graph, options, &clock, storage.clone()).unwrap();
            driver.settle().unwrap();
            (0..wait).for_each(|_| driver.advance(SECOND).unwrap());
            driver.stop().unwrap();
            counted.committed()
        };
        assert_eq!(run(&[5, 15], 40), [(0, 2)], "{mode}");
        assert_eq!(run(&[5, 15, 25, 35], 2), [(10, 1), (20, 1)], "{mode}");
    }
}

#[test]
fn idle_stream_does_not_hold_union_of_several_workers() {
    for mode in MODES {
        for (workers, before) in [1, 2, 4].into_iter().flat_map(|workers| [(workers, false), (workers, true)])
        {
            let graph = Graph::new("idle");
            let (one, other, both) = two_channels(&graph, before, 0, Some(Duration::from_millis(100)));
            let (sink, table) = memory_sink();
            both.window(tumbling(10 * SECOND)).count().append().sink(sink);
            let handle = graph.start(options(mode, workers)).unwrap();
            other.send(1).unwrap();
            (0..100).for_each(|time| one.send(time).unwrap());
            let what = format!("{mode}, {workers} workers, union behind the watermark: {before}");
            wait_until(&handle, &what, |_| table.snapshot().len() == 9);
            drop((one, other));
            assert_eq!(end(handle, &what).unwrap().late_rows, 0, "{what}");
        }
    }
}
