//! Which window a record belongs to, and what it costs to keep the state by key and window: operators driven by hand,
//! without an engine.
//!
//! `cargo bench -p tidemill-benches --bench windows`

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion makes a public function; a benchmark fails loudly"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidemill::testing::{Harness, operator_of};
use tidemill::{EventTime, Graph, Mode, Operator, WindowResult, session, sliding, tumbling};
use tidemill_benches::generator::event;
use tidemill_operators::graph::Place;
use tidemill_operators::testing::source_of;

/// A key and an event time.
type Event = (u64, i64);
type Counted = (EventTime, WindowResult<u64, u64>);

/// Rows in a batch, as the engine's sources make them.
const BATCH: u64 = 8_192;
/// Microseconds from event to event.
const STEP: i64 = 1;

/// In which an operator answers batch by batch.
const MODE: Mode = Mode::Continuous;

fn assignment(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window of");
    group.throughput(Throughput::Elements(BATCH));
    let times: Vec<EventTime> = (0..BATCH as i64).map(|n| EventTime::from_micros(n * 7_919)).collect();
    let windows = tumbling(Duration::from_millis(10));
    group.bench_function("tumbling", |bencher| {
        bencher.iter(|| {
            times.iter().map(|time| black_box(windows.window_of(*time)).start.as_micros()).sum::<i64>()
        });
    });
    for panes in [2, 12] {
        let windows = sliding(Duration::from_millis(10 * panes), Duration::from_millis(10));
        group.bench_function(BenchmarkId::new("sliding", panes), |bencher| {
            bencher.iter(|| {
                let of = |time: &EventTime| {
                    windows.windows_of(*time).map(|window| window.start.as_micros()).sum::<i64>()
                };
                times.iter().map(of).sum::<i64>()
            });
        });
    }
    group.finish();
}

/// Gives an operator batch after batch, with the watermark at the last event of each; rows that come out are dropped.
fn feed<R: Send + 'static>(
    criterion: &mut Criterion,
    name: &str,
    keys: u64,
    make: impl Fn(Place) -> Box<dyn Operator> + Clone + 'static,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function(BenchmarkId::from_parameter(format!("{keys} keys")), |bencher| {
        let make = make.clone();
        let mut harness = Harness::new(MODE, move || make(Place::new(0, 1, MODE)));
        let mut next = 0;
        let batch = || {
            let rows: Vec<Event> = (next..next + BATCH).map(|index| event(index, keys, STEP)).collect();
            next += BATCH;
            rows
        };
        let run = |rows: Vec<Event>| {
            let last = rows.last().map_or(0, |row| row.1);
            harness.batch(0, rows).expect("the batch is taken");
            harness.watermark(EventTime::from_micros(last)).expect("the watermark is taken");
            harness.take::<R>(0)
        };
        bencher.iter_batched(batch, run, BatchSize::LargeInput);
    });
    group.finish();
}

/// Counts by key and window. A window of a thousand keys gets a hundred events of each, one of more keys ten.
fn windowed(criterion: &mut Criterion) {
    let keyed = || {
        source_of(&Graph::new("events"), Vec::<Event>::new())
            .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
            .key_by(|event| event.0)
    };
    let micros = Duration::from_micros;
    for (keys, events) in [(1_000, 100), (100_000, 10)] {
        let make = operator_of(keyed().window(tumbling(micros(keys * events))).count().append());
        feed::<Counted>(criterion, "count in tumbling windows", keys, make);
    }
    for panes in [2, 12] {
        let windows = sliding(micros(100_000 * panes), micros(100_000));
        let make = operator_of(keyed().window(windows).count().append());
        feed::<Counted>(criterion, &format!("count in sliding windows of {panes}"), 1_000, make);
    }
    // A key's events lie a thousand microseconds apart on average, so a session lasts for some twenty of them.
    let make = operator_of(keyed().window(session(micros(3_000))).count().append());
    feed::<Counted>(criterion, "count in sessions", 1_000, make);
}

/// Counts by key, for ever: what has changed is emitted after each batch.
fn running(criterion: &mut Criterion) {
    for keys in [1_000, 1_000_000] {
        let events = source_of(&Graph::new("events"), Vec::<Event>::new());
        let make = operator_of(events.key_by(|event| event.0).count().update());
        feed::<(u64, u64)>(criterion, "running count", keys, make);
    }
}

criterion_group!(windows, assignment, windowed, running);
criterion_main!(windows);
