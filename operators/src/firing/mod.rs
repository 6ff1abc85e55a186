//! Windows that fire early, on time and late; windows of processing time, of all records, by count and of one's own.
//!
//! [`WindowedStream::allowed_lateness`] and [`WindowedStream::early`] change when the windows of a stream fire. Other windows have a
//! method on keyed streams: [`window_by`](KeyedStream::window_by), [`processing_time_window`](KeyedStream::processing_time_window),
//! [`global_window`](KeyedStream::global_window), [`count_window`](KeyedStream::count_window).
//!
//! They are operators over [named state](crate::named). A record is added to each of its windows on the worker that holds its key;
//! windows without these methods pre-aggregate on the worker that reads, and share panes.

mod aggregate;
mod clock;
mod count;
mod early;
mod explain;
mod operator;
mod pane;
mod rows;
mod shortcuts;

use std::panic::Location;
use std::time::Duration;

pub use self::aggregate::TriggeredAggregate;
pub use self::clock::{EngineClock, EventClock, UntilEnd, WindowClock};
pub use self::count::{CountResult, CountedAggregate, CountedStream};
pub use self::early::Early;

use self::operator::Policy;
use crate::assigners::{GlobalWindow, WindowAssigner};
use crate::chain::Chain;
use crate::group::WindowedStream;
use crate::stream::{HasEventTime, Keying, Unkeyed};
use crate::{Aggregate, Data, Key, KeyedStream, Stream};

/// A stream divided into windows that fire by a policy of their own. Call an aggregate on it.
///
/// `C` is the clock of the windows: [`EventClock`] or [`EngineClock`].
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct TriggeredStream<K, V, P, Y, W, C> {
    keyed: KeyedStream<K, V, P, Y>,
    assigner: W,
    policy: Policy,
    location: &'static Location<'static>,
    marker: std::marker::PhantomData<fn() -> C>,
}

impl<K, V, P, Y, W, C> std::fmt::Debug for TriggeredStream<K, V, P, Y, W, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TriggeredStream").field("window", &std::any::type_name::<W>()).finish_non_exhaustive()
    }
}

impl<K, V, P, Y, W, C> TriggeredStream<K, V, P, Y, W, C> {
    fn new(keyed: KeyedStream<K, V, P, Y>, assigner: W, location: &'static Location<'static>) -> Self {
        let policy = Policy { lateness: Duration::ZERO, early: None };
        TriggeredStream { keyed, assigner, policy, location, marker: std::marker::PhantomData }
    }

    /// Lets windows fire before their end, too.
    ///
    /// Then call [`firings`](TriggeredAggregate::firings) on the aggregate.
    pub fn early(mut self, early: Early) -> Self {
        self.policy.early = Some(self.policy.early.map_or(early, |first| first.again(early)));
        self
    }
}

impl<K, V, P, Y, W> TriggeredStream<K, V, P, Y, W, EventClock> {
    /// Keeps each window for `lateness` after its end, for late records: see [`WindowedStream::allowed_lateness`].
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.policy.lateness = lateness;
        self
    }
}

impl<K, V, P, Y, W, C> TriggeredStream<K, V, P, Y, W, C> {
    /// Aggregates the records of each key and window.
    ///
    /// [`count`](Self::count), [`sum`](Self::sum) and others are shorter forms.
    pub fn aggregate<A: Aggregate<In = V>>(self, aggregate: A) -> TriggeredAggregate<K, V, P, Y, W, C, A> {
        TriggeredAggregate::new(self, aggregate)
    }
}

