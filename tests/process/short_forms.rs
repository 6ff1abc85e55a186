//! `map_with_state`, `update_state_by_key`, `map_groups_with_state`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidemill::ProcessingTime;
use tidemill::operator::Dealt;
use tidemill::prelude::*;
use tidemill::process::{GroupState, GroupTimeout};
use tidemill::testing::{EpochInput, Harness, operator_of, three_phases};

use super::common::{MODES, assert_same, options, run, run_well, ways};
use super::function::{Row, at};

fn rows() -> Vec<Row> {
    let row = |n: u32| Row { key: (n * n % 11) as u8, time: i64::from(n) - 50, number: n };
    (0..300).map(row).collect()
}

/// How many rows its key has had since a number that is divisible by ten, where it starts from the beginning.
fn count(key: u8, row: Row, state: &mut Option<u64>) -> (u8, u32, u64) {
    let count = state.unwrap_or(0) + 1;
    *state = (!row.number.is_multiple_of(10)).then_some(count);
    (key, row.number, count)
}

#[test]
fn map_with_state_agrees_with_loops_in_all_ways() {
    let mut states = BTreeMap::new();
    let wanted: Vec<_> =
        rows().into_iter().map(|row| count(row.key, row, states.entry(row.key).or_default())).collect();
    for options in ways(&[0, usize::MAX], 40) {
        let graph = Graph::new("counts");
        let (sink, table) = memory_sink();
        let counts = graph
            .source(memory(rows()))
            .with_watermark(at, Duration::ZERO)
            .key_by(|row| row.key)
            .map_with_state(|key, row, state: &mut Option<u64>| count(*key, row, state));
        // Results keep their event time.
        let windows =
            counts.window(tumbling(Duration::from_micros(70))).aggregate(tidemill::aggregate::Collect::new());
        windows.append().flat_map(|window| window.value).sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&table.snapshot(), &wanted, &what);
    }
}

type Step = (Vec<(u8, i64)>, i64, i64);

/// Epochs: rows as key and time ahead of the watermark, and how far the watermark and the clock advance.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = proptest::collection::vec((0..4u8, -30..60i64), 0..5);
    let advance = prop_oneof![Just(0i64), 0..40i64];
    proptest::collection::vec((rows, advance, 0..30i64), 1..14)
}

/// Epochs with their rows, watermark and clock.
fn epochs(steps: &[Step]) -> Vec<(Vec<Row>, i64, i64)> {
    let (mut watermark, mut now, mut number) = (-100, 0, 0);
    let mut epochs = vec![(vec![], watermark, now)];
    for (rows, advance, passed) in steps {
        let row = |&(key, ahead): &(u8, i64)| {
            number += 1;
            Row { key, time: watermark + ahead, number }
        };
        let rows = rows.iter().map(row).collect();
        (watermark, now) = (watermark + advance, now + passed);
        epochs.push((rows, watermark, now));
    }
    epochs
}

fn inputs(epochs: &[(Vec<Row>, i64, i64)]) -> Vec<EpochInput> {
    let input = |(rows, watermark, now): &(Vec<Row>, i64, i64)| {
        let dealt = rows.iter().map(|row| Dealt::new(row.key, at(row), *row)).collect();
        let epoch = EpochInput::until(EventTime::from_micros(*watermark));
        epoch.at(ProcessingTime::from_micros(*now)).keyed(0, dealt)
    };
    epochs.iter().map(input).collect()
}

fn timed_rows() -> Stream<Row, impl tidemill::Chain<Out = Row, Time = tidemill::Timed>> {
    Graph::new("short forms").source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO)
}

/// The visits of a key: how often the function was called, and the sum of numbers. The key goes after three visits without rows.
type Visits = (u64, u64, u64);

fn visit(rows: &[Row], state: &mut Option<Visits>) {
    let (visits, idle, sum) = state.unwrap_or_default();
    let idle = if rows.is_empty() { idle + 1 } else { 0 };
    let sum = sum + rows.iter().map(|row| u64::from(row.number)).sum::<u64>();
    *state = (idle < 3).then_some((visits + 1, idle, sum));
}

