//! What a directory with many old files costs while nothing is new in it.
//!
//! `TIDEMILL_OLD_FILES=100000 cargo test --release --test many_files -- --nocapture` takes a minute.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use tidemill::connectors::{channel, channel_sink, text_files};
use tidemill::{Graph, Mode, QueryHandle, Run};

use common::{MODES, PATIENCE, alone, end, options, takes_at_most};

/// How many files there are: `TIDEMILL_OLD_FILES`, or 10,000.
fn old_files() -> usize {
    std::env::var("TIDEMILL_OLD_FILES").map_or(10_000, |count| count.parse().unwrap())
}

fn directory(files: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    (0..files).for_each(|n| std::fs::write(directory.path().join(n.to_string()), "old\n").unwrap());
    directory
}

/// The time that this process has used of all cores, in seconds.
fn used() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Starts a query over the files, and returns when it has read them all.
fn start(
    directory: &Path,
    mode: Mode,
    graph: &Graph,
) -> (QueryHandle, crossbeam_channel::Receiver<tidemill::connectors::Text>) {
    let (sink, rows) = crossbeam_channel::unbounded();
    graph.source(text_files(directory.display().to_string())).sink(channel_sink(sink));
    let query = graph.start(options(mode, 1)).unwrap();
    (0..old_files()).for_each(|_| assert_eq!(&*rows.recv_timeout(PATIENCE).unwrap(), "old"));
    (query, rows)
}

#[test]
fn many_old_files_cost_little_and_new_ones_are_found() {
    let _alone = alone();
    let directory = directory(old_files());
    for mode in MODES {
        let (query, rows) = start(directory.path(), mode, &Graph::new("idle"));
        // The listing after the start, for what changed during the first one.
        let settles = Instant::now();
        while settles.elapsed() < Duration::from_secs(if old_files() > 50_000 { 10 } else { 1 }) {
            assert!(rows.recv_timeout(Duration::from_millis(100)).is_err());
        }
        let (before, begun) = (used(), Instant::now());
        let idle = Duration::from_secs(if old_files() > 50_000 { 20 } else { 4 });
        assert!(rows.recv_timeout(idle).is_err());
        let share = 100.0 * (used() - before) / begun.elapsed().as_secs_f64();
        let mut found = 0;
        takes_at_most(Duration::from_millis(200), "to find a new file", || {
            let mut waits: Vec<Duration> = (0..20)
                .map(|n| {
                    // By a rename: a listing between the two steps of a write would see an empty file.
                    let (hidden, name) = (directory.path().join(".hidden"), format!("new-{mode}-{found}"));
                    found += 1;
                    std::fs::write(&hidden, format!("{n}\n")).unwrap();
                    let begun = Instant::now();
                    std::fs::rename(&hidden, directory.path().join(name)).unwrap();
                    assert_eq!(&*rows.recv_timeout(PATIENCE).unwrap(), &*n.to_string());
                    begun.elapsed()
                })
                .collect();
            waits.sort();
            println!(
                "{mode}: {share:.2} % of a core; a new file is found after {:?}, at most {:?}",
                waits[10], waits[19]
            );
            waits[10]
        });
        (0..found)
            .for_each(|n| std::fs::remove_file(directory.path().join(format!("new-{mode}-{n}"))).unwrap());
        query.stop();
        end(query, "idle").unwrap();
        // Before, 10,000 files took a quarter of a core.
        assert!(share < if cfg!(debug_assertions) { 5.0 } else { 1.0 }, "{share} % of a core");
    }
}

#[test]
fn channel_beside_many_old_files_answers_at_once() {
    let _alone = alone();
    let directory = directory(old_files());
    let graph = Graph::new("beside");
    let (sender, source) = channel::<usize>(16);
    let (sink, answers) = crossbeam_channel::unbounded();
    graph.source(source).sink(channel_sink(sink));
    let (query, _rows) = start(directory.path(), Mode::Continuous, &graph);
    // Other programs may load the machine, but where it is measured.
    let (most, place) = if cfg!(debug_assertions) { (20, 900) } else { (5, 990) };
    takes_at_most(Duration::from_millis(most), "an answer", || {
        let mut waits: Vec<Duration> = (0..1000)
            .map(|n| {
                std::thread::sleep(Duration::from_millis(if old_files() > 50_000 { 13 } else { 3 }));
                let begun = Instant::now();
                sender.send(n).unwrap();
                assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), n);
                begun.elapsed()
            })
            .collect();
        waits.sort();
        println!(
            "a channel on the same worker answers after {:?}, 99 of 100 times within {:?}, at most {:?}",
            waits[500], waits[990], waits[999]
        );
        waits[place]
    });
    query.cancel();
    drop(query.wait());
}
