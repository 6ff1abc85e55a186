//! The programs on tables.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemill::aggregate::Sum;
use tidemill::prelude::*;
use tidemill::{
    Epoch, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, RowChange, RowKind, Sink, SinkError,
    Source, SourceError, SourceInfo,
};

use super::schedule::group_of;
use super::{Digest, Outcome, Record, Schedule, TOP, Work, region_of};
use crate::harness::slots::histogram;
use crate::measure::cpu_time;

/// What source and sink share.
#[derive(Debug)]
struct Progress {
    schedule: Arc<Schedule>,
    /// How many batches have been computed.
    done: AtomicUsize,
    /// Whether a batch waits for the one before.
    is_closed: bool,
    is_over: AtomicBool,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    begun: Instant,
    load: Duration,
    /// When the measured batches began, and the CPU time then.
    measuring: Option<(Instant, Duration)>,
    elapsed: Duration,
    cpu: Duration,
    sent: Instant,
    latencies: hdrhistogram::Histogram<u64>,
    answer: u64,
}

impl Progress {
    /// Called before a batch is emitted.
    fn sends(&self, round: usize) {
        let mut measured = self.lock();
        measured.sent = Instant::now();
        if round == 1 + self.schedule.sizes.warmup as usize {
            measured.measuring = Some((measured.sent, cpu_time().unwrap_or_default()));
        }
    }