/// What a call of the function for groups emits: the key, its numbers, and the numbers before it.
type Call = (u8, Vec<u32>, Vec<u32>, bool);

/// After the last row of a key, in event time or by the clock.
const PATIENCE: i64 = 25;

fn call(kind: GroupTimeout, key: u8, rows: &[Row], state: &mut GroupState<'_, Vec<u32>>) -> Call {
    let before = state.get().cloned().unwrap_or_default();
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    if state.has_timed_out() {
        state.remove();
    } else {
        state.get_or_insert_with(Vec::new).extend(&numbers);
        let latest = rows.iter().map(|row| row.time).max().unwrap();
        match kind {
            GroupTimeout::EventTime => state.set_timeout_timestamp(EventTime::from_micros(latest + PATIENCE)),
            GroupTimeout::ProcessingTime => {
                state.set_timeout_duration(Duration::from_micros(PATIENCE as u64))
            }
            GroupTimeout::None => {}
        }
    }
    (key, numbers, before, state.has_timed_out())
}

/// The same by plain loops. A timeout passes when the time is later, and after the rows of the epoch.
fn calls(kind: GroupTimeout, epochs: &[(Vec<Row>, i64, i64)]) -> (Vec<Vec<Call>>, u64) {
    let mut states = BTreeMap::<u8, (Vec<u32>, Option<i64>)>::new();
    let (mut before, mut late) = (i64::MIN, 0);
    let mut out = vec![];
    for (rows, watermark, now) in epochs {
        let mut of_epoch = vec![];
        let is_late = |row: &&Row| kind == GroupTimeout::EventTime && row.time < before;
        late += rows.iter().filter(is_late).count() as u64;
        let rows: Vec<Row> = rows.iter().filter(|row| !is_late(row)).copied().collect();
        for key in rows.iter().map(|row| row.key).collect::<BTreeSet<_>>() {
            let of_key: Vec<Row> = rows.iter().filter(|row| row.key == key).copied().collect();
            let numbers: Vec<u32> = of_key.iter().map(|row| row.number).collect();
            let state = states.entry(key).or_default();
            of_epoch.push((key, numbers.clone(), state.0.clone(), false));
            state.0.extend(numbers);
            state.1 = match kind {
                GroupTimeout::EventTime => of_key.iter().map(|row| row.time + PATIENCE).max(),
                GroupTimeout::ProcessingTime => Some(now + PATIENCE),
                GroupTimeout::None => None,
            };
        }
        states.retain(|key, (numbers, timeout)| {
            let has_passed = match kind {
                // Only an advance of the watermark looks for timeouts.
                GroupTimeout::EventTime => timeout.is_some_and(|at| at < *watermark && *watermark > before),
                _ => timeout.is_some_and(|at| at < *now),
            };
            if has_passed {
                of_epoch.push((*key, vec![], numbers.clone(), true));
            }
            !has_passed
        });
        before = *watermark;
        out.push(of_epoch);
    }
    (out, late)
}

