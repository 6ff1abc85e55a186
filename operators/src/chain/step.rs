//! A chain with one more step.

use super::pull::Rows;
use super::{Chain, FromEdge, ObservedWatermark, WatermarkSpec, sealed};
use crate::EventTime;

/// What a stateless step makes of a record: any number of records, which have its event time. Implemented only here, as
/// [`Chain`] is.
pub trait Step<T>: sealed::Sealed + Send + Sync + 'static {
    /// What it yields.
    type Out: Send + 'static;

    /// Calls `emit` with each result of a record.
    fn apply<E: FnMut(Self::Out)>(&self, record: T, emit: E);
}

/// A chain `P` followed by a step.
#[derive(Debug, Clone)]
pub struct Then<P, S> {
    previous: P,
    step: S,
}

impl<P, S> Then<P, S> {
    pub(crate) fn new(previous: P, step: S) -> Self {
        Then { previous, step }
    }
}

impl<P: Chain, S: Step<P::Out>> Chain for Then<P, S> {
    type In = P::In;
    type Out = S::Out;
    type Time = P::Time;
    type Pulled = P::Pulled;
    type Closed = FromEdge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        FromEdge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, S::Out)>(
        &self,
        rows: N,
        observed: &mut ObservedWatermark,
        emit: &mut E,
    ) {
        self.previous.run(rows, observed, &mut |time, record| self.step.apply(record, |out| emit(time, out)));
    }

    fn watermark(&self) -> Option<WatermarkSpec> {
        self.previous.watermark()
    }
}
