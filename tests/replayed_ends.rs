//! Partitions that end in epochs of their own: a replay closes the same windows as the first run, though an offset does not
//! tell that a partition has ended.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::checkpoint::{MemoryStorage, inspect};
use tidemill::connectors::{EpochRows, for_each_epoch};
use tidemill::{
    Epoch, EventTime, Graph, Journal, Mode, Options, PlanLimits, Poll, PrepareContext, Reader, ReaderContext,
    Run, RunError, Source, SourceError, SourceInfo, tumbling,
};

use common::{end, options, sorted};

/// How many numbers an epoch reads of a partition.
const STEP: u64 = 10;

/// Numbers that are event times. Each end of a partition takes an offset, as in a journal: the reader reports it once, and
/// another one to the next run.
#[derive(Clone)]
struct Numbers(Arc<Vec<u64>>);

struct NumbersReader {
    at: u64,
    end: u64,
}

impl Numbers {
    /// This many numbers in each partition.
    fn of(partitions: &[u64]) -> Numbers {
        Numbers(Arc::new(partitions.to_vec()))
    }
}

impl Source for Numbers {
    type Item = u64;
    type Offset = u64;
    type Reader = NumbersReader;

    fn describe(&self) -> String {
        "numbers".to_owned()
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(self.0.len() as u32, |_| 0))
    }
    fn latest(&self, partition: u32, from: &u64, _: &PlanLimits) -> Result<u64, SourceError> {
        Ok((from + STEP).min(self.0[partition as usize] + 1).max(from + 1))
    }
    fn open(&self, partition: u32, from: &u64, _: ReaderContext) -> Result<NumbersReader, SourceError> {
        Ok(NumbersReader { at: *from, end: self.0[partition as usize] })
    }
}

impl Reader for NumbersReader {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        if until.is_some_and(|until| self.at >= *until) {
            return Ok(Poll::Idle);
        }
        let until = until.map_or(self.end, |until| *until).min(self.end).min(self.at + max as u64);
        if self.at < until {
            out.extend(self.at..until);
            self.at = until;
            return Ok(Poll::Ready);
        }
        self.at += 1;
        Ok(Poll::End)
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, to: &u64) -> Result<(), SourceError> {
        self.at = *to;
        Ok(())
    }
}

/// Closed windows: where they begin, and how many numbers they have.
type Windows = Vec<(i64, u64)>;

/// Stands for a database that commits the rows of an epoch and its number in one transaction.
#[derive(Default)]
struct Store {
    given: BTreeMap<Epoch, Windows>,
    done: BTreeSet<Epoch>,
    rows: Windows,
    /// How many more epochs succeed, and whether the transaction of the one that fails is done.
    fails: Option<(usize, bool)>,
}

impl Store {
    fn give(&mut self, all: EpochRows<(i64, u64)>, what: &str) -> Result<(), &'static str> {
        let rows = sorted(all.rows);
        if let Some(before) = self.given.insert(all.epoch, rows.clone()) {
            assert_eq!(before, rows, "epoch {} came again with other rows: {what}", all.epoch);
        }
        let fate = match &mut self.fails {
            Some((0, done)) => Some(*done),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if fate == Some(false) {
            return Err("no transaction");
        }
        if self.done.insert(all.epoch) {
            self.rows.extend(rows);
        }
        if fate.is_some() { Err("after the transaction") } else { Ok(()) }
    }
}

/// Where the partitions are, and where their watermark is assigned.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Plain,
    Journaled,
    /// One partition in each of two sources, with a watermark of their union.
    Union,
    /// The same, each with a watermark of its own.
    Watermarks,
}

const SHAPES: [Shape; 4] = [Shape::Plain, Shape::Journaled, Shape::Union, Shape::Watermarks];

/// How many numbers the partitions have: the first ends in the first epoch.
const PARTITIONS: [u64; 2] = [3, 35];

