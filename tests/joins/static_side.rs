//! Joins with a static side: against loops, with refreshes by the clock and by a signal, across restarts.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::testing::{EpochInput, operator_of};
use tidemill::{Operator, ProcessingTime, Stream};

use super::common::{MODES, assert_same, available_now, options, run_well};
use super::steps::{Restarts, run};

/// A row of either side: key and number.
type Row = (u8, u64);

/// What every kind is brought to.
type Joined = (u8, u64, Option<u64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Semi,
    Anti,
}

const KINDS: [Kind; 4] = [Kind::Inner, Kind::Left, Kind::Semi, Kind::Anti];

fn join(rows: Stream<Row>, side: StaticSide<u8, Row>, kind: Kind) -> Stream<Joined> {
    let join = rows.key_by(|row| row.0).join_static(side);
    match kind {
        Kind::Inner => join.inner().map(|(key, left, right)| (key, left.1, Some(right.1))).boxed(),
        Kind::Left => join.left_outer().map(|(key, left, right)| (key, left.1, right.map(|it| it.1))).boxed(),
        Kind::Semi => join.semi().map(|(key, left)| (key, left.1, None)).boxed(),
        Kind::Anti => join.anti().map(|(key, left)| (key, left.1, None)).boxed(),
    }
}

fn expected(left: &[Row], right: &[Row], kind: Kind) -> Vec<Joined> {
    let mut rows = vec![];
    for (key, number) in left {
        let matches: Vec<u64> = right.iter().filter(|it| it.0 == *key).map(|it| it.1).collect();
        match kind {
            Kind::Inner => rows.extend(matches.iter().map(|it| (*key, *number, Some(*it)))),
            Kind::Left if !matches.is_empty() => {
                rows.extend(matches.iter().map(|it| (*key, *number, Some(*it))));
            }
            Kind::Semi if !matches.is_empty() => rows.push((*key, *number, None)),
            Kind::Left | Kind::Anti if matches.is_empty() => rows.push((*key, *number, None)),
            _ => {}
        }
    }
    rows
}

#[test]
fn static_joins_of_every_kind_agree_with_loops() {
    let left: Vec<Row> = (0..500).map(|n| ((n * 7 % 11) as u8, n)).collect();
    // Keys without rows, with one and with several; keys that the stream does not have.
    let right: Vec<Row> = (0..20).map(|n| ((n * n % 17) as u8, n)).collect();
    for kind in KINDS {
        for right in [right.clone(), vec![]] {
            for mode in MODES {
                for workers in [1, 2, 4] {
                    for is_broadcast in [false, true] {
                        let graph = Graph::new("static");
                        let side = StaticSide::read(memory(right.clone()), |row: &Row| row.0);
                        let side = if is_broadcast { side.broadcast() } else { side };
                        let (sink, table) = memory_sink();
                        join(graph.source(memory(left.clone())).boxed(), side, kind).sink(sink);
                        run_well(&graph, options(mode, workers).with_max_records_per_epoch(50));
                        let what = format!("{kind:?} {mode} {workers} {is_broadcast}");
                        assert_same(&table.snapshot(), &expected(&left, &right, kind), what);
                    }
                }
            }
        }
    }
}

#[test]
fn static_join_keeps_event_times() {
    for mode in MODES {
        let graph = Graph::new("static");
        let at = |row: &Row| EventTime::from_secs(row.1 as i64);
        let side = StaticSide::read(memory([(1u8, 7u64)]), |row: &Row| row.0);
        let (sink, table) = memory_sink();
        graph
            .source(memory((0..100u64).map(|n| ((n % 3) as u8, n))))
            .with_watermark(at, Duration::ZERO)
            .key_by(|row| row.0)
            .join_static(side)
            .left_outer()
            .window(tumbling(Duration::from_secs(10)))
            .count()
            .append()
            .map(|it| it.value)
            .sink(sink);
        let summary = run_well(&graph, options(mode, 2));
        assert_eq!((summary.late_rows, table.snapshot()), (0, vec![10; 10]), "{mode}");
    }
}

