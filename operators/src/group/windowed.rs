//! Aggregates by event-time window.
//!
//! Emits by output mode: append (a window once, when it closes), update (the windows that have changed), complete (all
//! windows). Keeps an accumulator per key and open window (in complete mode, per key and every window). A late record
//! is counted, and emitted on the late output if there is one.

use std::panic::Location;
use std::time::Duration;

use super::emission::{Append, Complete, Emit, OutputMode, Update, WindowShape};
use super::{Front, Grouping};
use crate::state::Windowing;
use crate::stream::{Chain, EventStream, HasEventTime, KeyedStream, Keying, Timed, Unkeyed};
use crate::{Aggregate, Key, Stream, WindowResult};

/// A stream divided into windows. Call an aggregate on it.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct WindowedStream<K, V, P, Y, W> {
    pub(crate) keyed: KeyedStream<K, V, P, Y>,
    pub(crate) window: W,
    pub(crate) location: &'static Location<'static>,
}

impl<K, V, P, Y, W> std::fmt::Debug for WindowedStream<K, V, P, Y, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedStream").field("window", &std::any::type_name::<W>()).finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Send + 'static,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Divides the records of each key into windows of event time.
    ///
    /// Windows are [`tumbling`](crate::tumbling), [`sliding`](crate::sliding), [`session`](crate::session) or
    /// [`session_by`](crate::session_by). The stream needs an event time and a watermark: see
    /// [`Stream::with_watermark`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("by ten seconds");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(0..25u64))
    ///     .with_watermark(|n| EventTime::from_secs(*n as i64), Duration::ZERO)
    ///     .key_by(|n| n % 2)
    ///     .window(tumbling(Duration::from_secs(10)))
    ///     .count()
    ///     .append()
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let rows = table.snapshot();
    /// assert_eq!(rows.iter().map(|r| r.value).sum::<u64>(), 25);
    /// assert_eq!(rows.len(), 6);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn window<W: Windowing<V>>(self, window: W) -> WindowedStream<K, V, P, Y, W>
    where
        P::Time: HasEventTime,
    {
        WindowedStream { keyed: self, window, location: Location::caller() }
    }
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Divides all records into windows, without keys.
    ///
    /// Each window has one result, whose key is `()`.
    #[track_caller]
    pub fn window<W: Windowing<T>>(self, window: W) -> WindowedStream<(), T, P, Unkeyed, W>
    where
        P::Time: HasEventTime,
    {
        let location = Location::caller();
        WindowedStream { keyed: self.unkeyed(location), window, location }
    }
}

impl<K, V, P, Y, W> WindowedStream<K, V, P, Y, W>
where
    K: Key,
    V: Send + 'static,
    P: Chain<Time = Timed>,
    Y: Keying<P::Out, Key = K, Value = V>,
    W: Windowing<V>,
{
    /// Aggregates the records of each key and window.
    ///
    /// [`count`](Self::count), [`sum`](Self::sum) and others are shorter forms.
    pub fn aggregate<A: Aggregate<In = V>>(self, aggregate: A) -> WindowedAggregate<K, V, P, Y, W, A> {
        WindowedAggregate { windowed: self, aggregate }
    }
}

/// A windowed aggregate without an output mode. Call `append`, `update` or `complete` on it.
#[must_use = "an aggregate needs an output mode: `.append()`, `.update()` or `.complete()`"]
pub struct WindowedAggregate<K, V, P, Y, W, A> {
    windowed: WindowedStream<K, V, P, Y, W>,
    aggregate: A,
}

impl<K, V, P, Y, W, A> std::fmt::Debug for WindowedAggregate<K, V, P, Y, W, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedAggregate")
            .field("aggregate", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}

/// The results of a window, whose event time is the window's last instant: they can be windowed again.
type Results<K, A> = EventStream<WindowResult<K, <A as Aggregate>::Out>>;

impl<K, V, P, Y, W, A> WindowedAggregate<K, V, P, Y, W, A>
where
    K: Key,
    V: Send + 'static,
    P: Chain<Time = Timed>,
    Y: Keying<P::Out, Key = K, Value = V>,
    W: Windowing<V>,
    A: Aggregate<In = V>,
{
    /// Emits each window once, when the watermark has passed its end.
    pub fn append(self) -> Results<K, A> {
        self.append_with_late().0
    }

    /// Emits as [`append`](Self::append) does, and returns the late records as a second stream.
    ///
    /// A record is late if all its windows have closed.
    pub fn append_with_late(self) -> (Results<K, A>, EventStream<V>) {
        self.build::<Append>(Emit::Append)
    }

    /// Emits each window that has changed, with its current value.
    ///
    /// In micro-batch it emits once per epoch; in continuous mode at once, or within `latency_budget` while sources
    /// have a backlog. A closed window is not emitted again.
    ///
    /// After a restart from a checkpoint no value is emitted until it changes. So a table of these rows elsewhere must live as
    /// long as the checkpoint, or be rebuilt from the sink's output.
    ///
    /// Its rows are [upserts](crate::RowKind), which not every operator takes.
    pub fn update(self) -> Results<K, A> {
        self.update_with_late().0
    }

    /// Emits as [`update`](Self::update) does, and returns the late records as a second stream.
    ///
    /// A record is late if all its windows have closed.
    pub fn update_with_late(self) -> (Results<K, A>, EventStream<V>) {
        self.build::<Update>(Emit::Update { every: None })
    }

    /// Emits each window that has changed, in continuous mode at most once per `every`.
    ///
    /// `every` is processing time. In continuous mode changed windows are also emitted at the end of each epoch (see
    /// `Options::checkpoint_interval`), and a window at once when it closes. In micro-batch it emits as
    /// [`update`](Self::update) does.
    pub fn update_every(self, every: Duration) -> Results<K, A> {
        self.build::<Update>(Emit::Update { every: Some(every) }).0
    }

    /// Emits all windows at the end of every epoch.
    ///
    /// No record is late and no window is dropped, so use it for bounded input or small tables. Its rows are
    /// [snapshots](crate::RowKind).
    pub fn complete(self) -> Results<K, A> {
        self.build::<Complete>(Emit::Complete).0
    }

    fn build<O: OutputMode>(self, emit: Emit) -> (Results<K, A>, EventStream<V>) {
        let WindowedStream { keyed, window, location } = self.windowed;
        let (definition, settings) = (window.describe(), window.settings());
        let problem = window.problem();
        let graph = keyed.port.graph.clone();
        let port = Grouping {
            port: keyed.port,
            front: Front { chain: keyed.chain, keying: keyed.keying },
            steps: keyed.steps,
            aggregate: self.aggregate,
            local_state: {
                let window = window.clone();
                move || window.partials::<K, A>()
            },
            state: move || window.state::<K, A, O::Mark>(),
            emit,
            op: "window",
            window: definition,
            settings,
            location,
        }
        .build::<W::State<K, A, O::Mark>, W::Partials<K, A>, WindowShape<O>>();
        if let Some(problem) = problem {
            graph.problem(port.node, problem);
        }
        let late = port.sibling(1);
        (Stream::at(port), Stream::at(late))
    }
}
