//! Window joins and co-group against loops: tumbling, sliding and session windows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::prelude::*;
use tidemill::testing::{Harness, operator_of};
use tidemill::{Join, JoinWindows, Operator, Timed, WindowJoin};

use super::common::{MODES, assert_same, options, run_well};
use super::model::Row;
use super::steps::{Maker, Restarts, Step, at, play, row_by_row, run, steps};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Group,
}

const KINDS: [Kind; 5] = [Kind::Inner, Kind::Left, Kind::Right, Kind::Full, Kind::Group];

#[derive(Clone, Copy, Debug)]
enum Windows {
    Tumbling(i64),
    Sliding(i64, i64),
    Session(i64),
    /// The gap follows from the row.
    SessionBy,
}

const WINDOWS: [Windows; 7] = [
    Windows::Tumbling(25),
    Windows::Tumbling(1),
    Windows::Sliding(30, 10),
    Windows::Sliding(25, 10),
    Windows::Session(12),
    Windows::Session(1),
    Windows::SessionBy,
];

/// The gap of a row: now and then long, now and then none, which counts as a microsecond.
fn gap(row: &Row) -> i64 {
    [0, 3, 7, 12, 40][row.number as usize % 5]
}

fn windowed(join: Join<u8, Row, Row, Timed, Timed>, windows: Windows) -> WindowJoin<u8, Row, Row> {
    let by_row = |row: &Row| micros(gap(row));
    match windows {
        Windows::SessionBy => join.session_by(by_row, by_row),
        windows => join.window(windows),
    }
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros as u64)
}

impl From<Windows> for JoinWindows {
    fn from(windows: Windows) -> JoinWindows {
        match windows {
            Windows::Tumbling(size) => tumbling(micros(size)).into(),
            Windows::Sliding(size, slide) => sliding(micros(size), micros(slide)).into(),
            Windows::Session(gap) => session(micros(gap)).into(),
            Windows::SessionBy => unreachable!("it has a method of its own"),
        }
    }
}

/// A window: key, start and end.
type At = (u8, i64, i64);

/// The rows of a window, by their numbers; a row without a match of the other side is alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Emitted {
    Pair(At, Option<u32>, Option<u32>),
    Group(At, Vec<u32>, Vec<u32>),
    LateLeft(Row),
    LateRight(Row),
}

fn emitted(kind: Kind, at: At, lefts: &[Row], rights: &[Row]) -> Vec<Emitted> {
    let numbers = |rows: &[Row]| rows.iter().map(|row| row.number).collect::<Vec<_>>();
    let (lefts, rights) = (numbers(lefts), numbers(rights));
    if kind == Kind::Group {
        let sorted = |mut rows: Vec<u32>| {
            rows.sort();
            rows
        };
        return vec![Emitted::Group(at, sorted(lefts), sorted(rights))];
    }
    let mut rows = vec![];
    for left in &lefts {
        rows.extend(rights.iter().map(|right| Emitted::Pair(at, Some(*left), Some(*right))));
    }
    if rights.is_empty() && matches!(kind, Kind::Left | Kind::Full) {
        rows.extend(lefts.iter().map(|left| Emitted::Pair(at, Some(*left), None)));
    }
    if lefts.is_empty() && matches!(kind, Kind::Right | Kind::Full) {
        rows.extend(rights.iter().map(|right| Emitted::Pair(at, None, Some(*right))));
    }
    rows
}

/// Windows that are open, with the rows of both sides.
struct Model {
    windows: Windows,
    open: BTreeMap<At, (Vec<Row>, Vec<Row>)>,
    watermark: i64,
}

impl Model {
    fn new(windows: Windows) -> Self {
        Model { windows, open: BTreeMap::new(), watermark: i64::MIN }
    }

    fn windows_of(&self, row: &Row) -> Vec<At> {
        match self.windows {
            Windows::Tumbling(size) => {
                let start = row.time.div_euclid(size) * size;
                vec![(row.key, start, start + size)]
            }
            Windows::Sliding(size, slide) => {
                let last = row.time.div_euclid(slide) * slide;
                let starts = (0..).map(|n| last - n * slide).take_while(|start| start + size > row.time);
                starts.map(|start| (row.key, start, start + size)).collect()
            }
            Windows::Session(gap) => vec![(row.key, row.time, row.time + gap)],
            Windows::SessionBy => vec![(row.key, row.time, row.time + gap(row).max(1))],
        }
    }

