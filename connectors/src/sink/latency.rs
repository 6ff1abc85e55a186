//! How long rows take, through your own graph into your own sink.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use tidemill_operators::{
    Clock, Committed, Epoch, Prepared, ProcessingTime, RowKind, Sink, SinkContext, SinkError,
};

use crate::lock;

/// The greatest latency that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// How many digits of a latency count.
const DIGITS: u8 = 3;

/// Measures how long rows take from the instant at which they were due until the sink shows them: in processing time, by the
/// engine's clock, to a microsecond.
///
/// A row is shown when it has been written, or, where the sink waits for the commit of its epoch, when that has happened: in
/// micro-batch always; in continuous mode where [`at_commit`](crate::at_commit) is around this, or [`until_commit`] says so.
/// What is counted from has to be in the row: the instant at which its record *was to* arrive (as the rate source says it, or
/// the sender), not the time at which the graph read it. Then a stall shows in each row that it delays.
///
/// Measure rows that stand for one record each. A sum or a count stands for many, and knows at best when the latest of them
/// was due: its latency looks better than that of those which waited longer.
///
/// One `Latency` may be given to several sinks, and to those of all workers; clones share what they have measured. It can be
/// read while the query runs.
///
/// ```
/// use tidemill::connectors::Latency;
/// use tidemill::prelude::*;
/// use tidemill::{ProcessingTime, RowKind, Sink, SinkContext};
///
/// let latency = Latency::new();
/// let (sink, table) = memory_sink();
/// let mut sink = latency.of(sink, |due: &i64| ProcessingTime::from_micros(*due));
/// sink.open(&SinkContext::new("quick", RowKind::Insert, true))?;
/// sink.write(Epoch::new(0), &mut vec![1, 2])?;
/// assert_eq!((latency.summary().rows, table.snapshot()), (2, vec![1, 2]));
/// # Ok::<(), tidemill::SinkError>(())
/// ```
///
/// [`until_commit`]: Latency::until_commit
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Arc<Mutex<Histogram<u64>>>,
    until_commit: bool,
}

impl Default for Latency {
    fn default() -> Self {
        Latency::new()
    }
}

impl Latency {
    /// Nothing measured yet.
    #[must_use]
    #[allow(clippy::expect_used, reason = "bounds that are constants, and right, are never refused")]
    pub fn new() -> Latency {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are right");
        Latency { histogram: Arc::new(Mutex::new(histogram)), until_commit: false }
    }

    /// In continuous mode too, count until the epoch is committed: with a checkpoint, until the row is durable.
    #[must_use]
    pub fn until_commit(mut self) -> Latency {
        self.until_commit = true;
        self
    }

    /// A sink that hands its rows to `sink` and measures them; `due` says when a row was due.
    pub fn of<S, F>(&self, sink: S, due: F) -> Measured<S, F> {
        Measured {
            sink,
            due,
            latency: self.clone(),
            clock: Clock::new(|| ProcessingTime::from_micros(0)),
            at_once: true,
            dues: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// What has been measured so far.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let histogram = lock(&self.histogram);
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        LatencySummary {
            rows: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }

    /// The least latency that no more than a part of the rows exceed: `at(0.5)` is the median. Zero without rows.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_micros(lock(&self.histogram).value_at_quantile(quantile))
    }

    /// Forgets what has been measured: for the end of a warm-up.
    pub fn reset(&self) {
        lock(&self.histogram).reset();
    }

    fn record(&self, now: ProcessingTime, dues: impl Iterator<Item = ProcessingTime>) {
        let mut histogram = lock(&self.histogram);
        for due in dues {
            let micros = u64::try_from(now.since(due).as_micros()).unwrap_or(LONGEST);
            histogram.saturating_record(micros.max(1));
        }
    }
}

/// Latencies in figures. They are exact to three digits, and to a microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many rows were measured.
    pub rows: u64,
    /// The median.
    pub p50: Duration,
    /// Nine of ten rows take no longer.
    pub p90: Duration,
    /// 99 of 100 rows take no longer.
    pub p99: Duration,
    /// 999 of 1,000 rows take no longer.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LatencySummary { rows, p50, p90, p99, p999, max } = *self;
        write!(
            f,
            "{rows} rows: p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, at most {max:.1?}"
        )
    }
}

/// A sink whose rows are measured; made by [`Latency::of`].
pub struct Measured<S, F> {
    sink: S,
    due: F,
    latency: Latency,
    clock: Clock,
    /// Whether a row is shown when it has been written.
    at_once: bool,
    dues: Vec<ProcessingTime>,
    /// When the rows were due that wait for the commit of their epoch.
    waiting: VecDeque<(Epoch, Vec<ProcessingTime>)>,
}

