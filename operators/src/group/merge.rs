//! The intake of the second phase of an aggregation: takes what the workers have aggregated of the keys that this one holds.
//!
//! Output 0: results. State: the accumulators. Nothing is late here: a worker sends a partial under a watermark that has
//! not yet closed its windows, so the worker that holds the keys cannot have closed them either.

use std::marker::PhantomData;

use super::Partial;
use super::holder::Intake;
use crate::arrival;
use crate::buffers::give_back;
use crate::state::{GroupState, Reach};
use crate::{Aggregate, Batch, Context, EventTime, Key, OperatorError, rows};

pub(super) struct Merge<K>(PhantomData<fn(K)>);

impl<K> Merge<K> {
    pub(super) fn new() -> Self {
        Merge(PhantomData)
    }
}

impl<K: Key, A: Aggregate, S: GroupState<K, A>> Intake<A, S> for Merge<K> {
    fn take(
        &mut self,
        batch: Batch,
        aggregate: &A,
        state: &mut S,
        _drops_late: bool,
        context: &mut Context,
    ) -> Result<(), OperatorError> {
        let mut partials = rows::<Partial<K, S::Slot, A::Acc>>(batch)?;
        if A::ORDERED {
            arrival::enter(context, None, state.is_one_place());
        }
        state.begin(EventTime::MIN);
        let mut rows = partials.drain(..);
        while let Some(reach) = state.reach()
            && rows.len() > 0
        {
            rows.as_slice().iter().take(Reach::AHEAD).for_each(|partial| reach.fetch(partial.hash));
            for Partial { hash, key, slot, acc } in rows.by_ref().take(Reach::AHEAD) {
                state.merge(aggregate, hash, key, slot, acc);
            }
        }
        for Partial { hash, key, slot, acc } in rows {
            state.merge(aggregate, hash, key, slot, acc);
        }
        give_back(partials);
        state.end();
        Ok(())
    }
}
