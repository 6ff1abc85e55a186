//! Partitions and sources with a backlog wait for those that are behind in event time: joins and windows keep few rows that are
//! ahead of the watermark. Nothing waits for a partition that is silent or has ended.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::connectors::{discard, memory_sink};
use tidemill::prelude::*;
use tidemill::testing::{SimClock, TestDriver};
use tidemill::{
    Bounds, EventStream, Mode, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError,
    SourceInfo, Waker,
};

use common::{end, options, run_well, wait_until};

/// A row: key and event time. The rows of a partition are one microsecond apart.
type Row = (u32, i64);

/// The rows of each partition.
const ROWS: u64 = 10_000;
/// How many rows may be read ahead, over all partitions.
const AHEAD: usize = 1_000;
/// What a fast partition gives at a time, and what the engine reads in the time that a slow one takes for a batch of its own to
/// be observed.
const FAST: usize = 100;
const ON_THE_WAY: u64 = 20 * FAST as u64;

/// How a partition gives its rows.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// At most this many rows at a time, always with a backlog.
    Gives(usize),
    /// A single row; then nothing, until all others have ended.
    Silent,
}

/// How far all partitions of a graph have been read.
#[derive(Default)]
struct Pool {
    paces: Vec<Pace>,
    read: Vec<AtomicU64>,
    ended: Vec<AtomicBool>,
    /// How many rows a partition was ahead of one that had a backlog, at most.
    most_ahead: AtomicU64,
    silent: Mutex<Vec<Waker>>,
}

impl Pool {
    fn new(paces: &[Pace]) -> Arc<Pool> {
        Arc::new(Pool {
            paces: paces.to_vec(),
            read: paces.iter().map(|_| AtomicU64::new(0)).collect(),
            ended: paces.iter().map(|_| AtomicBool::new(false)).collect(),
            ..Pool::default()
        })
    }

    fn reads_on(&self, partition: usize) -> bool {
        !self.ended[partition].load(Ordering::SeqCst)
    }

    /// Notes how far a partition is ahead when it is read.
    fn polled(&self, partition: usize) {
        let own = self.read[partition].load(Ordering::SeqCst);
        let others = (0..self.paces.len()).filter(|other| self.reads_on(*other) && *other != partition);
        for other in others.filter(|other| self.paces[*other] != Pace::Silent) {
            let ahead = own.saturating_sub(self.read[other].load(Ordering::SeqCst));
            self.most_ahead.fetch_max(ahead, Ordering::SeqCst);
        }
    }

    fn end(&self, partition: usize) {
        self.ended[partition].store(true, Ordering::SeqCst);
        self.silent.lock().unwrap().iter().for_each(Waker::wake);
    }

    /// Whether all partitions have ended that are not silent.
    fn is_over(&self) -> bool {
        (0..self.paces.len()).all(|it| self.paces[it] == Pace::Silent || !self.reads_on(it))
    }
}

/// Some partitions of a pool.
struct Paced {
    pool: Arc<Pool>,
    first: usize,
    partitions: u32,
}

impl Source for Paced {
    type Item = Row;
    type Offset = u64;
    type Reader = PacedReader;

    fn describe(&self) -> String {
        "paced".to_owned()
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(self.partitions, |_| 0))
    }
    fn latest(&self, _: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(from.saturating_add(limits.records()))
    }
    fn open(&self, partition: u32, from: &u64, context: ReaderContext) -> Result<PacedReader, SourceError> {
        let (pool, partition) = (Arc::clone(&self.pool), self.first + partition as usize);
        Ok(PacedReader { pool, partition, next: *from, waker: context.waker })
    }
}

struct PacedReader {
    pool: Arc<Pool>,
    partition: usize,
    next: u64,
    waker: Waker,
}

impl Reader for PacedReader {
    type Item = Row;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<Row>) -> Result<Poll, SourceError> {
        let pool = &self.pool;
        pool.polled(self.partition);
        let (pace, rows) = match pool.paces[self.partition] {
            Pace::Gives(pace) => (pace, ROWS),
            Pace::Silent => (1, 1),
        };
        let last = rows.min(self.next + max.min(pace) as u64).min(until.copied().unwrap_or(u64::MAX));
        out.extend((self.next..last).map(|n| (n as u32 % 50, n as i64)));
        self.next = last;
        pool.read[self.partition].store(last, Ordering::SeqCst);
        if last < rows || !out.is_empty() {
            return Ok(Poll::Ready);
        }
        if pool.paces[self.partition] == Pace::Silent {
            // First the note that it waits, then another look.
            pool.silent.lock().unwrap().push(self.waker.clone());
            if !pool.is_over() {
                return Ok(Poll::Idle);
            }
        }
        pool.end(self.partition);
        Ok(Poll::End)
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.next = *offset;
        Ok(())
    }
}

