//! Files with names that are not UTF-8, links that lead nowhere, directories that cannot be read any more.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemill::connectors::{BadRecord, Text, json_lines, json_lines_dir, memory_sink, text_files};
use tidemill::{Graph, Mode, Options, Run, RunError, SourceError, Trigger};

use common::{MODES, end, options, run_well, sorted, wait_until};

/// `größe` in Latin-1, in a directory `Öl` in Latin-1.
fn odd(place: &Path, ending: &str) -> PathBuf {
    let directory = place.join(OsStr::from_bytes(b"\xD6l"));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(OsStr::from_bytes(&[b"gr\xF6\xDFe".as_slice(), ending.as_bytes()].concat()))
}

/// Reads all that is new under `place/*.txt`; the rows of each run.
fn read(place: &Path, follow: bool, way: Options) -> Vec<String> {
    let graph = Graph::new("odd");
    let files = text_files(place.join("*.txt").display().to_string());
    let files = if follow { files.follow() } else { files };
    let (sink, rows) = memory_sink();
    graph.source(files).map(|line| format!("{line} {:?}", line.place().unwrap().1)).sink(sink);
    run_well(&graph, way.with_trigger(Trigger::AvailableNow).with_checkpoint(place.join("checkpoint")));
    sorted(rows.snapshot())
}

#[test]
fn file_whose_name_is_not_utf8_is_read_once_across_runs() {
    for modes in [[MODES[0]; 3], [MODES[1]; 3], [MODES[0], MODES[1], MODES[0]]] {
        for follow in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let file = |n: u8| {
                place.path().join(OsStr::from_bytes(&[0xF6, b'0' + n, b'\\', 0xFF, b'.', b't', b'x', b't']))
            };
            std::fs::write(file(0), "to be\nor not\n").unwrap();
            let way = |at: usize| options(modes[at], 1 + at);
            assert_eq!(read(place.path(), follow, way(0)), ["or not 6", "to be 0"], "{modes:?}, {follow}");
            std::fs::write(file(1), "to be\n").unwrap();
            assert_eq!(read(place.path(), follow, way(1)), ["to be 0"], "{modes:?}, {follow}");
            assert!(read(place.path(), follow, way(2)).is_empty(), "{modes:?}, {follow}");
        }
    }
}

#[test]
fn file_whose_name_is_not_utf8_is_named_with_its_bytes() {
    let place = tempfile::tempdir().unwrap();
    let file = odd(place.path(), ".json");
    std::fs::write(&file, "1\ntwo\n").unwrap();
    // The pattern is text, and leads there by a link.
    symlink(file.parent().unwrap(), place.path().join("oil")).unwrap();
    let pattern = place.path().join("oil/*.json").display().to_string();
    let named = r"oil/gr\xF6\xDFe.json";
    for mode in MODES {
        let graph = Graph::new("odd");
        graph.source(json_lines::<u64>(pattern.clone()).bounded()).sink(memory_sink().0);
        let error = graph.run(options(mode, 1)).unwrap_err();
        let RunError::Source { error: SourceError::BadRecord { place, .. }, .. } = &error else {
            panic!("{error}")
        };
        assert!(place.contains(named) && place.ends_with("\", line 2"), "{place}");

        let graph = Graph::new("odd");
        let (sink, bad) = memory_sink();
        let lines = graph.source(text_files(pattern.clone()).bounded());
        lines.map(|line: Text| BadRecord::of(&line, "no").to_string()).sink(sink);
        let summary = run_well(&graph, options(mode, 1));
        assert!(bad.snapshot()[1].contains(&format!("{named}\", line 2")), "{:?}", bad.snapshot());
        let offset = &summary.last.sources[0].end_offset;
        let shown = |at: &serde_json::Value| at["file"].as_str().is_some_and(|file| file.contains(named));
        assert!(mode == Mode::Continuous || offset.values().any(shown), "{offset:?}");
    }
}

#[test]
fn sink_into_place_whose_name_is_not_utf8_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let output = odd(place.path(), "");
    for upto in [3u64, 5] {
        let graph = Graph::new("odd");
        graph.source(tidemill::connectors::memory(0..upto)).sink(json_lines_dir(&output));
        run_well(&graph, options(Mode::MicroBatch, 1).with_checkpoint(place.path().join("checkpoint")));
    }
    let files = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
    let shown = files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    let rows: String = shown.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(sorted(rows.lines().collect()), ["0", "1", "2", "3", "4"]);
}

#[test]
fn links_to_themselves_and_to_nothing_are_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::write(at("a.txt"), "to be\n").unwrap();
    symlink("loop.txt", at("loop.txt")).unwrap();
    symlink(".", at("self.txt")).unwrap();
    symlink("gone", at("nothing.txt")).unwrap();
    symlink("a.txt", at("link.txt")).unwrap();
    for pattern in [place.path().to_owned(), at("*.txt")] {
        for follow in [false, true] {
            let graph = Graph::new("links");
            let files = text_files(pattern.display().to_string());
            let (sink, rows) = memory_sink();
            graph.source(if follow { files.follow() } else { files }).sink(sink);
            run_well(&graph, options(Mode::MicroBatch, 1).with_trigger(Trigger::AvailableNow));
            let rows = rows.snapshot();
            assert!(!rows.is_empty() && rows.iter().all(|row| *row == "to be"), "{rows:?}");
        }
    }
}

/// A directory that is read, and becomes something that cannot be, fails the query.
fn fails_once(spoil: impl Fn(&Path), restore: impl Fn(&Path)) {
    for mode in MODES {
        for follow in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let input = place.path().join("input");
            std::fs::create_dir(&input).unwrap();
            std::fs::write(input.join("a"), "to be\n").unwrap();
            let graph = Graph::new("withdrawn");
            let files = text_files(input.display().to_string()).poll_interval(Duration::from_millis(10));
            let (sink, rows) = memory_sink();
            graph.source(if follow { files.follow() } else { files }).sink(sink);
            let query = graph.start(options(mode, 1)).unwrap();
            wait_until(&query, "the first row", |_| !rows.snapshot().is_empty());
            spoil(&input);
            let ended = end(query, "withdrawn");
            restore(&input);
            let error = ended.unwrap_err();
            assert!(matches!(&error, RunError::Source { error: SourceError::Io { .. }, .. }), "{error}");
            assert!(error.is_retryable() && error.to_string().contains("cannot list"), "{error}");
        }
    }
}

#[test]
fn directory_that_cannot_be_listed_any_more_is_an_error() {
    let aside = |input: &Path| input.with_extension("aside");
    let loops = |input: &Path| {
        std::fs::rename(input, aside(input)).unwrap();
        symlink(input, input).unwrap();
    };
    fails_once(loops, |_| ());
}

#[test]
fn directory_whose_permissions_are_withdrawn_is_an_error() {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let probe = tempfile::tempdir().unwrap();
    mode(probe.path(), 0);
    if probe.path().read_dir().is_ok() {
        assert!(std::env::var_os("TIDEMILL_UNPRIVILEGED").is_none(), "ci/hostile.sh runs it as root");
        println!("skipped: this user may read every directory (run it as another one than root)");
        return;
    }
    mode(probe.path(), 0o700);
    for withdrawn in [0, 0o400, 0o100] {
        fails_once(|input| mode(input, withdrawn), |input| mode(input, 0o700));
    }
}
