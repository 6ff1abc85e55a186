//! Followed log files that are rotated and truncated under running queries, in both modes and with several workers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

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
            let line = format!("line {:06}\n", self.lines);
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

fn wait_for(what: &str, mut until: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

fn follow(
    pattern: &Path,
    mode: Mode,
    workers: usize,
    checkpoint: &Path,
) -> (QueryHandle, MemoryTable<String>) {
    let graph = Graph::new("tail");
    let (sink, table) = memory_sink();
    let source = text_files(pattern.display().to_string()).follow().partitions(4);
    graph.source(source.poll_interval(Duration::from_millis(2))).map(|line| line.to_string()).sink(sink);
    let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(workers);
    (graph.start(options.with_checkpoint(checkpoint)).unwrap(), table)
}

#[test]
fn rotated_log_is_read_line_by_line_once() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2, 4] {
            for how in [How::Rename, How::CopyTruncate, How::Truncate] {
                let dir = tempfile::tempdir().unwrap();
                let mut writer = Writer { path: dir.path().join("app.log"), lines: 0, rotations: 0 };
                writer.write(1);
                let mut rows = Vec::new();
                for _run in 0..3 {
                    let checkpoint = dir.path().join("checkpoint");
                    let (query, table) = follow(&writer.path, mode, workers, &checkpoint);
                    let before = rows.len();
                    for _ in 0..3 {
                        writer.write(300);
                        // The file must have been seen; before a mere truncation, read to its end.
                        let least = if how == How::Truncate { writer.lines } else { writer.lines - 200 };
                        wait_for("lines come", || before + table.snapshot().len() >= least);
                        if how == How::Rename {
                            writer.write(200);
                        }
                        writer.rotate(how);
                        writer.write(3);
                        wait_for("the new file is read", || before + table.snapshot().len() >= writer.lines);
                    }
                    query.stop();
                    query.wait().unwrap();
                    rows.extend(table.snapshot());
                    // And while nothing runs.
                    if how != How::Truncate {
                        writer.write(50);
                        writer.rotate(how);
                    }
                    writer.write(10);
                }
                let checkpoint = dir.path().join("checkpoint");
                let (query, table) = follow(&writer.path, mode, workers, &checkpoint);
                wait_for("the rest comes", || rows.len() + table.snapshot().len() >= writer.lines);
                query.stop();
                query.wait().unwrap();
                rows.extend(table.snapshot());
                rows.sort();
                let expected: Vec<String> = (0..writer.lines).map(|n| format!("line {n:06}")).collect();
                assert!(
                    rows == expected,
                    "{mode}, {workers} workers, {how:?}: {} of {}",
                    rows.len(),
                    expected.len()
                );
            }
        }
    }
}
