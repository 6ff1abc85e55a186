//! Commits and stops come in time, whatever a row costs, and runs that are killed make progress.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::connectors::{
    channel, csv_files, discard, for_each, for_each_epoch, iterate, iterate_partitions, memory, text_files,
};
use tidemill::{Backpressure, Graph, Mode, Options, Pid, Run, RunError, Trigger};

use common::{MODES, alone, end, options, run_well, takes_at_most, wait_until};

/// What a row costs. Sleeping, so that other tests and programs do not make it more.
const ROW: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(100);

/// A multiple of what the engine aims at: the machine may be busy. Where only rows were counted it was 8 s.
const IN_TIME: Duration = Duration::from_secs(4);

fn slow<T>(row: T) -> T {
    std::thread::sleep(ROW);
    row
}

/// How long a run of a process may take before it is killed: where that is tried often, and on a machine that may be busy.
const SHORT_RUN: Duration = Duration::from_millis(600);
const RUN: Duration = Duration::from_secs(2);

/// Runs a query whose rows are slow; the first commit and the end after a stop must come in time.
#[track_caller]
fn in_time(graph: &Graph, options: Options, what: &str) {
    let what = format!("{what}, {:?}, {} workers", options.mode, options.workers);
    let options = options.with_stop_timeout(Duration::from_secs(60));
    takes_at_most(IN_TIME, &what, || {
        let begun = Instant::now();
        let query = graph.start(options.clone()).unwrap();
        wait_until(&query, &what, |query| query.progress().total_input_rows > 0);
        let first = begun.elapsed();
        wait_until(&query, &what, |query| query.progress().epoch.is_some_and(|epoch| epoch >= 5));
        let stopped = Instant::now();
        query.stop();
        end(query, &what).unwrap();
        let stop = stopped.elapsed();
        eprintln!("{what}: first commit {first:?}, stop {stop:?}");
        first.max(stop)
    });
}

fn ways() -> Vec<Options> {
    let way = |mode, workers| options(mode, workers).with_checkpoint_interval(INTERVAL);
    MODES.into_iter().flat_map(|mode| [1, 2].map(|workers| way(mode, workers))).collect()
}

#[test]
fn slow_function_delays_neither_commits_nor_stop() {
    let _alone = alone();
    for way in ways() {
        let graph = Graph::new("map");
        graph.source(iterate(|| 0u64..)).map(slow).sink(discard().0);
        in_time(&graph, way.clone(), "generator");

        let graph = Graph::new("wide");
        graph.source(iterate_partitions(4, |_| (0u64..).map(|n| n.to_string()))).map(slow).sink(discard().0);
        in_time(&graph, way.clone(), "wide rows");

        let graph = Graph::new("exchange");
        graph.source(iterate(|| 0u64..)).rebalance().map(slow).sink(discard().0);
        in_time(&graph, way.clone(), "behind an exchange");

        let graph = Graph::new("chains");
        let keyed = graph.source(iterate(|| 0u64..)).key_by(|n| *n % 7).count().update().as_inserts();
        keyed.map(|(key, count)| slow(key + count)).rebalance().map(|n| n + 1).sink(discard().0);
        in_time(&graph, way.clone(), "behind two exchanges");

        let graph = Graph::new("memory");
        graph.source(memory(0..100_000u64)).key_by(|n| slow(*n) % 5).count().update().sink(discard().0);
        in_time(&graph, way, "memory");
    }
}

#[test]
fn slow_sink_delays_neither_commits_nor_stop() {
    let _alone = alone();
    for way in ways() {
        let graph = Graph::new("sink");
        graph.source(iterate(|| 0u64..)).sink(for_each(|n: u64| assert!(slow(n) < u64::MAX)));
        in_time(&graph, way.clone(), "sink");

        let graph = Graph::new("wide");
        graph.source(iterate(|| (0u64..).map(|n| vec![n; 128]))).sink(for_each(|n: Vec<u64>| drop(slow(n))));
        in_time(&graph, way, "wide rows into a sink");
    }
}

