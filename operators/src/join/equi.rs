//! The join of two streams by key alone: inner and semi.
//!
//! A row is matched against all rows of the other side that are kept when it comes, and each match is emitted at once. State: the
//! rows of both sides, for ever or for a TTL. No row is late for it.

use std::marker::PhantomData;
use std::time::Duration;
use std::vec::Drain;

use super::Sides;
use crate::build::{Dealt, KeepsTime, OperatorBuilder, Rows, StatefulOperator, Takes, To};
use crate::chain::{FromEdge, TimeDomain};
use crate::named::{HashedKey, ListState, States, ValueState};
use crate::{Data, EventTime, Key, OperatorError, Stream};

/// A join by key alone that waits for its kind: see [`Join::with_ttl`](super::Join::with_ttl) and
/// [`Join::unbounded`](super::Join::unbounded).
///
/// | kind | emits | event time |
/// |---|---|---|
/// | [`inner`](Self::inner) | each pair of rows with one key | the later one, if both sides have event time |
/// | [`semi`](Self::semi) | left rows that something matches, once | none |
///
/// There are no outer joins and no anti join: without bounds a row that nothing matches may still be matched later, and what has
/// been emitted stays.
///
/// **Late rows.** No row is late for it. A pair whose rows are both older than the watermark is late for what comes behind.
///
/// **State.** All rows of both sides, or those of the last TTL by the engine's clock.
#[must_use = "a join does nothing until it has a kind, `.inner()` or another, and ends in a sink"]
pub struct EquiJoin<K, L, R, M> {
    inputs: OperatorBuilder<Sides<K, L, R>>,
    ttl: Option<Duration>,
    times: PhantomData<fn() -> M>,
}

impl<K, L, R, M> std::fmt::Debug for EquiJoin<K, L, R, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EquiJoin").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, M: TimeDomain> EquiJoin<K, L, R, M> {
    pub(super) fn new(inputs: OperatorBuilder<Sides<K, L, R>>, ttl: Option<Duration>) -> Self {
        let inputs = inputs.named("equi_join");
        let inputs = match ttl {
            Some(Duration::ZERO) => {
                inputs.problem("the TTL of the join is zero: no row would be kept; make it longer".to_owned())
            }
            _ => inputs,
        };
        EquiJoin { inputs, ttl, times: PhantomData }
    }

    /// Emits each pair of rows that have the same key.
    pub fn inner(self) -> Stream<(K, L, R), FromEdge<(K, L, R), M>> {
        let ttl = self.ttl;
        self.inputs.setting("kind", "inner").stateful(move |_| Pairs::<K, L, R, M> {
            left: list(ttl),
            right: list(ttl),
            times: PhantomData,
        })
    }

    /// Emits the left rows that something matches, each once.
    ///
    /// Its rows have no event time: a left row may have waited long for its match.
    pub fn semi(self) -> Stream<(K, L)> {
        let ttl = self.ttl;
        self.inputs.setting("kind", "semi").stateful(move |_| Semi::<K, L, R> {
            left: list(ttl),
            right: ttl.map_or_else(ValueState::new, ValueState::with_ttl),
            rows: PhantomData,
        })
    }
}

fn list<K: Key, V: Data>(ttl: Option<Duration>) -> ListState<K, V> {
    ttl.map_or_else(ListState::new, ListState::with_ttl)
}

/// Input 0: the left side; input 1: the right side. Output 0: the pairs.
struct Pairs<K, L, R, M> {
    left: ListState<K, (EventTime, L)>,
    right: ListState<K, (EventTime, R)>,
    times: PhantomData<fn() -> M>,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, M: TimeDomain> StatefulOperator for Pairs<K, L, R, M> {
    type Key = K;
    type Outputs = (KeepsTime<(K, L, R), M>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("left", &mut self.left);
        states.add("right", &mut self.right);
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, M: TimeDomain> Takes<0> for Pairs<K, L, R, M> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            for (time, right) in self.right.get(row.hashed()) {
                to.out.0.push(row.time.max(*time), (row.key.clone(), row.value.clone(), right.clone()));
            }
            let Dealt { hash, key, time, value } = row;
            self.left.push(HashedKey { hash, key: &key }, (time, value));
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, M: TimeDomain> Takes<1> for Pairs<K, L, R, M> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            for (time, left) in self.left.get(row.hashed()) {
                to.out.0.push(row.time.max(*time), (row.key.clone(), left.clone(), row.value.clone()));
            }
            let Dealt { hash, key, time, value } = row;
            self.right.push(HashedKey { hash, key: &key }, (time, value));
        }
        Ok(())
    }
}

/// Input 0: the left side; input 1: the right side. Output 0: left rows.
struct Semi<K, L, R> {
    /// Left rows without a match.
    left: ListState<K, L>,
    /// The keys of right rows.
    right: ValueState<K, ()>,
    rows: PhantomData<fn() -> R>,
}

impl<K: Key, L: Data, R: Data> StatefulOperator for Semi<K, L, R> {
    type Key = K;
    type Outputs = (Rows<(K, L)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("left", &mut self.left);
        states.add("right", &mut self.right);
    }
}

impl<K: Key, L: Data, R: Data> Takes<0> for Semi<K, L, R> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            if self.right.get(row.hashed()).is_some() {
                to.out.0.push((row.key, row.value));
            } else {
                let Dealt { hash, key, value, .. } = row;
                self.left.push(HashedKey { hash, key: &key }, value);
            }
        }
        Ok(())
    }
}

impl<K: Key, L: Data, R: Data> Takes<1> for Semi<K, L, R> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            self.right.insert(row.hashed(), ());
            for left in self.left.drain(row.hashed()) {
                to.out.0.push((row.key.clone(), left));
            }
        }
        Ok(())
    }
}