    /// Adds a row to its windows that are open; returns it if there is none.
    fn add(&mut self, row: Row, is_left: bool) -> Option<Row> {
        let mut windows = self.windows_of(&row);
        windows.retain(|at| at.2 > self.watermark);
        if windows.is_empty() {
            return Some(row);
        }
        for mut at in windows {
            let mut rows = (vec![], vec![]);
            if matches!(self.windows, Windows::Session(_) | Windows::SessionBy) {
                let meets = |one: &At| one.0 == at.0 && one.1 <= at.2 && at.1 <= one.2;
                for one in self.open.keys().copied().filter(meets).collect::<Vec<_>>() {
                    let (left, right) = self.open.remove(&one).unwrap();
                    rows.0.extend(left);
                    rows.1.extend(right);
                    at = (at.0, at.1.min(one.1), at.2.max(one.2));
                }
            }
            let (left, right) = self.open.entry(at).or_default();
            left.extend(rows.0);
            right.extend(rows.1);
            if is_left { left.push(row) } else { right.push(row) }
        }
        None
    }

    fn epoch(&mut self, kind: Kind, left: &[Row], right: &[Row], watermark: i64) -> Vec<Emitted> {
        let mut rows = vec![];
        rows.extend(left.iter().filter_map(|row| self.add(*row, true)).map(Emitted::LateLeft));
        rows.extend(right.iter().filter_map(|row| self.add(*row, false)).map(Emitted::LateRight));
        self.watermark = watermark;
        self.open.retain(|at, (left, right)| {
            if at.2 <= watermark {
                rows.extend(emitted(kind, *at, left, right));
            }
            at.2 > watermark
        });
        rows
    }
}

fn place<V>(result: &WindowResult<u8, V>) -> At {
    (result.key, result.window.start.as_micros(), result.window.end.as_micros())
}

fn results(kind: Kind) -> impl Fn(&mut Harness<Box<dyn Operator>>) -> Vec<Emitted> + Clone {
    fn rows<V: Send + 'static>(
        instance: &mut Harness<Box<dyn Operator>>,
        emitted: impl Fn(At, V) -> Emitted,
    ) -> Vec<Emitted> {
        let rows = instance.take::<(EventTime, WindowResult<u8, V>)>(0);
        rows.into_iter()
            .map(|(time, it)| {
                assert_eq!(time, it.window.last_instant());
                emitted(place(&it), it.value)
            })
            .collect()
    }
    move |instance| {
        let number = |row: Option<Row>| row.map(|row| row.number);
        let mut all = match kind {
            Kind::Inner => rows(instance, |at, (left, right): (Row, Row)| {
                Emitted::Pair(at, Some(left.number), Some(right.number))
            }),
            Kind::Left => rows(instance, |at, (left, right): (Row, Option<Row>)| {
                Emitted::Pair(at, Some(left.number), number(right))
            }),
            Kind::Right => rows(instance, |at, (left, right): (Option<Row>, Row)| {
                Emitted::Pair(at, number(left), Some(right.number))
            }),
            Kind::Full => rows(instance, |at, (left, right): (Option<Row>, Option<Row>)| {
                Emitted::Pair(at, number(left), number(right))
            }),
            Kind::Group => {
                rows(instance, |at, (left, right): (Vec<u32>, Vec<u32>)| Emitted::Group(at, left, right))
            }
        };
        all.extend(instance.take::<(EventTime, Row)>(1).into_iter().map(|(_, row)| Emitted::LateLeft(row)));
        all.extend(instance.take::<(EventTime, Row)>(2).into_iter().map(|(_, row)| Emitted::LateRight(row)));
        all
    }
}

/// The numbers of the rows of both sides, sorted; the rows come in order of time.
fn group(_: &u8, lefts: &[&Row], rights: &[&Row]) -> (Vec<u32>, Vec<u32>) {
    let numbers = |rows: &[&Row]| {
        assert!(rows.is_sorted_by_key(|row| row.time));
        let mut numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
        numbers.sort();
        numbers
    };
    (numbers(lefts), numbers(rights))
}

