//! Savepoints of a query that does not simply run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidemill::Restart;
use tidemill::prelude::*;

mod common;

use common::Hold;

#[test]
fn savepoint_between_failure_and_restart_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let (calls, failed) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
    let fails = Arc::clone(&failed);
    // The rows behind the failure, until the savepoint is taken.
    let hold = Hold::after(501);
    let held = hold.clone();
    let graph = Graph::new("fails once");
    graph
        .source(memory(0..1_000u64))
        .inspect(move |_| {
            held.pass();
            if calls.fetch_add(1, Ordering::SeqCst) == 500 {
                fails.store(true, Ordering::SeqCst);
                panic!("not this one");
            }
        })
        .sink(discard().0);
    let options = common::options(Mode::MicroBatch, 1)
        .with_max_records_per_epoch(10)
        .with_checkpoint(directory.path().join("checkpoint"))
        .with_restart(Restart::Times { times: 1, backoff: Duration::from_millis(300) });
    let query = graph.start(options.clone()).unwrap();
    common::wait_until(&query, "the failure", |_| failed.load(Ordering::SeqCst));
    let epoch = query.savepoint(directory.path().join("savepoint")).unwrap();
    hold.release();
    assert!((40..50).contains(&epoch), "{epoch}");
    query.wait().unwrap();

    let from = options
        .with_checkpoint(directory.path().join("second"))
        .with_from_savepoint(directory.path().join("savepoint"));
    assert_eq!(common::run(&graph, from).unwrap().input_rows, 1_000 - 10 * (epoch + 1));
}

#[test]
fn savepoint_of_ended_query_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let graph = Graph::new("short");
    graph.source(memory(0..10u64)).sink(discard().0);
    let options = common::options(Mode::MicroBatch, 1).with_checkpoint(directory.path().join("checkpoint"));
    let query = graph.start(options).unwrap();
    common::wait_until(&query, "the end", tidemill::QueryHandle::is_finished);
    let error = query.savepoint(directory.path().join("savepoint")).unwrap_err();
    assert!(matches!(error, tidemill::RunError::Ended { .. }), "{error}");
    assert!(error.to_string().starts_with("the query has ended, so no savepoint can be made"), "{error}");
    assert!(!directory.path().join("savepoint").exists());
}

#[test]
fn savepoint_before_first_commit_leaves_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let graph = Graph::new("silent");
    let (_sender, input) = channel::<u64>(1);
    graph.source(input.journaled()).sink(discard().0);
    let options = common::options(Mode::MicroBatch, 1).with_checkpoint(directory.path().join("checkpoint"));
    let query = graph.start(options).unwrap();
    let error = query.savepoint(directory.path().join("above/savepoint")).unwrap_err();
    assert!(error.to_string().contains("no epoch has been committed yet"), "{error}");
    assert!(!directory.path().join("above").exists());
    query.stop();
    query.wait().unwrap();
}

#[test]
fn interrupted_copy_of_savepoint_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let graph = Graph::new("copied");
    graph.source(memory(0..100u64)).key_by(|n| n % 7).count().update().sink(discard().0);
    let options = common::options(Mode::MicroBatch, 1).with_max_records_per_epoch(10);
    common::run(&graph, options.clone().with_checkpoint(path("savepoint"))).unwrap();
    let fork = options.with_checkpoint(path("fork")).with_from_savepoint(path("savepoint"));
    common::run(&graph, fork.clone()).unwrap();
    assert!(!path("fork/copying").exists());

    // As a kill leaves it before the last file is written.
    std::fs::remove_file(path("fork/current")).unwrap();
    let error = common::run(&graph, fork.clone()).unwrap_err().to_string();
    assert!(error.contains("give the savepoint another directory"), "{error}");
    std::fs::write(path("fork/copying"), "").unwrap();
    common::run(&graph, fork).unwrap();
    assert!(path("fork/current").exists() && !path("fork/copying").exists());
}
