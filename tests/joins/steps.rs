//! Single operators by epoch: any rows, any bounds, snapshots and restarts between any epochs.

use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::testing::{EpochInput, Harness, operator_of, restart_each_epoch, three_phases};
use tidemill::{Chain, Operator, ProcessingTime};

use super::common::MODES;
use super::model::{Joined, KINDS, Kind, Model, Row};

pub(crate) fn at(row: &Row) -> EventTime {
    EventTime::from_micros(row.time)
}

pub(crate) fn bounds((least, greatest): (i64, i64)) -> Bounds {
    let span = |micros: i64| Duration::from_micros(micros.unsigned_abs());
    match (least < 0, greatest < 0) {
        (true, true) => Bounds::before(span(greatest)..=span(least)),
        (false, false) => Bounds::after(span(least)..=span(greatest)),
        _ => Bounds::between(span(least), span(greatest)),
    }
}

type Late = EventStream<Row>;

/// A join of any kind, whose rows are brought to one type.
pub(crate) fn join<P, Q>(
    left: Stream<Row, P>,
    right: Stream<Row, Q>,
    kind: Kind,
    within: (i64, i64),
) -> (EventStream<(Option<Row>, Option<Row>)>, Late, Late)
where
    P: Chain<Out = Row, Time = tidemill::Timed>,
    Q: Chain<Out = Row, Time = tidemill::Timed>,
{
    let join = left.key_by(|row| row.key).join(right.key_by(|row| row.key)).within(bounds(within));
    match kind {
        Kind::Inner => {
            let (rows, left, right) = join.inner_with_late();
            (rows.map(|(_, left, right)| (Some(left), Some(right))).boxed(), left, right)
        }
        Kind::Left => {
            let (rows, left, right) = join.left_outer_with_late();
            (rows.map(|(_, left, right)| (Some(left), right)).boxed(), left, right)
        }
        Kind::Right => {
            let (rows, left, right) = join.right_outer_with_late();
            (rows.map(|(_, left, right)| (left, Some(right))).boxed(), left, right)
        }
        Kind::Full => {
            let (rows, left, right) = join.full_outer_with_late();
            (rows.map(|(_, left, right)| (left, right)).boxed(), left, right)
        }
        Kind::Semi => {
            let (rows, left, right) = join.semi_with_late();
            (rows.map(|(_, left)| (Some(left), None)).boxed(), left, right)
        }
        Kind::Anti => {
            let (rows, left, right) = join.anti_with_late();
            (rows.map(|(_, left)| (Some(left), None)).boxed(), left, right)
        }
    }
}

/// What an instance has emitted: the result, and late rows marked by their side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Emitted {
    Joined(Joined),
    LateLeft(Row),
    LateRight(Row),
}

fn emitted<O: Operator>(kind: Kind) -> impl Fn(&mut Harness<O>) -> Vec<Emitted> + Clone {
    move |instance| {
        let micros = |time: EventTime| time.as_micros();
        let joined: Vec<Joined> = match kind {
            Kind::Inner => {
                let rows = instance.take::<(EventTime, (u8, Row, Row))>(0);
                rows.into_iter().map(|(time, (_, l, r))| (micros(time), Some(l), Some(r))).collect()
            }
            Kind::Left => {
                let rows = instance.take::<(EventTime, (u8, Row, Option<Row>))>(0);
                rows.into_iter().map(|(time, (_, l, r))| (micros(time), Some(l), r)).collect()
            }
            Kind::Right => {
                let rows = instance.take::<(EventTime, (u8, Option<Row>, Row))>(0);
                rows.into_iter().map(|(time, (_, l, r))| (micros(time), l, Some(r))).collect()
            }
            Kind::Full => {
                let rows = instance.take::<(EventTime, (u8, Option<Row>, Option<Row>))>(0);
                rows.into_iter().map(|(time, (_, l, r))| (micros(time), l, r)).collect()
            }
            Kind::Semi | Kind::Anti => {
                let rows = instance.take::<(EventTime, (u8, Row))>(0);
                rows.into_iter().map(|(time, (_, l))| (micros(time), Some(l), None)).collect()
            }
        };
        let late = |rows: Vec<(EventTime, Row)>| rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
        let (left, right) = (late(instance.take(1)), late(instance.take(2)));
        let joined = joined.into_iter().map(Emitted::Joined);
        joined
            .chain(left.into_iter().map(Emitted::LateLeft))
            .chain(right.into_iter().map(Emitted::LateRight))
            .collect()
    }
}

