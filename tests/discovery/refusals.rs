//! What a source that looks for partitions must not say.

use std::sync::Arc;
use std::time::Duration;

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::memory_sink;
use tidemill::{Graph, PlanLimits, PrepareContext, ReaderContext, Run, Source, SourceError, SourceInfo};

use crate::common::{MODES, end, wait_until};
use crate::shards::{Row, ShardReader, Shards};
use crate::{partitions, way};

/// Runs a source that says that it has another number of partitions, while it runs; returns the error.
fn with_partitions(mode: tidemill::Mode, number: u32) -> (String, u32) {
    let source = Shards::new(&[1, 1, 1]);
    let graph = Graph::new("pretends");
    let line = line!() + 1;
    graph.source(source.clone()).sink(memory_sink().0);
    let running = graph.start_in(Arc::new(MemoryStorage::new()), way(mode, 2)).unwrap();
    wait_until(&running, "three shards", |handle| partitions(handle) == 3);
    *source.pretends.lock().unwrap() = Some(number);
    (end(running, "refused").unwrap_err().to_string(), line)
}

#[test]
fn shards_that_become_fewer_are_refused() {
    for mode in MODES {
        let (said, line) = with_partitions(mode, 2);
        let wanted = format!(
            "source `source` at tests/discovery/refusals.rs:{line}: it had 3 partitions and has 2 now: the number of \
             partitions of a source must not become smaller"
        );
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn shards_beyond_the_last_number_are_refused() {
    for mode in MODES {
        let (said, _) = with_partitions(mode, 65_537);
        assert!(said.contains("at most 65536 partitions (got 65537)"), "{said}");
    }
}

#[test]
fn planned_shards_that_are_gone_at_restart_are_refused() {
    let storage = Arc::new(MemoryStorage::new());
    let source = Shards::new(&[1, 1]);
    *source.broken.lock().unwrap() = Some(1);
    let start = || {
        let graph = Graph::new("gone");
        graph.source(source.clone()).uid("shards").sink(memory_sink().0);
        let started = graph.start_in(storage.clone(), way(tidemill::Mode::MicroBatch, 1));
        started.and_then(|handle| handle.wait()).unwrap_err().to_string()
    };
    let failed = start();
    assert!(failed.contains("the shard cannot be read"), "{failed}");
    // The epoch that failed has not been committed; its plan has both.
    *source.pretends.lock().unwrap() = Some(1);
    let refused = start();
    assert!(refused.contains("had 2 partitions in the checkpoint and has 1 now"), "{refused}");
}

/// Shards that it cannot find, that end, or that are slices of one sequence.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    FindsNone,
    IsBounded,
    IsSliced,
}

struct WrongShards(Wrong, Shards);

impl Source for WrongShards {
    type Item = Row;
    type Offset = u64;
    type Reader = ShardReader;

    fn describe(&self) -> String {
        "wrong".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        let info = SourceInfo::new(1, |_| 0).with_discovery(Duration::ZERO);
        Ok(if self.0 == Wrong::IsSliced { info.in_one_sequence() } else { info })
    }
    fn is_bounded(&self) -> bool {
        self.0 == Wrong::IsBounded
    }
    fn latest(&self, shard: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        self.1.latest(shard, from, limits)
    }
    fn open(&self, shard: u32, from: &u64, context: ReaderContext) -> Result<ShardReader, SourceError> {
        self.1.open(shard, from, context)
    }
}

#[test]
fn discovery_that_cannot_work_is_refused() {
    for mode in MODES {
        let of = |wrong| {
            let graph = Graph::new("wrong");
            graph.source(WrongShards(wrong, Shards::new(&[1]))).sink(memory_sink().0);
            let started = graph.start(way(mode, 1)).and_then(|handle| end(handle, "refused"));
            started.unwrap_err().to_string()
        };
        for (wrong, wanted) in [
            (Wrong::FindsNone, "wrong has a discovery interval, but finds no partitions while a query runs"),
            (Wrong::IsBounded, "since it is bounded"),
            (Wrong::IsSliced, "since its partitions are slices of one sequence"),
        ] {
            let said = of(wrong);
            assert!(said.contains(wanted) && said.contains("refusals.rs:"), "{said}");
        }
    }
}
