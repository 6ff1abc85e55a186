//! The operator that holds the accumulators of its keys, whatever it takes: records ([`Direct`](super::direct::Direct)) or
//! partials of other workers ([`Merge`](super::merge::Merge)).

use super::emission::{Emission, Shape};
use crate::state::GroupState;
use crate::{Aggregate, Batch, Context, Key, KeyGroup, Operator, OperatorError, SnapshotWriter};

/// What comes into an aggregation. The operator holds it as `dyn`, so that the rest is compiled once for both.
pub(super) trait Intake<A: Aggregate, S>: Send + 'static {
    /// Adds the rows of a batch to the state, but none that is late where those are dropped.
    fn take(
        &mut self,
        batch: Batch,
        aggregate: &A,
        state: &mut S,
        drops_late: bool,
        context: &mut Context,
    ) -> Result<(), OperatorError>;
}

/// An aggregation by keys `K` with aggregate `A`, state `S`, and results of the shape `Z`.
pub(super) struct Holder<K, A: Aggregate, S, Z> {
    intake: Box<dyn Intake<A, S>>,
    emission: Emission<K, A, S, Z>,
}

impl<K, A: Aggregate, S, Z> Holder<K, A, S, Z> {
    pub(super) fn new(intake: Box<dyn Intake<A, S>>, emission: Emission<K, A, S, Z>) -> Self {
        Holder { intake, emission }
    }
}

impl<K, A, S, Z> Operator for Holder<K, A, S, Z>
where
    K: Key,
    A: Aggregate,
    S: GroupState<K, A>,
    Z: Shape<K, S::Scope, A::Out>,
{
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        let drops_late = self.emission.drops_late();
        let Emission { aggregate, state, .. } = &mut self.emission;
        self.intake.take(batch, aggregate, state, drops_late, context)?;
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

    fn unsaved(&mut self) -> usize {
        self.emission.state.unsaved()
    }

    fn state_type(&self) -> String {
        self.emission.state_type()
    }
}