#[test]
fn slow_reader_delays_neither_commits_nor_stop() {
    let _alone = alone();
    for way in ways() {
        let graph = Graph::new("reader");
        graph.source(iterate(|| (0u64..).map(slow))).sink(discard().0);
        in_time(&graph, way, "reader");
    }
}

#[test]
fn rows_multiplied_by_flat_map_delay_neither() {
    let _alone = alone();
    for way in ways() {
        let many = |n: u64| (0..10_000).map(move |m| n ^ m);
        let graph = Graph::new("many");
        graph.source(iterate(|| 0u64..)).flat_map(many).sink(discard().0);
        in_time(&graph, way.clone(), "multiplied");

        let graph = Graph::new("counted");
        graph
            .source(iterate(|| 0u64..))
            .flat_map(many)
            .key_by(|n| n % 100)
            .count()
            .update()
            .sink(discard().0);
        in_time(&graph, way, "multiplied before an exchange");
    }
}

#[test]
fn slow_rows_of_files_and_channels_delay_neither() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let lines = write("numbers", (0..200_000u64).map(|n| format!("{n}\n")).collect());
    let rows = write("numbers.csv", (0..200_000u64).map(|n| format!("{n},{n}\n")).collect());
    let large = write("large", (0..2_000u64).map(|n| "x".repeat(10_000 + n as usize) + "\n").collect());
    for way in ways() {
        for (path, what) in [(&lines, "lines"), (&large, "large lines")] {
            let graph = Graph::new("lines");
            graph.source(text_files(path.clone())).map(slow).sink(discard().0);
            in_time(&graph, way.clone(), what);
        }
        let graph = Graph::new("csv");
        let source = csv_files::<(u64, u64)>(rows.clone());
        graph.source(source).map(slow).sink(discard().0);
        in_time(&graph, way.clone(), "csv");

        let (sender, source) = channel(100_000);
        let feeding = std::thread::spawn(move || (0u64..).take_while(|n| sender.send(*n).is_ok()).count());
        let graph = Graph::new("channel");
        graph.source(source).map(slow).sink(discard().0);
        in_time(&graph, way, "channel");
        drop(graph);
        feeding.join().unwrap();
    }
}