fn check_groups(steps: &[Step]) {
    let epochs = epochs(steps);
    for kind in [GroupTimeout::None, GroupTimeout::ProcessingTime, GroupTimeout::EventTime] {
        let (expected, late) = calls(kind, &epochs);
        let groups = timed_rows()
            .key_by(|row| row.key)
            .map_groups_with_state(kind, move |key, rows, state: &mut GroupState<'_, Vec<u32>>| {
                call(kind, *key, &rows, state)
            });
        let make = operator_of(groups);
        let emitted = |it: &mut Harness<_>| {
            it.take::<(EventTime, Call)>(0).into_iter().map(|(_, call)| call).collect::<Vec<_>>()
        };
        three_phases(Mode::MicroBatch, &inputs(&epochs), make.clone(), emitted, &expected);
        let mut harness = Harness::new(Mode::MicroBatch, move || {
            make(tidemill::operator::Place::new(0, 1, Mode::MicroBatch))
        });
        for (rows, watermark, now) in &epochs {
            harness.advance_to(ProcessingTime::from_micros(*now)).unwrap();
            harness.batch(0, rows.iter().map(|row| Dealt::new(row.key, at(row), *row)).collect()).unwrap();
            harness.end_epoch(EventTime::from_micros(*watermark)).unwrap();
        }
        assert_eq!(harness.late_rows(), late);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn all_keys_are_visited_in_each_epoch(steps in steps()) {
        let epochs = epochs(&steps);
        let mut states = BTreeMap::<u8, Option<Visits>>::new();
        let mut expected: Vec<Vec<(u8, Visits)>> = vec![];
        for (rows, ..) in &epochs {
            rows.iter().for_each(|row| _ = states.entry(row.key).or_default());
            for (key, state) in &mut states {
                let rows: Vec<Row> = rows.iter().filter(|row| row.key == *key).copied().collect();
                visit(&rows, state);
            }
            states.retain(|_, state| state.is_some());
            expected.push(states.iter().map(|(key, state)| (*key, state.unwrap())).collect());
        }
        for mode in MODES {
            let sums = timed_rows()
                .key_by(|row| row.key)
                .update_state_by_key(|_, rows, state: &mut Option<Visits>| visit(&rows, state));
            let taken = |it: &mut Harness<_>| it.take::<(u8, Visits)>(0);
            three_phases(mode, &inputs(&epochs), operator_of(sums), taken, &expected);
        }
    }

    #[test]
    fn mapped_state_by_epoch_agrees_with_loops(steps in steps()) {
        let epochs = epochs(&steps);
        let mut states = BTreeMap::new();
        let mut row = |row: &Row| count(row.key, *row, states.entry(row.key).or_default());
        let expected: Vec<Vec<_>> = epochs.iter().map(|(rows, ..)| rows.iter().map(&mut row).collect()).collect();
        for mode in MODES {
            let counts = timed_rows()
                .key_by(|row| row.key)
                .map_with_state(|key, row, state: &mut Option<u64>| count(*key, row, state));
            let taken = |it: &mut Harness<_>| {
                it.take::<(EventTime, (u8, u32, u64))>(0).into_iter().map(|(_, row)| row).collect::<Vec<_>>()
            };
            three_phases(mode, &inputs(&epochs), operator_of(counts), taken, &expected);
        }
    }

    #[test]
    fn groups_and_timeouts_by_epoch_agree_with_loops(steps in steps()) {
        check_groups(&steps);
    }
}

