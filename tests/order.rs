//! Records of one partition stay in order: in every kind of window, in aggregates that depend on it, with any number of
//! workers, in both modes, in little memory, and after restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::aggregate::{Collect, Fold, InOrder};
use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{MemorySource, memory_sink};
use tidemill::{
    Aggregate, EventTime, Graph, Mode, Options, Run, Trigger, WindowResult, session, sliding, tumbling,
};

use common::{available_now, run_well, ways};

/// Partition, number in it, event time, and something that takes memory.
type Record = (u8, u32, i64, [u64; 8]);

const KEYS: u32 = 3;
const DELAY: i64 = 60;

/// An aggregate of a user's own that depends on the order of records.
#[derive(Clone)]
struct Path;

impl Aggregate for Path {
    type In = Record;
    type Acc = Vec<Record>;
    type Out = Vec<Record>;

    fn create(&self, record: &Record) -> Vec<Record> {
        vec![*record]
    }
    fn add(&self, path: &mut Vec<Record>, record: &Record) {
        path.push(*record);
    }
    fn merge(&self, path: &mut Vec<Record>, later: Vec<Record>) {
        path.extend(later);
    }
    fn finish(&self, path: &Vec<Record>) -> Vec<Record> {
        path.clone()
    }
}

fn all() -> impl Aggregate<In = Record, Out = (Vec<Record>, Vec<Record>, Vec<Record>)> {
    let fold = Fold::new(
        Vec::new(),
        |rows: &mut Vec<Record>, row: &Record| rows.push(*row),
        |rows, later| rows.extend(later),
    );
    (Collect::new(), InOrder::of(fold), InOrder::of(Path))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Tumbling,
    Sliding,
    Session,
    Running,
}

const KINDS: [Kind; 4] = [Kind::Tumbling, Kind::Sliding, Kind::Session, Kind::Running];

/// The records by window and key.
type Results = BTreeMap<(Kind, i64, u32), Vec<Record>>;

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// What is expected, each partition's records in order, one partition after the other.
fn expected(partitions: &[Vec<Record>]) -> Results {
    let mut results = Results::new();
    for record in partitions.iter().flatten() {
        let (key, time) = (record.1 % KEYS, record.2);
        results.entry((Kind::Running, 0, key)).or_default().push(*record);
        results.entry((Kind::Tumbling, time.div_euclid(25) * 25, key)).or_default().push(*record);
        for start in (time - 39..=time).filter(|start| start.rem_euclid(10) == 0) {
            results.entry((Kind::Sliding, start, key)).or_default().push(*record);
        }
    }
    for key in 0..KEYS {
        let of_key = partitions.iter().flatten().filter(|record| record.1 % KEYS == key);
        let mut times: Vec<i64> = of_key.clone().map(|record| record.2).collect();
        times.sort_unstable();
        for session in times.chunk_by(|earlier, later| later - earlier <= 4) {
            let within = session[0]..=session[session.len() - 1];
            let records = of_key.clone().filter(|record| within.contains(&record.2)).copied().collect();
            results.insert((Kind::Session, session[0], key), records);
        }
    }
    results
}

/// One result after the other, having looked at the order.
struct Found(Results);

impl Found {
    fn put(&mut self, kind: Kind, start: i64, key: u32, rows: [Vec<Record>; 3], what: &str) {
        for rows in rows {
            let mut last = BTreeMap::new();
            for (partition, number, ..) in &rows {
                let before = last.insert(*partition, *number);
                assert!(before < Some(*number), "{what} {kind:?} {start}: {number} after {before:?}");
            }
            let mut sorted = rows;
            sorted.sort_unstable();
            let before = self.0.insert((kind, start, key), sorted.clone());
            assert!(kind == Kind::Running || before.is_none_or(|before| before == sorted), "{what}");
        }
    }
}

