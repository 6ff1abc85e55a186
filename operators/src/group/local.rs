//! The first phase of an aggregation: each worker aggregates its own records before they are exchanged.
//!
//! It emits what it has at every flush: at the end of an epoch in micro-batch; in continuous mode at the end of an
//! activation, or a little later under a backlog. In between the table is kept small enough for the cache. Where keys hardly
//! repeat, it sends records without aggregating them for a while: aggregating saves nothing there, and costs a look-up per record.
//!
//! Output 0: partials. Output 1: late rows. State: none between epochs (keys may be kept for when they come again, without
//! what was aggregated of them).

use std::sync::Arc;

use either::Either;

use super::{Front, KeyRouter, Late, Outbox, Partial, Passed};
use crate::aggregate::kept;
use crate::arrival;
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, ObservedWatermark};
use crate::keeping::keep;
use crate::state::{PartialState, is_wide};
use crate::stream::Keying;
use crate::{Aggregate, Batch, Context, EventTime, Key, Operator, OperatorError};

/// The table is emitted when it has this many entries.
const TABLE_LIMIT: usize = 16_384;
/// Aggregating pays if an entry stands for at least this many records.
const WORTHWHILE: u64 = 2;
/// For each entry of a table that did not pay: how many records are sent as they are before aggregating is tried again.
const STAND_ASIDE: u64 = 64;

pub(super) struct Local<P, Y, A, S> {
    front: Arc<Front<P, Y>>,
    aggregate: A,
    state: S,
    drops_late: bool,
    /// Records added since the table was last empty.
    added: u64,
    /// Whether the table has been full since the last flush: what is then left for the flush says little about the keys.
    was_full: bool,
    /// Records still to be sent as they are.
    aside: u64,
}

impl<P, Y, A: Aggregate, S> Local<P, Y, A, S> {
    pub(super) fn new(front: Arc<Front<P, Y>>, aggregate: A, state: S, drops_late: bool) -> Self {
        let aside = if A::SHRINKS { 0 } else { u64::MAX };
        Local { front, aggregate, state, drops_late, added: 0, was_full: false, aside }
    }

    /// Decides whether aggregating has paid, by the entries of the table.
    fn judge<K: Key>(&mut self)
    where
        S: PartialState<K, A>,
    {
        let entries = self.state.len() as u64;
        if A::SHRINKS && self.added < entries * WORTHWHILE {
            self.aside = entries * STAND_ASIDE;
        }
    }

    fn hand_over<K: Key>(&mut self, context: &mut Context)
    where
        S: PartialState<K, A>,
    {
        let mut out = KeyRouter::<Partial<K, S::Slot, A::Acc>>::new(0, context);
        self.state
            .drain(&mut |hash, key, slot, acc| out.push(hash, Partial { hash, key, slot, acc }, context));
        out.send(context);
        self.added = 0;
    }
}

