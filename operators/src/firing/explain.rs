//! What the compiler tells those who left out the output of such windows, as `group/explain.rs` does for others.

use super::{CountResult, CountedAggregate, CountedStream, TriggeredAggregate, TriggeredStream};
use crate::group::explain::{HasAggregate, no_rows_yet};
use crate::window::WindowFiring;
use crate::{Aggregate, Stream};

/// What an aggregate over windows with a policy of their own lacks until it has an output. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "an aggregate over these windows has no rows before it has an output",
    label = "put `.firings()` before this, or `.append()` for windows that neither fire early nor wait for late records",
    note = "`firings` emits a row each time that a window fires, with its kind and revision, as upserts; `append` each window once"
)]
pub trait HasFirings {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

no_rows_yet! {
    HasFirings: [K, V, P, Y, W, C, A: Aggregate] TriggeredAggregate<K, V, P, Y, W, C, A> => WindowFiring<K, A::Out>;
    HasFirings: [K, V, P, Y, A: Aggregate] CountedAggregate<K, V, P, Y, A> => CountResult<K, A::Out>;
    HasAggregate: [K, V, P, Y, W, C] TriggeredStream<K, V, P, Y, W, C> => V;
    HasAggregate: [K, V, P, Y] CountedStream<K, V, P, Y> => V;
}

#[doc(hidden)]
impl<K, V, P, Y, W, C, A: Aggregate> TriggeredAggregate<K, V, P, Y, W, C, A> {
    pub fn update(self) -> Stream<WindowFiring<K, A::Out>>
    where
        Self: HasFirings,
    {
        self.never()
    }
    pub fn complete(self) -> Stream<WindowFiring<K, A::Out>>
    where
        Self: HasFirings,
    {
        self.never()
    }
}
