//! What one worker does when others do something at a bad moment: the others are played by the test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::testing::{nowhere, numbers};
use tidemill_operators::{
    Epoch, EventTime, Graph, Mode, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Sink, SinkError,
    Source, SourceError, SourceInfo, Waker, tumbling,
};

use super::LocalWorker;
use super::announcement::Announcement;
use crate::control::Control;
use crate::ledger::Observed;
use crate::options::Options;
use crate::plan::origin;
use crate::prepare::PreparedRun;
use crate::testing::{ScriptedSource, SimClock};

/// How many steps are more than enough for whatever there is to do.
const STEPS: usize = 1_000;

/// Worker 0 of two, whose part of a source has shown `shown`; the other one is the test. Returns with everything done
/// that there was to do.
fn first_of_two(shown: EventTime) -> (LocalWorker, Arc<Control>) {
    let graph = Graph::new("first of two");
    ScriptedSource::new()
        .row(EventTime::from_secs(1), 1)
        .watermark(shown)
        .next_partition()
        .stream(&graph)
        .window(tumbling(Duration::from_secs(10)))
        .count()
        .append()
        .sink(nowhere());
    let options = Options::default().with_mode(Mode::Continuous).with_workers(2);
    let prepared = PreparedRun::new(&graph, options, SimClock::new().clock(), None, true).unwrap();
    let mut worker = LocalWorker::new(&prepared.plan, &prepared.control);
    for _ in 0..STEPS {
        worker.step();
    }
    (worker, prepared.control)
}

/// The other worker has observed what its partition shows.
fn observe(control: &Control, watermark: EventTime) {
    let observed = Observed {
        worker: 1,
        now: control.clock.now(),
        shown: &mut vec![(origin(NodeId(0), 1), None, watermark)],
        announcements: &mut Vec::<Arc<Announcement>>::new(),
        everything_came: false,
        has_arrived: &|_| true,
    };
    control.ledger.advance(0, observed);
}

#[test]
fn run_ends_with_watermark_of_last_worker_report() {
    let at = EventTime::from_secs;
    let (mut worker, control) = first_of_two(at(100));
    observe(&control, at(20));

    // The other worker answers the last report of the first one with its own, before the first one does anything else.
    let other = Arc::downgrade(&control);
    control.wakers.add_assigner(
        0,
        1,
        Waker::new(move || {
            let Some(control) = other.upgrade().filter(|control| control.schedule.is_finishing()) else {
                return;
            };
            observe(&control, at(70));
            control.ledger.finish(0, 1);
            control.ledger.leave(0, 1, Epoch::new(0), at(70), crate::ledger::Marks::new());
        }),
    );
    control.finish();
    for _ in 0..STEPS {
        worker.step();
    }
    assert_eq!(control.ledger.end_of_interval(0, Epoch::new(0)).0, at(70));
}

#[test]
fn rows_are_counted_at_the_steps_and_at_the_sink_that_runs_them() {
    for workers in [1, 2] {
        let graph = Graph::new("counted");
        numbers(&graph, 3_000).filter(|n| n % 3 == 0).sink_per_worker(|_| Ok(nowhere()));
        let options = Options::default().with_mode(Mode::Continuous).with_workers(workers);
        let prepared = PreparedRun::new(&graph, options, SimClock::new().clock(), None, true).unwrap();
        let mut worker = LocalWorker::new(&prepared.plan, &prepared.control);
        for _ in 0..STEPS {
            worker.step();
        }
        let of = |node: usize| {
            let total = prepared.control.reports.counters.total(NodeId(node));
            (total.rows_in, total.rows_out)
        };
        assert_eq!([of(0), of(1), of(2)], [(3_000, 3_000), (3_000, 1_000), (1_000, 0)]);
    }
}

/// Returns one row from every poll, with that answer.
struct OneByOne(Poll);

impl Source for OneByOne {
    type Item = u64;
    type Offset = u64;
    type Reader = OneByOneReader;

    fn describe(&self) -> String {
        "one by one".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }
    fn latest(&self, _partition: u32, from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(from + 1)
    }
    fn open(&self, _partition: u32, from: &u64, _: ReaderContext) -> Result<OneByOneReader, SourceError> {
        Ok(OneByOneReader(*from, self.0))
    }
}

