//! Aggregation with one worker: chain, late test, state and results in one operator, one loop.
//!
//! Output 0: results. Output 1: late rows. State: the accumulators.

use std::borrow::{Borrow, ToOwned};
use std::sync::Arc;

use either::Either;

use super::ahead::Ahead;
use super::emission::{Emission, Shape};
use super::{Front, Late, Outbox};
use crate::arrival;
use crate::chain::feed::{Rows, incoming};
use crate::chain::{Chain, Tap};
use crate::state::{GroupState, is_wide};
use crate::stream::Keying;
use crate::{Aggregate, Batch, Context, EventTime, KeyGroup, Operator, OperatorError, SnapshotWriter};

pub(super) struct Direct<P, Y, A, S, Z>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate,
{
    front: Arc<Front<P, Y>>,
    emission: Emission<Y::Key, A, S, Z>,
}

impl<P, Y, A, S, Z> Direct<P, Y, A, S, Z>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate,
{
    pub(super) fn new(front: Arc<Front<P, Y>>, emission: Emission<Y::Key, A, S, Z>) -> Self {
        Direct { front, emission }
    }
}

impl<P, Y, A, S, Z> Direct<P, Y, A, S, Z>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate<In = Y::Value>,
    S: GroupState<Y::Key, A>,
    Z: Shape<Y::Key, S::Place, A::Out>,
{
    fn add(&mut self, rows: impl Rows<P::In>, origin: u32, context: &mut Context) {
        let closed = if self.emission.drops_late() { context.watermark() } else { EventTime::MIN };
        let mut outbox: Outbox<Late<Y::Value>> = Outbox::new(1);
        let mut late_rows = 0;
        let mut tap = Tap::new();
        let Emission { aggregate, state, .. } = &mut self.emission;
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
        let lends = const { is_wide::<Y::Value>() && !Ahead::<Y::Key, Y::Value>::PAYS };
        if !lends {
            // Before anything is reached for: it puts the table at hand that the records will go to.
            state.begin(closed);
        }
        if Ahead::<Y::Key, Y::Value>::PAYS
            && let Some(reach) = state.reach()
        {
            let mut ahead = Ahead::new(reach);
            let mut settle = |ahead: &mut Ahead<Y::Key, Y::Value>| {
                for (hash, key, time, value) in ahead.take() {
                    late(state.offer(aggregate, hash, key.borrow(), time, value, closed), time);
                }
                ahead.moved(state.reach());
            };
            chain.run(rows, &mut tap, &mut |time, record| {
                keying.each(record, &mut |hash, key, value| {
                    if ahead.put(hash, key.to_owned(), time, value) {
                        settle(&mut ahead);
                    }
                });
            });
            settle(&mut ahead);
        } else if lends {
            chain.run(rows, &mut tap, &mut |time, record| {
                keying.each(record, &mut |hash, key, value| {
                    if state.turns_away(aggregate, hash, key, time, &value, closed) {
                        late(Some(value), time);
                    }
                });
            });
        } else {
            chain.run(rows, &mut tap, &mut |time, record| {
                keying.each(record, &mut |hash, key, value| {
                    late(state.offer(aggregate, hash, key, time, value, closed), time);
                });
            });
        }
        if !lends {
            state.end();
        }
        self.emission.relieve();
        outbox.send(context);
        context.count_late(late_rows);
        if tap.seen {
            context.observe(origin, tap.watermark);
        }
    }
}

impl<P, Y, A, S, Z> Operator for Direct<P, Y, A, S, Z>
where
    P: Chain,
    Y: Keying<P::Out>,
    A: Aggregate<In = Y::Value>,
    S: GroupState<Y::Key, A>,
    Z: Shape<Y::Key, S::Place, A::Out>,
{
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        let origin = batch.origin();
        match incoming::<P>(batch)? {
            Either::Left(rows) => self.add(rows, origin, context),
            Either::Right(feed) => self.add(feed, origin, context),
        }
        Ok(())
    }

    fn watermark(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.emission.watermark(context);
        Ok(())
    }

    fn processing_time(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.emission.processing_time(context);
        Ok(())
    }

    fn flush(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.emission.flush(context);
        Ok(())
    }

    fn epoch_end(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.emission.epoch_end(context);
        Ok(())
    }

    fn track(&mut self) {
        self.emission.track();
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        self.emission.snapshot(writer)
    }

    fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        self.emission.restore(group, bytes)
    }

    fn state_rows(&self) -> usize {
        self.emission.state.len()
    }

    fn unsaved(&self) -> usize {
        self.emission.state.unsaved()
    }

    fn state_type(&self) -> String {
        self.emission.state_type()
    }
}
