//! Joins of two keyed streams, and of a keyed stream with a static side.
//!
//! [`KeyedStream::join`] puts two streams with the same type of key side by side; a method of [`Join`] says which rows match, and
//! a method of what that returns says which rows come out ([`IntervalJoin::inner`], [`IntervalJoin::left_outer`] …).
//!
//! | rows match | by | file |
//! |---|---|---|
//! | whose times are within bounds | [`Join::within`] | `interval.rs`, `pairs.rs`, `semi.rs`, `buffer.rs` |
//! | in the same window | [`Join::window`], [`Join::session_by`] | `window_join.rs`, `tumbling_join.rs`, `windows.rs` |
//! | if the right one is the version valid at the time of the left one | [`Join::as_of`] | `temporal.rs` |
//! | by their keys alone | [`Join::with_ttl`], [`Join::unbounded`] | `equi.rs` |
//! | of a stream and a static side | [`KeyedStream::join_static`] | `static_join.rs`, `static_side.rs` |
//!
//! Each join is one operator. Those by event time evict rows when the watermark proves that none can come that they match.

mod bounds;
mod buffer;
mod equi;
mod explain;
mod interval;
mod pairs;
mod semi;
mod static_join;
mod static_side;
mod temporal;
mod tumbling_join;
mod window_join;
mod windows;

use std::panic::Location;
use std::time::Duration;

pub use self::bounds::Bounds;
pub use self::equi::EquiJoin;
pub use self::interval::IntervalJoin;
pub use self::static_join::{Enriched, StaticJoin};
pub use self::static_side::StaticSide;
pub use self::temporal::TemporalJoin;
pub use self::window_join::WindowJoin;
pub use self::windows::JoinWindows;

use self::windows::Gaps;
use crate::build::{Append, ByKey, OperatorBuilder};
use crate::chain::{Chain, HasEventTime, TimeDomain, WithTime};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream};

/// The inputs of a join.
type Sides<K, L, R> = (ByKey<K, L>, ByKey<K, R>);

/// Two keyed streams that are about to be joined: see [`KeyedStream::join`].
#[must_use = "a join needs to know which rows match, `.within(…)`, `.window(…)` or another, and then `.inner()` or another kind"]
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

    /// Joins rows that are in the same window: [`tumbling`](crate::tumbling), [`sliding`](crate::sliding) or
    /// [`session`](crate::session); [`session_by`](Self::session_by) has gaps by row. Both streams need event time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let seconds = Duration::from_secs;
    /// let graph = Graph::new("views and clicks of the same visit");
    /// let at = |row: &(&'static str, i64)| EventTime::from_secs(row.1);
    /// let views = graph.source(memory([("ann", 10), ("ann", 35), ("bob", 12)])).with_watermark(at, seconds(5));
    /// let clicks = graph.source(memory([("ann", 30), ("bob", 90)])).with_watermark(at, seconds(5));
    /// let (sink, table) = memory_sink();
    /// views
    ///     .map(|(user, second)| (user.to_owned(), second))
    ///     .key_by(|view| view.0.clone())
    ///     .join(clicks.map(|(user, second)| (user.to_owned(), second)).key_by(|click| click.0.clone()))
    ///     .window(session(seconds(30)))
    ///     .inner()
    ///     .map(|it| (it.key, it.window.start.as_secs(), it.value.0.1, it.value.1.1))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [("ann".to_owned(), 10, 10, 30), ("ann".to_owned(), 10, 35, 30)]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn window(self, windows: impl Into<JoinWindows>) -> WindowJoin<K, L, R>
    where
        A: HasEventTime,
        B: HasEventTime,
    {
        WindowJoin::new(self.inputs, windows.into())
    }

    /// Joins rows that are in the same session, where each row has a gap of its own: as [`window`](Self::window) with
    /// [`session_by`](crate::session_by). Both streams need event time.
    ///
    /// A row of either side at `t` spans `[t, t + gap)`; rows of a key whose spans overlap or touch are in one session.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let seconds = Duration::from_secs;
    /// let graph = Graph::new("a video keeps a visit open");
    /// let at = |row: &(u32, i64)| EventTime::from_secs(row.1);
    /// let videos = graph.source(memory([(1, 10)])).with_watermark(at, seconds(5));
    /// let clicks = graph.source(memory([(1, 200), (1, 230), (1, 500)])).with_watermark(at, seconds(5));
    /// let (sink, table) = memory_sink();
    /// videos
    ///     .key_by(|video| video.0)
    ///     .join(clicks.key_by(|click| click.0))
    ///     .session_by(move |_video| seconds(200), move |_click| seconds(30))
    ///     .co_group(|_user, videos, clicks| (videos.len(), clicks.len()))
    ///     .map(|it| (it.window.start.as_secs(), it.window.end.as_secs(), it.value))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(10, 260, (1, 2)), (500, 530, (0, 1))]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn session_by<F, G>(self, left: F, right: G) -> WindowJoin<K, L, R>
    where
        A: HasEventTime,
        B: HasEventTime,
        F: Fn(&L) -> Duration + Send + Sync + 'static,
        G: Fn(&R) -> Duration + Send + Sync + 'static,
    {
        WindowJoin::by_gaps(self.inputs, Gaps::new(left, right))
    }

    /// Joins each left row with the right row that is the latest at its event time. Both streams need event time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("orders at the rate of their time");
    /// let at = |row: &(u32, i64, i64)| EventTime::from_secs(row.1);
    /// let orders = graph.source(memory([(1, 5, 100), (1, 20, 100), (1, 31, 100)])).with_watermark(at, Duration::ZERO);
    /// let rates = graph.source(memory([(1, 10, 3), (1, 30, 4)])).with_watermark(at, Duration::ZERO);
    /// let (sink, table) = memory_sink();
    /// orders
    ///     .key_by(|order| order.0)
    ///     .join(rates.key_by(|rate| rate.0))
    ///     .as_of()
    ///     .left_outer()
    ///     .map(|(_, order, rate)| rate.map(|rate| order.2 * rate.2))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [None, Some(300), Some(400)]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn as_of(self) -> TemporalJoin<K, L, R>
    where
        A: HasEventTime,
        B: HasEventTime,
    {
        TemporalJoin::new(self.inputs)
    }

    /// Joins rows by their keys alone, if they come within `ttl` of each other by the engine's clock.
    ///
    /// A row is kept for `ttl`. A restart may change it: rows that are kept already count from the time at which they came.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("answers");
    /// let questions = graph.source(memory([(1u32, "when?"), (2, "why?")])).map(|(id, text)| (id, text.to_owned()));
    /// let answers = graph.source(memory([(1u32, 1969u64)]));
    /// let (sink, table) = memory_sink();
    /// questions
    ///     .key_by(|question| question.0)
    ///     .join(answers.key_by(|answer| answer.0))
    ///     .with_ttl(Duration::from_secs(3_600))
    ///     .inner()
    ///     .map(|(_, question, answer)| (question.1, answer.1))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [("when?".to_owned(), 1969)]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn with_ttl(self, ttl: Duration) -> EquiJoin<K, L, R, A::Both>
    where
        A: WithTime<B>,
    {
        EquiJoin::new(self.inputs, Some(ttl))
    }

    /// Joins rows by their keys alone, and keeps all of them for ever.
    ///
    /// The state grows with every row of both streams: see [`with_ttl`](Self::with_ttl).
    pub fn unbounded(self) -> EquiJoin<K, L, R, A::Both>
    where
        A: WithTime<B>,
    {
        EquiJoin::new(self.inputs, None)
    }
}
