//! Operators whose question how an epoch ends is answered later, as by a ledger of another process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::{Epoch, EventTime, Graph, Mode, ProcessingTime, Waker, session, tumbling};

use super::LocalWorker;
use crate::control::Control;
use crate::ledger::{DomainId, EpochEnds};
use crate::options::Options;
use crate::prepare::PreparedRun;
use crate::testing::{ScriptedSource, SimClock, collecting_sink};

/// How often the same question is not answered.
const IN_VAIN: u32 = 3;

/// Answers each question only after a few polls; the test wakes those who ask.
struct Late {
    control: Arc<Control>,
    wakers: Mutex<Vec<Waker>>,
    /// How often each question was asked.
    asked: Mutex<BTreeMap<(DomainId, Epoch), u32>>,
}

impl Late {
    fn answers(&self, domain: DomainId, epoch: Epoch) -> bool {
        let mut asked = self.asked.lock().unwrap();
        let times = asked.entry((domain, epoch)).or_default();
        *times += 1;
        *times > IN_VAIN
    }

    fn wake(&self) {
        self.wakers.lock().unwrap().iter().for_each(Waker::wake);
    }
}

impl EpochEnds for Late {
    fn register(&self, _: usize, waker: Waker) {
        self.wakers.lock().unwrap().push(waker);
    }

    fn enter(&self, domain: DomainId, worker: usize, epoch: Epoch) {
        self.control.enter(domain, worker, epoch);
    }

    fn observed_all(&self, domain: DomainId, worker: usize) {
        self.control.observed_all(domain, worker);
    }

    fn try_close(&self, domain: DomainId, worker: usize, epoch: Epoch, own: EventTime) -> Option<EventTime> {
        if self.answers(domain, epoch) { self.control.try_close(domain, worker, epoch, own) } else { None }
    }

    fn try_close_inputs(&self, derived: DomainId, epoch: Epoch) -> Option<EventTime> {
        if self.answers(derived, epoch) { self.control.try_close_inputs(derived, epoch) } else { None }
    }

    fn ended(&self, domain: DomainId, epoch: Epoch) -> Option<(EventTime, bool)> {
        if self.answers(domain, epoch) { self.control.ended(domain, epoch) } else { None }
    }
}

/// The rows of windows over a stream, and over a union of two streams with watermarks of their own; and whether any
/// question was not answered.
fn results(mode: Mode, is_late: bool) -> (Vec<(u64, i64, u64)>, usize) {
    let graph = Graph::new("late");
    // In continuous mode an epoch takes a second: the pauses divide the rows among several.
    let of = |rows: i64, delay: i64| {
        let script = (0..rows).fold(ScriptedSource::new(), |script, n| {
            let script = script.row(EventTime::from_micros(n * 10), n as u64);
            match n % 15 {
                14 => script
                    .watermark(EventTime::from_micros(n * 10 - delay))
                    .end_epoch()
                    .pause(Duration::from_millis(700)),
                _ => script,
            }
        });
        script.end().stream(&graph)
    };
    let first = of(200, 30);
    let counts =
        first.clone().key_by(|n| n % 3).window(tumbling(Duration::from_micros(100))).count().append();
    let joined = first.union(of(150, 70)).key_by(|n| n % 5);
    let sessions = joined.window(session(Duration::from_micros(25))).count().append();
    let (sink, rows) = collecting_sink();
    counts
        .map(|r| (r.key, r.window.start.as_micros(), r.value))
        .boxed()
        .union(sessions.map(|r| (10 + r.key, r.window.start.as_micros(), r.value)).boxed())
        .sink(sink);

    let clock = SimClock::new();
    let options = Options::default().with_mode(mode).with_max_in_flight(4);
    let PreparedRun { plan, control, mut driver, events, .. } =
        PreparedRun::new(&graph, options, clock.clock(), None, true).unwrap();
    let late =
        Arc::new(Late { control: Arc::clone(&control), wakers: Mutex::default(), asked: Mutex::default() });
    let ends: Arc<dyn EpochEnds> =
        if is_late { Arc::<Late>::clone(&late) } else { Arc::<Control>::clone(&control) };
    let mut worker = LocalWorker::with_ends(&plan, &control, &ends);
    for step in 0..4_000 {
        clock.set(ProcessingTime::from_micros(step * 10_000));
        driver.tick(clock.now()).unwrap();
        worker.step();
        while let Ok(event) = events.try_recv() {
            driver.hear(event, clock.now());
        }
        if let Some(error) = control.reports.take_failure() {
            panic!("{error}");
        }
        late.wake();
    }
    assert!(control.schedule.is_closed(), "{mode}: the query has not ended");
    let mut rows = rows.committed();
    rows.sort_unstable();
    let in_vain = late.asked.lock().unwrap().len();
    (rows, in_vain)
}

#[test]
fn answers_that_come_later_give_the_same_results() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let (expected, _) = results(mode, false);
        let (rows, in_vain) = results(mode, true);
        assert!(expected.len() > 60 && in_vain > 20, "{mode}: {} rows, {in_vain} questions", expected.len());
        assert_eq!(rows, expected, "{mode}");
    }
}
