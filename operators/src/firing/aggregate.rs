//! The aggregate over windows that fire by a policy of their own, and its output modes.

use std::sync::Arc;

use super::TriggeredStream;
use super::clock::{EngineClock, EventClock, WindowClock};
use super::operator::{Firings, Policy};
use super::rows::FiringRow;
use crate::assigners::WindowAssigner;
use crate::chain::{Chain, FromEdge};
use crate::span::{fraction_problem, words};
use crate::stream::Keying;
use crate::window::WindowFiring;
use crate::{Aggregate, Data, EventStream, Key, Stream, WindowResult};

/// An aggregate over such windows without an output mode. Call `firings` or `append` on it.
#[must_use = "an aggregate needs an output mode: `.firings()` or `.append()`"]
pub struct TriggeredAggregate<K, V, P, Y, W, C, A> {
    windows: TriggeredStream<K, V, P, Y, W, C>,
    aggregate: A,
}

impl<K, V, P, Y, W, C, A> std::fmt::Debug for TriggeredAggregate<K, V, P, Y, W, C, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TriggeredAggregate")
            .field("aggregate", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}

/// The firings of windows, and late rows.
type WithLate<R, V, C> = (Stream<R, FromEdge<R, <C as WindowClock>::Out>>, EventStream<V>);

impl<K, V, P, Y, W, C, A> TriggeredAggregate<K, V, P, Y, W, C, A> {
    pub(super) fn new(windows: TriggeredStream<K, V, P, Y, W, C>, aggregate: A) -> Self {
        TriggeredAggregate { windows, aggregate }
    }
}

impl<K, V, P, Y, W, C, A> TriggeredAggregate<K, V, P, Y, W, C, A>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    W: WindowAssigner<V>,
    C: WindowClock,
    A: Aggregate<In = V>,
{
    fn all<R: FiringRow<K, A::Out>, const UPSERTS: bool>(self, problem: Option<String>) -> WithLate<R, V, C> {
        let TriggeredStream { keyed, assigner, policy, location, .. } = self.windows;
        let Policy { lateness, early } = policy;
        let problem = assigner
            .problem()
            .or_else(|| fraction_problem("allowed lateness", lateness))
            .or_else(|| early?.problem())
            .or(problem)
            .or_else(|| self.aggregate.problem());
        let (assigner, aggregate) = (Arc::new(assigner), self.aggregate);
        let name = if C::IS_EVENT { "window" } else { "processing_time_window" };
        let graph = keyed.port.graph.clone();
        let mut operator = graph
            .operator(name)
            .at(location)
            .keyed_stream(keyed)
            .setting("window", assigner.describe())
            .setting("aggregate", aggregate.describe())
            .setting("output", if UPSERTS { "firings" } else { "append" })
            .behind(C::IS_EVENT && assigner.merges());
        if !lateness.is_zero() {
            operator = operator.setting("allowed lateness", words(lateness));
        }
        if let Some(problem) = problem {
            operator = operator.problem(problem);
        }
        operator.stateful(move |_| {
            Firings::<K, A, W, C, R, UPSERTS>::new(Arc::clone(&assigner), aggregate.clone(), policy)
        })
    }

    /// Why windows fire more than once, if they do.
    fn fires_again(&self) -> Option<String> {
        let Policy { lateness, early } = self.windows.policy;
        let why = if lateness.is_zero() {
            format!("they fire early, {}", early?)
        } else {
            format!("late records are allowed for {}", words(lateness))
        };
        Some(format!(
            "`.append()` emits each window once, but {why}: call `.firings()`, whose rows are upserts, or leave that out"
        ))
    }
}

impl<K, V, P, Y, W, A> TriggeredAggregate<K, V, P, Y, W, EventClock, A>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    W: WindowAssigner<V>,
    A: Aggregate<In = V>,
{
    /// Emits each firing of a window, with the value over all its records so far.
    ///
    /// Each row says whether it fires early, on time or late, and how often the window has fired before. A window always fires on time
    /// once, when the watermark reaches its end, unless it is made by a late record. A session that grows after it has fired is another
    /// window, and the former one is [retracted](WindowFiring).
    ///
    /// The rows are [upserts](crate::RowKind) of key and window. Their event time is the last instant of the window, and the watermark of
    /// the stream stays behind by the allowed lateness, so late firings are not late behind it.
    pub fn firings(self) -> EventStream<WindowFiring<K, A::Out>> {
        self.firings_with_late().0
    }

    /// Emits as [`firings`](Self::firings) does, and returns the late records as a second stream.
    ///
    /// A record is late if all its windows have been evicted.
    pub fn firings_with_late(self) -> (EventStream<WindowFiring<K, A::Out>>, EventStream<V>) {
        self.all::<WindowFiring<K, A::Out>, true>(None)
    }

    /// Emits each window once, when the watermark reaches its end.
    ///
    /// A graph whose windows fire early or late is refused with this output mode.
    pub fn append(self) -> EventStream<WindowResult<K, A::Out>> {
        self.append_with_late().0
    }

    /// Emits as [`append`](Self::append) does, and returns the late records as a second stream.
    pub fn append_with_late(self) -> (EventStream<WindowResult<K, A::Out>>, EventStream<V>) {
        let problem = self.fires_again();
        self.all::<WindowResult<K, A::Out>, false>(problem)
    }
}

impl<K, V, P, Y, W, A> TriggeredAggregate<K, V, P, Y, W, EngineClock, A>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    W: WindowAssigner<V>,
    A: Aggregate<In = V>,
{
    /// Emits each firing of a window, with the value over all its records so far.
    ///
    /// Each row says whether it fires early or on time, and how often the window has fired before. The rows are
    /// [upserts](crate::RowKind) of key and window.
    pub fn firings(self) -> Stream<WindowFiring<K, A::Out>> {
        self.all::<WindowFiring<K, A::Out>, true>(None).0
    }

    /// Emits each window once, when the clock reaches its end.
    ///
    /// A graph whose windows fire early is refused with this output mode.
    pub fn append(self) -> Stream<WindowResult<K, A::Out>> {
        let problem = self.fires_again();
        self.all::<WindowResult<K, A::Out>, false>(problem).0
    }
}
