//! Threads that the system does not start, and memory that it does not give, because the address space is limited, are errors
//! of the query.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use tidemill::connectors::{channel, memory, memory_sink, text_files};
use tidemill::{Graph, Journal, Options, Run, RunError};

use common::{MODES, end, options};

/// How many threads with the stack that `ci/hostile.sh` sets fit into its limit at most.
const MOST: usize = 24;

/// Runs a graph under the limit; it must end with an error about a thread.
fn fails(graph: &Graph, options: Options) {
    let what = format!("{} workers, {}", options.workers, options.mode);
    let error: RunError = match graph.start(options) {
        Err(error) => error,
        Ok(query) => end(query, &what).unwrap_err(),
    };
    let text = error.to_string();
    assert!(text.contains("thread") && text.contains("Resource temporarily unavailable"), "{what}: {text}");
    // Nothing that the failed start left behind keeps a small query from running.
    let small = Graph::new("small");
    let (sink, rows) = memory_sink();
    small.source(memory(0..10u64)).sink(sink);
    end(small.start(common::options(tidemill::Mode::Continuous, 1)).unwrap(), "small").unwrap();
    assert_eq!(rows.snapshot().len(), 10);
}

#[test]
#[ignore = "ci/hostile.sh limits the address space"]
fn workers_that_cannot_be_started_are_an_error() {
    for mode in MODES {
        for workers in [MOST, 4 * MOST] {
            let graph = Graph::new("workers");
            graph.source(channel::<u64>(8).1).sink(memory_sink().0);
            fails(&graph, options(mode, workers));
        }
    }
}

#[test]
#[ignore = "ci/hostile.sh limits the address space"]
fn journals_that_cannot_be_started_are_an_error() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let graph = Graph::new("journals");
        for n in 0..2 * MOST {
            let (_, source) = channel::<u64>(8);
            graph.source(source.journaled()).uid(&format!("channel-{n}")).sink(memory_sink().0);
        }
        fails(&graph, options(mode, 1).with_checkpoint(place.path()));
    }
}

#[test]
#[ignore = "ci/hostile.sh limits the address space"]
fn line_that_memory_does_not_hold_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("line");
    // It takes no room on the disk.
    std::fs::File::create(&path).unwrap().set_len(2 << 30).unwrap();
    for mode in MODES {
        let graph = Graph::new("line");
        let files = text_files(path.display().to_string()).bounded();
        graph.source(files).map(|line| line.len()).sink(memory_sink().0);
        let error = end(graph.start(options(mode, 1)).unwrap(), "line").unwrap_err().to_string();
        assert!(error.contains("not enough memory") && error.contains("max_line"), "{error}");
    }
}