/// Partitions of a pool as a stream with event time.
fn stream(graph: &Graph, pool: &Arc<Pool>, partitions: std::ops::Range<usize>) -> EventStream<Row> {
    let source =
        Paced { pool: Arc::clone(pool), first: partitions.start, partitions: partitions.len() as u32 };
    graph.source(source).with_watermark(|row: &Row| EventTime::from_micros(row.1), Duration::ZERO).boxed()
}

/// Two streams, each with half of the partitions, joined by key and the same time.
fn joined(pool: &Arc<Pool>) -> Graph {
    let (graph, half) = (Graph::new("join"), pool.paces.len() / 2);
    let left = stream(&graph, pool, 0..half).key_by(|row| row.0);
    let right = stream(&graph, pool, half..2 * half).key_by(|row| row.0);
    left.join(right).within(Bounds::between(Duration::ZERO, Duration::ZERO)).inner().sink(discard().0);
    graph
}

/// One stream, in sessions.
fn sessions(pool: &Arc<Pool>) -> Graph {
    let graph = Graph::new("sessions");
    let gap = Duration::from_micros(5);
    let keyed = stream(&graph, pool, 0..pool.paces.len()).key_by(|row| row.0);
    keyed.window(session(gap)).count().append().sink(discard().0);
    graph
}

const SLOW: Pace = Pace::Gives(1);

fn continuous(workers: usize) -> Options {
    options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_millis(1))
}

/// Runs a graph to its end; returns how many rows partitions were ahead at most, and the state.
fn most(graph: &Graph, pool: &Pool, options: Options) -> (u64, u64) {
    let state = AtomicU64::new(0);
    let query = graph.start(options).unwrap();
    wait_until(&query, "aligned", |query| {
        let rows = query.progress().state_operators.iter().map(|it| it.num_rows_total).sum();
        state.fetch_max(rows, Ordering::Relaxed);
        query.is_finished()
    });
    end(query, "aligned").unwrap();
    (pool.most_ahead.load(Ordering::SeqCst), state.into_inner())
}

#[test]
fn fast_partition_waits_for_slow_one() {
    let paces = [Pace::Gives(FAST), SLOW, Pace::Gives(FAST), Pace::Gives(FAST)];
    for workers in [1, 2] {
        for make in [joined, sessions] {
            let pool = Pool::new(&paces);
            let graph = make(&pool);
            let (ahead, state) = most(&graph, &pool, continuous(workers).with_max_ahead(AHEAD));
            let share = (workers * AHEAD / paces.len()) as u64;
            assert!(ahead <= share + ON_THE_WAY, "{} {workers}: {ahead}", graph.name());
            let bound = paces.len() as u64 * (share + ON_THE_WAY);
            assert!(state <= bound, "{} {workers}: {state} rows of state", graph.name());
        }
    }
}

#[test]
fn without_alignment_fast_partition_runs_ahead() {
    let pool = Pool::new(&[Pace::Gives(FAST), SLOW]);
    let (ahead, state) = most(&sessions(&pool), &pool, continuous(1).with_max_ahead(0));
    assert!(ahead > ROWS / 2 && state > ROWS / 3, "{ahead} {state}");
}

#[test]
fn aligned_join_finds_all_pairs() {
    for workers in [1, 2, 3] {
        let pool = Pool::new(&[Pace::Gives(FAST), SLOW]);
        let graph = Graph::new("pairs");
        let left = stream(&graph, &pool, 0..1).key_by(|row| row.0);
        let right = stream(&graph, &pool, 1..2).key_by(|row| row.0);
        let bounds = Bounds::between(Duration::ZERO, Duration::ZERO);
        let (sink, pairs) = memory_sink();
        left.join(right).within(bounds).inner().map(|(_, left, right)| (left.1, right.1)).sink(sink);
        let summary = run_well(&graph, continuous(workers).with_max_ahead(10));
        let pairs = common::sorted(pairs.snapshot());
        assert_eq!(pairs, (0..ROWS as i64).map(|n| (n, n)).collect::<Vec<_>>());
        assert_eq!(summary.late_rows, 0);
    }
}

#[test]
fn silent_partition_does_not_make_others_wait() {
    for workers in [1, 2] {
        for make in [joined, sessions] {
            let pool = Pool::new(&[Pace::Gives(FAST), Pace::Silent, Pace::Gives(FAST), Pace::Gives(FAST)]);
            run_well(&make(&pool), continuous(workers).with_max_ahead(AHEAD));
            assert!(pool.is_over());
        }
    }
}

/// In a query whose clock stands still, nothing waits for time to pass.
#[test]
fn silent_partition_is_no_reason_to_let_time_pass() {
    for make in [joined, sessions] {
        let pool = Pool::new(&[Pace::Gives(FAST), Pace::Silent, Pace::Gives(FAST), SLOW]);
        let options = Options::default().with_mode(Mode::Continuous).with_max_ahead(10);
        let mut query = TestDriver::new(&make(&pool), options, &SimClock::new()).unwrap();
        query.settle().unwrap();
        assert!(pool.is_over());
    }
}