impl<T, S: Sink<T>, F: Fn(&T) -> ProcessingTime + Send + 'static> Sink<T> for Measured<S, F> {
    fn describe(&self) -> String {
        self.sink.describe()
    }

    fn place(&self) -> Option<PathBuf> {
        self.sink.place()
    }

    fn takes(&self, kind: RowKind) -> bool {
        self.sink.takes(kind)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.clock = context.clock.clone();
        self.at_once = context.immediate && !self.latency.until_commit;
        self.waiting.clear();
        self.sink.open(context)
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.sink.recover(committed)
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        self.dues.extend(rows.iter().map(&self.due));
        self.sink.write(epoch, rows)?;
        if self.at_once {
            self.latency.record(self.clock.now(), self.dues.drain(..));
        } else {
            match self.waiting.back_mut() {
                Some((last, waiting)) if *last == epoch => waiting.append(&mut self.dues),
                _ => self.waiting.push_back((epoch, std::mem::take(&mut self.dues))),
            }
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        self.sink.prepare(epoch)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.sink.commit(epoch)?;
        let shown = self.waiting.partition_point(|(waiting, _)| *waiting <= epoch);
        if shown > 0 {
            let dues = self.waiting.drain(..shown).flat_map(|(_, dues)| dues);
            self.latency.record(self.clock.now(), dues);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.sink.close()
    }

    fn abort(&mut self) {
        self.waiting.clear();
        self.sink.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use tidemill_operators::RowKind;

    use super::*;
    use crate::{at_commit, memory_sink};

    /// A clock that is set by hand.
    fn clock() -> (Arc<AtomicI64>, Clock) {
        let now = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&now);
        (now, Clock::new(move || ProcessingTime::from_micros(read.load(Ordering::Relaxed))))
    }

    fn context(clock: &Clock, immediate: bool) -> SinkContext {
        SinkContext::new("test", RowKind::Insert, immediate).with_clock(clock.clone())
    }

    /// Rows that are due at 0, 400 and 500: written at 1,000 in epochs 0, 0 and 1, which are committed at 3,000 and 7,000.
    fn run<S: Sink<i64>>(mut sink: S, context: &SinkContext, now: &AtomicI64) {
        sink.open(context).unwrap();
        now.store(1_000, Ordering::Relaxed);
        sink.write(Epoch::new(0), &mut vec![0, 400]).unwrap();
        sink.prepare(Epoch::new(0)).unwrap();
        sink.write(Epoch::new(1), &mut vec![500]).unwrap();
        now.store(3_000, Ordering::Relaxed);
        sink.commit(Epoch::new(0)).unwrap();
        now.store(7_000, Ordering::Relaxed);
        sink.prepare(Epoch::new(1)).unwrap();
        sink.commit(Epoch::new(1)).unwrap();
        sink.close().unwrap();
    }

    fn measured(latency: &Latency) -> [u64; 4] {
        let LatencySummary { rows, max, .. } = latency.summary();
        let micros = |time: Duration| time.as_micros() as u64;
        [rows, micros(latency.at(0.3)), micros(latency.at(0.6)), micros(max)]
    }

    fn due(row: &i64) -> ProcessingTime {
        ProcessingTime::from_micros(*row)
    }

    #[test]
    fn row_is_shown_at_write_or_at_commit() {
        let (now, clock) = clock();
        let at_once = Latency::new();
        let (sink, table) = memory_sink();
        run(at_once.of(sink, due), &context(&clock, true), &now);
        assert_eq!((measured(&at_once), table.snapshot()), ([3, 500, 600, 1_000], vec![0, 400, 500]));

        let committed = [[3, 2_601, 3_001, 6_503]; 3];
        let of_batches = Latency::new();
        run(of_batches.of(memory_sink().0, due), &context(&clock, false), &now);
        let durable = Latency::new().until_commit();
        run(durable.of(memory_sink().0, due), &context(&clock, true), &now);
        let patient = Latency::new();
        run(at_commit(patient.of(memory_sink().0, due)), &context(&clock, true), &now);
        assert_eq!([&of_batches, &durable, &patient].map(measured), committed);
    }

    #[test]
    fn clones_measure_together_and_forget_together() {
        let (now, clock) = clock();
        let latency = Latency::new();
        for _ in 0..2 {
            run(latency.clone().of(memory_sink().0, due), &context(&clock, true), &now);
        }
        assert_eq!(latency.summary().rows, 6);
        latency.clone().reset();
        assert_eq!(latency.summary(), LatencySummary::default());
    }

    #[test]
    fn what_is_due_later_or_was_long_ago_does_no_harm() {
        let (now, clock) = clock();
        let latency = Latency::new();
        let mut sink = latency.of(memory_sink().0, due);
        sink.open(&context(&clock, true)).unwrap();
        now.store(5, Ordering::Relaxed);
        sink.write(Epoch::new(0), &mut vec![i64::MAX, i64::MIN]).unwrap();
        assert_eq!(latency.summary().rows, 2);
        assert!(
            latency.at(0.5) <= Duration::from_micros(1)
                && latency.summary().max >= Duration::from_secs(3_600)
        );
    }
}
