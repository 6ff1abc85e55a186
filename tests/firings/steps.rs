//! The operators step by step.

use std::time::Duration;

use proptest::prelude::*;
use tidemill::prelude::*;
use tidemill::testing::{EpochInput, Harness, operator_of, restart_each_epoch, three_phases};
use tidemill::{CountResult, Early, Operator, WindowAssigner, WindowFiring, cumulative};

use super::common::MODES;
use super::input::{KINDS, Kind, Row, Uneven, epochs, gap, inputs, micros, row_by_row, steps, timed_rows};
use super::model::{Model, Out, Policy};

fn numbers(rows: Vec<Row>, policy: &Policy) -> Vec<u32> {
    let mut numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    // No row waits for one that connects it with a session, so that all are in the order of their arrival.
    if policy.lateness >= 100 || policy.by_clock {
        assert!(numbers.is_sorted(), "{policy:?}: {numbers:?}");
    }
    numbers.sort();
    numbers
}

fn out(firing: WindowFiring<u8, Vec<Row>>, policy: &Policy) -> Out {
    let WindowFiring { window, key, value, kind, revision } = firing;
    Out::Fired(
        key,
        window.start.as_micros(),
        window.end.as_micros(),
        value.map(|rows| numbers(rows, policy)),
        kind,
        revision,
    )
}

fn early(policy: &Policy) -> Option<Early> {
    match (policy.every_records, policy.every) {
        (Some(records), Some(every)) => Some(Early::every_records(records as u64).or_every(micros(every))),
        (Some(records), None) => Some(Early::every_records(records as u64)),
        (None, every) => every.map(|every| Early::every(micros(every))),
    }
}

/// Compares an operator with the model, with restarts of all kinds.
fn try_with(policy: Policy, steps: &[super::input::Step], assigner: impl WindowAssigner<Row> + Clone) {
    let all = epochs(steps);
    let single = row_by_row(&all);
    for mode in MODES {
        let compare = |epochs: &[super::input::Epoch], restarts: Restarts| {
            let expected = Model::run(policy, mode, epochs);
            let inputs = inputs(epochs);
            if policy.by_clock {
                let windows = timed_rows().key_by(|row| row.key).processing_time_window(assigner.clone());
                let windows = match early(&policy) {
                    Some(early) => windows.early(early),
                    None => windows,
                };
                let results = |it: &mut Harness<Box<dyn Operator>>| {
                    let mut all: Vec<Out> = it
                        .take::<WindowFiring<u8, Vec<Row>>>(0)
                        .into_iter()
                        .map(|it| out(it, &policy))
                        .collect();
                    all.extend(
                        it.take::<(EventTime, Row)>(1).iter().map(|(_, row)| Out::TooLate(row.number)),
                    );
                    all
                };
                run(restarts, mode, &inputs, operator_of(windows.collect().firings()), results, &expected);
            } else {
                let windows = timed_rows().key_by(|row| row.key).window_by(assigner.clone());
                let windows = windows.allowed_lateness(micros(policy.lateness));
                let windows = match early(&policy) {
                    Some(early) => windows.early(early),
                    None => windows,
                };
                let results = |it: &mut Harness<Box<dyn Operator>>| {
                    let firings = it.take::<(EventTime, WindowFiring<u8, Vec<Row>>)>(0);
                    let mut all: Vec<Out> =
                        firings.into_iter().map(|(_, firing)| out(firing, &policy)).collect();
                    all.extend(
                        it.take::<(EventTime, Row)>(1).iter().map(|(_, row)| Out::TooLate(row.number)),
                    );
                    all
                };
                run(restarts, mode, &inputs, operator_of(windows.collect().firings()), results, &expected);
            }
        };
        compare(&all, Restarts::ThreePhases);
        compare(&single, Restarts::EachEpoch);
    }
}

#[derive(Clone, Copy)]
enum Restarts {
    ThreePhases,
    EachEpoch,
}

fn run<R: Ord + std::fmt::Debug>(
    restarts: Restarts,
    mode: Mode,
    inputs: &[EpochInput],
    make: impl Fn(tidemill::operator::Place) -> Box<dyn Operator> + Clone + 'static,
    results: impl Fn(&mut Harness<Box<dyn Operator>>) -> Vec<R>,
    expected: &[Vec<R>],
) {
    match restarts {
        Restarts::ThreePhases => three_phases(mode, inputs, make, results, expected),
        Restarts::EachEpoch => restart_each_epoch(mode, inputs, make, results, expected),
    }
}

/// The windows of a kind.
fn try_kind(policy: Policy, steps: &[super::input::Step]) {
    match policy.kind {
        Kind::Tumbling(size) => try_with(policy, steps, tumbling(micros(size))),
        Kind::Sliding(size, slide) => try_with(policy, steps, sliding(micros(size), micros(slide))),
        Kind::Session(gap) => try_with(policy, steps, session(micros(gap))),
        Kind::SessionBy => try_with(policy, steps, session_by(|row: &Row| micros(gap(row)))),
        Kind::Cumulative(period, step) => try_with(policy, steps, cumulative(micros(period), micros(step))),
        Kind::Own => try_with(policy, steps, Uneven),
    }
}

