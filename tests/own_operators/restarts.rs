//! What a restart finds of named states: as they were, new ones empty, lost ones refused.

use std::fs;
use std::path::Path;
use std::vec::Drain;

use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::connectors::{memory_sink, text_files};
use tidemill::operator::{
    Dealt, ListState, Rows, SharedState, StatefulOperator, States, Takes, To, ValueState,
};
use tidemill::{Graph, Mode, OperatorError, Options, Run, Trigger};

use crate::common::sorted;

/// A count by key, in a state of that name and type; and a state of another name, if there is one.
struct Counts<V> {
    name: &'static str,
    counts: ValueState<u64, V>,
    other: Option<ListState<u64, u64>>,
}

trait Number: serde::Serialize + serde::de::DeserializeOwned + Copy + Send + Into<u64> + 'static {
    fn next(self) -> Self;
    fn zero() -> Self;
}

macro_rules! number {
    ($($name:ty),*) => {
        $(impl Number for $name {
            fn next(self) -> Self {
                self + 1
            }
            fn zero() -> Self {
                0
            }
        })*
    };
}

number!(u64, u32);

impl<V: Number> StatefulOperator for Counts<V> {
    type Key = u64;
    type Outputs = (Rows<(u64, u64, usize)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add(self.name, &mut self.counts);
        if let Some(other) = &mut self.other {
            states.add("other", other);
        }
    }
}

impl<V: Number> Takes<0> for Counts<V> {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            let count = self.counts.get_or_insert_with(row.hashed(), V::zero);
            *count = count.next();
            let count: u64 = (*count).into();
            let others = self.other.as_mut().map_or(0, |other| {
                other.push(row.hashed(), row.value);
                other.get(row.hashed()).count()
            });
            to.out.0.push((row.key, count, others));
        }
        Ok(())
    }
}

/// The name of the state that counts, and whether there is another one.
#[derive(Clone, Copy)]
struct Shape(&'static str, bool);

/// One run over the numbers of files up to that one.
fn run_once<V: Number>(
    place: &Path,
    file: usize,
    shape: Shape,
    workers: usize,
    drop_state: &[&str],
    mode: Mode,
) -> Result<Vec<(u64, u64, usize)>, String> {
    let input = place.join("in");
    fs::create_dir_all(&input).unwrap();
    let lines: String = (0..40).map(|n| format!("{}\n", n % 10)).collect();
    fs::write(input.join(file.to_string()), lines).unwrap();
    let graph = Graph::new("counts");
    let (sink, table) = memory_sink();
    let numbers = graph.source(text_files(input.display().to_string())).uid("in");
    let numbers = numbers.map(|line| line.parse::<u64>().unwrap());
    let Shape(name, has_other) = shape;
    graph
        .operator("counts")
        .keyed(numbers, |n| *n)
        .stateful(move |_| Counts::<V> {
            name,
            counts: ValueState::new(),
            other: has_other.then(ListState::new),
        })
        .uid("counts")
        .sink(sink);
    let options = Options::default()
        .without_ctrl_c()
        .with_mode(mode)
        .with_workers(workers)
        .with_checkpoint(place.join("checkpoint"))
        .with_trigger(Trigger::AvailableNow);
    let options = drop_state.iter().fold(options, |options, uid| options.with_drop_state(*uid));
    graph.run(options).map_err(|error| error.to_string())?;
    Ok(table.snapshot())
}

/// The greatest count of each key, and of the other state.
fn greatest(rows: Vec<(u64, u64, usize)>) -> Vec<(u64, u64, usize)> {
    let mut rows = sorted(rows);
    rows.reverse();
    rows.dedup_by_key(|row| row.0);
    rows.reverse();
    rows
}

fn all(count: u64, others: usize) -> Vec<(u64, u64, usize)> {
    (0..10).map(|key| (key, count, others)).collect()
}

const PLAIN: Shape = Shape("counts", false);
const WITH_OTHER: Shape = Shape("counts", true);

#[test]
fn state_goes_on_with_other_workers_and_in_other_mode() {
    let place = tempfile::tempdir().unwrap();
    let modes = [Mode::MicroBatch, Mode::Continuous, Mode::MicroBatch, Mode::Continuous];
    for (run, (workers, mode)) in [1, 4, 2, 3].into_iter().zip(modes).enumerate() {
        let rows = run_once::<u64>(place.path(), run, WITH_OTHER, workers, &[], mode).unwrap();
        let times = run + 1;
        assert_eq!(greatest(rows), all(4 * times as u64, 4 * times), "{workers} workers");
    }
}

#[test]
fn new_state_begins_empty_and_lost_one_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let run =
        |file, shape, drop: &[&str]| run_once::<u64>(place.path(), file, shape, 2, drop, Mode::MicroBatch);
    run(0, PLAIN, &[]).unwrap();
    assert_eq!(greatest(run(1, WITH_OTHER, &[]).unwrap()), all(8, 4), "the other one is new");
    let refused = run(2, PLAIN, &[]).unwrap_err();
    for part in ["`other`", "counts/other", "--drop-state counts/other", "restarts.rs:"] {
        assert!(refused.contains(part), "{part} is not in: {refused}");
    }
    assert_eq!(greatest(run(2, PLAIN, &["counts/other"]).unwrap()), all(12, 0));
    assert_eq!(greatest(run(3, WITH_OTHER, &[]).unwrap()), all(16, 4), "and begins empty again");
}

