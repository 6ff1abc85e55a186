//! Outputs belong to one query: forks, copies and restored checkpoints leave those of others alone, or are refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidemill::connectors::{csv_dir, csv_sink, json_lines_dir, json_lines_sink, text_files};
use tidemill::prelude::*;
use tidemill::{QueryHandle, RunError, SinkError};

mod common;
use common::MODES;

/// The kinds of outputs that are kept across runs.
#[derive(Clone, Copy, Debug)]
enum Kind {
    JsonFile,
    CsvFile,
    JsonDir,
    CsvDir,
}

const KINDS: [Kind; 4] = [Kind::JsonFile, Kind::CsvFile, Kind::JsonDir, Kind::CsvDir];

/// A directory with `in`, checkpoints, savepoints and outputs.
struct World {
    place: tempfile::TempDir,
    mode: Mode,
    kind: Kind,
}

impl World {
    fn new(mode: Mode, kind: Kind) -> World {
        let world = World { place: tempfile::tempdir().unwrap(), mode, kind };
        fs::create_dir(world.at("in")).unwrap();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A file of input with one row.
    fn input(&self, row: &str) {
        let beside = self.at(&format!("{row}.new"));
        fs::write(&beside, format!("{row}\n")).unwrap();
        fs::rename(beside, self.at("in").join(row)).unwrap();
    }

    /// The lines of the input, into that output.
    fn graph(&self, out: &str) -> Graph {
        let graph = Graph::new("lines");
        let files = text_files(self.at("in").join("*").display().to_string());
        let lines = graph.source(files).uid("in").map(|line| line.to_string());
        let out = self.at(out);
        match self.kind {
            Kind::JsonFile => lines.sink(json_lines_sink(out)),
            Kind::CsvFile => lines.map(|line| (line,)).sink(csv_sink(out)),
            Kind::JsonDir => lines.sink(json_lines_dir(out).roll_every_epoch()),
            Kind::CsvDir => lines.map(|line| (line,)).sink(csv_dir(out).roll_every_epoch()),
        }
        graph
    }

    fn options(&self, checkpoint: &str) -> Options {
        let interval = std::time::Duration::from_millis(2);
        common::options(self.mode, 1).with_checkpoint_interval(interval).with_checkpoint(self.at(checkpoint))
    }

    /// Runs until all input has been read.
    fn run(&self, out: &str, options: Options) -> Result<tidemill::Summary, RunError> {
        common::run(&self.graph(out), options.with_trigger(Trigger::AvailableNow))
    }

    fn start(&self, out: &str, options: Options) -> QueryHandle {
        self.graph(out).start(options).unwrap()
    }

    /// The rows that a reader of an output finds, sorted, as one word.
    fn rows(&self, out: &str) -> String {
        let out = self.at(out);
        let files = if out.is_dir() {
            fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![out]
        };
        let is_seen = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
        let texts = files.iter().filter(|path| is_seen(path) && path.is_file()).map(fs::read_to_string);
        let text = texts.collect::<Result<String, _>>().unwrap();
        let mut rows: Vec<_> = text.lines().map(|line| line.trim_matches('"').to_owned()).collect();
        rows.sort();
        rows.concat()
    }

    /// Waits until an output has these rows.
    fn wait_for(&self, query: &QueryHandle, out: &str, rows: &str) {
        common::wait_until(query, rows, |_| self.rows(out) == rows);
        // What is shown at once is committed later: not with an epoch that had been cut before.
        for _ in 0..if self.mode == Mode::Continuous { 3 } else { 0 } {
            let epoch = query.progress().epoch;
            common::wait_until(query, "a commit", |query| query.progress().epoch > epoch);
        }
    }

    fn all(test: impl Fn(World)) {
        for mode in MODES {
            for kind in KINDS {
                test(World::new(mode, kind));
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

#[track_caller]
fn sink_error(result: Result<tidemill::Summary, RunError>) -> String {
    match result {
        Err(RunError::Sink { error, .. }) => {
            assert!(matches!(error, SinkError::Setup(_) | SinkError::Recovery { .. }), "{error}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fork_from_savepoint_leaves_running_query_alone() {
    World::all(|world| {
        world.input("a");
        let running = world.start("one", world.options("checkpoint"));
        world.wait_for(&running, "one", "a");
        running.savepoint(world.at("savepoint")).unwrap();
        world.input("b");
        world.wait_for(&running, "one", "ab");
        let fork = || world.options("fork").with_from_savepoint(world.at("savepoint"));
        // Refused as long as the other one runs, whatever is asked for.
        for options in [fork(), fork().with_take_over()] {
            let error = sink_error(world.run("one", options));
            assert!(error.contains("is being written to by"), "{error}");
        }
        fs::remove_dir_all(world.at("fork")).unwrap();
        world.run("two", fork()).unwrap();
        assert_eq!((world.rows("one"), world.rows("two")), ("ab".to_owned(), "b".to_owned()));
        world.input("c");
        world.wait_for(&running, "one", "abc");
        running.stop();
        running.wait().unwrap();
        // Both continue, each with its own.
        world.input("d");
        world.run("two", world.options("fork")).unwrap();
        world.run("one", world.options("checkpoint")).unwrap();
        assert_eq!((world.rows("one"), world.rows("two")), ("abcd".to_owned(), "bcd".to_owned()));
    });
}

#[test]
fn fork_into_output_of_stopped_query_is_refused_or_takes_over() {
    World::all(|world| {
        world.input("a");
        let query = world.start("one", world.options("checkpoint"));
        world.wait_for(&query, "one", "a");
        query.stop();
        query.wait().unwrap();
        // A checkpoint that is at rest can be begun from as well.
        let fork = || world.options("fork").with_from_savepoint(world.at("checkpoint"));
        world.input("b");
        let error = sink_error(world.run("one", fork()));
        assert!(error.contains("starts from a savepoint") && error.contains("--take-over"), "{error}");
        assert_eq!(world.rows("one"), "a");
        world.run("one", fork().with_take_over()).unwrap();
        world.input("c");
        world.run("one", world.options("fork")).unwrap();
        assert_eq!(world.rows("one"), "abc");
        let error = sink_error(world.run("one", world.options("checkpoint")));
        assert!(error.contains("belongs to the query `lines`"), "{error}");
        assert_eq!(world.rows("one"), "abc");
    });
}

#[test]
fn copied_checkpoint_is_refused_while_and_after_original_runs() {
    World::all(|world| {
        world.input("a");
        let running = world.start("one", world.options("checkpoint"));
        world.wait_for(&running, "one", "a");
        copy(&world.at("checkpoint"), &world.at("copy"));
        let error = sink_error(world.run("one", world.options("copy")));
        assert!(error.contains("is being written to by"), "{error}");
        running.stop();
        running.wait().unwrap();
        world.input("b");
        world.run("one", world.options("checkpoint")).unwrap();
        for _ in 0..3 {
            let error = sink_error(world.run("one", world.options("copy")));
            assert!(error.contains("a copy of the other"), "{error}");
        }
        assert_eq!(world.rows("one"), "ab");
        // A fork of the copy is what it can be.
        let fork = world.options("fork").with_from_savepoint(world.at("copy"));
        world.run("two", fork).unwrap();
        assert_eq!((world.rows("one"), world.rows("two")), ("ab".to_owned(), "b".to_owned()));
    });
}

#[test]
fn moved_checkpoint_goes_on_in_its_output() {
    World::all(|world| {
        world.input("a");
        world.run("one", world.options("checkpoint")).unwrap();
        fs::rename(world.at("checkpoint"), world.at("moved")).unwrap();
        world.input("b");
        world.run("one", world.options("moved")).unwrap();
        assert_eq!(world.rows("one"), "ab");
    });
}

#[test]
fn run_without_checkpoint_is_refused_on_claimed_output() {
    World::all(|world| {
        world.input("a");
        world.run("one", world.options("checkpoint")).unwrap();
        let without = || common::available_now(world.mode, 1);
        let error = sink_error(common::run(&world.graph("one"), without()));
        assert!(error.contains("belongs to the query `lines`") && error.contains("delete"), "{error}");
        assert_eq!(world.rows("one"), "a");
        let two = world.graph("two");
        common::run(&two, without()).unwrap();
        common::run(&two, without()).unwrap();
        let hidden = |name: &str| world.at(name).exists();
        assert!(!hidden(".two.claim") && !hidden("two/.claim"), "nothing stays without a checkpoint");
    });
}

#[test]
fn new_checkpoint_begins_anew_once_the_output_is_deleted() {
    World::all(|world| {
        world.input("a");
        world.run("one", world.options("checkpoint")).unwrap();
        fs::remove_dir_all(world.at("checkpoint")).unwrap();
        sink_error(world.run("one", world.options("checkpoint")));
        fs::remove_dir_all(world.at("checkpoint")).unwrap();
        // As a shell does it: hidden files stay.
        let is_dir = world.at("one").is_dir();
        let rm = format!("rm {}{}", world.at("one").display(), if is_dir { "/*" } else { "" });
        assert!(Command::new("sh").args(["-c", &rm]).status().unwrap().success());
        world.run("one", world.options("checkpoint")).unwrap();
        assert_eq!(world.rows("one"), "a");
    });
}

/// A log that has lost its last frames.
#[test]
fn log_cut_by_whole_frames_does_not_double_rows() {
    World::all(|world| {
        world.input("a");
        let running = world.start("one", world.options("checkpoint"));
        world.wait_for(&running, "one", "a");
        copy(&world.at("checkpoint"), &world.at("backup"));
        world.input("b");
        world.wait_for(&running, "one", "ab");
        running.cancel();
        running.wait().unwrap_err();
        let logs = |name: &str| {
            let files = fs::read_dir(world.at(name)).unwrap().map(|file| file.unwrap().path());
            let mut logs: Vec<_> =
                files.filter(|file| file.extension().is_some_and(|it| it == "log")).collect();
            logs.sort();
            logs.pop().unwrap()
        };
        let (cut, log) = (logs("backup"), logs("checkpoint"));
        if cut.file_name() != log.file_name() {
            // The log has given way to the next in between.
            return;
        }
        fs::copy(cut, log).unwrap();
        let again = world.run("one", world.options("checkpoint"));
        match world.kind {
            // What is beyond the commit is cut off, and comes again.
            Kind::JsonFile | Kind::CsvFile => drop(again.unwrap()),
            Kind::JsonDir | Kind::CsvDir => {
                let error = sink_error(again);
                assert!(
                    error.contains("newer than the checkpoint") && error.contains("part-0-1-"),
                    "{error}"
                );
            }
        }
        assert_eq!(world.rows("one"), "ab");
    });
}

#[test]
fn second_process_on_one_checkpoint_is_refused() {
    let world = World::new(Mode::MicroBatch, Kind::JsonFile);
    world.input("a");
    let running = world.start("one", world.options("checkpoint"));
    world.wait_for(&running, "one", "a");
    let error = world.run("two", world.options("checkpoint")).unwrap_err();
    assert!(matches!(error, RunError::Checkpoint(_)), "{error}");
    assert!(!world.at("two").exists());
    running.stop();
    running.wait().unwrap();
}
