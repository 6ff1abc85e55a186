//! What the compiler tells those who left out a step: an output mode, a window, an aggregate.
//!
//! Each method here stands where a user looks for it and has a bound that nothing meets, whose message says what to do. None
//! of them can be called.

use super::{RunningAggregate, TotalAggregate, WindowedAggregate, WindowedStream};
use crate::stream::KeyedStream;
use crate::{Aggregate, Stream, WindowFiring, WindowResult};

/// What an aggregate lacks until it has an output mode. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "an aggregate has no rows before it has an output mode",
    label = "put `.update()`, `.complete()` or, behind a window, `.append()` before this",
    note = "`append` emits each window once, when it closes; `update` each changed value; `complete` the whole table \
            at the end of every epoch"
)]
pub trait HasOutputMode {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What an aggregate without a window lacks. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`append` needs a window: without one no result is ever final",
    label = "use `.update()` or `.complete()` here, or put `.window(…)` before the aggregate"
)]
pub trait HasWindow {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What takes a window. No aggregate implements it.
#[diagnostic::on_unimplemented(
    message = "a window comes before its aggregate",
    label = "put `.window(…)` before the aggregate: `.window(…).count().append()`"
)]
pub trait TakesWindow {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What an aggregate without a window lacks for firings. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "only windows have firings, and this aggregate has no window",
    label = "put `.window(…)` and `.early(…)` or `.allowed_lateness(…)` before the aggregate, or use `.update()` here",
    note = "`.global_window(Early::every_records(n))` fires over all records of a key"
)]
pub trait HasFiringWindow {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What windows without a policy lack for firings: they emit once. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "`firings` needs windows that fire early or wait for late records",
    label = "put `.early(…)` or `.allowed_lateness(…)` between the window and its aggregate, or use `.append()` here"
)]
pub trait FiresAgain {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What takes a policy of firing: a window without an aggregate. Nothing else implements it.
#[diagnostic::on_unimplemented(
    message = "`early` and `allowed_lateness` come behind a window and before its aggregate",
    label = "write `.window(…).early(…).count().firings()`"
)]
pub trait TakesPolicy {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What a keyed or windowed stream lacks until it has an aggregate. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a keyed or windowed stream has no rows before it has an aggregate",
    label = "put an aggregate and an output mode before this, such as `.count().update()`; steps on single records go before `.key_by(…)`",
    note = "aggregates are `count`, `sum`, `min`, `max`, `average`, `top_n`, `collect`, `reduce`, `fold` and `aggregate`"
)]
pub trait HasAggregate {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What a keyed stream is not: a place for event times. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "event times are assigned before `key_by`",
    label = "put `.with_watermark(|record| event_time, delay)` before `.key_by(…)`"
)]
pub trait TakesEventTime {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// The steps that a user may look for on what has no rows yet. The rows are of the type that they will be, so that closures are
/// checked as they will be.
macro_rules! no_rows_yet {
    ($($needs:ident: [$($generics:tt)*] $type:ty => $row:ty;)+) => {$(
        #[doc(hidden)]
        impl<$($generics)*> $type {
            pub fn sink<S>(self, _sink: S) where Self: $needs {
                self.never()
            }
            pub fn sink_per_worker<F>(self, _make: F) where Self: $needs {
                self.never()
            }
            pub fn map<U, F: Fn($row) -> U>(self, _function: F) -> Stream<U> where Self: $needs {
                self.never()
            }
            pub fn filter<F: Fn(&$row) -> bool>(self, _predicate: F) -> Stream<$row> where Self: $needs {
                self.never()
            }
            pub fn filter_map<U, F: Fn($row) -> Option<U>>(self, _function: F) -> Stream<U> where Self: $needs {
                self.never()
            }
            pub fn flat_map<I: IntoIterator, F: Fn($row) -> I>(self, _function: F) -> Stream<I::Item> where Self: $needs {
                self.never()
            }
            pub fn inspect<F: Fn(&$row)>(self, _function: F) -> Stream<$row> where Self: $needs {
                self.never()
            }
            pub fn for_each<F: FnMut($row)>(self, _call: F) where Self: $needs {
                self.never()
            }
            pub fn boxed(self) -> Stream<$row> where Self: $needs {
                self.never()
            }
        }
    )+};
}

pub(crate) use no_rows_yet;

no_rows_yet! {
    HasOutputMode: [K, V, P, Y, A: Aggregate] RunningAggregate<K, V, P, Y, A> => (K, A::Out);
    HasOutputMode: [K, V, P, Y, W, A: Aggregate] WindowedAggregate<K, V, P, Y, W, A> => WindowResult<K, A::Out>;
    HasOutputMode: [T, P, A: Aggregate] TotalAggregate<T, P, A> => A::Out;
    HasAggregate: [K, V, P, Y] KeyedStream<K, V, P, Y> => V;
    HasAggregate: [K, V, P, Y, W] WindowedStream<K, V, P, Y, W> => V;
}

macro_rules! no_window {
    ($([$($generics:tt)*] $type:ty => $row:ty;)+) => {$(
        #[doc(hidden)]
        impl<$($generics)*> $type {
            pub fn append(self) -> Stream<$row> where Self: HasWindow {
                self.never()
            }
            pub fn append_with_late(self) -> (Stream<$row>, Stream<$row>) where Self: HasWindow {
                self.never()
            }
            pub fn window<W>(self, _window: W) -> Self where Self: TakesWindow {
                self.never()
            }
        }
    )+};
}

no_window! {
    [K, V, P, Y, A: Aggregate] RunningAggregate<K, V, P, Y, A> => (K, A::Out);
    [T, P, A: Aggregate] TotalAggregate<T, P, A> => A::Out;
}

/// The firings that a user may look for where nothing fires more than once.
macro_rules! no_firings {
    ($($needs:ident: [$($generics:tt)*] $type:ty => $row:ty;)+) => {$(
        #[doc(hidden)]
        impl<$($generics)*> $type {
            pub fn firings(self) -> Stream<$row> where Self: $needs {
                self.never()
            }
            pub fn firings_with_late(self) -> (Stream<$row>, Stream<$row>) where Self: $needs {
                self.never()
            }
        }
    )+};
}

/// The policy of windows that a user may look for before the window or behind the aggregate.
macro_rules! no_policy {
    ($([$($generics:tt)*] $type:ty;)+) => {$(
        #[doc(hidden)]
        impl<$($generics)*> $type {
            pub fn early<E>(self, _early: E) -> Self where Self: TakesPolicy {
                self.never()
            }
            pub fn allowed_lateness(self, _lateness: std::time::Duration) -> Self where Self: TakesPolicy {
                self.never()
            }
        }
    )+};
}

pub(crate) use {no_firings, no_policy};

no_firings! {
    HasFiringWindow: [K, V, P, Y, A: Aggregate] RunningAggregate<K, V, P, Y, A> => WindowFiring<K, A::Out>;
    HasFiringWindow: [T, P, A: Aggregate] TotalAggregate<T, P, A> => WindowFiring<(), A::Out>;
    FiresAgain: [K, V, P, Y, W, A: Aggregate] WindowedAggregate<K, V, P, Y, W, A> => WindowFiring<K, A::Out>;
    HasAggregate: [K, V, P, Y] KeyedStream<K, V, P, Y> => WindowFiring<K, V>;
    HasAggregate: [K, V, P, Y, W] WindowedStream<K, V, P, Y, W> => WindowFiring<K, V>;
}

no_policy! {
    [T, P] Stream<T, P>;
    [K, V, P, Y] KeyedStream<K, V, P, Y>;
    [K, V, P, Y, A: Aggregate] RunningAggregate<K, V, P, Y, A>;
    [T, P, A: Aggregate] TotalAggregate<T, P, A>;
    [K, V, P, Y, W, A: Aggregate] WindowedAggregate<K, V, P, Y, W, A>;
}

/// The output modes of an aggregate, on what has none yet.
macro_rules! no_modes {
    ($([$($generics:tt)*] $type:ty => $row:ty;)+) => {$(
        #[doc(hidden)]
        impl<$($generics)*> $type {
            pub fn append(self) -> Stream<$row> where Self: HasAggregate {
                self.never()
            }
            pub fn update(self) -> Stream<$row> where Self: HasAggregate {
                self.never()
            }
            pub fn complete(self) -> Stream<$row> where Self: HasAggregate {
                self.never()
            }
        }
    )+};
}

pub(crate) use no_modes;

no_modes! {
    [K, V, P, Y] KeyedStream<K, V, P, Y> => (K, V);
    [K, V, P, Y, W] WindowedStream<K, V, P, Y, W> => WindowResult<K, V>;
}

#[doc(hidden)]
impl<K, V, P, Y> KeyedStream<K, V, P, Y> {
    pub fn with_watermark<F>(self, _event_time: F, _delay: std::time::Duration) -> Self
    where
        F: Fn(&V) -> crate::EventTime,
        Self: TakesEventTime,
    {
        self.never()
    }
}