fn graph(shape: Shape, store: &Arc<Mutex<Store>>) -> Graph {
    let graph = Graph::new("ends");
    let time = |n: &u64| EventTime::from_micros(*n as i64);
    let [first, second] = PARTITIONS;
    let sources = || {
        (graph.source(Numbers::of(&[first])).uid("first"), graph.source(Numbers::of(&[second])).uid("second"))
    };
    let both = Numbers::of(&PARTITIONS);
    let stream = match shape {
        Shape::Plain => graph.source(both).uid("both").with_watermark(time, Duration::ZERO).boxed(),
        Shape::Journaled => {
            graph.source(both.journaled()).uid("both").with_watermark(time, Duration::ZERO).boxed()
        }
        Shape::Union => {
            let (first, second) = sources();
            first.union(second).with_watermark(time, Duration::ZERO).boxed()
        }
        Shape::Watermarks => {
            let (first, second) = sources();
            let second = second.with_watermark(time, Duration::ZERO);
            first.with_watermark(time, Duration::ZERO).union(second).boxed()
        }
    };
    let store = Arc::clone(store);
    stream
        .window(tumbling(Duration::from_micros(5)))
        .count()
        .append()
        .map(|closed| (closed.window.start.as_micros(), closed.value))
        .sink(for_each_epoch(move |all| store.lock().unwrap().give(all, &format!("{shape:?}"))));
    graph
}

fn run(
    shape: Shape,
    store: &Arc<Mutex<Store>>,
    storage: &MemoryStorage,
    way: (Mode, usize),
    fails: Option<(usize, bool)>,
) -> Result<(), RunError> {
    store.lock().unwrap().fails = fails;
    let options: Options = options(way.0, way.1).with_max_records_per_epoch(STEP);
    let query = graph(shape, store).start_in(Arc::new(storage.clone()), options)?;
    end(query, &format!("{shape:?} {way:?} {fails:?}")).map(drop)
}

fn expected() -> Windows {
    let mut counts = BTreeMap::<i64, u64>::new();
    for n in PARTITIONS.iter().flat_map(|rows| 0..*rows) {
        *counts.entry(n as i64 / 5 * 5).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Runs the query once for each failure, then once to its end. The number of workers alternates.
fn play(shape: Shape, fails: &[(usize, bool)], workers: [usize; 2]) {
    let (store, storage) = (Arc::<Mutex<Store>>::default(), MemoryStorage::new());
    for (n, fails) in fails.iter().enumerate() {
        let _ = run(shape, &store, &storage, (Mode::MicroBatch, workers[n % 2]), Some(*fails));
    }
    run(shape, &store, &storage, (Mode::MicroBatch, workers[fails.len() % 2]), None).unwrap();
    inspect::verify(&storage).unwrap();
    let store = store.lock().unwrap();
    assert_eq!(sorted(store.rows.clone()), expected(), "{shape:?} {fails:?} {workers:?}");
}

#[test]
fn replay_behind_an_ended_partition_closes_the_same_windows() {
    for shape in SHAPES {
        for workers in [[1, 1], [2, 2], [1, 3]] {
            for at in 0..5 {
                for done in [false, true] {
                    play(shape, &[(at, done)], workers);
                }
            }
        }
    }
}

#[test]
fn replay_of_a_replay_closes_the_same_windows() {
    for shape in SHAPES {
        for first in 0..5 {
            for second in 0..4 {
                play(shape, &[(first, false), (second, false)], [1, 2]);
            }
        }
    }
}

#[test]
fn replay_after_a_continuous_run_closes_the_same_windows() {
    for shape in SHAPES {
        for at in 0..5 {
            let (store, storage) = (Arc::<Mutex<Store>>::default(), MemoryStorage::new());
            let _ = run(shape, &store, &storage, (Mode::MicroBatch, 1), Some((at, false)));
            // A run in the other mode that commits nothing.
            let _ = run(shape, &store, &storage, (Mode::Continuous, 2), Some((0, false)));
            run(shape, &store, &storage, (Mode::MicroBatch, 1), None).unwrap();
            assert_eq!(sorted(store.lock().unwrap().rows.clone()), expected(), "{shape:?} {at}");
        }
    }
}
