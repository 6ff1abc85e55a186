//! What a user does between two runs, or mistypes, and must hear of: nothing is left out, or there twice, in silence.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use tidemill::connectors::{csv_files, json_lines, memory_sink, socket, text_files};
use tidemill::{Graph, Journal, Options, Run, RunError};

use common::run;

fn options(dir: &Path) -> Options {
    Options::default().without_ctrl_c().with_checkpoint(dir.join("checkpoint"))
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn a_bounded_source_of_files_refuses_a_checkpoint_of_another_pattern_and_says_what_to_do() {
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
