//! The view of a stream as batches: its windows against plain loops, in both modes, on any number of workers, with restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::dstream::DStream;
use tidemill::operator::Dealt;
use tidemill::prelude::*;
use tidemill::testing::{EpochInput, Harness, operator_of, restart_each_epoch, three_phases};
use tidemill::{Operator, ProcessingTime};

use common::{MODES, assert_same, run_well, ways};

type Row = (u8, i64);
/// A key, the end of its window, and the sum.
type Sum = (u8, i64, i64);

const BATCH: i64 = 2;

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros as u64)
}

fn rows() -> DStream<Row, impl tidemill::Chain<Out = Row>> {
    Graph::new("batches").source(memory(Vec::<Row>::new())).batches(micros(BATCH))
}

/// An epoch: its clock and its rows.
type Epoch = (i64, Vec<Row>);

/// The sums by plain loops: a window emits in the epoch whose clock reaches its end, or at the end of the input.
fn model(epochs: &[Epoch], length: i64, slide: i64) -> Vec<Vec<Sum>> {
    let mut all = Vec::<(i64, Row)>::new();
    let mut results = vec![];
    let mut before = i64::MIN;
    for (number, (now, rows)) in epochs.iter().enumerate() {
        let mut due = BTreeMap::<(i64, u8), i64>::new();
        let is_last = number + 1 == epochs.len();
        all.extend(rows.iter().map(|row| (*now, *row)).filter(|_| is_last));
        for (at, (key, value)) in &all {
            let first = at.div_euclid(slide) * slide + slide;
            for end in (0..length / slide).map(|n| first + n * slide) {
                if end > before && (end <= *now || is_last) {
                    *due.entry((end, *key)).or_default() += value;
                }
            }
        }
        results.push(due.into_iter().map(|((end, key), sum)| (key, end, sum)).collect());
        if !is_last {
            all.extend(rows.iter().map(|row| (*now, *row)));
        }
        before = *now;
    }
    results
}

fn inputs(epochs: &[Epoch]) -> Vec<EpochInput> {
    let input = |(number, (now, rows)): (usize, &Epoch)| {
        let end = if number + 1 == epochs.len() { EventTime::MAX } else { EventTime::MIN };
        let dealt = rows.iter().map(|row| Dealt::new(row.0, EventTime::MIN, *row)).collect();
        EpochInput::until(end).at(ProcessingTime::from_micros(*now)).keyed(0, dealt)
    };
    epochs.iter().enumerate().map(input).collect()
}

fn sums(harness: &mut Harness<Box<dyn Operator>>) -> Vec<Sum> {
    let results = harness.take::<WindowResult<u8, Row>>(0).into_iter();
    results.map(|it| (it.key, it.window.end.as_micros(), it.value.1)).collect()
}

fn add(a: Row, b: Row) -> Row {
    (a.0, a.1 + b.1)
}

fn take_out(a: Row, b: Row) -> Row {
    (a.0, a.1 - b.1)
}

/// Epochs with rows, how far the clock advances, and at the end one without rows.
fn epochs() -> impl Strategy<Value = Vec<Epoch>> {
    let key = prop_oneof![3 => Just(0u8), 1 => 1..4u8];
    let rows = proptest::collection::vec((key, -9..10i64), 0..5);
    let passed = prop_oneof![3 => 0..5i64, 1 => 10..60i64];
    proptest::collection::vec((passed, rows), 1..14).prop_map(|steps| {
        let mut now = -20;
        let step = |(passed, rows): (i64, Vec<Row>)| {
            now += passed;
            (now, rows)
        };
        let mut epochs: Vec<Epoch> = steps.into_iter().map(step).collect();
        epochs.push((epochs.last().unwrap().0, vec![]));
        epochs
    })
}

fn row_by_row(epochs: &[Epoch]) -> Vec<Epoch> {
    let single = |(now, rows): &Epoch| {
        let mut all: Vec<Epoch> = rows.iter().map(|row| (*now, vec![*row])).collect();
        all.push((*now, vec![]));
        all
    };
    epochs.iter().flat_map(single).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn windows_with_and_without_inverse_are_those_of_loops(
        (slide, slides) in (1..4i64, 1..6i64),
        epochs in epochs(),
    ) {
        let (slide, length) = (slide * BATCH, slide * slides * BATCH);
        let span = (micros(length), micros(slide));
        for mode in MODES {
            for (epochs, each) in [(epochs.clone(), false), (row_by_row(&epochs), true)] {
                let (inputs, expected) = (inputs(&epochs), model(&epochs, length, slide));
                let keyed = || rows().key_by(|row| row.0);
                let direct = operator_of(keyed().reduce_by_key_and_window(add, span.0, span.1));
                let inverse = operator_of(keyed().reduce_by_key_and_window_inverse(add, take_out, span.0, span.1));
                if each {
                    restart_each_epoch(mode, &inputs, direct, sums, &expected);
                    restart_each_epoch(mode, &inputs, inverse, sums, &expected);
                } else {
                    three_phases(mode, &inputs, direct, sums, &expected);
                    three_phases(mode, &inputs, inverse, sums, &expected);
                }
            }
        }
    }
}