/// The rows of the side at its load number `load`.
fn side_at(load: u64) -> Vec<Row> {
    let load = load as u8;
    vec![(load % 3, u64::from(load)), (1, 100 + u64::from(load)), (2, 7), (load % 2, 8)]
}

/// An epoch: the keys of its rows, how long after the one before it begins, and whether a signal comes.
#[derive(Clone, Debug)]
struct Step {
    keys: Vec<u8>,
    millis: i64,
    is_signalled: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (proptest::collection::vec(0..4u8, 0..5), 0..8i64, proptest::bool::weighted(0.2))
        .prop_map(|(keys, millis, is_signalled)| Step { keys, millis, is_signalled });
    proptest::collection::vec(step, 1..12)
}

/// The same rows, each in an epoch of its own; the clock moves before the first, and a signal comes with the last.
fn row_by_row(steps: &[Step]) -> Vec<Step> {
    let single = |step: &Step| {
        let rows = step.keys.iter().enumerate().map(|(n, key)| Step {
            keys: vec![*key],
            millis: if n == 0 { step.millis } else { 0 },
            is_signalled: false,
        });
        let millis = if step.keys.is_empty() { step.millis } else { 0 };
        let last = Step { keys: vec![], millis, is_signalled: step.is_signalled };
        rows.chain([last]).collect::<Vec<_>>()
    };
    steps.iter().flat_map(single).collect()
}

