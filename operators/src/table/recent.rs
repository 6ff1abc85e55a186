//! The inputs of tables that have the last rows of each key: a number of them, or those of a span of event time.
//!
//! State of the first: by key, its rows, numbered as they came. State of the second: by key, the number of copies of each row, by event
//! time, and a timer for when the earliest row goes.

use std::marker::PhantomData;
use std::time::Duration;
use std::vec::Drain;

use super::{InputPlace, InputRows, InputStreams, twice};
use crate::build::{Append, ByKey, Dealt, StatefulOperator, Takes, To};
use crate::chain::Chain;
use crate::named::{HashedKey, MapState, States, Timer};
use crate::span::{span_problem, words};
use crate::stream::Keying;
use crate::{Data, EventTime, HasEventTime, Key, KeyedStream, OperatorError};

/// Input 0: rows by key. Outputs: changes, and the rows at the beginning of a run.
struct Newest<K, V> {
    rows: MapState<K, u64, V>,
    /// How many rows of a key are kept.
    count: u64,
}

/// Adds an input to the graph that keeps the `count` newest rows of each key.
pub fn newest<K, V, P, Y>(
    stream: KeyedStream<K, V, P, Y>,
    place: InputPlace,
    count: usize,
) -> InputStreams<K, V>
where
    K: Key,
    V: Data + Clone,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    (): Append<ByKey<K, V>, All = (ByKey<K, V>,)>,
{
    let operator = stream.port.graph.clone().operator(place.op);
    let operator = operator.keyed_stream(stream).at(place.location);
    let operator = operator.setting("table", format_args!("the newest {count} by key"));
    let operator = match count {
        0 => operator.problem("a table of the newest 0 rows is always empty: keep at least one".to_owned()),
        _ => operator,
    };
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    operator.stateful(move |_| Newest { rows: MapState::new(), count })
}

impl<K: Key, V: Data + Clone> StatefulOperator for Newest<K, V> {
    type Key = K;
    type Outputs = InputRows<K, V>;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_start(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (key, _, row) in self.rows.iter() {
            to.out.1.push(Some((key.clone(), row.clone(), 1)));
        }
        to.out.1.push(None);
        Ok(())
    }
}

impl<K: Key, V: Data + Clone> Takes<0> for Newest<K, V> {
    type Row = Dealt<K, V>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for Dealt { hash, key, value, .. } in rows {
            let of = HashedKey { hash, key: &key };
            let number = self.rows.iter_of(of).next_back().map_or(0, |(last, _)| last + 1);
            let (kept, row) = twice(value);
            self.rows.insert(of, number, kept);
            let too_old = number.checked_sub(self.count).and_then(|old| self.rows.remove(of, &old));
            let (of_old, of_new) = twice(key);
            if let Some(old) = too_old {
                to.out.0.push((of_old, old, -1));
            }
            to.out.0.push((of_new, row, 1));
        }
        Ok(())
    }
}

/// Input 0: rows by key, with event times. Outputs: changes, and the rows at the beginning of a run.
struct Recent<K, V> {
    rows: MapState<K, (EventTime, V), i64>,
    span: Duration,
    marker: PhantomData<fn() -> V>,
}

/// Adds an input to the graph that keeps rows until the watermark has passed their event time by `span`.
pub fn recent<K, V, P, Y>(
    stream: KeyedStream<K, V, P, Y>,
    place: InputPlace,
    span: Duration,
) -> InputStreams<K, V>
where
    K: Key,
    V: Data + Ord + Clone,
    P: Chain<Time: HasEventTime>,
    Y: Keying<P::Out, Key = K, Value = V>,
    (): Append<ByKey<K, V>, All = (ByKey<K, V>,)>,
{
    let operator = stream.port.graph.clone().operator(place.op);
    let operator = operator.keyed_stream(stream).at(place.location);
    let operator = operator.setting("table", format_args!("the last {} by key", words(span)));
    let operator = match span_problem("span of the table", span) {
        Some(problem) => operator.problem(problem),
        None => operator,
    };
    operator.stateful(move |_| Recent { rows: MapState::new(), span, marker: PhantomData })
}

impl<K: Key, V: Data + Ord + Clone> Recent<K, V> {
    /// The event time of the earliest row of a key.
    fn earliest(&self, of: HashedKey<'_, K>) -> Option<EventTime> {
        self.rows.iter_of(of).next().map(|((time, _), _)| *time)
    }
}

impl<K: Key, V: Data + Ord + Clone> StatefulOperator for Recent<K, V> {
    type Key = K;
    type Outputs = InputRows<K, V>;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_start(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (key, (_, row), copies) in self.rows.iter() {
            to.out.1.push(Some((key.clone(), row.clone(), *copies)));
        }
        to.out.1.push(None);
        Ok(())
    }

