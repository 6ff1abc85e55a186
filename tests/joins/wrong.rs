//! Joins that cannot run, and restarts of other ones.

use std::time::Duration;

use tidemill::prelude::*;

use super::model::Row;
use super::steps::at;

fn graph(bounds: Bounds, is_outer: bool) -> Graph {
    let graph = Graph::new("join");
    let rows = || (0..20).map(|n| Row { key: 0, time: i64::from(n), number: n });
    let source = || graph.source(memory(rows())).with_watermark(at, Duration::ZERO).key_by(|row| row.key);
    let join = source().join(source()).within(bounds);
    let (sink, _) = memory_sink();
    if is_outer {
        join.left_outer().map(|(key, left, _)| (key, left)).sink(sink);
    } else {
        join.inner().map(|(key, left, _)| (key, left)).sink(sink);
    }
    graph
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn bounds_that_hold_for_nothing_are_refused() {
    let error = graph(Bounds::after(micros(2)..=micros(1)), false).run(Options::default()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("no two rows can be within the bounds 2us..=1us"), "{message}");
    assert!(message.contains("wrong.rs:"), "{message}");
    let error = graph(Bounds::after(micros(0)..=Duration::from_nanos(1_500)), false);
    let message = error.run(Options::default()).unwrap_err().to_string();
    assert!(message.contains("whole numbers of microseconds"), "{message}");
}

#[test]
fn other_bounds_or_kind_under_one_uid_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let options = || Options::default().with_checkpoint(place.path());
    graph(Bounds::after(micros(0)..=micros(5)), false).run(options()).unwrap();
    let refused = |graph: Graph, parts: &[&str]| {
        let message = graph.run(options()).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "{part} in {message}"));
        assert!(!message.contains("has lost"), "all its states are there: {message}");
    };
    refused(
        graph(Bounds::after(micros(0)..=micros(6)), false),
        &["interval_join", "bounds", "0s..=5us", "0s..=6us"],
    );
    refused(
        graph(Bounds::after(micros(0)..=micros(5)), true),
        &["interval_join", "kind", "inner", "left outer"],
    );
    graph(Bounds::after(micros(0)..=micros(5)), false).run(options()).unwrap();
}
