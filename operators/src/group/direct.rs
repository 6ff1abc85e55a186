//! The intake of an aggregation with one worker: chain, late test and state in one loop.
//!
//! Output 0: results. Output 1: late rows. State: the accumulators.

use std::borrow::{Borrow, ToOwned};
use std::sync::Arc;

use either::Either;

use super::ahead::Ahead;
use super::holder::Intake;
use super::{Front, Late, Outbox};
use crate::arrival;
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, ObservedWatermark};
use crate::state::{GroupState, is_wide};
use crate::stream::Keying;
use crate::{Aggregate, Batch, Context, EventTime, OperatorError};

pub(super) struct Direct<P, Y> {
    front: Arc<Front<P, Y>>,
}

impl<P, Y> Direct<P, Y>
where
    P: Chain,
    Y: Keying<P::Out>,
{
    pub(super) fn new(front: Arc<Front<P, Y>>) -> Self {
        Direct { front }
    }

    fn add<A, S>(
        &self,
        rows: impl Rows<P::In>,
        origin: u32,
        (aggregate, state): (&A, &mut S),
        drops_late: bool,
        context: &mut Context,
    ) where
        A: Aggregate<In = Y::Value>,
        S: GroupState<Y::Key, A>,
    {
        let closed = if drops_late { context.watermark() } else { EventTime::MIN };
        let mut outbox: Outbox<Late<Y::Value>> = Outbox::new(1);
        let mut late_rows = 0;
        let mut observed = ObservedWatermark::new();
        if A::ORDERED {
            arrival::enter(context, Some(origin), state.is_one_place());
        }
        let Front { chain, keying } = &*self.front;
        let mut late = |late: Option<Y::Value>, time| {
            if let Some(value) = late {
                late_rows += 1;
                outbox.push((time, value), context);
            }
        };
        // Each `const`, so that the loops of the others are not compiled.
        if const { is_wide::<Y::Value>() && !Ahead::<Y::Key, Y::Value>::PAYS } {
            chain.run(rows, &mut observed, &mut |time, record| {
                keying.each(record, &mut |hash, key, value| {
                    if state.turns_away(aggregate, hash, key, time, &value, closed) {
                        late(Some(value), time);
                    }
                });
            });
        } else {
            // Before anything is reached for: it puts the table at hand that the records will go to.
            state.begin(closed);
            match if const { Ahead::<Y::Key, Y::Value>::PAYS } { state.reach() } else { None } {
                Some(reach) if const { Ahead::<Y::Key, Y::Value>::PAYS } => {
                    let mut ahead = Ahead::new(reach);
                    let mut settle = |ahead: &mut Ahead<Y::Key, Y::Value>| {
                        if const { A::FETCHES } {
                            ahead.keys().for_each(|(hash, key)| state.fetch_next(aggregate, hash, key));
                        }
                        for (hash, key, time, value) in ahead.take() {
                            late(state.offer(aggregate, hash, key.borrow(), time, value, closed), time);
                        }
                        ahead.moved(state.reach());
                    };
                    chain.run(rows, &mut observed, &mut |time, record| {
                        keying.each(record, &mut |hash, key, value| {
                            if ahead.put(hash, key.to_owned(), time, value) {
                                settle(&mut ahead);
                            }
                        });
                    });
                    settle(&mut ahead);
                }
                _ => chain.run(rows, &mut observed, &mut |time, record| {
                    keying.each(record, &mut |hash, key, value| {
                        late(state.offer(aggregate, hash, key, time, value, closed), time);
                    });
                }),
            }
            state.end();
        }
        outbox.send(context);
        context.count_late(late_rows);
        if observed.seen {
            context.observe(origin, observed.watermark);
        }
    }
}

impl<P, Y, A, S> Intake<A, S> for Direct<P, Y>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate<In = Y::Value>,
    S: GroupState<Y::Key, A>,
{
    fn take(
        &mut self,
        batch: Batch,
        aggregate: &A,
        state: &mut S,
        drops_late: bool,
        context: &mut Context,
    ) -> Result<(), OperatorError> {
        let origin = batch.origin();
        match incoming::<P>(batch)? {
            Either::Left(rows) => self.add(rows, origin, (aggregate, state), drops_late, context),
            Either::Right(pulled) => self.add(pulled, origin, (aggregate, state), drops_late, context),
        }
        Ok(())
    }
}