impl<P, Y, A, S> Local<P, Y, A, S>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate<In = Y::Value>,
    S: PartialState<Y::Key, A>,
{
    fn take(&mut self, rows: impl Rows<P::In>, origin: u32, context: &mut Context) {
        // Of an aggregate that does not shrink no record is ever aggregated here.
        if const { A::SHRINKS } && self.aside == 0 {
            self.add(rows, origin, context);
        } else {
            self.pass(rows, origin, context);
        }
    }

    /// Aggregates the rows.
    fn add(&mut self, rows: impl Rows<P::In>, origin: u32, context: &mut Context) {
        let closed = self.closed(context);
        let mut late: Outbox<Late<Y::Value>> = Outbox::new(1);
        let (mut late_rows, mut taken) = (0u64, 0u64);
        let mut observed = ObservedWatermark::new();
        let (state, aggregate) = (&mut self.state, &self.aggregate);
        if A::ORDERED {
            arrival::enter(context, Some(origin), state.is_one_place());
        }
        if const { is_wide::<Y::Value>() } {
            self.front.chain.run(rows, &mut observed, &mut |time, record| {
                self.front.keying.each(record, &mut |hash, key, value| {
                    taken += 1;
                    if state.turns_away(aggregate, hash, key, time, &value, closed) {
                        late_rows += 1;
                        late.push((time, value), context);
                    }
                });
            });
        } else {
            state.begin(closed);
            self.front.chain.run(rows, &mut observed, &mut |time, record| {
                self.front.keying.each(record, &mut |hash, key, value| {
                    taken += 1;
                    if let Some(value) = state.offer(aggregate, hash, key, time, value, closed) {
                        late_rows += 1;
                        late.push((time, value), context);
                    }
                });
            });
            state.end();
        }
        self.added += taken - late_rows;
        told(&observed, late, late_rows, origin, context);
    }

    /// Sends every row without aggregating it.
    fn pass(&mut self, rows: impl Rows<P::In>, origin: u32, context: &mut Context) {
        let aggregate = self.aggregate.clone();
        if const { Passed::<Y::Key, Y::Value>::instead_of::<S::Slot, A>() } {
            self.route(rows, origin, context, |_, hash, key, time, value| Passed { hash, key, time, value });
        } else {
            self.route(rows, origin, context, |state, hash, key, time, value| {
                let slot = state.slot(time, &value);
                Partial { hash, key, slot, acc: kept::create(&aggregate, &value) }
            });
        }
    }

    /// Sends what `make` makes of each row.
    fn route<R: Send + 'static>(
        &mut self,
        rows: impl Rows<P::In>,
        origin: u32,
        context: &mut Context,
        mut make: impl FnMut(&mut S, u64, Y::Key, EventTime, Y::Value) -> R,
    ) {
        let closed = self.closed(context);
        let mut late: Outbox<Late<Y::Value>> = Outbox::new(1);
        let (mut late_rows, mut taken) = (0u64, 0u64);
        let mut observed = ObservedWatermark::new();
        let state = &mut self.state;
        if A::ORDERED {
            arrival::enter(context, Some(origin), state.is_one_place());
        }
        let mut out = KeyRouter::<R>::new(0, context);
        self.front.chain.run(rows, &mut observed, &mut |time, record| {
            self.front.keying.each(record, &mut |hash, key, value| {
                if state.is_late(time, &value, closed) {
                    late_rows += 1;
                    late.push((time, value), context);
                } else {
                    taken += 1;
                    let key = keep(|| std::borrow::ToOwned::to_owned(key));
                    out.push(hash, make(state, hash, key, time, value), context);
                }
            });
        });
        out.send(context);
        self.aside = if A::SHRINKS { self.aside.saturating_sub(taken) } else { u64::MAX };
        told(&observed, late, late_rows, origin, context);
    }

    /// The watermark by which rows are late.
    fn closed(&self, context: &Context) -> EventTime {
        if self.drops_late { context.watermark() } else { EventTime::MIN }
    }
}

/// After the rows: emits those that were late, and what the others justify.
fn told<V: Send + 'static>(
    observed: &ObservedWatermark,
    mut late: Outbox<Late<V>>,
    late_rows: u64,
    origin: u32,
    context: &mut Context,
) {
    late.send(context);
    context.count_late(late_rows);
    if observed.seen {
        context.observe(origin, observed.watermark);
    }
}

