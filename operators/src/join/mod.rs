//! Joins of two keyed streams.
//!
//! [`KeyedStream::join`] puts two streams with the same type of key side by side; [`within`](Join::within) makes an interval
//! join of them, and its methods say which rows come out ([`IntervalJoin::inner`], [`IntervalJoin::left_outer`] …).
//!
//! Each join is one operator with two keyed inputs. It buffers both sides by key and event time ([`buffer`]), and evicts them
//! when the watermark proves that no row can come that they match.

mod bounds;
mod buffer;
mod explain;
mod interval;
mod pairs;
mod semi;

use std::panic::Location;

pub use self::bounds::Bounds;
pub use self::interval::IntervalJoin;

use crate::build::{Append, ByKey, OperatorBuilder};
use crate::chain::{Chain, HasEventTime, TimeDomain};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream};

/// The inputs of a join.
type Sides<K, L, R> = (ByKey<K, L>, ByKey<K, R>);

/// Two keyed streams that are about to be joined: see [`KeyedStream::join`].
#[must_use = "a join needs its bounds: `.within(Bounds::between(before, after))`, and then `.inner()` or another kind"]
pub struct Join<K, L, R, A, B> {
    inputs: OperatorBuilder<Sides<K, L, R>>,
    times: std::marker::PhantomData<fn() -> (A, B)>,
}

impl<K, L, R, A, B> std::fmt::Debug for Join<K, L, R, A, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("key", &std::any::type_name::<K>()).finish_non_exhaustive()
    }
}

impl<K, L, P, Y> KeyedStream<K, L, P, Y>
where
    K: Key,
    L: Data + Clone,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = L>,
{
    /// Joins the rows of two streams that have the same key.
    ///
    /// Both sides must be [inserts](crate::RowKind::Insert): rows that stay as they are once they have been emitted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let seconds = Duration::from_secs;
    /// let graph = Graph::new("clicks of views");
    /// let at = |row: &(u32, i64)| EventTime::from_secs(row.1);
    /// let views = graph.source(memory([(1, 10), (2, 20)])).with_watermark(at, seconds(5));
    /// let clicks = graph.source(memory([(1, 12), (1, 99)])).with_watermark(at, seconds(5));
    /// let (sink, table) = memory_sink();
    /// views
    ///     .key_by(|view| view.0)
    ///     .join(clicks.key_by(|click| click.0))
    ///     .within(Bounds::after(seconds(0)..=seconds(60))) // a click belongs to a view of the minute before it
    ///     .left_outer()
    ///     .map(|(ad, _view, click)| (ad, click.map(|click| click.1)))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(1, Some(12)), (2, None)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn join<R, Q, Z>(self, right: KeyedStream<K, R, Q, Z>) -> Join<K, L, R, P::Time, Q::Time>
    where
        R: Data + Clone,
        Q: Chain,
        Z: Keying<Q::Out, Key = K, Value = R>,
        (): Append<ByKey<K, L>, All = (ByKey<K, L>,)>,
        (ByKey<K, L>,): Append<ByKey<K, R>, All = Sides<K, L, R>>,
    {
        let graph = self.port.graph.clone();
        let inputs = graph.operator("join").keyed_stream(self).keyed_stream(right);
        Join { inputs: inputs.at(Location::caller()), times: std::marker::PhantomData }
    }
}

impl<K, L, R, A, B> Join<K, L, R, A, B>
where
    K: Key,
    L: Data + Clone,
    R: Data + Clone,
    A: TimeDomain,
    B: TimeDomain,
{
    /// Joins rows whose event times are within bounds of each other. Both streams need event time.
    pub fn within(self, bounds: Bounds) -> IntervalJoin<K, L, R>
    where
        A: HasEventTime,
        B: HasEventTime,
    {
        IntervalJoin::new(self.inputs, bounds)
    }
}
