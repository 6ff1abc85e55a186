//! Batches by key.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::batches::BatchWindow;
use super::inverse::Inverse;
use crate::chain::Chain;
use crate::firing::{EngineClock, TriggeredStream, UntilEnd};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, Stream, WindowResult};

/// A keyed stream as a sequence of batches: what [`DStream::key_by`](super::DStream::key_by) returns.
///
/// State by key over all batches is that of the keyed stream itself, [`into_keyed`](Self::into_keyed):
/// [`update_state_by_key`](KeyedStream::update_state_by_key), [`map_with_state`](KeyedStream::map_with_state), joins with static data.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedDStream<K, V, P, Y> {
    keyed: KeyedStream<K, V, P, Y>,
    interval: Duration,
}

impl<K, V, P, Y> std::fmt::Debug for KeyedDStream<K, V, P, Y> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedDStream").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedDStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    pub(super) fn new(keyed: KeyedStream<K, V, P, Y>, interval: Duration) -> Self {
        KeyedDStream { keyed, interval }
    }

    /// Returns the keyed stream without its batches.
    pub fn into_keyed(self) -> KeyedStream<K, V, P, Y> {
        self.keyed
    }

    /// Divides the records of each key into windows of batches: of the last `length`, at each multiple of `slide`.
    ///
    /// Both are multiples of the batch interval; a graph with others is refused before it runs. Call an aggregate on the result, and
    /// `append`: `windows(length, slide).average(f).append()`.
    #[track_caller]
    pub fn windows(
        self,
        length: Duration,
        slide: Duration,
    ) -> TriggeredStream<K, V, UntilEnd<P>, Y, BatchWindow, EngineClock> {
        self.keyed.processing_time_window(BatchWindow::new(self.interval, length, slide))
    }

    /// Divides the records of each key into their batches, as [`windows`](Self::windows) of one batch.
    #[track_caller]
    pub fn each_batch(self) -> TriggeredStream<K, V, UntilEnd<P>, Y, BatchWindow, EngineClock> {
        self.keyed.processing_time_window(BatchWindow::each(self.interval))
    }

    /// Combines the records of each key in each batch.
    ///
    /// The function must be associative and commutative.
    #[track_caller]
    pub fn reduce_by_key<F>(self, combine: F) -> Stream<WindowResult<K, V>>
    where
        V: Clone,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        self.each_batch().reduce(combine).append()
    }

    /// Gathers the records of each key in each batch.
    #[track_caller]
    pub fn group_by_key(self) -> Stream<WindowResult<K, Vec<V>>>
    where
        V: Clone,
    {
        self.each_batch().collect().append()
    }

    /// Gathers the records of each key of the last `length`, at each multiple of `slide`.
    #[track_caller]
    pub fn group_by_key_and_window(self, length: Duration, slide: Duration) -> Stream<WindowResult<K, Vec<V>>>
    where
        V: Clone,
    {
        self.windows(length, slide).collect().append()
    }

    /// Combines the records of each key of the last `length`, at each multiple of `slide`.
    ///
    /// The function must be associative and commutative. A record is combined once for each window that it is in: where windows
    /// overlap much and the function has an inverse, use
    /// [`reduce_by_key_and_window_inverse`](Self::reduce_by_key_and_window_inverse).
    #[track_caller]
    pub fn reduce_by_key_and_window<F>(
        self,
        combine: F,
        length: Duration,
        slide: Duration,
    ) -> Stream<WindowResult<K, V>>
    where
        V: Clone,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        self.windows(length, slide).reduce(combine).append()
    }

    /// Combines the records of each key of the last `length`, at each multiple of `slide`, by combining what comes into the window and
    /// taking out what leaves it.
    ///
    /// `inverse(total, leaving)` undoes `combine(rest, leaving)`: `|a, b| a - b` for `|a, b| a + b`. A slide costs a call of each
    /// function for each key, however long the window is. A key whose records have all left the window has no results and no
    /// state. With floats the results drift, since neither addition nor subtraction is exact.
    ///
    /// It is Spark's `reduceByKeyAndWindow` with an inverse function, which keeps keys at zero unless a filter drops them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let second = Duration::from_secs(1);
    /// let graph = Graph::new("bytes of the last minute");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([("a", 10u64), ("b", 1), ("a", 5)].map(|(host, bytes)| (host.to_owned(), bytes))))
    ///     .batches(second)
    ///     .key_by(|(host, _)| host.clone())
    ///     .reduce_by_key_and_window_inverse(
    ///         |(host, a), (_, b)| (host, a + b),
    ///         |(host, a), (_, b)| (host, a - b),
    ///         60 * second,
    ///         10 * second,
    ///     )
    ///     .map(|row| row.value)
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert!(table.snapshot().contains(&("b".to_owned(), 1)));
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn reduce_by_key_and_window_inverse<F, G>(
        self,
        combine: F,
        inverse: G,
        length: Duration,
        slide: Duration,
    ) -> Stream<WindowResult<K, V>>
    where
        V: Clone,
        F: Fn(V, V) -> V + Send + Sync + 'static,
        G: Fn(V, V) -> V + Send + Sync + 'static,
        Y: Keying<<UntilEnd<P> as Chain>::Out, Key = K, Value = V>,
    {
        let window = BatchWindow::new(self.interval, length, slide);
        let divides = length.as_nanos().is_multiple_of(slide.as_nanos().max(1));
        let problem = window.cannot_be().or_else(|| {
            (!divides).then(|| {
                "the window's length must be a multiple of its slide, so that whole slides leave it: change one of the two, or \
                 use `reduce_by_key_and_window`"
                    .to_owned()
            })
        });
        let functions = Arc::new((combine, inverse));
        let graph = self.keyed.port.graph.clone();
        let mut operator = graph
            .operator("reduce_by_key_and_window_inverse")
            .at(Location::caller())
            .keyed_stream(self.keyed.until_end())
            .setting("window", window.in_words());
        if let Some(problem) = problem {
            operator = operator.problem(problem);
        }
        operator.stateful(move |_| Inverse::new((length, slide), Arc::clone(&functions)))
    }
}
