//! Stateless steps fuse like iterators: a stream's type holds the chain of its steps, and where the chain is closed it
//! becomes one loop that pushes each record through all of them.
//!
//! Every record carries an event time through the loop. On streams without event time it is a constant that the
//! compiler removes; on the edges between operators such streams do not carry it at all ([`TimeDomain::Row`]).

use std::marker::PhantomData;
use std::time::Duration;

use crate::EventTime;

/// Whether the records of a stream have an event time.
pub trait TimeDomain: Send + Sync + 'static {
    /// What travels on an edge.
    type Row<T: Send + 'static>: Send + 'static;
    /// Puts a record on an edge.
    fn pack<T: Send + 'static>(time: EventTime, value: T) -> Self::Row<T>;
    /// Takes a record from an edge.
    fn unpack<T: Send + 'static>(row: Self::Row<T>) -> (EventTime, T);
    /// The records of a batch without their event times, in the same memory.
    fn strip<T: Send + 'static>(rows: Vec<Self::Row<T>>) -> Vec<T>;
}

/// Records have an event time: windows are possible.
#[derive(Debug, Clone, Copy)]
pub enum Timed {}

/// Records have no event time yet: see [`Stream::with_watermark`](crate::Stream::with_watermark).
#[derive(Debug, Clone, Copy)]
pub enum Untimed {}

impl TimeDomain for Timed {
    type Row<T: Send + 'static> = (EventTime, T);
    #[inline(always)]
    fn pack<T: Send + 'static>(time: EventTime, value: T) -> (EventTime, T) {
        (time, value)
    }
    #[inline(always)]
    fn unpack<T: Send + 'static>(row: (EventTime, T)) -> (EventTime, T) {
        row
    }
    fn strip<T: Send + 'static>(rows: Vec<(EventTime, T)>) -> Vec<T> {
        rows.into_iter().map(|(_, value)| value).collect()
    }
}

impl TimeDomain for Untimed {
    type Row<T: Send + 'static> = T;
    #[inline(always)]
    fn pack<T: Send + 'static>(_: EventTime, value: T) -> T {
        value
    }
    #[inline(always)]
    fn unpack<T: Send + 'static>(row: T) -> (EventTime, T) {
        (EventTime::MIN, row)
    }
    fn strip<T: Send + 'static>(rows: Vec<T>) -> Vec<T> {
        rows
    }
}

/// A chain of stateless steps, from the rows of an edge to records. Named in types, implemented only here.
pub trait Chain: Send + Sync + 'static {
    /// The rows that the chain takes.
    type In: Send + 'static;
    /// The records that it yields.
    type Out: Send + 'static;
    /// Whether these have an event time.
    type Time: TimeDomain;

    /// Pushes every row through all steps.
    fn run<E: FnMut(EventTime, Self::Out)>(&self, rows: Vec<Self::In>, tap: &mut Tap, emit: &mut E);

    /// How the chain assigns watermarks, if it does.
    fn watermark(&self) -> Option<WatermarkSpec> {
        None
    }
}

/// The watermark that the records of a batch justify, gathered while they pass.
#[derive(Debug)]
pub struct Tap {
    /// The greatest candidate so far; `EventTime::MIN` before the first.
    pub watermark: EventTime,
    /// Whether there was any.
    pub seen: bool,
}

impl Tap {
    /// A tap that has seen nothing.
    pub fn new() -> Self {
        Tap { watermark: EventTime::MIN, seen: false }
    }
}

impl Default for Tap {
    fn default() -> Self {
        Tap::new()
    }
}

/// How a stream's watermark is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkSpec {
    /// How far records may be behind the latest one of their partition; `None` where records say it themselves.
    pub delay: Option<Duration>,
    /// After how long without records a partition no longer holds the others back (continuous mode; in micro-batch a
    /// partition is idle in every epoch that brings it nothing).
    pub idle_after: Option<Duration>,
}

/// The end of a chain that has no steps yet: the rows of an edge as they are.
#[derive(Debug)]
pub struct Edge<T, M = Untimed>(PhantomData<fn() -> (T, M)>);

impl<T, M> Edge<T, M> {
    pub(crate) fn new() -> Self {
        Edge(PhantomData)
    }
}

impl<T, M> Clone for Edge<T, M> {
    fn clone(&self) -> Self {
        Edge::new()
    }
}

impl<T: Send + 'static, M: TimeDomain> Chain for Edge<T, M> {
    type In = M::Row<T>;
    type Out = T;
    type Time = M;

    #[inline(always)]
    fn run<E: FnMut(EventTime, T)>(&self, rows: Vec<M::Row<T>>, _tap: &mut Tap, emit: &mut E) {
        for row in rows {
            let (time, value) = M::unpack(row);
            emit(time, value);
        }
    }
}

/// How many rows of a type make a batch: about 128 KiB, so that a batch stays in the cache of the core that made it.
pub(crate) const fn batch_capacity<T>() -> usize {
    let size = if std::mem::size_of::<T>() == 0 { 1 } else { std::mem::size_of::<T>() };
    let rows = 131_072 / size;
    if rows < 64 {
        64
    } else if rows > 8_192 {
        8_192
    } else {
        rows
    }
}
