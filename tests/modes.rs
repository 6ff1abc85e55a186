//! What the two modes promise: watermarks over several sources, idle partitions, late rows, triggers, stopping, progress.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill::connectors::{
    ChannelSender, EpochRows, MemorySource, MemoryTable, channel, for_each_epoch, iterate, memory,
    memory_sink, text_files,
};
use tidemill::{
    Chain, Epoch, EventStream, EventTime, Graph, Mode, Run, Stream, Trigger, Untimed, session, tumbling,
};

use common::{MODES, assert_same, available_now, end, options, run_well, sorted, wait_until};

const ZERO: Duration = Duration::ZERO;

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn timed(stream: Stream<i64, impl Chain<Out = i64, Time = Untimed>>, delay: u64) -> EventStream<i64> {
    stream.with_watermark(|t| EventTime::from_micros(*t), micros(delay)).boxed()
}

type Counts = MemoryTable<(i64, u64)>;

/// The start of every window of ten, and how many records it has.
fn counts(stream: EventStream<i64>) -> Counts {
    let (sink, table) = memory_sink();
    stream
        .window(tumbling(micros(10)))
        .count()
        .append()
        .map(|r| (r.window.start.as_micros(), r.value))
        .sink(sink);
    table
}

#[test]
fn two_consumers_see_the_same_records() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("two");
            let numbers = graph
                .source(MemorySource::partitioned([(0..500).collect(), (500..1000).collect()]))
                .map(|n: i64| n * 2)
                .boxed();
            let (even_sink, even) = memory_sink();
            let (all_sink, all) = memory_sink();
            let (sum_sink, sum) = memory_sink();
            numbers.clone().filter(|n| n % 4 == 0).sink(even_sink);
            numbers.clone().key_by(|_| ()).sum(|n| *n).complete().sink(sum_sink);
            numbers.sink(all_sink);
            let summary = run_well(&graph, options(mode, workers).with_max_records_per_epoch(100));
            assert_same(&all.snapshot(), &(0..1000).map(|n| n * 2).collect::<Vec<_>>(), "all");
            assert_same(&even.snapshot(), &(0..500).map(|n| n * 4).collect::<Vec<_>>(), "even");
            assert_eq!(sum.snapshot(), [((), 999_000)]);
            assert_eq!((summary.input_rows, summary.output_rows >= 1501), (1000, true));
        }
    }
}

/// A graph over two channels, each with its own watermark.
fn of_two_channels(graph: &Graph) -> (ChannelSender<i64>, ChannelSender<i64>, Counts) {
    let (one, first) = channel(64);
    let (other, second) = channel(64);
    let table = counts(timed(graph.source(first), 0).union(timed(graph.source(second), 0)));
    (one, other, table)
}

#[test]
fn a_union_has_the_lesser_watermark_in_continuous_mode() {
    for workers in [1, 2, 4] {
        let graph = Graph::new("union");
        let (one, other, table) = of_two_channels(&graph);
        let handle = graph
            .start(options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_millis(2)))
            .unwrap();
        [5, 15, 25, 35].into_iter().for_each(|t| one.send(t).unwrap());
        wait_until(&handle, "the first source is read", |h| {
            h.progress().sources.iter().any(|s| s.end_offset.values().any(|o| *o == 4))
        });
        assert!(table.snapshot().is_empty(), "the second source holds the watermark");
        other.send(21).unwrap();
        wait_until(&handle, "two windows close", |_| table.snapshot().len() >= 2);
        assert_same(&table.snapshot(), &[(0, 1), (10, 1)], format!("{workers} workers"));
        other.send(50).unwrap();
        wait_until(&handle, "a third window closes", |_| table.snapshot().len() >= 3);
        assert_same(&table.snapshot(), &[(0, 1), (10, 1), (20, 2)], format!("{workers} workers"));
        drop((one, other));
        end(handle, "both sources end").unwrap();
        assert_same(
            &table.snapshot(),
            &[(0, 1), (10, 1), (20, 2), (30, 1), (50, 1)],
            format!("{workers} workers"),
        );
    }
}

