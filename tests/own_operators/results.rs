//! One result in both modes and on any number of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use std::vec::Drain;

use tidemill::connectors::{MemorySource, memory, memory_sink};
use tidemill::operator::{
    Dealt, Events, HashedKey, ListState, MapState, Place, ReducingState, Rows, SharedState, StatefulOperator,
    States, Takes, Timer, To, ValueState,
};
use tidemill::testing::{EpochInput, operator_of, three_phases};
use tidemill::{EventTime, Graph, Mode, OperatorError, ProcessingTime, tumbling};

use crate::common::{assert_same, run_well, ways};

/// A reading of a meter, and a rule about its kind.
type Reading = (u32, i64, i64);
type Rule = (String, i64);

/// What a meter has come to: first and last time, sum, readings in order, allowed values.
type Total = (u32, i64, i64, i64, usize, i64);

/// Sums the readings of each meter up to its closing, of which there is one, and says how many readings the rules allow.
/// Keeps something in each kind of state.
struct Meters {
    first: ValueState<u32, i64>,
    sum: ReducingState<u32, i64, fn(&mut i64, i64)>,
    readings: ListState<u32, i64>,
    by_time: MapState<u32, EventTime, i64>,
    rules: SharedState<String, i64>,
}

impl Meters {
    fn new(_: Place) -> Self {
        let add: fn(&mut i64, i64) = |sum, value| *sum += value;
        Meters {
            first: ValueState::new(),
            sum: ReducingState::new(add),
            readings: ListState::new(),
            by_time: MapState::new(),
            rules: SharedState::new(),
        }
    }
}

impl StatefulOperator for Meters {
    type Key = u32;
    type Outputs = (Events<Total>, Rows<u32>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("first", &mut self.first);
        states.add("sum", &mut self.sum);
        states.add("readings", &mut self.readings);
        states.add("by-time", &mut self.by_time);
        states.add("rules", &mut self.rules);
    }

    fn on_timer(
        &mut self,
        meter: HashedKey<'_, u32>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let Timer::Event(time) = timer else {
            return Err(OperatorError::User("a timer of the clock".into()));
        };
        let last = self.by_time.iter_of(meter).next_back().map(|(time, _)| time.as_micros());
        let Some(last) = last else {
            to.out.1.push(*meter.key);
            return Ok(());
        };
        let limit: i64 = self.rules.iter().map(|(_, limit)| *limit).sum();
        let allowed = self.readings.get(meter).filter(|value| **value <= limit).count();
        let first = self.first.remove(meter).unwrap();
        let total = (*meter.key, first, last, self.sum.remove(meter).unwrap(), allowed, limit);
        self.readings.remove(meter);
        self.by_time.clear(meter);
        to.out.0.push(time, total);
        Ok(())
    }
}

impl Takes<0> for Meters {
    type Row = Dealt<u32, Reading>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            let (_, time, value) = row.value;
            let first = self.first.get_or_insert_with(row.hashed(), || time);
            *first = time.min(*first);
            self.sum.add(row.hashed(), value);
            self.readings.push(row.hashed(), value);
            self.by_time.insert(row.hashed(), row.time, value);
            to.timers.set_event(row.hashed(), CLOSING);
        }
        Ok(())
    }
}

impl Takes<1> for Meters {
    type Row = Dealt<u32, u32>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            to.timers.set_event(row.hashed(), CLOSING);
        }
        Ok(())
    }
}

impl Takes<2> for Meters {
    type Row = (EventTime, Rule);

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (_, (name, limit)) in rows {
            self.rules.insert(name, limit);
        }
        Ok(())
    }
}

const CLOSING: EventTime = EventTime::from_micros(1_000_000);

fn readings() -> Vec<Reading> {
    (0..600i64).map(|n| ((n * n % 37) as u32, 1_000 + (n * 7) % 997, n % 100)).collect()
}