#[test]
fn inspected_states_have_the_rows_of_their_epoch() {
    let place = tempfile::tempdir().unwrap();
    for (run, workers) in [2, 3].into_iter().enumerate() {
        run_once::<u64>(place.path(), run, WITH_OTHER, workers, &[], Mode::MicroBatch).unwrap();
        let storage = LocalDirectory::existing(place.path().join("checkpoint")).unwrap();
        let details = inspect::show(&storage, None).unwrap();
        let rows: Vec<_> = details.operators.iter().map(|(uid, it)| (uid.as_str(), it.rows)).collect();
        let elements = 40 * (run as u64 + 1);
        let wanted = [
            ("counts", 10 + elements),
            ("counts/counts", 10),
            ("counts/other", elements),
            ("counts/timers", 0),
        ];
        assert_eq!(rows, wanted, "{workers} workers");
        let other = &details.operators["counts/other"];
        assert_eq!((other.entries, other.label.as_str()), (elements, "counts (state `other`)"));
        assert!(other.location.contains("restarts.rs:") && other.bytes > 0);
    }
}

#[test]
fn renamed_state_is_a_lost_and_a_new_one() {
    let place = tempfile::tempdir().unwrap();
    let run =
        |file, shape, drop: &[&str]| run_once::<u64>(place.path(), file, shape, 1, drop, Mode::MicroBatch);
    run(0, PLAIN, &[]).unwrap();
    let renamed = Shape("totals", false);
    assert!(run(1, renamed, &[]).unwrap_err().contains("--drop-state counts/counts"));
    assert_eq!(greatest(run(1, renamed, &["counts/counts"]).unwrap()), all(4, 0));
}

#[test]
fn dropping_an_operator_drops_all_its_states() {
    let place = tempfile::tempdir().unwrap();
    let run =
        |file, drop: &[&str]| run_once::<u64>(place.path(), file, WITH_OTHER, 2, drop, Mode::MicroBatch);
    run(0, &[]).unwrap();
    assert_eq!(greatest(run(1, &["counts"]).unwrap()), all(4, 4));
    assert_eq!(greatest(run(2, &[]).unwrap()), all(8, 8));
}