struct OneByOneReader(u64, Poll);

impl Reader for OneByOneReader {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, _: Option<&u64>, _: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        out.push(self.0);
        self.0 += 1;
        Ok(self.1)
    }
    fn offset(&self) -> u64 {
        self.0
    }
    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.0 = *offset;
        Ok(())
    }
}

/// Calls back with how many rows it has been handed.
struct Counting<F>(F);

impl<F: Fn(usize) + Send + 'static> Sink<(u64, u64)> for Counting<F> {
    fn write(&mut self, _: Epoch, rows: &mut Vec<(u64, u64)>) -> Result<(), SinkError> {
        (self.0)(rows.len());
        Ok(())
    }
    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn a_slow_step_is_not_taken_for_a_costly_flush() {
    let clock = SimClock::new();
    let (taken, said) = (Arc::new(Mutex::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, slow) = (Arc::clone(&taken), clock.clone());
    let graph = Graph::new("slow");
    graph
        .source(OneByOne(Poll::Ready))
        .map(move |n| {
            slow.advance(Duration::from_millis(1));
            *count.lock().unwrap() += 1;
            n
        })
        .key_by(|n| *n)
        .count()
        .update()
        .sink(Counting({
            let said = Arc::clone(&said);
            move |rows| {
                said.fetch_add(rows, Ordering::Relaxed);
            }
        }));
    let options = Options::default().with_mode(Mode::Continuous);
    let prepared = PreparedRun::new(&graph, options, clock.clock(), None, true).unwrap();
    let mut worker = LocalWorker::new(&prepared.plan, &prepared.control);
    for _ in 0..STEPS {
        worker.step();
        assert_eq!(said.load(Ordering::Relaxed), *taken.lock().unwrap(), "what came was answered at once");
    }
    assert!(*taken.lock().unwrap() > 100);
}

/// Runs a keyed count whose sink takes a millisecond; returns the rows that came in and the calls of the sink. With `pauses`,
/// the queue of the worker is full in every other step.
fn with_slow_sink(poll: Poll, pauses: bool) -> (usize, usize) {
    let clock = SimClock::new();
    let (taken, flushes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, of_sink) = (Arc::clone(&taken), (Arc::clone(&flushes), clock.clone()));
    let graph = Graph::new("keys");
    graph
        .source(OneByOne(poll))
        .map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            (0..100).collect::<Vec<u64>>()
        })
        .flat_key_by(|all, keys| keys.extend(all))
        .count()
        .update()
        .sink(Counting(move |_| {
            of_sink.0.fetch_add(1, Ordering::Relaxed);
            of_sink.1.advance(Duration::from_millis(1));
        }));
    let options = Options::default().with_mode(Mode::Continuous);
    let prepared = PreparedRun::new(&graph, options, clock.clock(), None, true).unwrap();
    let mut worker = LocalWorker::new(&prepared.plan, &prepared.control);
    let control = &prepared.control;
    let too_many = usize::try_from(control.sources.flow.bound(0)).unwrap() + 1;
    for step in 0..STEPS {
        let is_full = pauses && step % 2 == 1;
        if is_full {
            control.sources.sent(0, 0, too_many);
        }
        worker.step();
        if is_full {
            control.received(0, too_many);
        }
        clock.advance(Duration::from_micros(if step % 2 == 0 { 100 } else { 0 }));
    }
    (taken.load(Ordering::Relaxed), flushes.load(Ordering::Relaxed))
}

#[test]
fn costly_results_are_gathered_under_backlog() {
    for pauses in [false, true] {
        let (taken, flushes) = with_slow_sink(Poll::Ready, pauses);
        assert!(taken > 10 * flushes && flushes > 1, "{taken} rows, {flushes} flushes, {pauses}");
    }
}

#[test]
fn costly_results_without_backlog_are_emitted_at_once() {
    let (taken, flushes) = with_slow_sink(Poll::Soon, false);
    assert!(taken > 100 && flushes == taken, "{taken} rows, {flushes} flushes");
}
