//! The second phase of an aggregation: takes what the workers have aggregated of the keys that this one holds.
//!
//! Output 0: results. State: the accumulators. Nothing is late here: a worker sends a partial under a watermark that has
//! not yet closed its windows, so this operator cannot have closed them either.

use super::Partial;
use super::emission::{Emission, Shape};
use crate::arrival;
use crate::buffers::give_back;
use crate::state::{GroupState, Reach};
use crate::{
    Aggregate, Batch, Context, EventTime, Key, KeyGroup, Operator, OperatorError, SnapshotWriter, rows,
};

pub(super) struct Merge<K, A: Aggregate, S, Z> {
    emission: Emission<K, A, S, Z>,
}

impl<K, A: Aggregate, S, Z> Merge<K, A, S, Z> {
    pub(super) fn new(emission: Emission<K, A, S, Z>) -> Self {
        Merge { emission }
    }
}

impl<K, A, S, Z> Operator for Merge<K, A, S, Z>
where
    K: Key,
    A: Aggregate,
    S: GroupState<K, A>,
    Z: Shape<K, S::Place, A::Out>,
{
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        let Emission { aggregate, state, .. } = &mut self.emission;
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
        self.emission.relieve();
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