impl<P, Y, A, S> Operator for Local<P, Y, A, S>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate<In = Y::Value>,
    S: PartialState<Y::Key, A>,
{
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        let origin = batch.origin();
        match incoming::<P>(batch)? {
            Either::Left(rows) => self.take(rows, origin, context),
            Either::Right(pulled) => self.take(pulled, origin, context),
        }
        if self.state.len() >= TABLE_LIMIT {
            self.judge::<Y::Key>();
            self.was_full = true;
            self.hand_over::<Y::Key>(context);
        }
        Ok(())
    }

    fn flush(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        if !std::mem::take(&mut self.was_full) {
            self.judge::<Y::Key>();
        }
        self.hand_over::<Y::Key>(context);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeKind, Place};
    use crate::testing::{nowhere, numbers};
    use crate::{Graph, Mode};

    /// The first phase of a count of numbers by key.
    fn first_phase() -> Box<dyn Operator> {
        let graph = Graph::new("first phase");
        numbers(&graph, 0).key_by(|n| *n).count().update().sink(nowhere());
        let nodes = graph.nodes();
        let grouped = nodes.iter().find_map(|node| match &node.kind {
            NodeKind::Grouped(grouped) => Some(grouped.local.clone()),
            _ => None,
        });
        grouped.unwrap()(Place::new(0, 2, Mode::Continuous))
    }

    /// Takes a batch, then flushes; returns how many rows each has sent.
    fn activation(operator: &mut dyn Operator, context: &mut Context, rows: Vec<u64>) -> (usize, usize) {
        let sent = |context: &mut Context| context.drain_outputs().map(|(_, batch)| batch.len()).sum();
        operator.batch(0, Batch::from_vec(rows), context).unwrap();
        let passed = sent(context);
        operator.flush(context).unwrap();
        (passed, sent(context))
    }

    #[test]
    fn records_whose_keys_do_not_repeat_are_sent_as_they_are() {
        let mut operator = first_phase();
        let context = &mut Context::new(Mode::Continuous, 0, 2);
        let mut run = |keys: u64| activation(&mut *operator, context, (0..8).map(|n| n % keys).collect());
        assert_eq!(run(4), (0, 4));
        assert_eq!(run(8), (0, 8));
        for _ in 0..STAND_ASIDE {
            assert_eq!(run(1), (8, 0));
        }
        assert_eq!(run(1), (0, 1));
        assert_eq!(run(1), (0, 1));
    }

    #[test]
    fn plain_records_of_a_ranking_are_sent_as_they_are() {
        let graph = Graph::new("ranking");
        numbers(&graph, 0).key_by(|n| n % 100).top_n(3, |n| *n).update().sink(nowhere());
        let nodes = graph.nodes();
        let grouped = nodes.iter().find_map(|node| match &node.kind {
            NodeKind::Grouped(grouped) => Some((grouped.local.clone(), grouped.merge.clone())),
            _ => None,
        });
        let (local, merge) = grouped.unwrap();
        let place = || Place::new(0, 1, Mode::Continuous);
        let (mut local, mut merge) = (local(place()), merge(place()));
        let context = &mut Context::new(Mode::Continuous, 0, 1);
        let (mut records, mut results) = (0, std::collections::BTreeMap::new());
        // Of the first batch each key has three records, of the others one: both kinds of rows reach the second phase.
        for rows in [0..300, 300..400, 400..500, 500..600u64] {
            local.batch(0, Batch::from_vec(rows.collect::<Vec<_>>()), context).unwrap();
            local.flush(context).unwrap();
            for (_, mut batch) in context.drain_outputs().collect::<Vec<_>>() {
                if let Some(passed) = batch.take::<Passed<u64, u64>>() {
                    records += passed.len();
                    batch = Batch::from_vec(passed);
                }
                merge.batch(0, batch, context).unwrap();
            }
            merge.flush(context).unwrap();
            for (_, mut batch) in context.drain_outputs().collect::<Vec<_>>() {
                results.extend(batch.take::<(u64, Vec<u64>)>().unwrap());
            }
        }
        assert_eq!(records, 200);
        assert!(results.into_iter().eq((0..100).map(|key| (key, vec![key + 500, key + 400, key + 300]))));
    }

    #[test]
    fn rest_of_full_table_does_not_decide() {
        let mut operator = first_phase();
        let context = &mut Context::new(Mode::Continuous, 0, 2);
        let limit = TABLE_LIMIT as u64;
        let full = (0..2 * limit).map(|n| n % limit).collect();
        operator.batch(0, Batch::from_vec(full), context).unwrap();
        assert_eq!(context.drain_outputs().map(|(_, batch)| batch.len()).sum::<usize>(), TABLE_LIMIT);
        assert_eq!(activation(&mut *operator, context, vec![1, 2, 3]), (0, 3));
        assert_eq!(activation(&mut *operator, context, vec![1, 2, 3]), (0, 3));
        assert_eq!(activation(&mut *operator, context, vec![1, 2, 3]), (3, 0));
    }
}