#[test]
fn ended_source_leaves_union_watermark_to_the_other() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("union");
            let (other, second) = channel(64);
            let table =
                counts(timed(graph.source(memory([5, 15, 25])), 0).union(timed(graph.source(second), 0)));
            let handle = graph
                .start(options(mode, workers).with_checkpoint_interval(Duration::from_millis(2)))
                .unwrap();
            other.send(21).unwrap();
            wait_until(&handle, "two windows close", |_| table.snapshot().len() >= 2);
            // Many intervals after the first source has ended.
            let epoch = || handle.progress().epoch.unwrap_or(0);
            let begun = epoch();
            if mode == Mode::Continuous {
                wait_until(&handle, "some epochs pass", |_| epoch() > begun + 5);
            }
            other.send(41).unwrap();
            wait_until(&handle, "a third window closes", |_| table.snapshot().len() >= 3);
            drop(other);
            end(handle, "the second source ends").unwrap();
            let expected = [(0, 1), (10, 1), (20, 2), (40, 1)];
            assert_same(&table.snapshot(), &expected, format!("{mode:?}, {workers} workers"));
        }
    }
}

#[test]
fn nested_windows_of_ended_source_close_at_the_end() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("windows");
            let (other, second) = channel(64);
            let hourly = |s: EventStream<i64>| {
                s.window(tumbling(micros(10))).count().append().map(|r| r.value as i64).boxed()
            };
            let both = hourly(timed(graph.source(memory([5, 15, 25])), 0))
                .union(hourly(timed(graph.source(second), 0)));
            let (sink, table) = memory_sink();
            both.window(tumbling(micros(100)))
                .sum(|n| *n)
                .append()
                .map(|r| (r.window.start.as_micros(), r.value))
                .sink(sink);
            let handle = graph
                .start(options(mode, workers).with_checkpoint_interval(Duration::from_millis(2)))
                .unwrap();
            other.send(21).unwrap();
            wait_until(&handle, "something is committed", |h| {
                h.progress().epoch.is_some_and(|e| mode == Mode::MicroBatch || e > 5)
            });
            drop(other);
            end(handle, "the second source ends").unwrap();
            assert_eq!(table.snapshot(), [(0, 4)], "{mode:?}, {workers} workers");
        }
    }
}

#[test]
fn partition_that_shows_nothing_holds_others_until_it_ends() {
    for workers in [1, 2] {
        let graph = Graph::new("idle");
        let input = MemorySource::partitioned([vec![5, 15, 25], vec![-1, -1, -1]]);
        // The second partition is there, but none of its records passes.
        let table = counts(timed(graph.source(input).filter(|t| *t >= 0).boxed(), 0));
        run_well(&graph, options(Mode::MicroBatch, workers).with_max_records_per_epoch(1));
        let expected = [(Epoch::new(2), vec![(0, 1), (10, 1), (20, 1)])];
        assert_eq!(table.by_epoch(), expected, "{workers} workers");
    }
}

#[test]
fn continuous_silent_partition_holds_others_until_idle() {
    for workers in [1, 2, 4] {
        let graph = Graph::new("idle");
        let (one, first) = channel(64);
        let (_silent, second) = channel(64);
        let both = graph.source(first).union(graph.source(second));
        let idle_after = Duration::from_millis(300);
        let stream = both.with_watermark(|t| EventTime::from_micros(*t), ZERO).idle_after(idle_after).boxed();
        let table = counts(stream);
        let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_secs(3600));
        let begun = std::time::Instant::now();
        let handle = graph.start(way).unwrap();
        [5, 15, 25].into_iter().for_each(|t| one.send(t).unwrap());
        wait_until(&handle, "two windows close", |_| !table.snapshot().is_empty());
        assert!(begun.elapsed() >= idle_after, "{workers} workers: {:?}", begun.elapsed());
        wait_until(&handle, "two windows close", |_| table.snapshot().len() == 2);
        assert_same(&table.snapshot(), &[(0, 1), (10, 1)], format!("{workers} workers"));
        handle.stop();
        end(handle, "stopped").unwrap();
    }
}