/// An epoch: rows as key and time, and how far the watermark advances at its end.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) left: Vec<(u8, i64)>,
    pub(crate) right: Vec<(u8, i64)>,
    pub(crate) advance: i64,
}

/// The epochs of these steps, one more at either end, and what `model` says that each emits: it is given the rows of both sides
/// and the watermark with which the epoch ends. The clock moves as the watermark does.
pub(crate) fn play<E>(
    steps: &[Step],
    mut model: impl FnMut(&[Row], &[Row], i64) -> Vec<E>,
) -> (Vec<EpochInput>, Vec<Vec<E>>) {
    let (mut watermark, mut now, mut number) = (-100, 0, 0);
    let (mut epochs, mut expected) = (vec![], vec![]);
    let mut add = |left: Vec<Row>, right: Vec<Row>, watermark: i64, now: i64| {
        expected.push(model(&left, &right, watermark));
        let dealt = |rows: Vec<Row>| rows.into_iter().map(|row| Dealt::new(row.key, at(&row), row)).collect();
        let epoch = EpochInput::until(EventTime::from_micros(watermark)).at(ProcessingTime::from_micros(now));
        epochs.push(epoch.keyed(0, dealt(left)).keyed(1, dealt(right)));
    };
    add(vec![], vec![], watermark, now);
    for step in steps {
        let mut rows = |rows: &[(u8, i64)]| {
            let row = |&(key, ahead): &(u8, i64)| {
                number += 1;
                Row { key, time: watermark + ahead, number }
            };
            rows.iter().map(row).collect::<Vec<_>>()
        };
        let (left, right) = (rows(&step.left), rows(&step.right));
        watermark += step.advance;
        add(left, right, watermark, now);
        now += step.advance;
    }
    add(vec![], vec![], i64::MAX, now);
    (epochs, expected)
}

/// The same rows, each in an epoch of its own, and another epoch that advances the watermark.
pub(crate) fn row_by_row(steps: &[Step]) -> Vec<Step> {
    let mut single = vec![];
    for Step { left, right, advance } in steps {
        for n in 0..left.len().max(right.len()) {
            let one = |left: Option<&(u8, i64)>, right: Option<&(u8, i64)>| Step {
                left: left.copied().into_iter().collect(),
                right: right.copied().into_iter().collect(),
                advance: 0,
            };
            single.extend(left.get(n).map(|row| one(Some(row), None)));
            single.extend(right.get(n).map(|row| one(None, Some(row))));
        }
        single.push(Step { left: vec![], right: vec![], advance: *advance });
    }
    single
}

/// When an operator is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restarts {
    /// As [`three_phases`] does.
    Phases,
    /// After each epoch, in both modes.
    EachEpoch,
}

/// Runs an operator with restarts, and compares what it emits in each epoch.
pub(crate) fn run<R: Ord + Debug>(
    restarts: Restarts,
    epochs: &[EpochInput],
    make: &Maker,
    results: impl Fn(&mut Harness<Box<dyn Operator>>) -> Vec<R> + Clone,
    expected: &[Vec<R>],
) {
    let instance = || {
        let make = Rc::clone(make);
        move |place| make(place)
    };
    match restarts {
        Restarts::Phases => three_phases(Mode::MicroBatch, epochs, instance(), results, expected),
        Restarts::EachEpoch => {
            for mode in MODES {
                restart_each_epoch(mode, epochs, instance(), results.clone(), expected);
            }
        }
    }
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Times around the watermark, which begins at -100: some are late, some far ahead.
    let rows = || proptest::collection::vec((0..3u8, -40..120i64), 0..5);
    let step = (rows(), rows(), 0..60i64).prop_map(|(left, right, advance)| Step { left, right, advance });
    proptest::collection::vec(step, 1..12)
}

