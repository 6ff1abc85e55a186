//! Stateless steps fuse like iterators: a stream's type holds the chain of its steps, and where the chain is closed it
//! becomes one loop that pushes each record through all of them.
//!
//! Every record carries an event time through the loop. On streams without event time it is a constant that the
//! compiler removes; on the edges between operators such streams do not carry it at all ([`TimeDomain::Row`]).

mod begin;
pub(crate) mod pull;
mod step;
mod time_domain;
mod watermark;

pub use self::begin::{FromEdge, FromSource};
use self::pull::{Pull, Rows};
pub use self::step::{Step, Then};
pub use self::time_domain::{HasEventTime, NoEventTime, TimeDomain, Timed, Untimed, WithTime};
pub use self::watermark::{ObservedWatermark, WatermarkSpec};
use crate::EventTime;

/// Keeps [`Chain`], [`Step`] and [`Keying`](crate::stream::Keying) for the types of this crate.
pub(crate) mod sealed {
    /// Implemented with [`Chain`](super::Chain), [`Step`](super::Step) or [`Keying`](crate::stream::Keying).
    pub trait Sealed {}

    impl<T, M> Sealed for super::FromEdge<T, M> {}
    impl<S> Sealed for super::FromSource<S> {}
    impl<P, S> Sealed for super::Then<P, S> {}
}

/// A chain of stateless steps, from the rows of an edge or a source to records. It is named in types, for functions from
/// open streams to open streams, and implemented only here: what is in it is the engine's.
pub trait Chain: sealed::Sealed + Send + Sync + 'static {
    /// The rows that the chain takes.
    type In: Send + 'static;
    /// The records that it yields.
    type Out: Send + 'static;
    /// Whether these have an event time.
    type Time: TimeDomain;
    /// How rows come that are still in the source.
    #[doc(hidden)]
    type Pulled: Pull<Self::In>;
    /// What [`uid`](crate::Stream::uid), which closes a chain, leaves of it: an edge, or a chain without steps itself.
    type Closed: Chain<Out = Self::Out, Time = Self::Time>;

    /// Pushes every row through all steps.
    fn run<N: Rows<Self::In>, E: FnMut(EventTime, Self::Out)>(
        &self,
        rows: N,
        observed: &mut ObservedWatermark,
        emit: &mut E,
    );

    /// What remains of the chain once it is closed.
    #[doc(hidden)]
    fn closed() -> Self::Closed;

    /// How the chain assigns watermarks, if it does.
    fn watermark(&self) -> Option<WatermarkSpec> {
        None
    }
}
