//! The chain behind a source under load pulls its rows, in the chain's own loop. Results, epochs, offsets and errors are those
//! of a source that sends batches.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::connectors::{
    MemorySource, discard, for_each, for_each_epoch, iterate, iterate_partitions, json_lines, memory_sink,
    text_files,
};
use tidemill::{
    Chain, Either, EventTime, Graph, Mode, Options, RunError, Stream, Untimed, session, tumbling,
};

use common::{MODES, assert_same, end, options, run, run_well, wait_until};

const RECORDS: i64 = 30_000;
/// No source is pulled; those with many rows are; all are, from their first record on.
const PULLS_FROM: [usize; 3] = [usize::MAX, 64, 0];

fn ways() -> Vec<Options> {
    common::ways(&PULLS_FROM, 7_001)
}

/// Wide enough to be read by the chain behind the source.
type Wide = (i64, [u64; 4]);

fn wide(n: i64) -> Wide {
    (n, [n.unsigned_abs(); 4])
}

fn narrow((n, _): Wide) -> i64 {
    n
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// Three partitions over an iterator, which has its own way to be pulled.
macro_rules! iterated {
    ($graph:expr) => {
        $graph.source(iterate_partitions(3, |partition| (i64::from(partition)..RECORDS).step_by(3).map(wide)))
    };
}

/// Two in memory, read a chunk at a time.
macro_rules! in_memory {
    ($graph:expr) => {
        $graph.source(MemorySource::partitioned([
            (0..RECORDS / 2).map(wide).collect::<Vec<_>>(),
            (RECORDS / 2..RECORDS).map(wide).collect(),
        ]))
    };
}

#[test]
fn steps_pass_the_same_records() {
    let kept = |n: &i64| n % 7 != 3;
    let expected: Vec<i64> = (0..RECORDS).filter(kept).map(|n| n * 2).collect();
    for way in ways() {
        let graph = Graph::new("steps");
        let (one, other) = (memory_sink(), memory_sink());
        iterated!(graph).map(narrow).filter(kept).map(|n| n * 2).sink(one.0);
        in_memory!(graph).map(narrow).filter(kept).map(|n| n * 2).sink(other.0);
        let summary = run_well(&graph, way.clone());
        assert_same(&one.1.snapshot(), &expected, format!("{way:?}"));
        assert_same(&other.1.snapshot(), &expected, format!("{way:?}"));
        assert_eq!(summary.input_rows, 2 * RECORDS as u64);
        assert_eq!(summary.output_rows, 2 * expected.len() as u64);
    }
}

#[test]
fn a_sink_without_steps_takes_the_same_records() {
    let expected: Vec<Wide> = (0..RECORDS).map(wide).collect();
    for way in ways() {
        let graph = Graph::new("sinks");
        let (sink, one) = memory_sink();
        iterated!(graph).sink(sink);
        let all: Arc<Mutex<Vec<Wide>>> = Arc::default();
        let other = Arc::clone(&all);
        in_memory!(graph).sink_per_worker(move |_| {
            let other = Arc::clone(&other);
            Ok(for_each(move |n| other.lock().unwrap().push(n)))
        });
        let summary = run_well(&graph, way.clone());
        assert_same(&one.snapshot(), &expected, format!("{way:?}"));
        assert_same(&all.lock().unwrap(), &expected, format!("{way:?}"));
        assert_eq!((summary.input_rows, summary.output_rows), (2 * RECORDS as u64, 2 * RECORDS as u64));
    }
}

#[test]
fn streams_are_parted_the_same() {
    let part = |n: i64| if n % 3 == 0 { Either::Left(n) } else { Either::Right(n.to_string()) };
    let left: Vec<i64> = (0..RECORDS).filter(|n| n % 3 == 0).collect();
    let right: Vec<String> = (0..RECORDS).filter(|n| n % 3 != 0).map(|n| n.to_string()).collect();
    for way in ways() {
        let graph = Graph::new("parts");
        let (lefts, rights, evens, odds) = (memory_sink(), memory_sink(), memory_sink(), memory_sink());
        let (a, b) = iterated!(graph).map(narrow).split(part);
        a.sink(lefts.0);
        b.sink(rights.0);
        let mut branches = in_memory!(graph).map(narrow).branch([|n: &i64| n % 2 == 0]);
        branches.pop().unwrap().sink(odds.0);
        branches.pop().unwrap().sink(evens.0);
        run_well(&graph, way.clone());
        assert_same(&lefts.1.snapshot(), &left, format!("{way:?}"));
        assert_same(&rights.1.snapshot(), &right, format!("{way:?}"));
        let (evens, odds) = (evens.1.snapshot(), odds.1.snapshot());
        assert!(evens.iter().all(|n| n % 2 == 0) && odds.iter().all(|n| n % 2 != 0));
        assert_eq!((evens.len() as i64, odds.len() as i64), (RECORDS / 2, RECORDS / 2));
    }
}

/// Counts by key: in windows of a thousand, in sessions, and of all.
fn counts<P: Chain<Out = i64, Time = Untimed>>(of: impl Fn() -> Stream<i64, P>) -> [Table; 3] {
    let tables = [memory_sink(), memory_sink(), memory_sink()];
    let [windows, sessions, all] = tables;
    of().with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO)
        .key_by(|n| n % 11)
        .window(tumbling(micros(1_000)))
        .count()
        .append()
        .map(|row| (row.key, row.window.start.as_micros(), row.value))
        .sink(windows.0);
    of().with_watermark(|n| EventTime::from_micros(n * if n % 500 == 0 { 2 } else { 1 }), micros(40_000))
        .key_by(|n| n % 5)
        .window(session(micros(8)))
        .count()
        .append()
        .map(|row| (row.key, row.window.start.as_micros(), row.value))
        .sink(sessions.0);
    of().key_by(|n| n % 13).count().update().map(|(key, count)| (key, 0, count)).sink(all.0);
    [windows.1, sessions.1, all.1]
}