#[test]
fn a_stopped_query_leaves_its_open_windows_open() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("open");
            let (sender, source) = channel(64);
            let table = counts(timed(graph.source(source), 0));
            let handle = graph.start(options(mode, workers)).unwrap();
            [5, 15, 25].into_iter().for_each(|t| sender.send(t).unwrap());
            wait_until(&handle, "two windows close", |_| table.snapshot().len() >= 2);
            handle.stop();
            end(handle, "stopped").unwrap();
            assert_same(&table.snapshot(), &[(0, 1), (10, 1)], format!("{mode:?}, {workers} workers"));
        }
    }
}

#[test]
fn late_records_come_out_as_they_went_in() {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Click {
        at: i64,
        who: String,
    }
    let click = |at, who: &str| Click { at, who: who.to_owned() };
    for workers in [1, 2, 4] {
        let graph = Graph::new("late");
        let clicks = [click(5, "a"), click(25, "b"), click(7, "late"), click(21, "c"), click(90, "d")];
        let (windows, late) = graph
            .source(memory(clicks))
            .with_watermark(|c: &Click| EventTime::from_micros(c.at), ZERO)
            .key_by(|c| c.who.clone())
            .window(tumbling(micros(10)))
            .count()
            .append_with_late();
        let (sink, table) = memory_sink();
        let (late_sink, late_table) = memory_sink();
        windows.sink(sink);
        late.map(|click| Click { who: click.who.to_uppercase(), ..click }).sink(late_sink);
        let summary = run_well(&graph, options(Mode::MicroBatch, workers).with_max_records_per_epoch(1));
        assert_eq!(late_table.by_epoch(), [(Epoch::new(2), vec![click(7, "LATE")])]);
        assert_eq!((table.snapshot().len(), summary.late_rows), (4, 1));
    }
}

#[test]
fn windows_of_window_results_are_the_windows_of_the_records() {
    let times = |seed: i64| (0..400).map(move |n: i64| (n * 7 + (n * seed) % 13) / 2).collect::<Vec<_>>();
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("chained");
            let source = graph.source(MemorySource::partitioned([times(3), times(5)]));
            let small = timed(source, 50).key_by(|t| t % 3).window(tumbling(micros(10))).count().append();
            let (sink, table) = memory_sink();
            small
                .window(tumbling(micros(100)))
                .sum(|r| r.value)
                .append()
                .map(|r| (r.window.start.as_micros(), r.value))
                .sink(sink);
            let way = options(mode, workers).with_max_records_per_epoch(20);
            let summary = run_well(&graph, way.with_checkpoint_interval(Duration::from_millis(1)));
            let mut expected = std::collections::BTreeMap::<i64, u64>::new();
            for t in times(3).into_iter().chain(times(5)) {
                *expected.entry(t / 100 * 100).or_default() += 1;
            }
            assert_same(
                &table.snapshot(),
                &expected.into_iter().collect::<Vec<_>>(),
                format!("{mode:?}, {workers} workers"),
            );
            assert_eq!(summary.late_rows, 0);
        }
    }
}

#[test]
fn a_session_may_last_over_many_epochs() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("session");
            let times = (0..50).map(|n| n * 5).chain([1_000]);
            let (sink, table) = memory_sink();
            timed(graph.source(memory(times)), 0)
                .key_by(|_| 0)
                .window(session(micros(5)))
                .count()
                .append()
                .map(|r| (r.window.start.as_micros(), r.window.end.as_micros(), r.value))
                .sink(sink);
            run_well(&graph, options(mode, workers).with_max_records_per_epoch(1));
            assert_same(
                &table.snapshot(),
                &[(0, 250, 50), (1_000, 1_005, 1)],
                format!("{mode:?}, {workers} workers"),
            );
        }
    }
}