    fn on_timer(
        &mut self,
        of: HashedKey<'_, K>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        // At the end of the input no time passes any more, so the table keeps its rows.
        let watermark = to.watermark();
        if watermark == EventTime::MAX {
            return Ok(());
        }
        let is_over = |time: EventTime| time + self.span <= watermark;
        let over: Vec<_> =
            self.rows.iter_of(of).map(|(row, _)| row).take_while(|row| is_over(row.0)).cloned().collect();
        for row in over {
            if let Some(copies) = self.rows.remove(of, &row) {
                to.out.0.push((of.key.clone(), row.1, -copies));
            }
        }
        if let Some(earliest) = self.earliest(of) {
            to.timers.set_event(of, earliest + self.span);
        }
        Ok(())
    }
}

impl<K: Key, V: Data + Ord + Clone> Takes<0> for Recent<K, V> {
    type Row = Dealt<K, V>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let mut late = 0;
        for Dealt { hash, key, time, value } in rows {
            let of = HashedKey { hash, key: &key };
            let until = time + self.span;
            if until <= to.watermark() {
                late += 1;
                continue;
            }
            if self.earliest(of).is_none_or(|earliest| time < earliest) {
                to.timers.set_event(of, until);
            }
            let (row, kept) = twice(value);
            let kept = (time, kept);
            match self.rows.get_mut(of, &kept) {
                Some(copies) => *copies += 1,
                None => {
                    self.rows.insert(of, kept, 1);
                }
            }
            to.out.0.push((twice(key).0, row, 1));
        }
        to.count_late(late);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Place;
    use crate::table::{InputChange, InputLoad};
    use crate::testing::{Checkpoint, Harness, numbers, operator_of};
    use crate::{Graph, Mode, Operator, Stream};

    type Make = Box<dyn Fn(Place) -> Box<dyn Operator>>;

    fn place(op: &'static str) -> InputPlace {
        InputPlace { op, location: std::panic::Location::caller() }
    }

    fn dealt(rows: impl IntoIterator<Item = (i64, u64)>) -> Vec<Dealt<u64, u64>> {
        rows.into_iter().map(|(time, n)| Dealt::new(n % 10, EventTime::from_micros(time), n)).collect()
    }

    fn last_two() -> Make {
        let graph = Graph::new("newest");
        let (changes, _): (Stream<InputChange<u64, u64>>, _) =
            newest(numbers(&graph, 1).key_by(|n| n % 10), place("into_newest_table"), 2);
        Box::new(operator_of(changes))
    }

    fn last_ten_micros() -> Make {
        let graph = Graph::new("recent");
        let timed = numbers(&graph, 1).with_watermark(|_| EventTime::MIN, Duration::ZERO);
        let (changes, _): (Stream<InputChange<u64, u64>>, _) =
            recent(timed.key_by(|n| n % 10), place("into_recent_table"), Duration::from_micros(10));
        Box::new(operator_of(changes))
    }

    #[test]
    fn row_beyond_the_count_replaces_the_oldest_also_after_restart() {
        let here = Place::new(0, 1, Mode::MicroBatch);
        let mut harness = Harness::restored(here, last_two(), &Checkpoint::new()).unwrap();
        assert_eq!(harness.take::<InputLoad<u64, u64>>(1), [None]);
        let (mut changes, mut loaded) = (Vec::new(), Vec::new());
        for row in [1, 11, 2, 11, 21] {
            harness.batch(0, dealt([(0, row)])).unwrap();
            harness.end_epoch(EventTime::MIN).unwrap();
            changes.extend(harness.take::<InputChange<u64, u64>>(0));
            harness.snapshot_and_restore().unwrap();
            loaded = harness.take::<InputLoad<u64, u64>>(1);
        }
        let expected = [(1, 1, 1), (1, 11, 1), (2, 2, 1), (1, 1, -1), (1, 11, 1), (1, 11, -1), (1, 21, 1)];
        assert_eq!(changes, expected);
        loaded.sort();
        assert_eq!(loaded, [None, Some((1, 11, 1)), Some((1, 21, 1)), Some((2, 2, 1))]);
    }

    #[test]
    fn rows_go_when_the_watermark_passes_their_span() {
        let here = Place::new(0, 1, Mode::MicroBatch);
        let mut harness = Harness::restored(here, last_ten_micros(), &Checkpoint::new()).unwrap();
        let mut epoch = |rows: &[(i64, u64)], watermark: EventTime| {
            harness.batch(0, dealt(rows.iter().copied())).unwrap();
            harness.end_epoch(watermark).unwrap();
            let changes = harness.take::<InputChange<u64, u64>>(0);
            harness.snapshot_and_restore().unwrap();
            changes
        };
        let at = EventTime::from_micros;
        assert_eq!(
            epoch(&[(5, 1), (3, 11), (5, 1), (4, 2)], at(12)),
            [(1, 1, 1), (1, 11, 1), (1, 1, 1), (2, 2, 1)]
        );
        // The row at 2 is late.
        assert_eq!(epoch(&[(2, 21), (14, 31)], at(13)), [(1, 31, 1), (1, 11, -1)]);
        assert_eq!(epoch(&[], at(14)), [(2, 2, -1)]);
        assert_eq!(epoch(&[], at(23)), [(1, 1, -2)]);
        // The end of the input is no time.
        assert_eq!(epoch(&[], EventTime::MAX), []);
    }
}
