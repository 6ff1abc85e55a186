//! Sources that end while others of the same query live on.

mod common;

use std::time::Duration;

use tempfile::TempDir;
use tidemill::prelude::*;

/// One source ends at once, and what depends on it alone has state; the other one lives on. Epochs are committed all the same.
#[test]
fn epochs_are_committed_after_one_of_two_sources_has_ended() {
    for mode in [Mode::Continuous, Mode::MicroBatch] {
        for workers in [1, 2] {
            let directory = TempDir::new().unwrap();
            let graph = Graph::new("one ends");
            let (sink, counts) = memory_sink();
            let ended = graph.source(memory(["a", "b", "a"])).uid("ended");
            ended.key_by(|word| word.to_string()).count().update().sink(sink);
            let (sink, totals) = memory_sink();
            graph.source(rate(1_000)).uid("live").key_by(|row| row.value % 2).count().update().sink(sink);
            let interval = Duration::from_millis(5);
            let options = Options::default()
                .with_mode(mode)
                .with_workers(workers)
                .with_checkpoint(directory.path())
                .with_checkpoint_interval(interval);
            let query = graph.start(options).unwrap();
            for _ in 0..20 {
                let before = query.progress().epoch;
                common::wait_until(&query, "another epoch", |query| query.progress().epoch > before);
            }
            query.stop();
            common::end(query, "one ends").unwrap();
            assert!(counts.snapshot().len() >= 2, "{mode} {workers}");
            assert!(!totals.snapshot().is_empty(), "{mode} {workers}");
        }
    }
}
