//! The inputs of tables that have all rows that came: of inserts only, or of inserts and deletes.
//!
//! State: by key, the number of copies of each row. Emits each change as it comes. A row that is deleted more often than it was
//! inserted is an error, at once: the changes of a row have an order only within a partition, so they must come from one.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::vec::Drain;

use super::{InputPlace, InputRows, InputStreams, copies_after, twice};
use crate::build::{Append, ByKey, Dealt, StatefulOperator, Takes, To};
use crate::chain::Chain;
use crate::named::{HashedKey, MapState, States};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, OperatorError, RowChange, RowKind};

/// Input 0: rows by key, changes if `DELETES`. Outputs: changes, and the rows at the beginning of a run.
struct Multiset<K, T, V, const DELETES: bool> {
    rows: MapState<K, V, i64>,
    change: fn(T) -> (V, i64),
    marker: PhantomData<fn() -> T>,
}

/// Adds an input to the graph that keeps every row.
pub fn append<K, V, P, Y>(stream: KeyedStream<K, V, P, Y>, place: InputPlace) -> InputStreams<K, V>
where
    K: Key + Debug,
    V: Data + Ord + Clone + Debug,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    (): Append<ByKey<K, V>, All = (ByKey<K, V>,)>,
{
    let operator = stream.port.graph.clone().operator(place.op);
    let operator = operator.keyed_stream(stream).at(place.location).setting("table", "append");
    operator.stateful(|_| Multiset::<K, V, V, false> {
        rows: MapState::new(),
        change: |row| (row, 1),
        marker: PhantomData,
    })
}

/// Adds an input to the graph that inserts and deletes rows.
pub fn changelog<K, V, P, Y>(
    stream: KeyedStream<K, RowChange<V>, P, Y>,
    place: InputPlace,
) -> InputStreams<K, V>
where
    K: Key + Debug,
    V: Data + Ord + Clone + Debug,
    RowChange<V>: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = RowChange<V>>,
    (): Append<ByKey<K, RowChange<V>>, All = (ByKey<K, RowChange<V>>,)>,
{
    let operator = stream.port.graph.clone().operator(place.op);
    let operator = operator.keyed_stream(stream).at(place.location).setting("table", "changelog");
    operator.stateful(|_| Multiset::<K, RowChange<V>, V, true> {
        rows: MapState::new(),
        change: |change| (change.row, change.diff),
        marker: PhantomData,
    })
}

impl<K, T, V, const DELETES: bool> StatefulOperator for Multiset<K, T, V, DELETES>
where
    K: Key + Debug,
    T: Data,
    V: Data + Ord + Clone + Debug,
{
    type Key = K;
    type Outputs = InputRows<K, V>;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_start(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (key, value, copies) in self.rows.iter() {
            to.out.1.push(Some((key.clone(), value.clone(), *copies)));
        }
        to.out.1.push(None);
        Ok(())
    }
}

impl<K, T, V, const DELETES: bool> Takes<0> for Multiset<K, T, V, DELETES>
where
    K: Key + Debug,
    T: Data,
    V: Data + Ord + Clone + Debug,
{
    type Row = Dealt<K, T>;
    const KINDS: &'static [RowKind] = if DELETES { &[RowKind::Changes] } else { &[RowKind::Insert] };

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for Dealt { hash, key, value, .. } in rows {
            let of = HashedKey { hash, key: &key };
            let (row, diff) = (self.change)(value);
            if diff == 0 {
                continue;
            }
            let row = twice(row).0;
            let copies = self.rows.get(of, &row).copied().unwrap_or(0);
            let said = || format!("{key:?}, {row:?}");
            match copies_after(copies, diff, said)? {
                0 => self.rows.remove(of, &row),
                copies @ 1.. => self.rows.insert(of, row.clone(), copies),
                missing => {
                    return Err(OperatorError::NegativeRows { copies: missing.unsigned_abs(), row: said() });
                }
            };
            to.out.0.push((twice(key).0, row, diff));
        }
        Ok(())
    }
}
