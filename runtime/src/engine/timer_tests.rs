//! Operators of one graph that each want to be called at a time of their own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::graph::{Kinds, NodeKind, OperatorSpec};
use tidemill_operators::testing::nowhere;
use tidemill_operators::{
    Batch, Context, EventTime, Graph, Mode, Operator, OperatorError, ProcessingTime, rows,
};

use super::LocalWorker;
use crate::control::Control;
use crate::driver::Driver;
use crate::events::EventQueue;
use crate::options::Options;
use crate::plan::{Layout, Plan};
use crate::prepare::PreparedRun;
use crate::testing::{ScriptedSource, SimClock};

/// What has happened, in words.
type Log = Arc<Mutex<Vec<String>>>;

/// Wants to be called so long after each of its rows. A row says by how much it moves the clock.
struct Reminder {
    number: usize,
    after: Duration,
    wanted: Vec<ProcessingTime>,
    clock: SimClock,
    log: Log,
}

impl Reminder {
    fn note(&self, what: &str, context: &Context) {
        let (number, now, epoch) = (self.number, context.now().as_micros(), context.epoch().number());
        self.log.lock().unwrap().push(format!("{number}: {what} at {now} in {epoch}"));
    }
}

impl Operator for Reminder {
    fn batch(&mut self, _: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        for (_, moves) in rows::<(EventTime, u64)>(batch)? {
            let at = context.now() + self.after;
            self.wanted.push(at);
            context.wake_at(at);
            self.note("row", context);
            self.clock.advance(Duration::from_micros(moves));
        }
        Ok(())
    }

    fn processing_time(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.wanted.retain(|at| *at > context.now());
        if let Some(next) = self.wanted.iter().min() {
            context.wake_at(*next);
        }
        self.note("call", context);
        Ok(())
    }
}

/// A query of several such operators side by side, each with its own time, in the hands of the test.
struct Reminders {
    driver: Driver,
    worker: LocalWorker,
    control: Arc<Control>,
    events: EventQueue,
    clock: SimClock,
    log: Log,
}

impl Reminders {
    fn new(mode: Mode, script: ScriptedSource<u64>, after: &[u64]) -> Reminders {
        let graph = Graph::new("reminders");
        let stream = script.stream(&graph);
        for _ in after {
            stream.clone().map(|row| row).boxed().sink(nowhere());
        }
        let clock = SimClock::new();
        let options = Options::default().with_mode(mode).with_max_in_flight(1);
        let PreparedRun { control, driver, events, .. } =
            PreparedRun::new(&graph, options, clock.clock(), None, true).unwrap();
        // A chain that does nothing is where such an operator of a user's own would be.
        let log = Log::default();
        let mut nodes = graph.nodes();
        let chains = nodes
            .iter_mut()
            .filter(|node| matches!(&node.kind, NodeKind::Operator(spec) if spec.watermark.is_none()));
        for (number, (node, after)) in chains.zip(after).enumerate() {
            let (log, clock, after) = (Arc::clone(&log), clock.clone(), Duration::from_micros(*after));
            node.kind = NodeKind::Operator(OperatorSpec {
                make: Arc::new(move |_| {
                    Box::new(Reminder {
                        number,
                        after,
                        wanted: Vec::new(),
                        clock: clock.clone(),
                        log: Arc::clone(&log),
                    })
                }),
                stateful: true,
                watermark: None,
                derives_watermark: false,
                stays_behind: false,
                awaits_commits: false,
                in_flight: None,
                states: Vec::new(),
                kinds: Kinds::Keeps,
            });
        }
        let layout = Arc::new(Layout::of(graph.name(), nodes).learned());
        let plan = Arc::new(Plan::new(&layout, mode, 1, &BTreeSet::new()));
        let worker = LocalWorker::new(&plan, &control);
        Reminders { driver, worker, control, events, clock, log }
    }

    /// Moves the clock there and lets happen what that brings about; says what has happened.
    fn at(&mut self, micros: i64) -> Vec<String> {
        self.clock.set(ProcessingTime::from_micros(micros));
        self.control.wakers.wake_all();
        for _ in 0..200 {
            self.driver.tick(self.control.clock.now()).unwrap();
            self.worker.step();
            while let Ok(event) = self.events.try_recv() {
                self.driver.hear(event, self.control.clock.now());
            }
            assert!(self.control.reports.take_failure().is_none());
        }
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn row(moves: u64) -> ScriptedSource<u64> {
    ScriptedSource::new().row(EventTime::from_micros(1), moves).end_epoch()
}

const NOTHING: [&str; 0] = [];

#[test]
fn micro_batch_timer_fires_in_first_epoch_at_or_after_it() {
    let mut query = Reminders::new(Mode::MicroBatch, row(0), &[30, 10, 20, 20]);
    assert_eq!(query.at(0), ["0: row at 0 in 0", "1: row at 0 in 0", "2: row at 0 in 0", "3: row at 0 in 0"]);
    assert_eq!(query.at(9), NOTHING);
    assert_eq!(query.control.reports.epochs(), 1, "nothing was to be done");
    assert_eq!(query.at(10), ["1: call at 10 in 1"]);
    assert_eq!(query.at(19), NOTHING);
    assert_eq!(query.at(21), ["2: call at 21 in 2", "3: call at 21 in 2"]);
    assert_eq!(query.at(40), ["0: call at 40 in 3"]);
    assert_eq!(query.at(1_000), NOTHING);
    assert_eq!(query.control.reports.epochs(), 4, "an epoch for each time, and none more");
}

#[test]
fn a_call_that_is_due_comes_before_the_rows_of_its_epoch() {
    // The first row takes so long that the next epoch begins when the calls are due.
    let script = row(10).row(EventTime::from_micros(2), 0).end_epoch();
    let mut query = Reminders::new(Mode::MicroBatch, script, &[10]);
    assert_eq!(query.at(0), ["0: row at 0 in 0", "0: call at 10 in 1", "0: row at 10 in 1"]);
    assert_eq!(query.at(20), ["0: call at 20 in 2"]);
    assert_eq!(query.at(99), NOTHING);
    assert_eq!(query.control.reports.epochs(), 3);
}

#[test]
fn epochs_planned_ahead_serve_calls_without_extra_epochs() {
    let script =
        row(10).row(EventTime::from_micros(2), 0).end_epoch().row(EventTime::from_micros(3), 0).end_epoch();
    let mut query = Reminders::new(Mode::MicroBatch, script, &[15, 40]);
    query.driver.plan_ahead(3);
    // All three epochs are planned at 0; both operators move the clock while they take the first.
    let mut said = query.at(0);
    assert_eq!(said.pop().as_deref(), Some("0: call at 20 in 3"));
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(said.iter().all(|what| what.contains("row at 0")), "{said:?}");
    assert_eq!(query.at(40), ["1: call at 40 in 4"]);
    assert_eq!(query.at(99), NOTHING);
    assert_eq!(query.control.reports.epochs(), 5);
}

#[test]
fn in_continuous_mode_each_operator_is_called_at_its_time() {
    let mut query = Reminders::new(Mode::Continuous, row(0), &[30, 10, 20]);
    query.at(0);
    for (at, number) in [(10, 1), (20, 2), (30, 0)] {
        assert_eq!(query.at(at), [format!("{number}: call at {at} in 0")]);
    }
}
