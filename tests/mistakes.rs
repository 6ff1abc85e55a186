//! What a user does between two runs, or mistypes, and must hear of: nothing is left out, or there twice, in silence.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{
    EpochRows, at_commit, channel, csv_dir, csv_files, csv_sink, for_each_epoch, json_lines, json_lines_dir,
    json_lines_sink, memory, memory_sink, rate, socket, text_files,
};
use tidemill::{
    EventTime, Fault, Graph, Journal, Options, Restart, Run, RunError, Source, SourceError, WrapSource,
    tumbling,
};

use common::{MODES, run};

fn options(dir: &Path) -> Options {
    Options::default().without_ctrl_c().with_checkpoint(dir.join("checkpoint"))
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        // A source that looks now and then must not find half a file.
        let hidden = dir.join(format!(".{name}"));
        std::fs::write(&hidden, text).unwrap();
        std::fs::rename(hidden, dir.join(name)).unwrap();
    }
}

#[test]
fn bounded_files_refuse_checkpoint_of_another_pattern() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    write(dir, &[("a.txt", "1\n2\n"), ("b.log", "3\n")]);
    let read = |pattern: &str, uid: &str, options: Options| {
        let graph = Graph::new("lines");
        let (sink, table) = memory_sink();
        let lines = text_files(dir.join(pattern).display().to_string()).bounded();
        graph.source(lines).uid(uid).map(|line| line.to_string()).sink(sink);
        run(&graph, options).map(|_| table.snapshot().len())
    };
    assert_eq!(read("*.txt", "lines", options(dir)).unwrap(), 2);
    let error = read("*.log", "lines", options(dir)).unwrap_err();
    assert!(matches!(&error, RunError::Source { site, .. } if site.location.contains("mistakes.rs")));
    let said = error.to_string();
    assert!(said.contains("made for the pattern") && said.contains("--drop-state"), "{said}");
    // What it says to do helps.
    assert_eq!(read("*.txt", "lines", options(dir)).unwrap(), 0);
    assert_eq!(read("*.log", "other lines", options(dir).with_drop_state("lines")).unwrap(), 1);
    assert_eq!(read("*.log", "other lines", options(dir)).unwrap(), 0);
}

#[test]
fn another_format_under_the_same_uid_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    write(dir, &[("a", "1\n2\n")]);
    let pattern = dir.join("a").display().to_string();
    let lines = Graph::new("numbers");
    lines.source(json_lines::<u64>(pattern.clone()).bounded()).uid("numbers").sink(memory_sink().0);
    run(&lines, options(dir)).unwrap();
    let rows = Graph::new("numbers");
    rows.source(csv_files::<(u64,)>(pattern).bounded()).uid("numbers").sink(memory_sink().0);
    let error = run(&rows, options(dir)).unwrap_err().to_string();
    assert!(error.contains("read as a whole (CSV)") && error.contains("blocks of"), "{error}");
}

#[test]
fn a_socket_without_a_port_is_refused_before_anything_runs() {
    let place = tempfile::tempdir().unwrap();
    let (plain, journaled) = (Graph::new("plain"), Graph::new("journaled"));
    plain.source(socket("localhost")).sink(memory_sink().0);
    journaled.source(socket("localhost").journaled()).sink(memory_sink().0);
    for (graph, options) in [(plain, Options::default().without_ctrl_c()), (journaled, options(place.path()))]
    {
        let error = graph.start(options).map(drop).unwrap_err();
        assert!(matches!(&error, RunError::Source { site, .. } if site.location.contains("mistakes.rs")));
        let said = error.to_string();
        assert!(said.contains("it has no port") && said.contains("like `localhost:9999`"), "{said}");
    }
}

fn again(times: u32) -> Restart {
    Restart::Times { times, backoff: Duration::from_millis(5) }
}