/// By epochs: the side is loaded again at the end of an epoch that begins 10 ms or more after the last load, or has a signal.
/// A restart loads nothing.
fn check(restarts: Restarts, kind: Kind, steps: &[Step], is_broadcast: bool) {
    let (mut epochs, mut wanted) = (vec![], vec![]);
    let (mut now, mut loaded_at, mut load, mut number) = (0, None, 0, 0);
    for step in steps {
        now += step.millis * 1_000;
        loaded_at.get_or_insert(now);
        let rows: Vec<Row> = step
            .keys
            .iter()
            .map(|key| {
                number += 1;
                (*key, number)
            })
            .collect();
        wanted.push(expected(&rows, &side_at(load), kind));
        if step.is_signalled || loaded_at.unwrap() + 10_000 <= now {
            (loaded_at, load) = (Some(now), load + 1);
        }
        let dealt = rows.into_iter().map(|row| Dealt::new(row.0, EventTime::MIN, row)).collect();
        let signals = vec![(); usize::from(step.is_signalled)];
        epochs.push(
            EpochInput::until(EventTime::MIN)
                .at(ProcessingTime::from_micros(now))
                .keyed(0, dealt)
                .broadcast(1, signals),
        );
    }
    let loads = load + 1;
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    // Each run loads as often.
    let function = move || Ok::<_, std::io::Error>(side_at(counted.fetch_add(1, Ordering::Relaxed) % loads));
    let graph = Graph::new("static");
    let side = StaticSide::load(function, |row: &Row| row.0)
        .refresh_every(Duration::from_millis(10))
        .refresh_on(graph.source(memory(Vec::<()>::new())));
    let side = if is_broadcast { side.broadcast() } else { side };
    let rows = graph.source(memory(Vec::<Row>::new())).key_by(|row| row.0).join_static(side);
    let make: Rc<dyn Fn(Place) -> Box<dyn Operator>> = match kind {
        Kind::Inner => Rc::new(operator_of(rows.inner())),
        Kind::Left => Rc::new(operator_of(rows.left_outer())),
        Kind::Semi => Rc::new(operator_of(rows.semi())),
        Kind::Anti => Rc::new(operator_of(rows.anti())),
    };
    let results = move |instance: &mut tidemill::testing::Harness<Box<dyn Operator>>| -> Vec<Joined> {
        match kind {
            Kind::Inner => {
                let rows = instance.take::<(u8, Row, Row)>(0);
                rows.into_iter().map(|(key, left, right)| (key, left.1, Some(right.1))).collect()
            }
            Kind::Left => {
                let rows = instance.take::<(u8, Row, Option<Row>)>(0);
                rows.into_iter().map(|(key, left, right)| (key, left.1, right.map(|it| it.1))).collect()
            }
            Kind::Semi | Kind::Anti => {
                let rows = instance.take::<(u8, Row)>(0);
                rows.into_iter().map(|(key, left)| (key, left.1, None)).collect()
            }
        }
    };
    run(restarts, &epochs, &make, results, &wanted);
    let runs = match restarts {
        Restarts::Phases => 3,
        Restarts::EachEpoch => MODES.len() as u64,
    };
    assert_eq!(
        calls.load(Ordering::Relaxed),
        runs * loads,
        "one load for all workers, and none by a restart"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn refreshed_side_is_joined_from_next_epoch_on(steps in steps()) {
        for kind in KINDS {
            check(Restarts::Phases, kind, &steps, false);
        }
    }

    #[test]
    fn static_join_restarted_between_rows_agrees_with_loops(steps in steps()) {
        for kind in KINDS {
            check(Restarts::EachEpoch, kind, &row_by_row(&steps), false);
        }
    }
}

/// With all rows of the stream on one worker: the test kit deals them by key, which a broadcast side does not need.
#[test]
fn refreshed_broadcast_side_is_the_same_on_all_workers() {
    let step = |n: i64| Step { keys: vec![0, 1, 2, 3], millis: n % 7, is_signalled: n % 5 == 3 };
    let steps: Vec<Step> = (0..12).map(step).collect();
    for kind in KINDS {
        check(Restarts::Phases, kind, &steps, true);
        check(Restarts::EachEpoch, kind, &row_by_row(&steps), true);
    }
}

#[test]
fn bounded_query_with_refreshes_ends() {
    for mode in MODES {
        for every in [Duration::from_secs(3_600), Duration::from_millis(1)] {
            let graph = Graph::new("static");
            let side = StaticSide::read(memory([(1u8, 1u64)]), |row: &Row| row.0).refresh_every(every);
            let (sink, table) = memory_sink();
            join(graph.source(memory((0..1_000).map(|n| ((n % 2) as u8, n)))).boxed(), side, Kind::Inner)
                .sink(sink);
            run_well(&graph, options(mode, 2).with_max_records_per_epoch(100));
            assert_eq!(table.snapshot().len(), 500, "{mode}");
        }
    }
}

#[test]
fn resumed_run_joins_the_side_of_the_run_before() {
    for mode in MODES {
        let (place, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (input, products) = (files.path().join("in"), files.path().join("products.txt"));
        std::fs::create_dir(&input).unwrap();
        let run = |workers: usize, every: Option<Duration>| {
            let graph = Graph::new("static");
            let pattern = products.display().to_string();
            let side = StaticSide::read(text_files(&pattern).bounded(), |_: &Text| ());
            let side = match every {
                Some(every) => side.refresh_every(every),
                None => side,
            };
            let (sink, table) = memory_sink();
            graph
                .source(text_files(input.join("*.txt").display().to_string()))
                .key_by(|_| ())
                .join_static(side)
                .inner()
                .map(|((), line, product)| format!("{line} {product}"))
                .sink(sink);
            run_well(&graph, available_now(mode, workers).with_checkpoint(place.path()));
            table.snapshot()
        };
        let add = |name: &str| std::fs::write(input.join(name), format!("{name}\n")).unwrap();
        std::fs::write(&products, "old\n").unwrap();
        add("a.txt");
        assert_eq!(run(1, None), ["a.txt old"], "{mode}");
        std::fs::write(&products, "new\n").unwrap();
        add("b.txt");
        // It is older than that at the end of the first epoch, which in micro-batch has no rows.
        let second = if mode == Mode::MicroBatch { "b.txt new" } else { "b.txt old" };
        assert_eq!(run(2, Some(Duration::from_millis(1))), [second], "{mode}");
        add("c.txt");
        assert_eq!(run(4, None), ["c.txt new"], "{mode}");
    }
}

#[test]
fn side_that_fails_or_does_not_end_says_so() {
    let message = |side: StaticSide<u8, Row>| {
        let graph = Graph::new("static");
        join(graph.source(memory([(1u8, 1u64)])).boxed(), side, Kind::Inner).sink(memory_sink().0);
        graph.run(Options::default().without_ctrl_c()).unwrap_err().to_string()
    };
    let failing = || Err::<Vec<Row>, _>("the database is away");
    let said = message(StaticSide::load(failing, |row: &Row| row.0));
    assert!(
        said.contains("the static side cannot be loaded from its function: the database is away"),
        "{said}"
    );
    assert!(said.contains("static_join") && said.contains("static_side.rs:"), "{said}");
    let missing = text_files("/no/such/file.txt").bounded();
    let side = StaticSide::read(missing, |_: &Text| 0u8);
    let graph = Graph::new("static");
    graph.source(memory([(1u8, 1u64)])).key_by(|row| row.0).join_static(side).inner().sink(memory_sink().0);
    let said = graph.run(Options::default().without_ctrl_c()).unwrap_err().to_string();
    assert!(said.contains("/no/such/file.txt") && said.contains("static_side.rs:"), "{said}");
    let graph = Graph::new("static");
    let side = StaticSide::read(rate(1), |_: &RateRow| 0u8);
    graph.source(memory([(1u8, 1u64)])).key_by(|row| row.0).join_static(side).semi().sink(memory_sink().0);
    let said = graph.run(Options::default().without_ctrl_c()).unwrap_err().to_string();
    assert!(said.contains("the static side does not end: rate 1/s"), "{said}");
    let side = StaticSide::read(memory([(1u8, 1u64)]), |row: &Row| row.0).refresh_every(Duration::ZERO);
    let said = message(side);
    assert!(said.contains("make `refresh_every` at least 1ms"), "{said}");
}

#[test]
fn other_placement_under_one_uid_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let run = |is_broadcast: bool, kind: Kind| {
        let graph = Graph::new("static");
        let side = StaticSide::read(memory([(1u8, 1u64)]), |row: &Row| row.0);
        let side = if is_broadcast { side.broadcast() } else { side };
        join(graph.source(memory([(1u8, 1u64)])).boxed(), side, kind).sink(memory_sink().0);
        graph.run(Options::default().without_ctrl_c().with_checkpoint(place.path()))
    };
    run(false, Kind::Inner).unwrap();
    let said = run(true, Kind::Inner).unwrap_err().to_string();
    assert!(
        ["static_join", "static side", "by key", "broadcast"].iter().all(|part| said.contains(part)),
        "{said}"
    );
    // The state of all kinds is the same.
    run(false, Kind::Anti).unwrap();
}

/// With a checkpoint a run begins with an epoch without rows, in which the side is loaded.
#[test]
fn run_with_checkpoint_joins_all_rows_by_any_trigger() {
    let left: Vec<Row> = (0..300).map(|n| ((n % 5) as u8, n)).collect();
    let right: Vec<Row> = (0..3).map(|n| (n as u8, n)).collect();
    for trigger in
        [Trigger::Once, Trigger::AvailableNow, Trigger::Asap, Trigger::Every(Duration::from_millis(2))]
    {
        for (signals, every) in [(0, None), (40, None), (0, Some(Duration::from_millis(1)))] {
            let place = tempfile::tempdir().unwrap();
            let graph = Graph::new("static");
            let side = StaticSide::read(memory(right.clone()), |row: &Row| row.0);
            let side = match every {
                Some(every) => side.refresh_every(every),
                None => side.refresh_on(graph.source(memory(0..signals))),
            };
            let (sink, table) = memory_sink();
            join(graph.source(memory(left.clone())).boxed(), side, Kind::Left).sink(sink);
            let options = options(Mode::MicroBatch, 2).with_checkpoint(place.path()).with_trigger(trigger);
            run_well(&graph, options.with_max_records_per_epoch(10));
            assert_same(
                &table.snapshot(),
                &expected(&left, &right, Kind::Left),
                format!("{trigger:?} {signals}"),
            );
        }
    }
}
