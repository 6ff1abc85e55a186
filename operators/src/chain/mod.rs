//! Stateless steps fuse like iterators: a stream's type holds the chain of its steps, and where the chain is closed it
//! becomes one loop that pushes each record through all of them.
//!
//! Every record carries an event time through the loop. On streams without event time it is a constant that the
//! compiler removes; on the edges between operators such streams do not carry it at all ([`TimeDomain::Row`]).

pub(crate) mod feed;
mod step;

use std::convert::Infallible;
use std::marker::PhantomData;
use std::time::Duration;

use self::feed::{Feed, Pull, Rows};
pub use self::step::{Step, Then};
use crate::EventTime;
use crate::setting::Setting;
use crate::source::Source;
use crate::span::words;

/// Whether the records of a stream have an event time.
pub trait TimeDomain: Send + Sync + 'static {
    /// What travels on an edge.
    type Row<T: Send + 'static>: Send + 'static;
    /// Whether that is more than the record itself.
    const CARRIED: bool;
    /// Puts a record on an edge.
    fn pack<T: Send + 'static>(time: EventTime, value: T) -> Self::Row<T>;
    /// Takes a record from an edge.
    fn unpack<T: Send + 'static>(row: Self::Row<T>) -> (EventTime, T);
}

/// What [`Timed`] is and [`Untimed`] is not, so that the compiler can say what is missing:
///
/// ```compile_fail
/// use std::time::Duration;
/// use tidemill_operators::{Graph, testing::numbers, tumbling};
///
/// // "a window needs event time, and this stream has none"
/// let windows = numbers(&Graph::new("untimed"), 5).window(tumbling(Duration::from_secs(1)));
/// ```
#[diagnostic::on_unimplemented(
    message = "a window needs event time, and this stream has none",
    label = "say `.with_watermark(|record| event_time, delay)` on the stream before",
    note = "before `key_by`, where there is one; what a step behind it yields keeps its record's event time"
)]
pub trait HasEventTime: TimeDomain {}

impl HasEventTime for Timed {}

/// Records have an event time: windows are possible.
#[derive(Debug, Clone, Copy)]
pub enum Timed {}

/// Records have no event time yet: see [`Stream::with_watermark`](crate::Stream::with_watermark).
#[derive(Debug, Clone, Copy)]
pub enum Untimed {}

impl TimeDomain for Timed {
    type Row<T: Send + 'static> = (EventTime, T);
    const CARRIED: bool = true;
    #[inline(always)]
    fn pack<T: Send + 'static>(time: EventTime, value: T) -> (EventTime, T) {
        (time, value)
    }
    #[inline(always)]
    fn unpack<T: Send + 'static>(row: (EventTime, T)) -> (EventTime, T) {
        row
    }
}

impl TimeDomain for Untimed {
    type Row<T: Send + 'static> = T;
    const CARRIED: bool = false;
    #[inline(always)]
    fn pack<T: Send + 'static>(_: EventTime, value: T) -> T {
        value
    }
    #[inline(always)]
    fn unpack<T: Send + 'static>(row: T) -> (EventTime, T) {
        (EventTime::MIN, row)
    }
}

/// A chain of stateless steps, from the rows of an edge or a source to records. It is named in types, for functions from
/// open streams to open streams, and implemented only here: what is in it is the engine's.
pub trait Chain: Send + Sync + 'static {
    /// The rows that the chain takes.
    type In: Send + 'static;
    /// The records that it yields.
    type Out: Send + 'static;
    /// Whether these have an event time.
    type Time: TimeDomain;
    /// How rows come that are still in the source.
    #[doc(hidden)]
    type Feed: Pull<Self::In>;
    /// What [`uid`](crate::Stream::uid), which closes a chain, leaves of it: an edge, or a chain without steps itself.
    type Closed: Chain<Out = Self::Out, Time = Self::Time>;

    /// Pushes every row through all steps.
    fn run<N: Rows<Self::In>, E: FnMut(EventTime, Self::Out)>(&self, rows: N, tap: &mut Tap, emit: &mut E);

    /// What remains of the chain once it is closed.
    #[doc(hidden)]
    fn closed() -> Self::Closed;

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
    /// After how long without records a partition no longer holds the others back.
    pub idle_after: Option<Duration>,
}

impl WatermarkSpec {
    /// The settings that a restored watermark depends on.
    ///
    /// `idle_after` is not one: it decides when a partition stops holding the watermark, from the restart on.
    pub fn settings(&self) -> Vec<Setting> {
        match self.delay {
            Some(delay) => vec![("watermark", "delayed".to_owned()), ("delay", words(delay))],
            None => vec![("watermark", "punctuated".to_owned())],
        }
    }
}

/// The beginning of a chain at an edge: its rows as they are.
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
    type Feed = Infallible;
    type Closed = Self;

    fn closed() -> Self {
        Edge::new()
    }

    #[inline(always)]
    fn run<N: Rows<M::Row<T>>, E: FnMut(EventTime, T)>(&self, rows: N, _tap: &mut Tap, emit: &mut E) {
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
    type Feed = Feed<S::Reader>;
    type Closed = Self;

    fn closed() -> Self {
        FromSource::new()
    }

    #[inline(always)]
    fn run<N: Rows<S::Item>, E: FnMut(EventTime, S::Item)>(&self, rows: N, _tap: &mut Tap, emit: &mut E) {
        rows.each(|value| emit(EventTime::MIN, value));
    }
}