fn check(kind: Kind, windows: Windows, steps: &[Step]) {
    check_with(Restarts::Phases, kind, windows, steps);
}

fn check_with(restarts: Restarts, kind: Kind, windows: Windows, steps: &[Step]) {
    let graph = Graph::new("join");
    let side = || {
        let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
        rows.key_by(|row| row.key)
    };
    let join = windowed(side().join(side()), windows);
    let make: Maker = match kind {
        Kind::Inner => Rc::new(operator_of(join.inner())),
        Kind::Left => Rc::new(operator_of(join.left_outer())),
        Kind::Right => Rc::new(operator_of(join.right_outer())),
        Kind::Full => Rc::new(operator_of(join.full_outer())),
        Kind::Group => Rc::new(operator_of(join.co_group(group))),
    };
    let mut model = Model::new(windows);
    let (epochs, expected) = play(steps, |left, right, watermark| model.epoch(kind, left, right, watermark));
    run(restarts, &epochs, &make, results(kind), &expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn window_join_by_epoch_agrees_with_loops(steps in steps()) {
        for windows in WINDOWS {
            for kind in KINDS {
                check(kind, windows, &steps);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(15))]

    #[test]
    fn window_join_restarted_between_rows_agrees_with_loops(steps in steps()) {
        for windows in WINDOWS {
            for kind in KINDS {
                check_with(Restarts::EachEpoch, kind, windows, &row_by_row(&steps));
            }
        }
    }
}

#[test]
fn window_join_of_an_empty_side_agrees_with_loops() {
    let left = Step { left: vec![(0, 5), (1, 6)], right: vec![], advance: 20 };
    let right = Step { left: vec![], right: vec![(0, 5), (1, 6)], advance: 20 };
    for windows in WINDOWS {
        for kind in KINDS {
            check(kind, windows, &vec![left.clone(); 4]);
            check(kind, windows, &vec![right.clone(); 4]);
        }
    }
}

/// A row of one side between two sessions of the other makes one of them.
#[test]
fn session_merges_over_both_sides() {
    let step = Step { left: vec![(0, 0), (0, 20)], right: vec![(0, 10)], advance: 100 };
    check(Kind::Inner, Windows::Session(10), std::slice::from_ref(&step));
    let mut model = Model::new(Windows::Session(10));
    let (_, expected) = play(&[step], |left, right, until| model.epoch(Kind::Inner, left, right, until));
    assert_eq!(expected[1].len(), 2, "both left rows with the right one");
}

/// The long gap of a row of one side covers rows of the other that are further apart than their own gaps.
#[test]
fn session_by_gap_of_row_merges_over_both_sides() {
    for (numbers, sessions) in [([0, 5, 10], 3), ([4, 5, 10], 1)] {
        let row = |time: i64, number: u32| Row { key: 0, time, number };
        let left = [row(0, numbers[0])];
        let right = [row(10, numbers[1]), row(30, numbers[2])];
        for mode in MODES {
            let graph = Graph::new("join");
            let side = |rows: &[Row]| {
                let rows = graph.source(memory(rows.to_vec())).with_watermark(at, Duration::ZERO);
                rows.key_by(|row| row.key)
            };
            let (sink, table) = memory_sink();
            let groups = windowed(side(&left).join(side(&right)), Windows::SessionBy).co_group(group);
            groups.map(|it| it.value).sink(sink);
            run_well(&graph, options(mode, 1));
            assert_eq!(table.snapshot().len(), sessions, "{mode}");
        }
    }
}

#[test]
fn session_by_gap_is_not_session_with_fixed_gap_after_restart() {
    let place = tempfile::tempdir().unwrap();
    let run = |windows: Windows| {
        let graph = Graph::new("join");
        let side = || {
            let rows = graph.source(memory(rows(1, 20))).with_watermark(at, Duration::ZERO);
            rows.key_by(|row| row.key)
        };
        windowed(side().join(side()), windows).inner().map(|it| it.key).sink(memory_sink().0);
        graph.run(Options::default().without_ctrl_c().with_checkpoint(place.path()))
    };
    run(Windows::SessionBy).unwrap();
    let said = run(Windows::Session(10)).unwrap_err().to_string();
    assert!(said.contains("by record") && said.contains("10us"), "{said}");
    run(Windows::SessionBy).unwrap();
}

#[test]
fn windows_at_the_end_of_time_are_emitted_once() {
    let time = EventTime::from_micros(i64::MAX - 1);
    let row = Row { key: 0, time: time.as_micros(), number: 0 };
    let (size, slide) = (micros(30), micros(10));
    for (windows, expected) in [
        (JoinWindows::from(tumbling(size)), 1),
        (sliding(size, slide).into(), sliding(size, slide).windows_of(time).count()),
        (session(size).into(), 1),
    ] {
        for mode in MODES {
            let graph = Graph::new("join");
            let side = || {
                let rows = graph.source(memory([row])).with_watermark(at, Duration::ZERO);
                rows.key_by(|row| row.key)
            };
            let (sink, table) = memory_sink();
            side().join(side()).window(windows.clone()).inner().map(|it| it.window).sink(sink);
            run_well(&graph, options(mode, 1));
            assert_eq!(table.snapshot().len(), expected, "{windows:?} {mode}");
        }
    }
}

/// Rows out of order by less than the delay, of a few keys, one of which has most of them.
pub(crate) fn rows(seed: u32, count: u32) -> Vec<Row> {
    let row = |n: u32| {
        let mixed = (n ^ seed).wrapping_mul(2_654_435_761) >> 7;
        let key = if mixed.is_multiple_of(3) { (mixed % 7) as u8 } else { 0 };
        Row { key, time: i64::from(n * 3 + mixed % 40) - 300, number: n }
    };
    (0..count).map(row).collect()
}

#[test]
fn window_joins_agree_with_loops_in_both_modes() {
    let (left, right) = (rows(1, 300), rows(99, 250));
    for windows in [Windows::Tumbling(25), Windows::Sliding(30, 10), Windows::Session(2), Windows::SessionBy]
    {
        let mut model = Model::new(windows);
        let expected = model.epoch(Kind::Group, &left, &right, i64::MAX);
        for mode in MODES {
            for workers in [1, 2, 4] {
                let graph = Graph::new("join");
                let side = |rows: &Vec<Row>| {
                    let rows =
                        graph.source(memory(rows.clone())).with_watermark(at, Duration::from_micros(40));
                    rows.key_by(|row| row.key)
                };
                let (sink, table) = memory_sink();
                let (joined, late_left, late_right) =
                    windowed(side(&left).join(side(&right)), windows).co_group_with_late(group);
                joined.map(|it| (place(&it), it.value.0, it.value.1)).sink(sink);
                late_left.union(late_right).sink(memory_sink().0);
                let way = options(mode, workers).with_max_records_per_epoch(50);
                let summary = run_well(&graph, way);
                assert_eq!(summary.late_rows, 0, "{windows:?} {mode} {workers}");
                let found: Vec<Emitted> = table
                    .snapshot()
                    .into_iter()
                    .map(|(at, left, right)| Emitted::Group(at, left, right))
                    .collect();
                assert_same(&found, &expected, format!("{windows:?} {mode} {workers}"));
            }
        }
    }
}

#[test]
fn windows_that_cannot_work_or_changed_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let run = |windows: JoinWindows| {
        let graph = Graph::new("join");
        let side = || {
            let rows = graph.source(memory(rows(1, 20))).with_watermark(at, Duration::ZERO);
            rows.key_by(|row| row.key)
        };
        side().join(side()).window(windows).inner().map(|it| it.key).sink(memory_sink().0);
        graph.run(Options::default().without_ctrl_c().with_checkpoint(place.path()))
    };
    let refused = |windows: JoinWindows, parts: &[&str]| {
        let said = run(windows).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(said.contains(part), "{part} in {said}"));
    };
    refused(tumbling(Duration::ZERO).into(), &["window_join", "windows.rs:", "the window size is zero"]);
    run(tumbling(micros(10)).into()).unwrap();
    refused(tumbling(micros(20)).into(), &["window_join", "size", "10us", "20us"]);
    refused(session(micros(10)).into(), &["window_join", "tumbling", "session"]);
    run(tumbling(micros(10)).into()).unwrap();
}