fn rules() -> Vec<Rule> {
    vec![("day".to_owned(), 30), ("night".to_owned(), 12)]
}

/// What plain loops compute.
fn expected() -> (Vec<Total>, Vec<u32>) {
    let mut totals = BTreeMap::<u32, Total>::new();
    let limit = rules().iter().map(|(_, limit)| limit).sum();
    for (meter, time, value) in readings() {
        let total = totals.entry(meter).or_insert((meter, time, time, 0, 0, limit));
        (total.1, total.2) = (total.1.min(time), total.2.max(time));
        total.3 += value;
        total.4 += usize::from(value <= limit);
    }
    let silent = (0..50).filter(|meter| !totals.contains_key(meter)).collect();
    (totals.into_values().collect(), silent)
}

fn partitions<T: Clone>(rows: &[T]) -> Vec<Vec<T>> {
    (0..3).map(|n| rows.iter().skip(n).step_by(3).cloned().collect()).collect()
}

#[test]
fn every_state_and_input_gives_one_result() {
    let (totals, silent) = expected();
    assert!(!silent.is_empty() && !totals.is_empty());
    for options in ways(&[0, usize::MAX], 70) {
        let graph = Graph::new("meters");
        let ((sink, table), (silent_sink, silent_table)) = (memory_sink(), memory_sink());
        let readings = graph
            .source(MemorySource::partitioned(partitions(&readings())))
            .with_watermark(|reading: &Reading| EventTime::from_micros(reading.1), Duration::from_millis(1));
        let known = graph
            .source(memory((0..50u32).collect::<Vec<_>>()))
            .with_watermark(|_| EventTime::from_micros(0), Duration::ZERO);
        let rules = graph.source(memory(rules()));
        let (totals_of, silent_of) = graph
            .operator("meters")
            .keyed(readings, |reading| reading.0)
            .keyed(known, |meter| *meter)
            .broadcast(rules)
            .stateful(Meters::new);
        // The output has event times: windows are possible.
        totals_of
            .window(tumbling(Duration::from_secs(10)))
            .aggregate(tidemill::aggregate::Collect::new())
            .append()
            .flat_map(|window| window.value)
            .sink(sink);
        silent_of.sink(silent_sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&table.snapshot(), &totals, &what);
        assert_same(&silent_table.snapshot(), &silent, &what);
    }
}

#[test]
fn results_do_not_depend_on_restarts() {
    let graph = Graph::new("meters");
    let empty = |_: &Reading| EventTime::from_micros(0);
    let (totals, silent) = graph
        .operator("meters")
        .keyed(graph.source(memory(Vec::<Reading>::new())).with_watermark(empty, Duration::ZERO), |r| r.0)
        .keyed(graph.source(memory(Vec::<u32>::new())), |meter| *meter)
        .broadcast(graph.source(memory(Vec::<Rule>::new())))
        .stateful(Meters::new);
    drop(silent);
    let make = operator_of(totals);
    let mut epochs: Vec<EpochInput> = Vec::new();
    epochs.push(EpochInput::until(EventTime::from_micros(0)).broadcast(2, rules()));
    for part in readings().chunks(100) {
        let dealt =
            part.iter().map(|reading| Dealt::new(reading.0, EventTime::from_micros(reading.1), *reading));
        epochs.push(EpochInput::until(EventTime::from_micros(500)).keyed(0, dealt.collect()));
    }
    let all = (0..50u32).map(|meter| Dealt::new(meter, EventTime::MIN, meter)).collect();
    epochs.push(EpochInput::until(EventTime::from_micros(600)).keyed(1, all));
    epochs.push(EpochInput::until(CLOSING));
    let (totals, silent) = expected();
    let mut results: Vec<Vec<Result<Total, u32>>> = epochs.iter().map(|_| Vec::new()).collect();
    let last = results.last_mut().unwrap();
    last.extend(totals.into_iter().map(Ok));
    last.extend(silent.into_iter().map(Err));
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let emitted = |it: &mut tidemill::testing::Harness<_>| {
            let totals = it.take::<(EventTime, Total)>(0).into_iter().map(|(_, total)| Ok(total));
            let mut all: Vec<Result<Total, u32>> = totals.collect();
            all.extend(it.take::<u32>(1).into_iter().map(Err));
            all
        };
        three_phases(mode, &epochs, make.clone(), emitted, &results);
    }
}