/// Runs the graph over the partitions; with several options each run resumes where the one before has ended. Says how many bytes
/// were spilled.
fn check(partitions: &[Vec<Record>], runs: &[Options]) -> u64 {
    let mut spilled = 0;
    let storage = Arc::new(MemoryStorage::new());
    let mut found = Found(Results::new());
    let what = format!("{runs:?}");
    for options in runs {
        let graph = Graph::new("order");
        let records = graph
            .source(MemorySource::partitioned(partitions.to_vec()))
            .with_watermark(|record| EventTime::from_micros(record.2), micros(DELAY as u64))
            .boxed();
        let by_key = || records.clone().key_by(|record: &Record| record.1 % KEYS);
        type Row = WindowResult<u32, (Vec<Record>, Vec<Record>, Vec<Record>)>;
        let (tumbled, tumbling_rows) = memory_sink::<Row>();
        by_key().window(tumbling(micros(25))).aggregate(all()).append().sink(tumbled);
        let (slid, sliding_rows) = memory_sink::<Row>();
        by_key().window(sliding(micros(40), micros(10))).aggregate(all()).append().sink(slid);
        let (sessions, session_rows) = memory_sink::<Row>();
        by_key().window(session(micros(4))).aggregate(all()).append().sink(sessions);
        let (running, running_rows) = memory_sink();
        by_key().aggregate(all()).update().sink(running);
        let summary = match runs {
            [only] => run_well(&graph, only.clone()),
            _ => graph.start_in(storage.clone(), options.clone()).unwrap().wait().unwrap(),
        };
        spilled += summary.last.spilled;
        let windows =
            [(Kind::Tumbling, tumbling_rows), (Kind::Sliding, sliding_rows), (Kind::Session, session_rows)];
        for (kind, rows) in windows {
            for row in rows.snapshot() {
                let (a, b, c) = row.value;
                found.put(kind, row.window.start.as_micros(), row.key, [a, b, c], &what);
            }
        }
        for (key, (a, b, c)) in running_rows.snapshot() {
            found.put(Kind::Running, 0, key, [a, b, c], &what);
        }
    }
    let expected = expected(partitions);
    for kind in KINDS {
        let of_kind = |results: &Results| -> Vec<_> {
            let of_kind = results.iter().filter(|((of, ..), _)| *of == kind);
            of_kind.map(|(place, rows)| (*place, rows.clone())).collect()
        };
        assert_eq!(of_kind(&found.0), of_kind(&expected), "{what}");
    }
    spilled
}

/// Partitions whose records are out of order by as much as the delay allows, and apart by some.
fn partitions(count: usize, records: u32) -> impl Strategy<Value = Vec<Vec<Record>>> {
    let jitter = proptest::collection::vec(0..DELAY, records as usize);
    let partition = (jitter, 0..3i64);
    proptest::collection::vec(partition, count).prop_map(|partitions| {
        let partition = |(number, (jitter, behind)): (u8, (Vec<i64>, i64))| {
            let record =
                |(n, jitter): (u32, i64)| (number, n + 1, i64::from(n) * 2 - jitter - behind * 20, [0; 8]);
            (0..).zip(jitter).map(record).collect()
        };
        (0..).zip(partitions).map(partition).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, ..ProptestConfig::default() })]

    #[test]
    fn order_of_arrival_survives_workers_modes_and_epochs(partitions in partitions(5, 120)) {
        let mut spilled = 0;
        for way in ways(&[1], 37) {
            check(&partitions, &[way.clone().with_pulls_from(usize::MAX)]);
            let memory = (64 << 10) * way.workers as u64;
            spilled += check(&partitions, &[way.with_state_memory(memory)]);
        }
        prop_assert!(spilled > 0);
    }

    #[test]
    fn order_of_arrival_survives_restarts(partitions in partitions(4, 150)) {
        for last in [Mode::MicroBatch, Mode::Continuous] {
            for workers in [[1, 2, 4, 1], [4, 1, 2, 2]] {
                let once = |workers| {
                    let options = available_now(Mode::MicroBatch, workers).with_trigger(Trigger::Once);
                    options.with_max_records_per_epoch(120).with_state_memory(256 << 10)
                };
                let mut runs: Vec<Options> = workers[..3].iter().map(|workers| once(*workers)).collect();
                runs.push(common::options(last, workers[3]));
                check(&partitions, &runs);
            }
        }
    }
}

#[test]
fn shortcuts_keep_the_order_of_arrival() {
    let graph = Graph::new("shortcuts");
    let records = graph
        .source(MemorySource::partitioned([vec![(0u32, 12i64), (1, 3), (2, 8)]]))
        .with_watermark(|record| EventTime::from_micros(record.1), micros(20))
        .boxed();
    let (collected, collected_rows) = memory_sink();
    records.clone().window(session(micros(5))).collect().append().map(|row| row.value).sink(collected);
    let (folded, folded_rows) = memory_sink();
    records
        .window(sliding(micros(20), micros(10)))
        .fold(Vec::new(), |rows: &mut Vec<_>, row| rows.push(*row), |rows, later| rows.extend(later))
        .append()
        .map(|row| (row.window.start.as_micros(), row.value))
        .sink(folded);
    run_well(&graph, Options::default());
    assert_eq!(collected_rows.snapshot(), [[(0, 12), (1, 3), (2, 8)]]);
    let first = folded_rows.snapshot().into_iter().find(|row| row.0 == 0).unwrap();
    assert_eq!(first.1, [(0, 12), (1, 3), (2, 8)]);
}
