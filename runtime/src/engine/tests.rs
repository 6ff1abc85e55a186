//! What one worker does when others do something at a bad moment: the others are played by the test.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::testing::{nowhere, numbers};
use tidemill_operators::{Epoch, EventTime, Graph, Mode, Waker, tumbling};

use super::LocalWorker;
use crate::control::Control;
use crate::ledger::Hold;
use crate::options::Options;
use crate::query::Prepared;
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
    let prepared = Prepared::new(&graph, options, SimClock::new().clock(), None, true).unwrap();
    let mut worker = LocalWorker::new(&prepared.layout, &prepared.control);
    for _ in 0..STEPS {
        worker.step();
    }
    (worker, prepared.control)
}

#[test]
fn a_run_ends_with_the_watermark_that_the_last_word_of_any_worker_justifies() {
    let at = EventTime::from_secs;
    let (mut worker, control) = first_of_two(at(100));
    control.ledger.hold(0, 1, Hold::At(at(20)));

    // The other worker answers the last word of the first one with its own, before the first one does anything else.
    let other = Arc::downgrade(&control);
    control.add_assigner(
        0,
        1,
        Waker::new(move || {
            let Some(control) = other.upgrade().filter(|control| control.is_finishing()) else { return };
            control.ledger.hold(0, 1, Hold::At(at(70)));
            control.ledger.last_word(0);
            control.ledger.leave(0, 1, Epoch(0), at(70), Vec::new());
        }),
    );
    control.finish();
    for _ in 0..STEPS {
        worker.step();
    }
    assert_eq!(control.ledger.end_of_interval(0, Epoch(0)), at(70));
}

#[test]
fn rows_are_counted_at_the_steps_and_at_the_sink_that_runs_them() {
    for workers in [1, 2] {
        let graph = Graph::new("counted");
        numbers(&graph, 3_000).filter(|n| n % 3 == 0).sink_per_worker(|_| Ok(nowhere()));
        let options = Options::default().with_mode(Mode::Continuous).with_workers(workers);
        let prepared = Prepared::new(&graph, options, SimClock::new().clock(), None, true).unwrap();
        let mut worker = LocalWorker::new(&prepared.layout, &prepared.control);
        for _ in 0..STEPS {
            worker.step();
        }
        let of = |node: usize| {
            let metrics = prepared.control.node(NodeId(node)).unwrap();
            (metrics.rows_in.load(Ordering::Relaxed), metrics.rows_out.load(Ordering::Relaxed))
        };
        assert_eq!([of(0), of(1), of(2)], [(3_000, 3_000), (3_000, 1_000), (1_000, 0)]);
    }
}