#[test]
fn small_queue_bounds_rows_between_workers() {
    let _alone = alone();
    let (read, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let most = Arc::new(AtomicU64::new(0));
    let graph = Graph::new("queued");
    let reads = Arc::clone(&read);
    let rows = graph.source(iterate(move || {
        let reads = Arc::clone(&reads);
        (0u64..).inspect(move |_| {
            reads.fetch_add(1, Ordering::Relaxed);
        })
    }));
    let (seen, done_by) = (Arc::clone(&most), Arc::clone(&done));
    let take = move |n: u64| {
        let before = done_by.fetch_add(1, Ordering::Relaxed);
        seen.fetch_max(read.load(Ordering::Relaxed).saturating_sub(before), Ordering::Relaxed);
        slow(n)
    };
    rows.rebalance().map(take).sink(discard().0);
    let query = graph.start(options(Mode::Continuous, 2).with_max_queued(20)).unwrap();
    wait_until(&query, "rows", |_| done.load(Ordering::Relaxed) > 500);
    query.stop();
    end(query, "queued").unwrap();
    let most = most.load(Ordering::Relaxed);
    assert!(most < 1_000, "{most} rows were read and not processed");
}

#[test]
fn restart_after_short_runs_makes_progress() {
    let _alone = alone();
    for way in ways() {
        let directory = tempfile::tempdir().unwrap();
        let way = way.with_checkpoint(directory.path().join("checkpoint"));
        for run in 1..=3 {
            takes_at_most(IN_TIME, "the first commit of a run", || {
                let graph = Graph::new("restarts");
                graph.source(iterate(|| 0u64..)).map(slow).sink(discard().0);
                let query = graph.start(way.clone()).unwrap();
                let begun = Instant::now();
                // Ended at once, as by a crash.
                wait_until(&query, "a commit", |query| query.progress().total_input_rows > 0);
                let time = begun.elapsed();
                query.cancel();
                end(query, &format!("run {run}")).unwrap_err();
                time
            });
        }
    }
}

/// The process that is killed: a query with a checkpoint in `TIDEMILL_KILLED`.
#[test]
#[ignore = "for `killed_runs_make_progress`"]
fn killed() {
    let Ok(directory) = std::env::var("TIDEMILL_KILLED") else { return };
    let (mode, workers) = directory.rsplit_once('-').unwrap();
    let mode = if mode.ends_with("continuous") { Mode::Continuous } else { Mode::MicroBatch };
    let way = options(mode, workers.parse().unwrap()).with_checkpoint_interval(INTERVAL);
    let graph = Graph::new("killed");
    graph.source(iterate(|| 0u64..)).map(slow).sink(discard().0);
    let query = graph.start(way.with_checkpoint(&directory)).unwrap();
    let mut rows = 0;
    while !query.is_finished() {
        let now = query.progress().total_input_rows;
        if now > rows {
            println!("committed {}", now - std::mem::replace(&mut rows, now));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    query.wait().unwrap();
}

/// `TIDEMILL_KILLS` says how often each way is killed, after short runs.
#[test]
fn killed_runs_make_progress() {
    let _alone = alone();
    let (kills, run) = match std::env::var("TIDEMILL_KILLS") {
        Ok(kills) => (kills.parse().unwrap(), SHORT_RUN),
        Err(_) => (3, RUN),
    };
    let directory = tempfile::tempdir().unwrap();
    for (mode, workers) in [("micro-batch", 1), ("micro-batch", 2), ("continuous", 1), ("continuous", 2)] {
        let checkpoint = directory.path().join(format!("{mode}-{workers}"));
        let (mut with, mut without, mut total) = (0, 0, 0);
        // Other programs may take the machine from some runs.
        let most_without = (kills / 4).max(3);
        while with < kills && without <= most_without {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["killed", "--exact", "--ignored", "--nocapture"])
                .env("TIDEMILL_KILLED", &checkpoint)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let begun = Instant::now();
            while begun.elapsed() < run {
                assert!(child.try_wait().unwrap().is_none(), "{mode}, {workers} workers: the run has failed");
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            let rows = said.lines().filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok());
            let rows = rows.sum::<u64>();
            (with, without) = if rows > 0 { (with + 1, without) } else { (with, without + 1) };
            total += rows;
        }
        println!(
            "{mode}, {workers} workers: {total} rows, {with} runs with a commit and {without} without one"
        );
        assert!(with == kills, "{mode}, {workers} workers: {without} runs commit nothing, {with} something");
    }
}

#[test]
fn cancel_ends_replay_of_large_epoch() {
    let _alone = alone();
    for workers in [1, 2] {
        takes_at_most(Duration::from_secs(1), "a cancel", || {
            let directory = tempfile::tempdir().unwrap();
            let way = options(Mode::MicroBatch, workers)
                .with_max_records_per_epoch(1_000_000)
                .with_checkpoint(directory.path().join("checkpoint"));
            let cancel = |run: usize| {
                let begins = Arc::new(AtomicU64::new(0));
                let graph = Graph::new("replayed");
                let seen = Arc::clone(&begins);
                let take = move |n: u64| {
                    seen.fetch_add(1, Ordering::Relaxed);
                    slow(n)
                };
                graph.source(iterate(|| 0u64..)).map(take).sink(discard().0);
                let query = graph.start(way.clone()).unwrap();
                wait_until(&query, "it reads", |_| begins.load(Ordering::Relaxed) > 20);
                let begun = Instant::now();
                query.cancel();
                let error = end(query, "replayed").unwrap_err();
                assert!(matches!(error, RunError::Cancelled { .. }), "run {run}: {error}");
                begun.elapsed()
            };
            cancel(1).max(cancel(2))
        });
    }
}

/// The rows of every epoch, in the order in which the sink took them.
type Epochs = Arc<Mutex<Vec<(u64, Vec<u64>)>>>;

/// Reads partitions of two sources whose rows cost `cost(row)`.
fn interleaved(way: Options, wide: bool, cost: fn(u64)) -> Vec<(u64, Vec<u64>)> {
    let taken = Epochs::default();
    let graph = Graph::new("interleaved");
    let numbers = |from: u64| move |p: u32| (0..30_000u64).map(move |n| n * 8 + u64::from(p) + from);
    let text = |from: u64| move |p: u32| numbers(from)(p).map(|n| format!("{n:>40}"));
    let numbers = |from| {
        let cost = move |n: u64| {
            cost(n);
            n
        };
        match wide {
            true => graph
                .source(iterate_partitions(3, text(from)))
                .map(move |text| cost(text.trim().parse().unwrap()))
                .boxed(),
            false => graph.source(iterate_partitions(3, numbers(from))).map(cost).boxed(),
        }
    };
    let sink = Arc::clone(&taken);
    numbers(0).union(numbers(3)).sink(for_each_epoch(move |all| {
        sink.lock().unwrap().push((all.epoch.number(), all.rows));
        Ok::<(), std::io::Error>(())
    }));
    run_well(&graph, way.with_max_records_per_epoch(20_000));
    std::mem::take(&mut *taken.lock().unwrap())
}

#[test]
fn order_within_epoch_does_not_depend_on_time() {
    for wide in [false, true] {
        let way = || options(Mode::MicroBatch, 1);
        let quick = interleaved(way(), wide, |_| {});
        let uneven = interleaved(way(), wide, |n| {
            if n % 5_000 < 3 {
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let rows = |epochs: &[(u64, Vec<u64>)]| epochs.iter().map(|(_, rows)| rows.len()).sum::<usize>();
        assert_eq!((rows(&quick), rows(&uneven)), (180_000, 180_000));
        let first = quick.iter().zip(&uneven).find(|(quick, uneven)| quick != uneven);
        assert!(first.is_none(), "wide: {wide}, epoch {}", first.unwrap().0.0);
    }
}

#[test]
fn small_bounded_input_is_one_epoch() {
    let graph = Graph::new("small");
    graph.source(memory(0..100u64)).sink(discard().0);
    let summary = run_well(&graph, options(Mode::MicroBatch, 1));
    // One more in which the source reports its end.
    assert!(summary.epochs <= 2, "{} epochs", summary.epochs);
}

#[test]
fn quick_rows_make_few_large_epochs() {
    let _alone = alone();
    let graph = Graph::new("quick");
    graph.source(iterate(|| 0..3_000_000u64)).sink(discard().0);
    let summary = run_well(&graph, options(Mode::MicroBatch, 1));
    // An epoch is to take 12 ms: on a busy machine it has fewer rows.
    let most = 40.0 + summary.seconds / 0.006;
    assert!((summary.epochs as f64) < most, "{} epochs in {} s", summary.epochs, summary.seconds);
}

#[test]
fn pid_has_one_epoch_per_interval() {
    const ROWS: u64 = 1_500;
    let _alone = alone();
    for workers in [1, 2] {
        let (graph, epochs) = (Graph::new("steady"), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&epochs);
        let sink = for_each_epoch(move |all| {
            seen.lock().unwrap().push((all.epoch.number(), all.rows.len()));
            Ok::<_, std::io::Error>(())
        });
        graph.source(memory(0..ROWS)).map(slow).sink(sink);
        let began = Instant::now();
        let options = options(Mode::MicroBatch, workers)
            .with_trigger(Trigger::Every(INTERVAL))
            .with_backpressure(Backpressure::Pid(Pid { min_rate: 10.0, ..Pid::default() }));
        let summary = graph.run(options).unwrap();
        let intervals = began.elapsed().as_millis() / INTERVAL.as_millis() + 2;
        // A row takes a millisecond or more.
        let rate = summary.last.sources[0].rate_limit.unwrap();
        assert!((10.0..=1_000.0).contains(&rate), "{rate}");
        let epochs = epochs.lock().unwrap();
        assert!(epochs.len() as u128 <= intervals, "{epochs:?} in {intervals} intervals");
        assert_eq!(epochs.iter().map(|(_, rows)| *rows as u64).sum::<u64>(), ROWS);
        // The first one is small, since nothing is known.
        assert!(epochs.iter().all(|(_, rows)| *rows <= 200), "{epochs:?}");
    }
}