#[test]
fn state_of_inverse_is_flat_over_a_simulated_day() {
    let windows = rows().key_by(|row| row.0);
    let minute = micros(60_000_000);
    let make = operator_of(windows.reduce_by_key_and_window_inverse(add, take_out, 10 * minute, minute));
    let place = tidemill::operator::Place::new(0, 1, Mode::MicroBatch);
    let mut instance = Harness::new(Mode::MicroBatch, move || make(place));
    let mut most = [0, 0];
    for second in 0..24 * 3_600 {
        instance.advance_to(ProcessingTime::from_secs(second)).unwrap();
        // Keys come and go.
        let key = (second / 600 % 200) as u8;
        instance.batch(0, vec![Dealt::new(key, EventTime::MIN, (key, 1i64))]).unwrap();
        instance.end_epoch(EventTime::MIN).unwrap();
        let half = usize::from(second > 12 * 3_600);
        most[half] = most[half].max(instance.state_rows());
    }
    assert!(most[0] > 0 && most[1] <= most[0] && most[0] < 10, "{most:?}");
}

/// Rows of 23 keys, of which one has a third.
fn many() -> Vec<Row> {
    (0..900).map(|n: i64| (if n % 3 == 0 { 5 } else { (n * n % 23) as u8 }, n)).collect()
}

#[test]
fn each_row_is_in_one_batch_and_in_each_of_its_windows() {
    let batch = Duration::from_millis(1);
    for options in ways(&[0, usize::MAX], 40) {
        let what = format!("{options:?}");
        let graph = Graph::new("batches");
        let source = graph.source(memory(many())).boxed();
        let batches = || source.clone().batches(batch);
        let (sink, transformed) = memory_sink();
        batches().transform(|batch| [(batch.interval, batch.rows)]).sink(sink);
        let (sink, again) = memory_sink();
        batches().window(3 * batch, batch).sink(sink);
        let (sink, counts) = memory_sink();
        batches().count_by_window(2 * batch, batch).sink(sink);
        let (sink, of_value) = memory_sink();
        source.clone().map(|row| row.0).batches(batch).count_by_value().sink(sink);
        let (sink, inverse) = memory_sink();
        let keyed = batches().key_by(|row| row.0);
        keyed.reduce_by_key_and_window_inverse(add, take_out, 4 * batch, 2 * batch).sink(sink);
        let (sink, both) = memory_sink();
        let doubled = source.clone().map(|row| row.1).filter(|n| n % 2 == 0).batches(batch);
        batches().transform_with(doubled, |_, all, even| [(all.len(), even.len())]).sink(sink);
        let summary = run_well(&graph, options);
        assert_eq!(summary.late_rows, 0, "{what}");

        let batches = transformed.snapshot();
        assert!(batches.iter().all(|(at, _)| at.end.since(at.start) == batch), "{what}");
        let all: Vec<Row> = batches.into_iter().flat_map(|(_, rows)| rows).collect();
        assert_same(&all, &many(), &what);
        let thrice: Vec<Row> = many().into_iter().flat_map(|row| [row; 3]).collect();
        assert_same(&again.snapshot(), &thrice, &what);
        assert_eq!(counts.snapshot().iter().map(|row| row.value).sum::<u64>(), 2 * 900, "{what}");
        let by_key = |rows: &mut dyn Iterator<Item = (u8, i64)>| {
            let mut sums = BTreeMap::<u8, i64>::new();
            rows.for_each(|(key, n)| *sums.entry(key).or_default() += n);
            sums
        };
        let wanted = by_key(&mut many().into_iter().map(|row| (row.0, 1)));
        let found = by_key(&mut of_value.snapshot().into_iter().map(|row| (row.key, row.value as i64)));
        assert_eq!(found, wanted, "{what}");
        let wanted = by_key(&mut many().into_iter().map(|row| (row.0, 2 * row.1)));
        let found = by_key(&mut inverse.snapshot().into_iter().map(|row| (row.key, row.value.1)));
        assert_eq!(found, wanted, "{what}");
        let (all, even) = both.snapshot().into_iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        assert_eq!((all, even), (900, 450), "{what}");
    }
}

#[test]
fn windows_of_parts_of_batches_are_refused_with_the_line() {
    let refused = |length: i64, slide: i64, inverse: bool| {
        let graph = Graph::new("refused");
        let keyed = graph.source(memory(many())).batches(micros(2)).key_by(|row| row.0);
        let (length, slide) = (micros(length), micros(slide));
        match inverse {
            true => keyed.reduce_by_key_and_window_inverse(add, take_out, length, slide).sink(discard().0),
            false => keyed.reduce_by_key_and_window(add, length, slide).sink(discard().0),
        }
        graph.validate().unwrap_err().to_string()
    };
    for inverse in [false, true] {
        for (length, slide, words) in [(6, 3, "slide of 3us"), (5, 4, "length of 5us"), (0, 2, "zero")] {
            let problem = refused(length, slide, inverse);
            assert!(problem.contains(words) && problem.contains("tests/dstream/main.rs:"), "{problem}");
        }
    }
    assert!(refused(6, 4, true).contains("must be a multiple of its slide"));
}