#[test]
fn final_error_has_attempts_and_time() {
    let graph = Graph::new("fails");
    graph.source(memory([1, 2, 3])).inspect(|n| assert_ne!(*n, 2, "not two")).sink(memory_sink().0);
    for times in [0, 1, 3] {
        let place = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let error = run(&graph, options(place.path()).with_restart(again(times))).unwrap_err();
        assert!(matches!(error.cause(), RunError::Panic { message, .. } if message.contains("not two")));
        assert_eq!(error.fault(), Fault::User);
        let said = error.to_string();
        match &error {
            RunError::GivenUp { restarts, after, .. } => {
                assert_eq!(*restarts, times);
                assert!(*after >= Duration::from_millis(5) && *after <= begun.elapsed(), "{after:?}");
                let attempt = format!("(attempt {}, ", times + 1);
                assert!(
                    said.contains(&attempt) && said.contains("--restart allows no more attempts"),
                    "{said}"
                );
            }
            _ => assert_eq!(times, 0, "{said}"),
        }
    }
}

#[test]
fn restarted_query_drops_state_once_and_counts_restarts() {
    let storage = Arc::new(MemoryStorage::new());
    let count = |upto: u64, fails_at: u64, options: Options| {
        let graph = Graph::new("counts");
        let (sink, table) = memory_sink();
        let calls = AtomicU64::new(0);
        graph
            .source(memory(0..upto))
            .uid("numbers")
            .inspect(move |_| assert_ne!(calls.fetch_add(1, Ordering::SeqCst), fails_at, "once"))
            .key_by(|_| 0u8)
            .count()
            .update()
            .uid("counts")
            .sink(sink);
        let options = options.without_ctrl_c().with_max_records_per_epoch(10);
        let summary = graph.start_in(storage.clone(), options).unwrap().wait().unwrap();
        (summary.restarts, table.snapshot().last().map(|(_, count): &(u8, u64)| *count))
    };
    assert_eq!(count(20, u64::MAX, Options::default()), (0, Some(20)));
    // The count restarts at the 21st, and resumes from the checkpoint after the failure.
    let options = Options::default().with_drop_state("counts").with_restart(again(2));
    assert_eq!(count(100, 50, options), (1, Some(80)));
}

/// A source whose query can be set up at the first start and at the third.
struct Away<S> {
    source: S,
    starts: AtomicU64,
}

impl<S: Source> WrapSource for Away<S> {
    type Inner = S;
    type Item = S::Item;
    type Reader = S::Reader;

    fn inner(&self) -> &S {
        &self.source
    }
    fn inner_mut(&mut self) -> &mut S {
        &mut self.source
    }
    fn check(&self) -> Result<(), SourceError> {
        match self.starts.fetch_add(1, Ordering::SeqCst) {
            1 => Err(SourceError::io("cannot look", std::io::ErrorKind::HostUnreachable.into())),
            _ => Ok(()),
        }
    }
    fn wrap(&self, _partition: u32, reader: S::Reader) -> Result<S::Reader, SourceError> {
        Ok(reader)
    }
}

#[test]
fn source_setup_is_retried_after_failure() {
    for times in [1, 2] {
        let graph = Graph::new("away");
        let (sink, table) = memory_sink();
        let calls = AtomicU64::new(0);
        graph
            .source(Away { source: memory(0..100), starts: AtomicU64::new(0) })
            .inspect(move |_| assert_ne!(calls.fetch_add(1, Ordering::SeqCst), 50, "once"))
            .sink(sink);
        let options = Options::default().without_ctrl_c().with_restart(again(times));
        let ended = graph.start_in(Arc::new(MemoryStorage::new()), options).unwrap().wait();
        if times == 1 {
            let said = ended.unwrap_err().to_string();
            assert!(said.contains("cannot look") && said.contains("(attempt 2, "), "{said}");
        } else {
            assert_eq!(ended.unwrap().restarts, 2);
            assert_eq!(table.snapshot().len(), 100);
        }
    }
}