impl<K, V, P, Y, W> WindowedStream<K, V, P, Y, W>
where
    V: Data,
    W: WindowAssigner<V>,
{
    /// Keeps each window for `lateness` after the watermark has passed its end, and fires it again when a late record comes.
    ///
    /// The result is a stream of firings: see [`TriggeredAggregate::firings`]. A window first fires when the watermark reaches its
    /// end, and then once per epoch (in continuous mode once per activation) in which it gets late records. It is evicted when the
    /// watermark reaches its end plus `lateness`. A record is late if all its windows have been evicted; for sessions, if the session
    /// that it is in or would begin ends more than `lateness` before the watermark.
    ///
    /// It is Flink's and Beam's allowed lateness. A delay of the watermark makes every result late; an allowed lateness
    /// emits it in time and corrects it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::FiringKind::{Late, OnTime};
    /// use tidemill::prelude::*;
    ///
    /// let seconds = |n| Duration::from_secs(n);
    /// let graph = Graph::new("corrected");
    /// let (firings, too_late) = graph
    ///     .source(memory([1i64, 12, 3, 45, 4]))
    ///     .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
    ///     .window(tumbling(seconds(10)))
    ///     .allowed_lateness(seconds(30))
    ///     .count()
    ///     .firings_with_late();
    /// let ((sink, table), (late_sink, late)) = (memory_sink(), memory_sink());
    /// firings.filter(|it| it.window.start == EventTime::from_secs(0)).sink(sink);
    /// too_late.sink(late_sink);
    /// // One record per epoch: when 3 arrives, the watermark is 12; when 4 arrives, it is 45.
    /// graph.run(Options::default().with_max_records_per_epoch(1))?;
    /// let firings: Vec<_> = table.snapshot().into_iter().map(|it| (it.value, it.kind, it.revision)).collect();
    /// assert_eq!(firings, [(Some(1), OnTime, 0), (Some(2), Late, 1)]);
    /// assert_eq!(late.snapshot(), [4]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn allowed_lateness(self, lateness: Duration) -> TriggeredStream<K, V, P, Y, W, EventClock> {
        TriggeredStream::<_, _, _, _, _, EventClock>::new(self.keyed, self.window, self.location)
            .allowed_lateness(lateness)
    }

    /// Lets windows fire before their end, too.
    ///
    /// The result is a stream of firings: see [`TriggeredAggregate::firings`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("sales so far");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([1i64, 2, 3, 4, 5]))
    ///     .with_watermark(|hour| EventTime::from_secs(3_600 * hour), Duration::ZERO)
    ///     .window(tumbling(Duration::from_secs(24 * 3_600)))
    ///     .early(Early::every_records(2))
    ///     .sum(|hour| *hour)
    ///     .firings()
    ///     .map(|firing| (firing.kind.to_string(), firing.value))
    ///     .sink(sink);
    /// graph.run(Options::default().with_max_records_per_epoch(1))?;
    /// let wanted = [("early", 3), ("early", 10), ("on_time", 15)];
    /// assert_eq!(table.snapshot(), wanted.map(|(kind, sum)| (kind.to_owned(), Some(sum))));
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn early(self, early: Early) -> TriggeredStream<K, V, P, Y, W, EventClock> {
        TriggeredStream::new(self.keyed, self.window, self.location).early(early)
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Divides the records of each key into windows of event time, by a definition of your own or a
    /// [`cumulative`](crate::cumulative) one.
    ///
    /// [`WindowAssigner`] has an example. For tumbling, sliding and session windows [`window`](Self::window) is faster.
    #[track_caller]
    pub fn window_by<W>(self, assigner: W) -> TriggeredStream<K, V, P, Y, W, EventClock>
    where
        W: WindowAssigner<V>,
        P::Time: HasEventTime,
    {
        TriggeredStream::new(self, assigner, Location::caller())
    }

    /// Divides the records of each key into windows of processing time: by the engine's clock when they are processed.
    ///
    /// All windows of event time are possible: [`tumbling`](crate::tumbling), [`sliding`](crate::sliding),
    /// [`session`](crate::session), [`session_by`](crate::session_by), [`cumulative`](crate::cumulative) and those of your own. The
    /// stream needs no event time. No record is late, and results depend on when records arrive: a run over the same input has others.
    ///
    /// In micro-batch an epoch has one reading of the clock, so all its records are in the same windows; a window closes in the first
    /// epoch whose clock has reached its end, before the records of that epoch. A replay of an epoch has the same clock. At the end of the
    /// input all windows close.
    ///
    /// Results have no event time; the bounds of [`WindowResult::window`](crate::WindowResult) are times of the engine's clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("requests per second");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(["/", "/about", "/"].map(str::to_owned)))
    ///     .key_by(|page| page.clone())
    ///     .processing_time_window(tumbling(Duration::from_secs(1)))
    ///     .count()
    ///     .append()
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot().iter().map(|row| row.value).sum::<u64>(), 3);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn processing_time_window<W>(
        self,
        assigner: W,
    ) -> TriggeredStream<K, V, UntilEnd<P>, Y, W, EngineClock>
    where
        W: WindowAssigner<V>,
        Y: Keying<<UntilEnd<P> as Chain>::Out, Key = K, Value = V>,
    {
        TriggeredStream::new(self.until_end(), assigner, Location::caller())
    }

    /// The same with a watermark that ends with the input, if it has none.
    pub(crate) fn until_end(self) -> KeyedStream<K, V, UntilEnd<P>, Y> {
        let KeyedStream { port, chain, keying, steps, marker } = self;
        KeyedStream { port, chain: UntilEnd::of(chain), keying, steps, marker }
    }

    /// Has all records of each key in one window, which fires as `early` says and at the end of the input.
    ///
    /// It is Flink's global window with a trigger. The window accumulates: each firing is over all records of the key so far, and the
    /// state of a key is never evicted. For results over `n` records each there is [`count_window`](Self::count_window).
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("every second reading");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([20i64, 22, 27, 21, 25]))
    ///     .key_by(|_| ())
    ///     .global_window(Early::every_records(2))
    ///     .max(|celsius| *celsius)
    ///     .firings()
    ///     .map(|firing| firing.value)
    ///     .sink(sink);
    /// graph.run(Options::default().with_max_records_per_epoch(1))?;
    /// assert_eq!(table.snapshot(), [22, 27, 27].map(Some));
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn global_window(
        self,
        early: Early,
    ) -> TriggeredStream<K, V, UntilEnd<P>, Y, GlobalWindow, EngineClock>
    where
        Y: Keying<<UntilEnd<P> as Chain>::Out, Key = K, Value = V>,
    {
        self.processing_time_window(GlobalWindow).early(early)
    }
}

impl<T: Data, P: Chain<Out = T>> Stream<T, P> {
    /// Divides all records into windows of event time, without keys, as [`KeyedStream::window_by`] does.
    #[track_caller]
    pub fn window_by<W>(self, assigner: W) -> TriggeredStream<(), T, P, Unkeyed, W, EventClock>
    where
        W: WindowAssigner<T>,
        P::Time: HasEventTime,
    {
        let location = Location::caller();
        TriggeredStream::new(self.unkeyed(location), assigner, location)
    }

    /// Divides all records into windows of processing time, without keys, as [`KeyedStream::processing_time_window`] does.
    #[track_caller]
    pub fn processing_time_window<W>(
        self,
        assigner: W,
    ) -> TriggeredStream<(), T, UntilEnd<P>, Unkeyed, W, EngineClock>
    where
        W: WindowAssigner<T>,
    {
        let location = Location::caller();
        self.unkeyed(location).processing_time_window(assigner)
    }
}