#[test]
fn a_complete_table_is_the_last_one_and_has_late_records_too() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("complete");
            let (sink, table) = memory_sink();
            timed(graph.source(memory([5, 100, 6, 200, 7])), 0)
                .window(tumbling(micros(10)))
                .count()
                .complete()
                .map(|r| (r.window.start.as_micros(), r.value))
                .sink(sink);
            let summary = run_well(&graph, options(mode, workers).with_max_records_per_epoch(1));
            assert_same(
                &table.snapshot(),
                &[(0, 3), (100, 1), (200, 1)],
                format!("{mode:?}, {workers} workers"),
            );
            assert_eq!(summary.late_rows, 0);
            assert_eq!(table.by_epoch().len(), 1);
        }
    }
}

#[test]
fn an_update_says_each_changed_key_once_in_a_micro_batch() {
    for workers in [1, 2, 4] {
        let graph = Graph::new("update");
        let (sink, table) = memory_sink();
        let input =
            MemorySource::partitioned([(0..300).collect::<Vec<i64>>(), (0..300).map(|n| n * 3).collect()]);
        graph.source(input).key_by(|n| n % 17).count().update().sink(sink);
        run_well(&graph, options(Mode::MicroBatch, workers).with_max_records_per_epoch(10));
        assert_eq!(table.by_epoch().len(), 30);
        let mut counts = std::collections::BTreeMap::<i64, u64>::new();
        for (epoch, rows) in table.by_epoch() {
            let begin = epoch.number() as i64 * 10;
            let read: Vec<i64> = (begin..begin + 10).flat_map(|n| [n % 17, n * 3 % 17]).collect();
            read.iter().for_each(|key| *counts.entry(*key).or_default() += 1);
            let changed: BTreeSet<i64> = read.into_iter().collect();
            let expected: Vec<_> = changed.into_iter().map(|key| (key, counts[&key])).collect();
            assert_same(&rows, &expected, format!("epoch {epoch}, {workers} workers"));
        }
    }
}

#[test]
fn once_is_one_epoch_and_available_now_follows_limits() {
    for workers in [1, 2, 4] {
        for (trigger, epochs) in [(Trigger::Once, 1), (Trigger::AvailableNow, 10)] {
            let graph = Graph::new("trigger");
            let (sink, table) = memory_sink();
            graph.source(memory(0..100)).sink(sink);
            let way = options(Mode::MicroBatch, workers).with_trigger(trigger).with_max_records_per_epoch(10);
            let summary = run_well(&graph, way);
            assert_eq!(sorted(table.snapshot()), (0..100).collect::<Vec<_>>());
            assert_eq!(summary.epochs, epochs, "{trigger}, {workers} workers");
        }
    }
}

#[test]
fn an_interval_trigger_brings_all_rows_in_several_epochs() {
    for workers in [1, 2] {
        let graph = Graph::new("interval");
        let (sink, table) = memory_sink();
        graph.source(iterate(|| 0..100)).sink(sink);
        let every = Trigger::Every(Duration::from_millis(3));
        let summary = run_well(
            &graph,
            options(Mode::MicroBatch, workers).with_trigger(every).with_max_records_per_epoch(30),
        );
        assert_eq!(sorted(table.snapshot()), (0..100).collect::<Vec<_>>());
        assert!(summary.epochs >= 4, "{}", summary.epochs);
        assert!(summary.seconds >= 0.006, "{}", summary.seconds);
    }
}

#[test]
fn available_now_ends_though_source_does_not() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let (sender, source) = channel(2_000);
            (0..1_000).for_each(|n| sender.send(n).unwrap());
            let graph = Graph::new("now");
            let (sink, table) = memory_sink();
            graph.source(source).sink(sink);
            let summary = run_well(&graph, available_now(mode, workers));
            // In micro-batch, too: only an open channel knows its contents.
            assert_eq!(sorted(table.snapshot()), (0..summary.input_rows as i64).collect::<Vec<_>>());
            assert_eq!(summary.input_rows, 1_000, "{mode:?}, {workers} workers");
            drop(sender);
        }
    }
}