    /// Called once a batch has been computed.
    fn computed(&self, round: usize, measured: &mut Measured) {
        let now = Instant::now();
        if round == 0 {
            measured.load = now - measured.begun;
        }
        if self.is_closed && round > self.schedule.sizes.warmup as usize {
            measured.latencies.saturating_record((now - measured.sent).as_nanos() as u64);
        }
        if round + 1 == self.schedule.ends.len()
            && let Some((begun, cpu)) = measured.measuring
        {
            measured.elapsed = now - begun;
            measured.cpu = cpu_time().unwrap_or_default().saturating_sub(cpu);
        }
        if round + 1 == self.schedule.ends.len() {
            self.is_over.store(true, Ordering::Release);
        }
        self.done.store(round + 1, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Emits the batches.
struct Batches(Arc<Progress>);

impl Source for Batches {
    type Item = Record;
    type Offset = usize;
    type Reader = BatchReader;

    fn describe(&self) -> String {
        "batches".to_owned()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<usize>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }

    /// An epoch is a batch. The second comes once the first has been computed, as the other inputs may take longer.
    fn latest(&self, _: u32, from: &usize, _: &PlanLimits) -> Result<usize, SourceError> {
        let ends = &self.0.schedule.ends;
        if *from > 0 && self.0.done.load(Ordering::Acquire) == 0 {
            return Ok(*from);
        }
        Ok(ends.iter().copied().find(|end| end > from).unwrap_or(*from + 1))
    }

    fn open(&self, _: u32, from: &usize, _: ReaderContext) -> Result<BatchReader, SourceError> {
        Ok(BatchReader { progress: Arc::clone(&self.0), at: *from, round: 0 })
    }
}

struct BatchReader {
    progress: Arc<Progress>,
    at: usize,
    round: usize,
}

impl Reader for BatchReader {
    type Item = Record;
    type Offset = usize;

    fn poll(
        &mut self,
        until: Option<&usize>,
        max: usize,
        out: &mut Vec<Record>,
    ) -> Result<Poll, SourceError> {
        let progress = &*self.progress;
        let schedule = &*progress.schedule;
        let Some(end) = schedule.ends.get(self.round).copied() else {
            let is_over = !progress.is_closed || progress.is_over.load(Ordering::Acquire);
            return Ok(if is_over { Poll::End } else { Poll::Soon });
        };
        if progress.is_closed && progress.done.load(Ordering::Acquire) < self.round {
            return Ok(Poll::Soon);
        }
        if schedule.begin(self.round) == self.at {
            progress.sends(self.round);
        }
        let upto = until.map_or(end, |until| end.min(*until)).min(self.at + max);
        out.extend_from_slice(schedule.records.get(self.at..upto).unwrap_or_default());
        self.at = upto;
        if self.at == end {
            self.round += 1;
        }
        Ok(match until {
            Some(until) if self.at >= *until => Poll::Idle,
            None if self.at == end => Poll::Soon,
            _ => Poll::Ready,
        })
    }

    fn offset(&self) -> usize {
        self.at
    }

    fn seek(&mut self, offset: &usize) -> Result<(), SourceError> {
        self.at = *offset;
        self.round = self.progress.schedule.ends.partition_point(|end| end <= offset);
        Ok(())
    }
}

/// Rows that do not change, from an input that ends with the others: while it is open, tables of it are kept ready for changes.
struct Fixed {
    rows: Arc<Vec<(u64, u64)>>,
    progress: Arc<Progress>,
}

impl Source for Fixed {
    type Item = (u64, u64);
    type Offset = usize;
    type Reader = FixedReader;

    fn describe(&self) -> String {
        "fixed rows".to_owned()
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<usize>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }

    fn latest(&self, _: u32, from: &usize, _: &PlanLimits) -> Result<usize, SourceError> {
        // One beyond the end, so that the reader says that it has ended.
        let is_over = self.progress.is_over.load(Ordering::Acquire);
        Ok(if is_over { *from + 1 } else { self.rows.len() })
    }

    fn open(&self, _: u32, from: &usize, context: ReaderContext) -> Result<FixedReader, SourceError> {
        let (rows, progress) = (Arc::clone(&self.rows), Arc::clone(&self.progress));
        Ok(FixedReader { rows, progress, at: *from, context })
    }
}

struct FixedReader {
    rows: Arc<Vec<(u64, u64)>>,
    progress: Arc<Progress>,
    at: usize,
    context: ReaderContext,
}

impl Reader for FixedReader {
    type Item = (u64, u64);
    type Offset = usize;

    fn poll(
        &mut self,
        _: Option<&usize>,
        max: usize,
        out: &mut Vec<(u64, u64)>,
    ) -> Result<Poll, SourceError> {
        let left = self.rows.get(self.at..).unwrap_or_default();
        out.extend(left.iter().take(max));
        self.at += left.len().min(max);
        Ok(match self.at {
            at if at < self.rows.len() => Poll::Ready,
            _ if self.progress.is_over.load(Ordering::Acquire) => Poll::End,
            _ => Poll::IdleUntil(self.context.clock.now() + Duration::from_millis(20)),
        })
    }

    fn offset(&self) -> usize {
        self.at
    }

    fn seek(&mut self, offset: &usize) -> Result<(), SourceError> {
        self.at = *offset;
        Ok(())
    }
}

/// Sees when a batch has been computed.
struct Check {
    progress: Arc<Progress>,
    round: usize,
    expected: u64,
}

impl<T: Digest + Send + 'static> Sink<RowChange<T>> for Check {
    fn takes(&self, kind: RowKind) -> bool {
        kind == RowKind::Changes
    }

    fn write(&mut self, _: Epoch, rows: &mut Vec<RowChange<T>>) -> Result<(), SinkError> {
        let progress = Arc::clone(&self.progress);
        let mut measured = progress.lock();
        let mut answer = measured.answer;
        for change in rows.drain(..) {
            let digest = change.row.digest();
            answer = answer.wrapping_add(digest.wrapping_mul(change.diff as u64));
            if digest == self.expected && change.diff > 0 {
                progress.computed(self.round, &mut measured);
                self.round += 1;
                self.expected = progress.schedule.expected.get(self.round).copied().unwrap_or(0);
            }
        }
        measured.answer = answer;
        Ok(())
    }

    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Runs the work. In continuous mode there must be one worker.
///
/// # Errors
/// If the run fails.
pub fn run(schedule: &Arc<Schedule>, options: Options) -> Result<Outcome, RunError> {
    let now = Instant::now();
    let measured = Measured {
        begun: now,
        load: Duration::ZERO,
        measuring: None,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        sent: now,
        latencies: histogram(),
        answer: 0,
    };
    let progress = Arc::new(Progress {
        schedule: Arc::clone(schedule),
        done: AtomicUsize::new(0),
        is_closed: options.mode == Mode::Continuous,
        is_over: AtomicBool::new(false),
        measured: Mutex::new(measured),
    });
    let graph = Graph::new("tables");
    let records = graph.source(Batches(Arc::clone(&progress))).key_by(|record| record.0);
    let records = records.into_table_with(|record: Record| Some((record.1, record.2)));
    let expected = schedule.expected.first().copied().unwrap_or(0);
    let check = Check { progress: Arc::clone(&progress), round: 0, expected };
    let (sizes, regions) = (schedule.sizes, schedule.sizes.regions());
    let fixed = |rows: Vec<(u64, u64)>| {
        let fixed = Fixed { rows: Arc::new(rows), progress: Arc::clone(&progress) };
        graph.source(fixed).key_by(|row| row.0).into_table_with(|row: (u64, u64)| Some(row.1))
    };
    let customers = || fixed((0..sizes.customers()).map(|it| (it, region_of(it, regions))).collect());
    match schedule.work {
        Work::Count => records.rekey(|_, (group, _)| (group, ())).count().changes().sink(check),
        Work::Distinct => records.rekey(|_, (value, _)| (value, ())).distinct().changes().sink(check),
        Work::Join => {
            let names = fixed((0..regions).map(|it| (it, it)).collect());
            records
                .rekey(|order, (customer, amount)| (customer, (order, amount)))
                .join(&customers(), |customer, order, region| (*region, (*customer, *order)))
                .rekey(|_, row| row)
                .join(&names, |region, (customer, (order, amount)), _| {
                    (*order, (*amount, (*customer, *region)))
                })
                .rekey(|_, row| row)
                .changes()
                .sink(check)
        }
        Work::Top(size) => records
            .rekey(move |id, (number, _)| (group_of(id, sizes.rows, size), (number, id)))
            .top_k(TOP)
            .changes()
            .sink(check),
        Work::Sum => {
            let by_customer = records.rekey(|_, row| row);
            by_customer.group(Sum::of(|amount: &u64| *amount)).changes().sink(check)
        }
        Work::Deep => {
            let sums = records.rekey(|_, row| row).group(Sum::of(|amount: &u64| *amount));
            sums.join(&customers(), |_, sum, region| (*region, *sum))
                .rekey(|_, row| row)
                .group(Sum::of(|sum: &u64| *sum))
                .changes()
                .sink(check)
        }
    }
    graph.run(options)?;
    let measured = progress.lock();
    Ok(Outcome {
        elapsed: measured.elapsed,
        cpu: measured.cpu,
        load: measured.load,
        latencies: measured.latencies.clone(),
        answer: measured.answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::tables::{Operators, tables};
    use crate::tables::Sizes;

    #[test]
    fn programs_agree_with_loops() {
        let works = [Work::Count, Work::Distinct, Work::Join, Work::Top(10), Work::Sum, Work::Deep];
        for (work, batch) in works.into_iter().flat_map(|work| [(work, 1), (work, 7)]) {
            let sizes = Sizes { rows: 100, batch, rounds: 20, warmup: 3 };
            let schedule = Arc::new(Schedule::new(work, sizes));
            for mode in [Mode::Continuous, Mode::MicroBatch] {
                let outcome = run(&schedule, Options::default().with_workers(1).with_mode(mode)).unwrap();
                assert_eq!(outcome.answer, schedule.answer, "{work}, {batch}, {mode:?}");
                assert!(outcome.elapsed > Duration::ZERO, "{work}, {batch}, {mode:?}");
                let latencies = if mode == Mode::Continuous { sizes.rounds } else { 0 };
                assert_eq!(outcome.latencies.len(), latencies);
            }
            for operators in [Operators::Total, Operators::Reduce] {
                let outcome = tables(&schedule, operators);
                assert_eq!(outcome.answer, schedule.answer, "{work}, {batch}, {operators:?}");
            }
        }
    }
}
