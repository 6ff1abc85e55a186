//! The input of a table that has the newest row of each key.
//!
//! State: a row by key. Rows of a partition come in their order, and the last one of a key stays; between partitions there is no
//! order. Emits the row that is replaced with -1 and the new one with +1. A row that is `None` deletes its key.

use std::marker::PhantomData;
use std::vec::Drain;

use super::{InputPlace, InputRows, InputStreams, twice};
use crate::build::{Append, ByKey, Dealt, StatefulOperator, Takes, To};
use crate::chain::Chain;
use crate::named::{HashedKey, States, ValueState};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, OperatorError, RowKind};

/// Input 0: rows by key. Outputs: changes, and the rows at the beginning of a run.
struct Latest<K, T, V, F> {
    rows: ValueState<K, V>,
    value: F,
    marker: PhantomData<fn() -> T>,
}

/// Adds the operator to the graph. `value` is what a row is to the table: `None` deletes the key.
pub fn latest<K, T, V, P, Y, F>(
    stream: KeyedStream<K, T, P, Y>,
    place: InputPlace,
    value: F,
) -> InputStreams<K, V>
where
    K: Key,
    T: Data,
    V: Data + Clone + PartialEq,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = T>,
    F: Fn(T) -> Option<V> + Clone + Send + Sync + 'static,
    (): Append<ByKey<K, T>, All = (ByKey<K, T>,)>,
{
    let operator = stream.port.graph.clone().operator(place.op);
    let operator = operator.keyed_stream(stream).at(place.location).setting("table", "latest by key");
    operator.stateful(move |_| Latest { rows: ValueState::new(), value: value.clone(), marker: PhantomData })
}

impl<K, T, V, F> StatefulOperator for Latest<K, T, V, F>
where
    K: Key,
    T: Data,
    V: Data + Clone + PartialEq,
    F: Fn(T) -> Option<V> + 'static,
{
    type Key = K;
    type Outputs = InputRows<K, V>;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_start(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (key, value) in self.rows.iter() {
            to.out.1.push(Some((key.clone(), value.clone(), 1)));
        }
        to.out.1.push(None);
        Ok(())
    }
}

impl<K, T, V, F> Takes<0> for Latest<K, T, V, F>
where
    K: Key,
    T: Data,
    V: Data + Clone + PartialEq,
    F: Fn(T) -> Option<V> + 'static,
{
    type Row = Dealt<K, T>;
    const KINDS: &'static [RowKind] = &[RowKind::Insert, RowKind::Upsert];

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for Dealt { hash, key, value, .. } in rows {
            let of = HashedKey { hash, key: &key };
            let Some(new) = (self.value)(value) else {
                if let Some(old) = self.rows.remove(of) {
                    to.out.0.push((twice(key).0, old, -1));
                }
                continue;
            };
            if self.rows.get(of).is_some_and(|old| *old == new) {
                continue;
            }
            let (kept, new) = twice(new);
            let old = self.rows.insert(of, kept);
            let (of_old, of_new) = twice(key);
            if let Some(old) = old {
                to.out.0.push((of_old, old, -1));
            }
            to.out.0.push((of_new, new, 1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Place;
    use crate::table::{InputChange, InputLoad};
    use crate::testing::{Checkpoint, Harness, numbers, operator_of};
    use crate::{Epoch, EventTime, Graph, Mode, Operator, Stream};

    /// The key of a number is its last digit; numbers from 100 on delete their keys.
    fn table() -> impl Fn(Place) -> Box<dyn Operator> + Clone {
        let graph = Graph::new("latest");
        let place = InputPlace { op: "into_table", location: std::panic::Location::caller() };
        let keyed = numbers(&graph, 1).key_by(|n| n % 10);
        let (changes, _): (Stream<InputChange<u64, u64>>, _) =
            latest(keyed, place, |n| (n < 100).then_some(n));
        operator_of(changes)
    }

    fn rows(numbers: impl IntoIterator<Item = u64>) -> Vec<Dealt<u64, u64>> {
        numbers.into_iter().map(|n| Dealt::new(n % 10, EventTime::MIN, n)).collect()
    }

    #[test]
    fn newest_row_replaces_the_one_before() {
        let mut harness = Harness::new(Mode::Continuous, {
            let make = table();
            move || make(Place::new(0, 1, Mode::Continuous))
        });
        harness.batch(0, rows([1, 11, 11, 2, 101, 102, 105])).unwrap();
        let expected = [(1, 1, 1), (1, 1, -1), (1, 11, 1), (2, 2, 1), (1, 11, -1), (2, 2, -1)];
        assert_eq!(harness.take::<InputChange<u64, u64>>(0), expected);
    }

    #[test]
    fn restored_rows_are_emitted_once_and_then_an_end() {
        let place = Place::new(0, 1, Mode::MicroBatch);
        let mut harness = Harness::restored(place, table(), &Checkpoint::new()).unwrap();
        assert_eq!(harness.take::<InputLoad<u64, u64>>(1), [None]);
        for row in [1, 2, 11, 102] {
            harness.batch(0, rows([row])).unwrap();
            harness.end_epoch(EventTime::MIN).unwrap();
        }
        harness.snapshot_and_restore().unwrap();
        assert_eq!(harness.take::<InputLoad<u64, u64>>(1), [Some((1, 11, 1)), None]);
        assert_eq!(harness.epoch(), Epoch::new(4));
    }
}