#[test]
fn new_checkpoint_refuses_directory_with_results() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let numbers = |workers: usize, checkpoint: &str, adds: bool| {
        let graph = Graph::new("numbers");
        let out = out.clone();
        graph.source(memory(0..100)).rebalance().sink_per_worker(move |_| {
            let sink = json_lines_dir(&out).roll_every_epoch();
            Ok(if adds { sink.add_to_existing() } else { sink })
        });
        let options =
            Options::default().without_ctrl_c().with_workers(workers).with_max_records_per_epoch(10);
        run(&graph, options.with_restart(again(2)).with_checkpoint(place.path().join(checkpoint)))
    };
    let rows = || {
        let files = std::fs::read_dir(&out).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|it| it == "jsonl"));
        files.map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum::<usize>()
    };
    numbers(3, "first", false).unwrap();
    numbers(2, "first", false).unwrap();
    assert_eq!(rows(), 100);
    for workers in [1, 3] {
        let error = numbers(workers, &format!("second-{workers}"), false).unwrap_err();
        let RunError::Sink { site, .. } = &error else { panic!("{error}") };
        assert!(site.location.contains("mistakes.rs"), "{site}");
        let said = error.to_string();
        assert!(said.contains("out holds") && said.contains(".add_to_existing()"), "{said}");
        assert_eq!(rows(), 100);
    }
    // It may still be told otherwise.
    numbers(3, "second-3", true).unwrap();
    assert_eq!(rows(), 200);
}

#[test]
fn graph_without_its_sink_is_refused_and_keeps_output() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out.jsonl");
    let numbers = |until: i32, moved: bool, drop_state: &str| {
        let graph = Graph::new("numbers");
        let numbers = graph.source(memory(0..until)).uid("numbers").boxed();
        let numbers = if moved { numbers.rebalance() } else { numbers };
        numbers.sink(json_lines_sink(&out));
        let mut options = options(place.path());
        if !drop_state.is_empty() {
            options = options.with_drop_state(drop_state);
        }
        run(&graph, options)
    };
    let rows = || std::fs::read_to_string(&out).unwrap().lines().count();
    numbers(10, false, "").unwrap();
    let error = numbers(20, true, "").unwrap_err();
    assert!(matches!(&error, RunError::Restore { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("has written to a sink of this uid"), "{said}");
    assert_eq!(rows(), 10);
    let uid = said.split("--drop-state ").nth(1).unwrap();
    numbers(20, true, uid).unwrap();
    assert_eq!(rows(), 20);
    numbers(30, true, "").unwrap();
    assert_eq!(rows(), 30);
}

#[test]
fn changed_path_of_directory_sink_says_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    let numbers = |until: i32, out: &Path, uid: &str, drop_state: Option<&str>| {
        let graph = Graph::new("numbers");
        let numbers = graph.source(memory(0..until)).uid("numbers").map(|n| n + 1);
        numbers.uid(uid).sink(json_lines_dir(out));
        let options = options(place.path());
        run(&graph, drop_state.iter().fold(options, |options, uid| options.with_drop_state(*uid)))
    };
    let rows = |dir: &Path| {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let shown = files.filter(|file| !file.file_name().unwrap().to_str().unwrap().starts_with('.'));
        shown.map(|file| std::fs::read_to_string(file).unwrap().lines().count()).sum::<usize>()
    };
    numbers(10, &old, "first", None).unwrap();
    let said = numbers(20, &new, "first", None).unwrap_err().to_string();
    assert!(
        said.contains("mistakes.rs") && said.contains("let the sink write to the old directory"),
        "{said}"
    );
    assert_eq!(rows(&old), 10);
    // The first way out.
    numbers(20, &old, "first", None).unwrap();
    assert_eq!(rows(&old), 20);
    // The third one.
    assert!(
        said.contains("give the stream before the sink another uid") && said.contains("--drop-state"),
        "{said}"
    );
    let said = numbers(30, &new, "second", None).unwrap_err().to_string();
    let uid = said.split("--drop-state ").nth(1).unwrap().split_whitespace().next().unwrap();
    numbers(30, &new, "second", Some(uid)).unwrap();
    assert_eq!((rows(&old), rows(&new)), (20, 10));
    // The second one: the directory is moved.
    let moved = place.path().join("moved");
    std::fs::rename(&new, &moved).unwrap();
    numbers(40, &moved, "second", None).unwrap();
    assert_eq!((rows(&old), rows(&moved)), (20, 20));
}

