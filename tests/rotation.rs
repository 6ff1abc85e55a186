//! Followed log files that are rotated and truncated under running queries, in both modes and with several workers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidemill::QueryHandle;
use tidemill::connectors::MemoryTable;
use tidemill::prelude::*;

/// How a log is rotated, as `logrotate` does it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Rename,
    CopyTruncate,
    Truncate,
}

struct Writer {
    path: PathBuf,
    lines: usize,
    rotations: usize,
}

impl Writer {
    fn write(&mut self, lines: usize) {
        let mut file = fs::File::options().create(true).append(true).open(&self.path).unwrap();
        for _ in 0..lines {
            let line = line(self.lines) + "\n";
            // Now and then in two parts.
            let at = if self.lines % 7 == 3 { 5 } else { line.len() };
            file.write_all(&line.as_bytes()[..at]).unwrap();
            file.write_all(&line.as_bytes()[at..]).unwrap();
            self.lines += 1;
        }
    }

    fn rotate(&mut self, how: How) {
        self.rotations += 1;
        let old = self.path.with_file_name(format!("app.log.{}", self.rotations));
        if how == How::Rename {
            fs::rename(&self.path, old).unwrap();
            return;
        }
        if how == How::CopyTruncate {
            fs::copy(&self.path, old).unwrap();
        }
        fs::File::options().write(true).open(&self.path).unwrap().set_len(0).unwrap();
    }
}

/// A query that follows a log, and what came before it.
struct Tail {
    query: QueryHandle,
    table: MemoryTable<String>,
    before: Vec<String>,
}

impl Tail {
    /// Waits until as many lines have come.
    fn wait_for(self, lines: usize, at: &str) -> Tail {
        let begun = Instant::now();
        while self.before.len() + self.table.snapshot().len() < lines {
            if self.query.is_finished() || begun.elapsed() > Duration::from_secs(60) {
                let progress = self.query.progress();
                self.query.cancel();
                let ended = self.query.wait();
                let shown: BTreeSet<String> = self.before.into_iter().chain(self.table.snapshot()).collect();
                let lacking: Vec<String> =
                    (0..lines).map(line).filter(|line| !shown.contains(line)).take(5).collect();
                panic!("{at}: of {lines} lines these lack: {lacking:?} …; {ended:?}; {progress:?}");
            }
            std::thread::yield_now();
        }
        self
    }

    /// Stops the query and returns all lines.
    fn stop(self) -> Vec<String> {
        self.query.stop();
        self.query.wait().unwrap();
        [self.before, self.table.snapshot()].concat()
    }
}

fn line(n: usize) -> String {
    format!("line {n:06}")
}

fn follow(dir: &Path, mode: Mode, workers: usize, before: Vec<String>) -> Tail {
    let graph = Graph::new("tail");
    let (sink, table) = memory_sink();
    let source = text_files(dir.join("app.log").display().to_string()).follow().partitions(4);
    graph.source(source.poll_interval(Duration::from_millis(2))).map(|line| line.to_string()).sink(sink);
    let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(workers);
    let query = graph.start(options.with_checkpoint(dir.join("checkpoint"))).unwrap();
    Tail { query, table, before }
}

fn rotate(mode: Mode, workers: usize, how: How) {
    let at = format!("{mode}, {workers} workers, {how:?}");
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer { path: dir.path().join("app.log"), lines: 0, rotations: 0 };
    writer.write(1);
    let mut rows = Vec::new();
    for run in 0..3 {
        let mut tail = follow(dir.path(), mode, workers, rows);
        for rotation in 0..3 {
            let at = format!("{at}, rotation {rotation} of run {run}");
            writer.write(300);
            // The file must have been seen; before a mere truncation, read to its end.
            let least = if how == How::Truncate { writer.lines } else { writer.lines - 200 };
            tail = tail.wait_for(least, &at);
            if how == How::Rename {
                writer.write(200);
            }
            writer.rotate(how);
            writer.write(3);
            tail = tail.wait_for(writer.lines, &format!("{at}, the new file"));
        }
        rows = tail.stop();
        // And while nothing runs.
        if how != How::Truncate {
            writer.write(50);
            writer.rotate(how);
        }
        writer.write(10);
    }
    let mut rows = follow(dir.path(), mode, workers, rows).wait_for(writer.lines, &at).stop();
    rows.sort();
    let expected: Vec<String> = (0..writer.lines).map(line).collect();
    assert!(rows == expected, "{at}: {} of {}", rows.len(), expected.len());
}

#[test]
fn rotated_log_is_read_line_by_line_once() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2, 4] {
            for how in [How::Rename, How::CopyTruncate, How::Truncate] {
                rotate(mode, workers, how);
            }
        }
    }
}
