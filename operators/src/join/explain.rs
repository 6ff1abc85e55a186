//! What the compiler tells those who left out a step of a join: the keys, the bounds, the kind.
//!
//! As for aggregates, each method has a bound that nothing meets, whose message says what to do. None of them can be called.

use super::{IntervalJoin, Join};
use crate::{EventStream, Stream};

/// What a stream lacks that is to be joined and has no keys. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a join needs keys",
    label = "put `.key_by(…)` before `.join(…)`, on both sides and with keys of one type"
)]
pub trait HasKeys {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What a join lacks until it has bounds. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a join needs bounds",
    label = "put `.within(Bounds::after(min..=max))` before this"
)]
pub trait HasBounds {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What an interval join lacks until it has a kind. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a join has no rows before it has a kind",
    label = "put `.inner()`, `.left_outer()`, `.right_outer()`, `.full_outer()`, `.semi()` or `.anti()` before this"
)]
pub trait HasJoinKind {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

#[doc(hidden)]
impl<T, P> Stream<T, P> {
    pub fn join<R>(self, _right: R) -> Self
    where
        Self: HasKeys,
    {
        self.never()
    }
}

macro_rules! no_bounds_yet {
    ($($kind:ident => $row:ty),+) => {
        #[doc(hidden)]
        impl<K, L, R, A, B> Join<K, L, R, A, B> {
            $(pub fn $kind(self) -> EventStream<$row> where Self: HasBounds {
                self.never()
            })+
        }
    };
}

no_bounds_yet! {
    inner => (K, L, R),
    left_outer => (K, L, Option<R>),
    right_outer => (K, Option<L>, R),
    full_outer => (K, Option<L>, Option<R>),
    semi => (K, L),
    anti => (K, L)
}

#[doc(hidden)]
impl<K, L, R> IntervalJoin<K, L, R> {
    pub fn sink<S>(self, _sink: S)
    where
        Self: HasJoinKind,
    {
        self.never()
    }

    pub fn map<U, F: Fn((K, L, R)) -> U>(self, _function: F) -> Stream<U>
    where
        Self: HasJoinKind,
    {
        self.never()
    }
}