#[test]
fn changed_type_of_state_is_refused_with_its_name() {
    let place = tempfile::tempdir().unwrap();
    run_once::<u32>(place.path(), 0, PLAIN, 1, &[], Mode::MicroBatch).unwrap();
    let refused = run_once::<u64>(place.path(), 1, PLAIN, 1, &[], Mode::MicroBatch).unwrap_err();
    for part in ["counts/counts", "u32 → u64", "--drop-state"] {
        assert!(refused.contains(part), "{part} is not in: {refused}");
    }
}

/// Says at which watermark each row came.
struct Marks<const DERIVES: bool>;

impl<const DERIVES: bool> StatefulOperator for Marks<DERIVES> {
    type Key = i64;
    type Outputs = (Rows<(i64, i64)>,);
    const DERIVES_WATERMARK: bool = DERIVES;

    fn output_watermark(&self, watermark: tidemill::EventTime) -> tidemill::EventTime {
        watermark - std::time::Duration::from_micros(40)
    }
}

impl<const DERIVES: bool> Takes<1> for Marks<DERIVES> {
    type Row = Dealt<i64, i64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        rows.for_each(drop);
        Ok(())
    }
}

impl<const DERIVES: bool> Takes<0> for Marks<DERIVES> {
    type Row = Dealt<i64, i64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        rows.for_each(|row| to.out.0.push((row.value, to.watermark().as_micros())));
        Ok(())
    }
}

/// One run over the times in a new file, in micro-batch: the times, each with the watermark at which it came.
fn marks<const DERIVES: bool>(place: &Path, times: std::ops::Range<i64>) -> Vec<(i64, i64)> {
    let input = place.join("in");
    fs::create_dir_all(&input).unwrap();
    let lines: String = times.clone().map(|n| format!("{n}\n")).collect();
    fs::write(input.join(format!("{:04}", times.end)), lines).unwrap();
    let graph = Graph::new("marks");
    let (sink, table) = memory_sink();
    let timed = |uid: &str| {
        let numbers = graph.source(text_files(input.display().to_string())).uid(&format!("{uid}-in"));
        let numbers = numbers.map(|line| line.parse::<i64>().unwrap());
        numbers.with_watermark(|n| tidemill::EventTime::from_micros(*n), std::time::Duration::ZERO).uid(uid)
    };
    graph
        .operator("marks")
        .keyed(timed("left"), |n| *n % 3)
        .keyed(timed("right"), |n| *n % 3)
        .stateful(|_| Marks::<DERIVES>)
        .uid("marks")
        .sink(sink);
    let options = Options::default()
        .without_ctrl_c()
        .with_workers(2)
        .with_checkpoint(place.join("checkpoint"))
        .with_trigger(Trigger::AvailableNow);
    graph.run(options).unwrap();
    table.snapshot()
}

#[test]
fn operator_keeps_watermark_of_inputs_whether_it_derives_or_not() {
    let place = tempfile::tempdir().unwrap();
    for (run, derives) in [false, true, true, false, true].into_iter().enumerate() {
        let first = 100 * run as i64;
        let rows = match derives {
            true => marks::<true>(place.path(), first..first + 100),
            false => marks::<false>(place.path(), first..first + 100),
        };
        let last = if run == 0 { i64::MIN } else { first - 1 };
        // The rows of the first epoch come at the watermark with which the run before ended.
        let least = rows.iter().map(|(_, at)| *at).min();
        assert_eq!((rows.len(), least), (100, Some(last)), "run {run}");
    }
}

#[test]
fn state_of_another_kind_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let run = |is_list: bool| {
        let input = place.path().join("in");
        fs::create_dir_all(&input).unwrap();
        fs::write(input.join(is_list.to_string()), "1\n2\n").unwrap();
        let graph = Graph::new("kinds");
        let (sink, _) = memory_sink();
        let numbers = graph.source(text_files(input.display().to_string())).uid("in");
        let numbers = numbers.map(|line| line.parse::<u64>().unwrap());
        graph
            .operator("kind")
            .keyed(numbers, |n| *n)
            .stateful(move |_| Kind::new(is_list))
            .uid("kind")
            .sink(sink);
        let options = Options::default()
            .without_ctrl_c()
            .with_checkpoint(place.path().join("checkpoint"))
            .with_trigger(Trigger::AvailableNow);
        graph.run(options).map(drop).map_err(|error| error.to_string())
    };
    run(false).unwrap();
    let refused = run(true).unwrap_err();
    for part in ["kind/kept", "kind value → list", "--drop-state kind/kept"] {
        assert!(refused.contains(part), "{part} is not in: {refused}");
    }
}

