//! What the compiler tells those who left out the output of such windows, as `group/explain.rs` does for others.

use super::clock::EngineClock;
use super::{CountResult, CountedAggregate, CountedStream, TriggeredAggregate, TriggeredStream};
use crate::group::explain::{HasAggregate, TakesPolicy, no_firings, no_modes, no_policy, no_rows_yet};
use crate::window::WindowFiring;
use crate::{Aggregate, Stream, WindowResult};

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

/// What an aggregate over count windows lacks until it has an output. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a count window emits once, when it is complete",
    label = "use `.append()` here; for results before that put `.every(slide)` behind `.count_window(size)`"
)]
pub trait HasCountMode {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What windows of processing time lack: late records. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "windows of processing time have no late records",
    label = "leave out `.allowed_lateness(…)`, or use `.with_watermark(…)` and `.window(…)` for windows of event time"
)]
pub trait HasLateRecords {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

no_rows_yet! {
    HasFirings: [K, V, P, Y, W, C, A: Aggregate] TriggeredAggregate<K, V, P, Y, W, C, A> => WindowFiring<K, A::Out>;
    HasCountMode: [K, V, P, Y, A: Aggregate] CountedAggregate<K, V, P, Y, A> => CountResult<K, A::Out>;
    HasAggregate: [K, V, P, Y, W, C] TriggeredStream<K, V, P, Y, W, C> => V;
    HasAggregate: [K, V, P, Y] CountedStream<K, V, P, Y> => V;
}

no_firings! {
    HasCountMode: [K, V, P, Y, A: Aggregate] CountedAggregate<K, V, P, Y, A> => CountResult<K, A::Out>;
    HasAggregate: [K, V, P, Y, W, C] TriggeredStream<K, V, P, Y, W, C> => WindowFiring<K, V>;
    HasAggregate: [K, V, P, Y] CountedStream<K, V, P, Y> => CountResult<K, V>;
}

no_modes! {
    [K, V, P, Y, W, C] TriggeredStream<K, V, P, Y, W, C> => WindowResult<K, V>;
    [K, V, P, Y] CountedStream<K, V, P, Y> => CountResult<K, V>;
}

no_policy! {
    [K, V, P, Y, W, C, A: Aggregate] TriggeredAggregate<K, V, P, Y, W, C, A>;
}

#[doc(hidden)]
impl<K, V, P, Y, W> TriggeredStream<K, V, P, Y, W, EngineClock> {
    pub fn allowed_lateness(self, _lateness: std::time::Duration) -> Self
    where
        Self: HasLateRecords,
    {
        self.never()
    }
}

#[doc(hidden)]
impl<K, V, P, Y, A: Aggregate> CountedAggregate<K, V, P, Y, A> {
    pub fn update(self) -> Stream<CountResult<K, A::Out>>
    where
        Self: HasCountMode,
    {
        self.never()
    }
    pub fn complete(self) -> Stream<CountResult<K, A::Out>>
    where
        Self: HasCountMode,
    {
        self.never()
    }
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
