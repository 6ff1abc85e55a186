//! Where a chain begins: at an edge, or at a source.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::pull::{PulledRows, Rows};
use super::{Chain, ObservedWatermark, TimeDomain, Untimed};
use crate::EventTime;
use crate::source::Source;

/// The beginning of a chain at an edge: its rows as they are.
#[derive(Debug)]
pub struct FromEdge<T, M = Untimed>(PhantomData<fn() -> (T, M)>);

impl<T, M> FromEdge<T, M> {
    pub(crate) fn new() -> Self {
        FromEdge(PhantomData)
    }
}

impl<T, M> Clone for FromEdge<T, M> {
    fn clone(&self) -> Self {
        FromEdge::new()
    }
}

impl<T: Send + 'static, M: TimeDomain> Chain for FromEdge<T, M> {
    type In = M::Row<T>;
    type Out = T;
    type Time = M;
    type Pulled = Infallible;
    type Closed = Self;

    fn closed() -> Self {
        FromEdge::new()
    }

    #[inline(always)]
    fn run<N: Rows<M::Row<T>>, E: FnMut(EventTime, T)>(
        &self,
        rows: N,
        _observed: &mut ObservedWatermark,
        emit: &mut E,
    ) {
        rows.each(|row| {
            let (time, value) = M::unpack(row);
            emit(time, value);
        });
    }
}

/// The beginning of a chain at a source: the records as its reader gives them.
pub struct FromSource<S>(PhantomData<fn() -> S>);

impl<S> FromSource<S> {
    pub(crate) fn new() -> Self {
        FromSource(PhantomData)
    }
}

impl<S> Clone for FromSource<S> {
    fn clone(&self) -> Self {
        FromSource::new()
    }
}

impl<S> std::fmt::Debug for FromSource<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromSource")
    }
}

impl<S: Source> Chain for FromSource<S> {
    type In = S::Item;
    type Out = S::Item;
    type Time = Untimed;
    type Pulled = PulledRows<S::Reader>;
    type Closed = Self;

    fn closed() -> Self {
        FromSource::new()
    }

    #[inline(always)]
    fn run<N: Rows<S::Item>, E: FnMut(EventTime, S::Item)>(
        &self,
        rows: N,
        _observed: &mut ObservedWatermark,
        emit: &mut E,
    ) {
        rows.each(|value| emit(EventTime::MIN, value));
    }
}
