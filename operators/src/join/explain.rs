//! What the compiler tells those who left out a step of a join: the keys, which rows match, the kind.
//!
//! As for aggregates, each method has a bound that nothing meets, whose message says what to do. None of them can be called.

use super::{EquiJoin, IntervalJoin, Join, StaticJoin, TemporalJoin, WindowJoin};
use crate::{EventStream, Stream, WindowResult};

/// What a stream lacks that is to be joined and has no keys. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a join needs keys",
    label = "put `.key_by(…)` before `.join(…)`, on both sides and with keys of one type"
)]
pub trait HasKeys {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What a join lacks until it is known which rows match. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a join needs bounds, windows or a TTL",
    label = "put `.within(Bounds::after(min..=max))`, `.window(…)`, `.as_of()` or `.with_ttl(…)` before this"
)]
pub trait HasBounds {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What a join lacks until it has a kind. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a join has no rows before it has a kind",
    label = "put `.inner()`, `.left_outer()` or another kind of this join before this"
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
impl<K, L, R, A, B> Join<K, L, R, A, B> {
    pub fn sink<S>(self, _sink: S)
    where
        Self: HasBounds,
    {
        self.never()
    }
    pub fn map<U, F: Fn((K, L, R)) -> U>(self, _function: F) -> Stream<U>
    where
        Self: HasBounds,
    {
        self.never()
    }
}

macro_rules! no_kind_yet {
    ($join:ident<$($name:ident),+>, $row:ty) => {
        #[doc(hidden)]
        impl<$($name),+> $join<$($name),+> {
            pub fn sink<S>(self, _sink: S)
            where
                Self: HasJoinKind,
            {
                self.never()
            }

            pub fn map<U, F: Fn($row) -> U>(self, _function: F) -> Stream<U>
            where
                Self: HasJoinKind,
            {
                self.never()
            }

            pub fn filter<F: Fn(&$row) -> bool>(self, _predicate: F) -> Stream<$row>
            where
                Self: HasJoinKind,
            {
                self.never()
            }
        }
    };
}

no_kind_yet!(IntervalJoin<K, L, R>, (K, L, R));
no_kind_yet!(TemporalJoin<K, L, R>, (K, L, R));
no_kind_yet!(WindowJoin<K, L, R>, WindowResult<K, (L, R)>);
no_kind_yet!(EquiJoin<K, L, R, M>, (K, L, R));
no_kind_yet!(StaticJoin<K, L, R, M>, (K, L, R));