type Table = tidemill::connectors::MemoryTable<(i64, i64, u64)>;

#[test]
fn aggregates_are_the_same() {
    let mut windows: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    let mut totals: BTreeMap<i64, u64> = BTreeMap::new();
    for n in 0..RECORDS {
        *windows.entry((n % 11, n / 1_000 * 1_000)).or_default() += 1;
        *totals.entry(n % 13).or_default() += 1;
    }
    let windows: Vec<_> = windows.into_iter().map(|((key, start), count)| (key, start, count)).collect();
    let mut sessions = None;
    for way in ways() {
        let graph = Graph::new("aggregates");
        let tables = counts(|| iterated!(graph).map(narrow));
        let summary = run_well(&graph, way.clone());
        assert_eq!((summary.input_rows, summary.late_rows), (3 * RECORDS as u64, 0), "{way:?}");
        let [found, open, all] = tables.map(|table| table.snapshot());
        assert_same(&found, &windows, format!("{way:?}"));
        assert_same(&open, sessions.get_or_insert_with(|| open.clone()), format!("{way:?}"));
        assert_eq!(open.iter().map(|row| row.2).sum::<u64>(), RECORDS as u64);
        let last: BTreeMap<i64, u64> = all.into_iter().map(|(key, _, count)| (key, count)).collect();
        assert_eq!(last, totals, "{way:?}");
    }
}

#[test]
fn a_micro_batch_has_the_same_rows() {
    let epochs = |pulls_from: usize| {
        let graph = Graph::new("epochs");
        let rows: Arc<Mutex<Vec<(u64, Vec<i64>)>>> = Arc::default();
        let kept = Arc::clone(&rows);
        iterated!(graph).map(narrow).filter(|n| n % 2 == 0).sink(for_each_epoch(move |epoch| {
            kept.lock().unwrap().push((epoch.epoch.number(), epoch.rows.to_vec()));
            Ok::<(), RunError>(())
        }));
        run_well(
            &graph,
            options(Mode::MicroBatch, 1).with_max_records_per_epoch(999).with_pulls_from(pulls_from),
        );
        std::mem::take(&mut *rows.lock().unwrap())
    };
    let expected = epochs(usize::MAX);
    assert!(expected.len() > 10);
    assert_eq!(epochs(64), expected);
    assert_eq!(epochs(0), expected);
}

