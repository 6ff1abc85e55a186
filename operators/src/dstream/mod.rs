//! A stream as a sequence of batches: the view of Spark's DStreams.
//!
//! [`Stream::batches`] divides a stream by the engine's clock: a batch is what is processed in one interval. In micro-batch with
//! [`Trigger::Every`](crate::graph) of the same interval, an epoch is a batch. This is the processing-time view: which records
//! come into a batch depends on when they arrive, so a second run over the same input has other batches. For results that depend on
//! the records alone use event time: [`Stream::with_watermark`] and [`KeyedStream::window`](crate::KeyedStream::window).
//!
//! It is a thin layer: windows of batches are [windows of processing time](crate::KeyedStream::processing_time_window), and state is in the
//! checkpoint as theirs. A batch without records emits nothing, and no window is without records. At the end of the input, batches
//! and windows that are open end.

mod batches;
mod explain;
mod inverse;
mod keyed;
mod transform;

use std::panic::Location;
use std::time::Duration;

pub use self::batches::BatchWindow;
pub use self::keyed::KeyedDStream;
pub use self::transform::MicroBatch;

use crate::chain::Chain;
use crate::stream::{Keying, Unkeyed};
use crate::{Data, Key, Stream, WindowResult};

/// A stream as a sequence of batches of one interval: what [`Stream::batches`] returns.
///
/// Steps such as `map` and `filter` come before: they do not depend on batches.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct DStream<T, P> {
    stream: Stream<T, P>,
    interval: Duration,
}

impl<T, P> std::fmt::Debug for DStream<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DStream").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl<T: Data, P: Chain<Out = T>> Stream<T, P> {
    /// Divides the stream into batches of processing time: see [`dstream`](self).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let second = Duration::from_secs(1);
    /// let graph = Graph::new("words of the last minute");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(["to be or", "not to be"].map(str::to_owned)))
    ///     .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    ///     .batches(second)
    ///     .count_by_value_and_window(60 * second, 60 * second)
    ///     .map(|row| (row.key, row.value))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let counts = table.snapshot();
    /// assert_eq!(counts.iter().filter(|(word, _)| word == "be").map(|(_, count)| count).sum::<u64>(), 2);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn batches(self, interval: Duration) -> DStream<T, P> {
        DStream { stream: self, interval }
    }
}

impl<T: Data, P: Chain<Out = T>> DStream<T, P> {
    /// Returns the stream without its batches.
    pub fn into_stream(self) -> Stream<T, P> {
        self.stream
    }

    /// Keys the records, for sums by key: see [`KeyedDStream`].
    #[track_caller]
    pub fn key_by<K, F>(self, function: F) -> KeyedDStream<K, T, P, crate::stream::KeyBy<F, K>>
    where
        K: Key,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        KeyedDStream::new(self.stream.key_by(function), self.interval)
    }

    /// Counts the records of each batch.
    #[track_caller]
    pub fn count(self) -> Stream<WindowResult<(), u64>> {
        let batch = self.interval;
        self.count_by_window(batch, batch)
    }

    /// Combines the records of each batch.
    ///
    /// The function must be associative and commutative.
    #[track_caller]
    pub fn reduce<F>(self, combine: F) -> Stream<WindowResult<(), T>>
    where
        T: Clone,
        F: Fn(T, T) -> T + Send + Sync + 'static,
    {
        let batch = self.interval;
        self.reduce_by_window(combine, batch, batch)
    }

    /// Counts how often each value occurs in each batch.
    #[track_caller]
    pub fn count_by_value(self) -> Stream<WindowResult<T, u64>>
    where
        T: Key,
    {
        let batch = self.interval;
        self.count_by_value_and_window(batch, batch)
    }

    /// Counts the records of the last `length`, at each multiple of `slide`.
    ///
    /// Both are multiples of the batch interval; a graph with others is refused before it runs.
    #[track_caller]
    pub fn count_by_window(self, length: Duration, slide: Duration) -> Stream<WindowResult<(), u64>> {
        self.unkeyed(Location::caller()).windows(length, slide).count().append()
    }

    /// Combines the records of the last `length`, at each multiple of `slide`.
    ///
    /// The function must be associative and commutative.
    #[track_caller]
    pub fn reduce_by_window<F>(
        self,
        combine: F,
        length: Duration,
        slide: Duration,
    ) -> Stream<WindowResult<(), T>>
    where
        T: Clone,
        F: Fn(T, T) -> T + Send + Sync + 'static,
    {
        self.unkeyed(Location::caller()).reduce_by_key_and_window(combine, length, slide)
    }

    /// Counts how often each value has occurred in the last `length`, at each multiple of `slide`.
    #[track_caller]
    pub fn count_by_value_and_window(self, length: Duration, slide: Duration) -> Stream<WindowResult<T, u64>>
    where
        T: Key,
    {
        self.key_by(T::clone).windows(length, slide).count().append()
    }

    fn unkeyed(self, location: &'static Location<'static>) -> KeyedDStream<(), T, P, Unkeyed>
    where
        Unkeyed: Keying<T, Key = (), Value = T>,
    {
        KeyedDStream::new(self.stream.unkeyed(location), self.interval)
    }
}