fn policies(by_clock: bool) -> impl Strategy<Value = Policy> {
    let lateness =
        if by_clock { Just(0).boxed() } else { prop_oneof![Just(0i64), 1..20i64, Just(100)].boxed() };
    let records = prop_oneof![Just(None), (1..4usize).prop_map(Some)];
    let every = prop_oneof![Just(None), (1..20i64).prop_map(Some)];
    let policy = move |(kind, lateness, every_records, every)| Policy {
        kind,
        lateness,
        every_records,
        every,
        by_clock,
    };
    (proptest::sample::select(&KINDS[..]), lateness, records, every).prop_map(policy)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_fire_early_on_time_and_late(policy in policies(false), steps in steps(0..5)) {
        try_kind(policy, &steps);
    }

    #[test]
    fn windows_of_the_clock_fire_early_and_on_time(policy in policies(true), steps in steps(0..5)) {
        try_kind(policy, &steps);
    }

    #[test]
    fn count_windows_have_the_last_records_of_a_key(
        (size, slide) in (1..9u64).prop_flat_map(|size| (Just(size), 1..=size)),
        steps in steps(0..9),
    ) {
        let all = epochs(&steps);
        for mode in MODES {
            for (epochs, restarts) in [(all.clone(), Restarts::ThreePhases), (row_by_row(&all), Restarts::EachEpoch)] {
                let mut of_key = std::collections::BTreeMap::<u8, Vec<u32>>::new();
                let expected: Vec<Vec<_>> = epochs.iter().map(|(rows, ..)| {
                    let mut results = vec![];
                    for row in rows {
                        let numbers = of_key.entry(row.key).or_default();
                        numbers.push(row.number);
                        let count = numbers.len();
                        if (count as u64).is_multiple_of(slide) {
                            let window = numbers[count.saturating_sub(size as usize)..].to_vec();
                            results.push((row.key, count as u64 / slide - 1, window, row.time));
                        }
                    }
                    results
                }).collect();
                let windows = timed_rows().key_by(|row| row.key).count_window(size).every(slide);
                let results = |it: &mut Harness<Box<dyn Operator>>| {
                    let results = it.take::<(EventTime, CountResult<u8, Vec<Row>>)>(0).into_iter();
                    // In the order in which they arrived.
                    let numbers = |rows: Vec<Row>| rows.iter().map(|row| row.number).collect::<Vec<_>>();
                    results.map(|(time, it)| (it.key, it.number, numbers(it.value), time.as_micros())).collect()
                };
                run(restarts, mode, &inputs(&epochs), operator_of(windows.collect().append()), results, &expected);
            }
        }
    }
}

/// An instance of an operator.
fn instance<T: Send + 'static, P: tidemill::Chain<Out = T>>(
    stream: Stream<T, P>,
) -> Harness<Box<dyn Operator>> {
    let make = operator_of(stream);
    Harness::new(Mode::MicroBatch, move || make(tidemill::operator::Place::new(0, 1, Mode::MicroBatch)))
}

/// A second of a simulated day.
fn second(n: i64) -> Vec<tidemill::operator::Dealt<u8, Row>> {
    let row = |n: i64| Row { key: (n % 7) as u8, time: n * 1_000_000, number: n as u32 };
    let rows = [row(n), Row { key: 200, ..row(n) }, Row { time: row(n).time - 45_000_000, ..row(n) }];
    rows.map(|row| tidemill::operator::Dealt::new(row.key, super::input::at(&row), row)).to_vec()
}

#[test]
fn state_is_flat_over_a_simulated_day() {
    let minute = Duration::from_secs(60);
    let keyed = || timed_rows().key_by(|row| row.key);
    let early = Early::every_records(10).or_every(Duration::from_secs(5));
    let all = [
        instance(keyed().window_by(tumbling(minute)).allowed_lateness(minute).early(early).count().firings()),
        instance(keyed().window_by(sliding(minute, minute / 4)).allowed_lateness(minute).count().firings()),
        instance(
            keyed().window_by(session(minute / 20)).allowed_lateness(minute).early(early).count().firings(),
        ),
        instance(keyed().window_by(cumulative(minute, minute / 4)).count().append()),
        instance(keyed().processing_time_window(session(minute / 20)).early(early).count().firings()),
        instance(keyed().count_window(20).every(5).count().append()),
    ];
    for (which, mut instance) in all.into_iter().enumerate() {
        let mut most = [0, 0];
        for n in 0..24 * 3_600 {
            instance.advance_to(tidemill::ProcessingTime::from_secs(n)).unwrap();
            instance.batch(0, second(n)).unwrap();
            instance.end_epoch(EventTime::from_secs(n)).unwrap();
            let half = usize::from(n > 12 * 3_600);
            most[half] = most[half].max(instance.state_rows());
        }
        assert!(most[0] > 0 && most[1] <= most[0] && most[0] < 1_000, "{which}: {most:?}");
    }
}