/// A value or a list under one name.
struct Kind {
    value: ValueState<u64, u64>,
    list: ListState<u64, u64>,
    is_list: bool,
}

impl Kind {
    fn new(is_list: bool) -> Self {
        Kind { value: ValueState::new(), list: ListState::new(), is_list }
    }
}

impl StatefulOperator for Kind {
    type Key = u64;
    type Outputs = (Rows<u64>,);

    fn state(&mut self, states: &mut States<'_>) {
        match self.is_list {
            true => states.add("kept", &mut self.list),
            false => states.add("kept", &mut self.value),
        }
    }
}

impl Takes<0> for Kind {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            self.list.push(row.hashed(), row.value);
            self.value.insert(row.hashed(), row.value);
        }
        Ok(())
    }
}

/// Rules that every worker has.
struct Rules {
    rules: SharedState<u64, u64>,
}

impl StatefulOperator for Rules {
    type Key = u64;
    type Outputs = (Rows<(u64, u64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rules", &mut self.rules);
    }
}

impl Takes<0> for Rules {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            to.out.0.push((row.value, self.rules.iter().map(|(_, value)| *value).sum()));
        }
        Ok(())
    }
}

impl Takes<1> for Rules {
    type Row = (tidemill::EventTime, u64);

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (_, rule) in rows {
            self.rules.insert(rule, rule);
        }
        Ok(())
    }
}

#[test]
fn broadcast_state_is_restored_on_every_worker() {
    let place = tempfile::tempdir().unwrap();
    let run = |workers: usize, rules: std::ops::Range<u64>, values: std::ops::Range<u64>| {
        let of = |name: &str, numbers: std::ops::Range<u64>| {
            let input = place.path().join(name);
            fs::create_dir_all(&input).unwrap();
            let lines: String = numbers.clone().map(|n| format!("{n}\n")).collect();
            fs::write(input.join(format!("{}", numbers.end)), lines).unwrap();
            text_files(input.display().to_string())
        };
        let graph = Graph::new("rules");
        let (sink, table) = memory_sink();
        let number = |line: tidemill::connectors::Text| line.parse::<u64>().unwrap();
        let rules = graph.source(of("rules", rules)).uid("rules").map(number);
        let values = graph.source(of("values", values)).uid("values").map(number);
        graph
            .operator("apply")
            .keyed(values, |n| *n)
            .broadcast(rules)
            .stateful(|_| Rules { rules: SharedState::new() })
            .uid("apply")
            .sink(sink);
        let options = Options::default()
            .without_ctrl_c()
            .with_workers(workers)
            .with_checkpoint(place.path().join("checkpoint"))
            .with_trigger(Trigger::AvailableNow);
        graph.run(options).unwrap();
        table.snapshot()
    };
    run(3, 0..10, 0..0);
    let storage = LocalDirectory::existing(place.path().join("checkpoint")).unwrap();
    let operators = inspect::show(&storage, None).unwrap().operators;
    assert_eq!((operators["apply"].rows, operators["apply/rules"].rows), (10, 10), "kept once");
    let rows = run(4, 10..10, 100..200);
    assert_eq!(sorted(rows), (100..200).map(|n| (n, 45)).collect::<Vec<_>>());
    let rows = run(2, 10..10, 200..300);
    assert_eq!(sorted(rows), (200..300).map(|n| (n, 45)).collect::<Vec<_>>());
}