#[test]
fn a_bad_record_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    for n in 0..20_000 {
        writeln!(file, "{}", if n == 15_000 { "none".to_owned() } else { n.to_string() }).unwrap();
    }
    for mode in MODES {
        for pulls_from in PULLS_FROM {
            let graph = Graph::new("bad");
            let source = json_lines::<Box<i64>>(path.display().to_string()).bounded();
            graph.source(source).map(|n| *n + 1).sink_per_worker(|_| Ok(discard().0));
            let error = run(&graph, options(mode, 1).with_pulls_from(pulls_from)).unwrap_err();
            assert!(matches!(error, RunError::Source { .. }), "{error}");
            assert!(error.to_string().contains("numbers.jsonl, line 15001"), "{error}");
        }
    }
}

#[test]
fn a_panic_in_a_step_is_the_steps() {
    for mode in MODES {
        for pulls_from in PULLS_FROM {
            let graph = Graph::new("panic");
            let careful = |n: i64| {
                assert!(n < 20_000, "too many");
                n
            };
            iterated!(graph).map(narrow).map(careful).name("careful").sink_per_worker(|_| Ok(discard().0));
            match run(&graph, options(mode, 2).with_pulls_from(pulls_from)).unwrap_err() {
                RunError::Panic { site, message, .. } => {
                    assert_eq!((site.operator.as_str(), message.as_str()), ("map → careful", "too many"));
                }
                other => panic!("not a panic: {other}"),
            }
        }
    }
}

#[test]
fn what_was_read_by_a_chain_is_not_read_again_after_a_restart() {
    for (mode, workers) in [(Mode::MicroBatch, 1), (Mode::MicroBatch, 2), (Mode::Continuous, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let totals: Arc<Mutex<BTreeMap<i64, u64>>> = Arc::default();
        let graph = || {
            let graph = Graph::new("resumed");
            let said = Arc::clone(&totals);
            graph
                .source(iterate(|| (0..RECORDS).map(wide)))
                .uid("numbers")
                .map(narrow)
                .map(|n| n % 9)
                .key_by(|n| *n)
                .count()
                .update()
                .uid("totals")
                .sink(for_each(move |(key, count)| {
                    said.lock().unwrap().insert(key, count);
                }));
            graph
        };
        let options = options(mode, workers)
            .with_checkpoint(dir.path())
            .with_checkpoint_interval(Duration::from_millis(1))
            .with_max_records_per_epoch(4_000)
            .with_pulls_from(0);
        let mut runs = 0;
        while totals.lock().unwrap().values().sum::<u64>() < RECORDS as u64 {
            runs += 1;
            assert!(runs < 100, "no progress");
            let graph = graph();
            let handle = tidemill::Run::start(&graph, options.clone()).unwrap();
            wait_until(&handle, "an epoch", |h| h.is_finished() || h.progress().epoch > Some(0));
            handle.stop();
            end(handle, "stopped").unwrap();
        }
        let totals = totals.lock().unwrap();
        assert_eq!(totals.values().sum::<u64>(), RECORDS as u64);
        assert!(totals.values().all(|count| count.abs_diff(RECORDS as u64 / 9) <= 1), "{totals:?}");
    }
}

#[test]
fn the_slices_of_a_file_are_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("times.txt");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for n in 0..LINES {
        writeln!(file, "{n:>20}").unwrap();
    }
    drop(file);
    for workers in [1, 2] {
        for pulls_from in PULLS_FROM {
            let graph = Graph::new("slices");
            let (sink, table) = memory_sink();
            graph
                .source(text_files(path.display().to_string()).partitions(4).bounded())
                .map(|line| line.trim().parse::<i64>().unwrap())
                .with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO)
                .window(tumbling(micros(100)))
                .count()
                .append()
                .map(|row| (row.window.start.as_micros(), row.value))
                .sink(sink);
            let summary = run_well(&graph, options(Mode::Continuous, workers).with_pulls_from(pulls_from));
            let rows = table.snapshot().iter().map(|(_, count)| count).sum::<u64>();
            assert_eq!(
                (summary.late_rows, rows),
                (0, LINES),
                "{workers} workers, pulls_from from {pulls_from}"
            );
        }
    }
}

/// Several blocks of a file for each of its slices.
const LINES: u64 = 120_000;