#[test]
fn progress_says_what_was_read_written_kept_and_late() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("progress");
            let (sender, source) = channel(64);
            let (windows, _) = timed(graph.source(source), 0)
                .key_by(|t| t % 2)
                .window(tumbling(micros(10)))
                .count()
                .append_with_late();
            let (sink, table) = memory_sink();
            windows.sink(sink);
            let way = options(mode, workers).with_checkpoint_interval(Duration::from_millis(2));
            let handle = graph.start(way).unwrap();
            assert_eq!((handle.progress().name.as_str(), handle.progress().epoch), ("progress", None));
            let offset = |n: u64| {
                move |h: &tidemill::QueryHandle| {
                    h.progress().sources.iter().any(|s| s.end_offset.values().any(|o| *o == n))
                }
            };
            [5, 6, 25].into_iter().for_each(|t| sender.send(t).unwrap());
            wait_until(&handle, "three rows are read", offset(3));
            wait_until(&handle, "two windows are closed", |_| table.snapshot().len() == 2);
            sender.send(4).unwrap();
            sender.send(26).unwrap();
            wait_until(&handle, "five rows are read", offset(5));
            wait_until(&handle, "a row is late", |h| h.progress().late_rows == 1);
            let progress = handle.progress();
            assert_eq!((progress.name.as_str(), progress.mode), ("progress", mode));
            assert!(progress.epoch.is_some());
            assert_eq!(progress.watermark, Some(EventTime::from_micros(26)), "{mode:?}, {workers} workers");
            assert_eq!(progress.sources.len(), 1);
            assert!(progress.sources[0].description.contains("channel"));
            let [state] = &progress.state_operators[..] else { panic!("{:?}", progress.state_operators) };
            assert_eq!(
                (state.num_rows_total, state.rows_in, state.rows_out, state.late_rows),
                (2, 5, 2, 1),
                "{mode:?}, {workers} workers"
            );
            drop(sender);
            let summary = end(handle, "the source ends").unwrap();
            assert_eq!((summary.input_rows, summary.output_rows, summary.late_rows), (5, 4, 1));
            assert_eq!(summary.last.watermark, Some(EventTime::MAX));
            assert_eq!(summary.last.state_operators[0].num_rows_total, 0);
        }
    }
}

#[test]
fn bounded_query_ends_though_last_commit_exceeds_interval() {
    for workers in [1, 2] {
        let graph = Graph::new("slow");
        let slow = for_each_epoch(|_: EpochRows<i64>| {
            std::thread::sleep(Duration::from_millis(20));
            Ok::<(), std::io::Error>(())
        });
        graph.source(memory(0..10)).sink(slow);
        let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_millis(1));
        assert_eq!(run_well(&graph, way).output_rows, 10);
    }
}

#[test]
fn fully_read_file_does_not_hold_watermark_of_others() {
    // No epoch ends before the test does, so only the watermark can close a window.
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("a", "5\n15\n"), ("b", "25\n35\n"), ("c", "45\n55\n")] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    for workers in [1, 2, 3] {
        let graph = Graph::new("slices");
        let lines = text_files(directory.path().display().to_string()).partitions(3);
        let table =
            counts(timed(graph.source(lines).map(|line| line.as_str().parse().unwrap()).boxed(), 100));
        // The delay keeps every record in time, whichever file is read first; one late file then advances it.
        let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_secs(3_600));
        let handle = graph.start(way).unwrap();
        let late = directory.path().join("d");
        std::fs::write(directory.path().join(".d"), "140\n").unwrap();
        std::fs::rename(directory.path().join(".d"), &late).unwrap();
        wait_until(&handle, "four windows close", |_| table.snapshot().len() >= 4);
        assert_same(&table.snapshot(), &[(0, 1), (10, 1), (20, 1), (30, 1)], format!("{workers} workers"));
        handle.stop();
        end(handle, "stopped").unwrap();
        std::fs::remove_file(late).unwrap();
    }
}