/// Says that a key has been silent for a second of processing time.
struct Silence {
    last: ValueState<u8, i64>,
}

impl StatefulOperator for Silence {
    type Key = u8;
    type Outputs = (Rows<(u8, i64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("last", &mut self.last);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, u8>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        if let Some(last) = self.last.remove(key) {
            to.out.0.push((*key.key, last));
        }
        Ok(())
    }
}

impl Takes<0> for Silence {
    type Row = Dealt<u8, i64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            let alarm = |from: i64| ProcessingTime::from_micros(from + 1_000_000);
            if let Some(before) = self.last.insert(row.hashed(), to.now().as_micros()) {
                to.timers.delete_processing(row.hashed(), alarm(before));
            }
            to.timers.set_processing(row.hashed(), alarm(to.now().as_micros()));
        }
        Ok(())
    }
}

#[test]
fn timers_of_the_clock_come_after_restarts() {
    let graph = Graph::new("silence");
    let source = graph.source(memory(Vec::<i64>::new()));
    let silent = graph
        .operator("silence")
        .keyed(source, |n| *n as u8)
        .stateful(|_| Silence { last: ValueState::new() });
    let at = |micros| EpochInput::until(EventTime::MIN).at(ProcessingTime::from_micros(micros));
    let row = |key: u8| Dealt::new(key, EventTime::MIN, i64::from(key));
    let epochs = [
        at(0).keyed(0, vec![row(1), row(2), row(3)]),
        at(400_000).keyed(0, vec![row(2)]),
        at(999_999),
        at(1_000_000),
        at(1_399_999),
        at(1_500_000).keyed(0, vec![row(1)]),
    ];
    let expected = [vec![], vec![], vec![], vec![(1, 0), (3, 0)], vec![], vec![(2, 400_000)]];
    let make = operator_of(silent);
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        three_phases(mode, &epochs, make.clone(), |it| it.take::<(u8, i64)>(0), &expected);
    }
}

/// Counts on every worker, and on the first of all.
struct Places {
    seen: SharedState<u64, u64>,
}

impl StatefulOperator for Places {
    type Key = ();
    type Outputs = (Rows<u64>, Rows<u64>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("seen", &mut self.seen);
    }
}

impl Takes<0> for Places {
    type Row = (EventTime, u64);

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        rows.for_each(|(_, n)| to.out.0.push(n));
        Ok(())
    }
}

impl Takes<1> for Places {
    type Row = (EventTime, u64);

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (_, n) in rows {
            self.seen.insert(n, n);
            to.out.1.push(n);
        }
        Ok(())
    }
}

#[test]
fn local_and_single_inputs_lose_and_double_nothing() {
    let numbers: Vec<u64> = (0..500).collect();
    for options in ways(&[usize::MAX], 90) {
        let graph = Graph::new("places");
        let ((local, at_home), (single, at_first)) = (memory_sink(), memory_sink());
        let source = graph.source(MemorySource::partitioned(partitions(&numbers))).boxed();
        let (here, first) = graph
            .operator("places")
            .local(source.clone())
            .single(source.map(|n| n))
            .stateful(|_| Places { seen: SharedState::new() });
        here.sink(local);
        first.sink(single);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&at_home.snapshot(), &numbers, &what);
        assert_same(&at_first.snapshot(), &numbers, &what);
        assert_eq!(at_home.snapshot().into_iter().collect::<BTreeSet<_>>().len(), 500);
    }
}