#[test]
fn changed_path_of_file_sink_needs_its_old_file() {
    let place = tempfile::tempdir().unwrap();
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    let numbers = |until: i32, out: &Path| {
        let graph = Graph::new("numbers");
        graph.source(memory(0..until)).uid("numbers").sink(json_lines_sink(out));
        run(&graph, options(place.path()))
    };
    let rows = |file: &Path| std::fs::read_to_string(file).unwrap().lines().count();
    numbers(10, &old).unwrap();
    std::fs::rename(&old, &new).unwrap();
    let said = numbers(20, &new).unwrap_err().to_string();
    assert!(said.contains("mistakes.rs") && said.contains("put the old file back"), "{said}");
    std::fs::rename(&new, &old).unwrap();
    numbers(20, &new).unwrap();
    assert_eq!((rows(&old), rows(&new)), (10, 10));
}

#[test]
fn records_after_end_of_event_time_need_dropped_watermark() {
    for (mode, workers) in MODES.into_iter().flat_map(|mode| [(mode, 1), (mode, 2)]) {
        for fused in [true, false] {
            let storage = Arc::new(MemoryStorage::new());
            // `ends`: whether the source ends behind these, or waits for more.
            let windows = |times: &[i64], ends: bool, drop_state: Option<&str>| {
                let (sender, source) = channel(16);
                times.iter().for_each(|time| sender.send(*time).unwrap());
                let _kept = (!ends).then_some(sender);
                let graph = Graph::new("windows");
                let (sink, table) = memory_sink();
                let timed = graph
                    .source(source.journaled())
                    .with_watermark(|time| EventTime::from_secs(*time), Duration::ZERO);
                let window = tumbling(Duration::from_secs(10));
                let counts = match fused {
                    true => timed.key_by(|_| 0u8).window(window).count().append(),
                    false => timed.boxed().rebalance().key_by(|_| 0u8).window(window).count().append(),
                };
                counts.map(|result| (result.window.start, result.value)).sink(sink);
                let options = common::options(mode, workers);
                let options = drop_state.iter().fold(options, |options, uid| options.with_drop_state(*uid));
                let summary = graph.start_in(storage.clone(), options).and_then(|query| query.wait())?;
                assert_eq!(summary.late_rows, 0, "{mode}");
                let mut windows = table.snapshot();
                windows.sort();
                Ok::<_, RunError>(windows)
            };
            let at = EventTime::from_secs;
            assert_eq!(windows(&[1, 2, 11], true, None).unwrap(), [(at(0), 2), (at(10), 1)]);
            // A source that ends again at once has brought nothing that could be late.
            assert_eq!(windows(&[], true, None).unwrap(), []);
            let mut uid = String::new();
            for times in [&[21][..], &[]] {
                let error = windows(times, false, None).unwrap_err();
                assert!(
                    matches!(&error, RunError::Restore { site, .. } if site.location.contains("mistakes.rs"))
                );
                let said = error.to_string();
                assert!(said.contains("at the end of time") && said.contains("would be late"), "{said}");
                assert!(said.contains("OnDisconnect::Reconnect"), "{said}");
                uid = said.split_once("--drop-state ").unwrap().1.split(' ').next().unwrap().to_owned();
            }
            // What was refused is in the journal, and comes now; nothing else is emitted again.
            let what = format!("{mode}, {workers} workers, {uid}");
            let dropped = windows(&[22, 31], true, Some(&uid)).unwrap();
            assert_eq!(dropped, [(at(20), 2), (at(30), 1)], "{what}");
        }
    }
}

#[test]
fn two_sinks_into_one_place_are_refused_before_anything_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    std::fs::create_dir(dir.join("there")).unwrap();
    let twice = |attach: &dyn Fn(&Graph, &Path)| {
        let graph = Graph::new("twice");
        attach(&graph, &dir.join("rows"));
        // The same place, spelled otherwise.
        attach(&graph, &dir.join("there/../rows"));
        run(&graph, options(dir)).unwrap_err()
    };
    let numbers = |graph: &Graph| graph.source(memory(vec![1, 2, 3])).map(|n| n + 1);
    for error in [
        twice(&|graph, place| numbers(graph).sink(json_lines_dir(place))),
        twice(&|graph, place| numbers(graph).sink(csv_dir(place))),
        twice(&|graph, place| numbers(graph).sink(json_lines_sink(place))),
        twice(&|graph, place| numbers(graph).sink(at_commit(csv_sink(place).append()))),
    ] {
        assert!(matches!(error, RunError::Graph(_)), "{error}");
        let said = error.to_string();
        assert!(
            said.matches("mistakes.rs:").count() == 2 && said.contains("rows is written to by"),
            "{said}"
        );
    }
    assert!(!dir.join("rows").exists());
}