/// `updateStateByKey` visits idle keys; `mapWithState` does not, except for the last call at the timeout.
#[test]
fn idle_keys_are_visited_by_update_and_else_at_timeout_only() {
    let row = |key, time| Dealt::new(key, EventTime::from_micros(time), Row { key, time, number: 1 });
    let epochs = |visited: &mut dyn FnMut(usize, Option<Dealt<u8, Row>>, i64)| {
        for (epoch, watermark) in [0, 10, 20, 35, 36, 50].into_iter().enumerate() {
            visited(epoch, (epoch == 0).then(|| row(7, 10)), watermark);
        }
    };
    let place = || tidemill::operator::Place::new(0, 1, Mode::MicroBatch);

    let update = operator_of(timed_rows().key_by(|row| row.key).update_state_by_key(
        |_, rows: Vec<Row>, visits: &mut Option<Vec<usize>>| {
            visits.get_or_insert_with(Vec::new).push(rows.len())
        },
    ));
    let mut harness = Harness::new(Mode::MicroBatch, move || update(place()));
    epochs(&mut |epoch, row, watermark| {
        harness.batch(0, row.into_iter().collect()).unwrap();
        harness.end_epoch(EventTime::from_micros(watermark)).unwrap();
        let visits: Vec<usize> = [1].into_iter().chain(std::iter::repeat_n(0, epoch)).collect();
        assert_eq!(harness.take::<(u8, Vec<usize>)>(0), [(7, visits)]);
    });

    // The timeout is 10 + 25: it does not pass at a watermark of 35, which a timer for 35 would.
    let groups = operator_of(timed_rows().key_by(|row| row.key).map_groups_with_state(
        GroupTimeout::EventTime,
        |key, rows: Vec<Row>, state: &mut GroupState<'_, Vec<u32>>| {
            call(GroupTimeout::EventTime, *key, &rows, state)
        },
    ));
    let mut harness = Harness::new(Mode::MicroBatch, move || groups(place()));
    epochs(&mut |epoch, row, watermark| {
        harness.batch(0, row.into_iter().collect()).unwrap();
        harness.end_epoch(EventTime::from_micros(watermark)).unwrap();
        let calls = harness.take::<(EventTime, Call)>(0);
        let wanted = match epoch {
            0 => vec![(EventTime::from_micros(10), (7, vec![1], vec![], false))],
            4 => vec![(EventTime::from_micros(35), (7, vec![], vec![1], true))],
            _ => vec![],
        };
        assert_eq!(calls, wanted, "at watermark {watermark}");
    });
    assert_eq!(harness.state_rows(), 0);
}

#[test]
fn timeout_by_the_clock_passes_in_an_idle_query() {
    for mode in MODES {
        let graph = Graph::new("clock");
        let ((sender, source), (sink, table)) = (tidemill::connectors::channel(4), memory_sink());
        graph
            .source(source)
            .key_by(|n: &u64| *n)
            .flat_map_groups_with_state(
                GroupTimeout::ProcessingTime,
                |key, rows, state: &mut GroupState<'_, u64>| {
                    if !state.has_timed_out() {
                        state.update(rows.len() as u64);
                        state.set_timeout_duration(Duration::from_millis(20));
                    }
                    state.has_timed_out().then(|| (*key, state.remove()))
                },
            )
            .sink(sink);
        let query = graph.start(options(mode, 2)).unwrap();
        sender.send(7).unwrap();
        super::common::wait_until(&query, "timeout", |_| !table.snapshot().is_empty());
        drop(sender);
        super::common::end(query, "timeout by the clock").unwrap();
        assert_eq!(table.snapshot(), [(7, Some(1))], "{mode}");
    }
}

#[test]
fn timeouts_of_the_wrong_kind_are_refused() {
    let timed = |kind, as_event: bool| {
        let graph = Graph::new("wrong");
        let rows = graph.source(memory(rows())).with_watermark(at, Duration::ZERO).key_by(|row| row.key);
        let groups = rows.map_groups_with_state(kind, move |key, _, state: &mut GroupState<'_, ()>| {
            match as_event {
                true => state.set_timeout_timestamp(EventTime::MAX),
                false => state.set_timeout_duration(Duration::ZERO),
            }
            *key
        });
        groups.sink(memory_sink().0);
        run(&graph, options(Mode::MicroBatch, 1)).unwrap_err().to_string()
    };
    for error in [timed(GroupTimeout::None, true), timed(GroupTimeout::ProcessingTime, true)] {
        assert!(
            error.contains("`set_timeout_timestamp` needs") && error.contains("short_forms.rs:"),
            "{error}"
        );
    }
    assert!(timed(GroupTimeout::EventTime, false).contains("`set_timeout_duration` needs"));

    let graph = Graph::new("untimed");
    let rows = graph.source(memory(rows())).key_by(|row| row.key);
    let groups =
        rows.map_groups_with_state(GroupTimeout::EventTime, |key, _, _: &mut GroupState<'_, ()>| *key);
    groups.sink(memory_sink().0);
    let error = run(&graph, options(Mode::MicroBatch, 1)).unwrap_err().to_string();
    assert!(error.contains("with_watermark") && error.contains("short_forms.rs:"), "{error}");
}