fn within() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![
        (0..50i64, 0..50i64).prop_map(|(before, after)| (-before, after)),
        (1..40i64, 0..40i64).prop_map(|(least, width)| (least, least + width)),
        (1..40i64, 0..40i64).prop_map(|(least, width)| (-least - width, -least)),
        Just((0, 0)),
    ]
}

fn check(kind: Kind, within: (i64, i64), steps: &[Step]) {
    check_with(Restarts::Phases, kind, within, steps);
}

fn check_with(restarts: Restarts, kind: Kind, within: (i64, i64), steps: &[Step]) {
    let graph = Graph::new("join");
    let source = || graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
    let (source_left, source_right) = (source(), source());
    let keyed =
        source_left.key_by(|row| row.key).join(source_right.key_by(|row| row.key)).within(bounds(within));
    let make: Maker = match kind {
        Kind::Inner => Rc::new(operator_of(keyed.inner())),
        Kind::Left => Rc::new(operator_of(keyed.left_outer())),
        Kind::Right => Rc::new(operator_of(keyed.right_outer())),
        Kind::Full => Rc::new(operator_of(keyed.full_outer())),
        Kind::Semi => Rc::new(operator_of(keyed.semi())),
        Kind::Anti => Rc::new(operator_of(keyed.anti())),
    };
    let mut model = Model::new(kind, within);
    let (epochs, expected) = play(steps, |left, right, watermark| {
        let (joined, late_left, late_right) = model.epoch(left, right, watermark);
        let joined = joined.into_iter().map(Emitted::Joined);
        let late = late_left.into_iter().map(Emitted::LateLeft);
        joined.chain(late).chain(late_right.into_iter().map(Emitted::LateRight)).collect()
    });
    run(restarts, &epochs, &make, emitted(kind), &expected);
}

pub(crate) type Maker = Rc<dyn Fn(Place) -> Box<dyn Operator>>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn join_by_epoch_agrees_with_loops(within in within(), steps in steps()) {
        for kind in KINDS {
            check(kind, within, &steps);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn join_restarted_between_rows_agrees_with_loops(within in within(), steps in steps()) {
        for kind in KINDS {
            check_with(Restarts::EachEpoch, kind, within, &row_by_row(&steps));
        }
    }
}

#[test]
fn bounds_of_zero_width_match_equal_times_only() {
    let step = Step { left: vec![(0, 5), (0, 6), (0, 6)], right: vec![(0, 6), (0, 7), (1, 5)], advance: 20 };
    for kind in KINDS {
        check(kind, (0, 0), std::slice::from_ref(&step));
    }
}

#[test]
fn join_of_an_empty_side_agrees_with_loops() {
    let left = Step { left: vec![(0, 5), (1, 6)], right: vec![], advance: 20 };
    let right = Step { left: vec![], right: vec![(0, 5), (1, 6)], advance: 20 };
    for kind in KINDS {
        check(kind, (-3, 8), &vec![left.clone(); 4]);
        check(kind, (-3, 8), &vec![right.clone(); 4]);
    }
}

/// The last row that can match comes at the watermark itself, an epoch later.
#[test]
fn row_whose_last_match_is_at_watermark_is_kept() {
    let left = Step { left: vec![(0, 5)], right: vec![], advance: 0 };
    let right = Step { left: vec![], right: vec![(0, 0)], advance: 0 };
    for kind in KINDS {
        check(kind, (-5, -5), &[left.clone(), right.clone()]);
        let mirrored = [
            Step { left: vec![], right: vec![(0, 5)], advance: 0 },
            Step { left: vec![(0, 0)], right: vec![], advance: 0 },
        ];
        check(kind, (5, 5), &mirrored);
    }
}