#[test]
fn a_place_that_another_sink_has_is_refused_when_the_sink_opens() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    // Sinks on every worker are made late; those of another query are not known at all.
    let together = |checkpoint: bool, attach: &dyn Fn(&Graph, i64, &Path)| {
        let place = dir.join(format!("{checkpoint}"));
        let graph = Graph::new("twice");
        attach(&graph, 1, &place);
        attach(&graph, 2, &place);
        let options = if checkpoint { options(dir) } else { Options::default().without_ctrl_c() };
        run(&graph, options.with_workers(2)).unwrap_err().to_string()
    };
    for (checkpoint, error) in [false, true].into_iter().flat_map(|checkpoint| {
        let dirs = together(checkpoint, &|graph, number, place| {
            let place = place.join("dir");
            graph.source(memory(vec![number])).sink_per_worker(move |_| Ok(json_lines_dir(&place)));
        });
        let files = together(checkpoint, &|graph, number, place| {
            let place = place.join("file");
            graph.source(memory(vec![number])).sink_per_worker(move |_| Ok(json_lines_sink(&place)));
        });
        [(checkpoint, dirs), (checkpoint, files)]
    }) {
        assert!(error.contains("is being written to by"), "{checkpoint}: {error}");
    }
    for place in ["dir", "file"] {
        let place = dir.join("queries").join(place);
        let query = |name: &str| {
            let graph = Graph::new(name);
            let (sender, numbers) = channel::<i64>(8);
            match place.ends_with("dir") {
                true => graph.source(numbers).sink(json_lines_dir(&place).roll_every_epoch()),
                false => graph.source(numbers).sink(json_lines_sink(&place)),
            }
            (graph, sender)
        };
        let (first, sender) = query("first");
        let running = first.start(Options::default().without_ctrl_c()).unwrap();
        sender.send(7).unwrap();
        while running.progress().epoch.is_none() {
            std::thread::yield_now();
        }
        let (second, _sender) = query("second");
        let error = second.run(Options::default().without_ctrl_c()).unwrap_err();
        assert_eq!(error.fault(), Fault::User);
        let said = error.to_string();
        assert!(said.contains("mistakes.rs") && said.contains("of the query `first`"), "{said}");
        // What has been refused has done no harm, and the place is free when its sink is done.
        running.stop();
        running.wait().unwrap();
        let file = if place.is_dir() { place.join("part-0-0-000000.jsonl") } else { place.clone() };
        assert_eq!(std::fs::read_to_string(file).unwrap(), "7\n");
        let (third, sender) = query("third");
        drop(sender);
        third.run(Options::default().without_ctrl_c()).unwrap();
    }
}

#[test]
fn unknown_uid_to_drop_is_refused_with_known_uids() {
    let place = tempfile::tempdir().unwrap();
    let count = |drop_state: &str| {
        let graph = Graph::new("counts");
        let numbers = graph.source(memory([1, 2, 3])).uid("numbers").key_by(|_| 0u8);
        numbers.count().update().uid("counts").sink(memory_sink().0);
        run(&graph, options(place.path()).with_drop_state(drop_state))
    };
    for _ in 0..2 {
        // With a checkpoint that is new, and with one that holds something.
        let error = count("count").unwrap_err();
        assert!(matches!(error, RunError::Options { option: "--drop-state", .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("`count`") && said.contains("there are `counts`, "), "{said}");
        assert!(said.contains("`numbers`"), "{said}");
        count("counts").unwrap();
    }
}

#[test]
fn a_uid_that_was_renamed_is_told_with_all_that_goes_with_it() {
    let place = tempfile::tempdir().unwrap();
    let count = |uid: &str, drop_state: &[&str]| {
        let graph = Graph::new("counts");
        let numbers = graph.source(memory([1, 2, 3])).uid("numbers").key_by(|_| 0u8);
        numbers
            .count()
            .update()
            .uid(uid)
            .as_inserts()
            .sink(json_lines_sink(place.path().join("counts.jsonl")));
        let options =
            drop_state.iter().fold(options(place.path()), |options, uid| options.with_drop_state(*uid));
        run(&graph, options)
    };
    count("old", &[]).unwrap();
    let error = count("new", &[]).unwrap_err().to_string();
    assert!(error.contains("--drop-state old --drop-state old/sink"), "{error}");
    let error = count("new", &["old"]).unwrap_err().to_string();
    assert!(
        error.contains("does not fit `old/sink`: ") && error.matches("--drop-state").count() == 1,
        "{error}"
    );
    count("new", &["old", "old/sink"]).unwrap();
    count("new", &[]).unwrap();
}

#[test]
fn a_graph_that_runs_is_not_disturbed_by_a_second_run_of_it() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("rows");
    let graph = Graph::new("twice");
    graph.source(rate(1_000).rows(100)).map(|row| row.value).sink(json_lines_sink(&out));
    let running = graph.start(Options::default().without_ctrl_c()).unwrap();
    while running.progress().epoch.is_none() {
        std::thread::yield_now();
    }
    let error = graph.run(Options::default().without_ctrl_c()).unwrap_err().to_string();
    assert!(error.contains("of the query `twice`"), "{error}");
    running.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 100);
}

#[test]
fn source_with_too_many_partitions_is_refused() {
    let graph = Graph::new("wide");
    graph.source(rate(1).partitions(70_000)).sink(memory_sink().0);
    let error = graph.start(Options::default().without_ctrl_c()).unwrap_err().to_string();
    assert!(
        error.contains("at most 65536 partitions (got 70000)") && error.contains("mistakes.rs:"),
        "{error}"
    );
}

#[test]
fn state_given_up_in_run_without_input_stays_given_up() {
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), &[("a.txt", "1\n2\n")]);
    let count = |size: u64, drop_state: &[&str]| {
        let graph = Graph::new("windows");
        graph
            .source(text_files(scratch.path().join("*.txt").display().to_string()))
            .with_watermark(|line| EventTime::from_micros(line.parse().unwrap()), Duration::ZERO)
            .window(tumbling(Duration::from_secs(size)))
            .count()
            .append()
            .uid("counts")
            .sink(memory_sink().0);
        let options = options(scratch.path()).with_trigger(tidemill::Trigger::AvailableNow);
        graph.run(drop_state.iter().fold(options, |options, uid| options.with_drop_state(*uid)))
    };
    count(10, &[]).unwrap();
    let error = count(60, &[]).unwrap_err().to_string();
    assert!(error.contains("size 10s → 1m") && error.contains("--drop-state counts"), "{error}");
    count(60, &["counts"]).unwrap();
    count(60, &[]).unwrap();
}

#[test]
fn query_that_takes_over_from_savepoint_has_epochs_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    write(dir, &[("a.txt", "1\n")]);
    let graph = || {
        let (sender, epochs) = std::sync::mpsc::channel();
        let graph = Graph::new("store");
        graph.source(text_files(dir.join("*.txt").display().to_string())).map(|line| line.to_string()).sink(
            for_each_epoch(move |all: EpochRows<String>| sender.send((all.query_id, all.epoch, all.rows))),
        );
        (graph, epochs)
    };
    let (first, told) = graph();
    let running = first.start(options(dir)).unwrap();
    let (id, _, rows) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(rows, ["1"]);
    let savepoint = dir.join("savepoint");
    common::wait_until(&running, "the commit", |running| running.progress().epoch.is_some());
    running.savepoint(&savepoint).unwrap();
    write(dir, &[("b.txt", "2\n")]);
    let (_, epoch, _) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    running.stop();
    running.wait().unwrap();
    write(dir, &[("c.txt", "3\n")]);
    // The number that the first query used behind the savepoint comes with other rows, so under another id.
    let (moved, told) = graph();
    let options = Options::default().without_ctrl_c().with_trigger(tidemill::Trigger::AvailableNow);
    moved
        .run(options.with_checkpoint(dir.join("moved")).with_from_savepoint(savepoint).with_take_over())
        .unwrap();
    let (own, again, rows) = told.recv().unwrap();
    assert_eq!((again, rows), (epoch, vec!["2".to_owned(), "3".to_owned()]));
    assert_ne!(own, id);
}
