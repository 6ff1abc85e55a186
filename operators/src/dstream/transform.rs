//! Functions over whole batches, and streams of the records of a window.

use std::panic::Location;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DStream;
use crate::chain::Chain;
use crate::{Data, Stream, Window};

/// The records of a batch, or of a window of batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MicroBatch<T> {
    /// The interval of the engine's clock in which they were processed.
    pub interval: Window,
    /// The records. Those of one partition of a source are in their order.
    pub rows: Vec<T>,
}

/// Records of one of two streams.
#[derive(Clone, Serialize, Deserialize)]
enum Of<T, U> {
    Left(T),
    Right(U),
}

impl<T: Data + Clone, P: Chain<Out = T>> DStream<T, P> {
    /// Returns each batch as a whole.
    ///
    /// All records of a batch come to one worker, which holds them until the batch ends.
    #[track_caller]
    pub fn each_batch(self) -> Stream<MicroBatch<T>> {
        let batch = self.interval;
        self.each_window(batch, batch)
    }

    /// Returns the records of the last `length` as a whole, at each multiple of `slide`.
    #[track_caller]
    pub fn each_window(self, length: Duration, slide: Duration) -> Stream<MicroBatch<T>> {
        let windows = self.unkeyed(Location::caller()).windows(length, slide);
        windows.collect().append().map(|it| MicroBatch { interval: it.window, rows: it.value }).boxed()
    }

    /// Emits the records of the last `length` again, at each multiple of `slide`.
    ///
    /// It is the `window` of DStreams: what follows sees a record once for each window that it is in. Sums and counts over windows are
    /// cheaper with [`reduce_by_window`](Self::reduce_by_window) and the like.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let second = Duration::from_secs(1);
    /// let graph = Graph::new("twice");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory([1u64, 2])).batches(second).window(2 * second, second).sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [1, 1, 2, 2]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn window(self, length: Duration, slide: Duration) -> Stream<T> {
        self.each_window(length, slide).flat_map(|batch| batch.rows).boxed()
    }

    /// Calls a function with each batch, and emits what it returns.
    ///
    /// The function may do something else from batch to batch. It is called on one worker at a time, with all records of the batch.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("best of each batch");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([3u64, 9, 4]))
    ///     .batches(Duration::from_secs(3_600))
    ///     .transform(|batch| batch.rows.into_iter().max())
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert!(table.snapshot().contains(&9));
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn transform<I, F>(self, function: F) -> Stream<I::Item>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(MicroBatch<T>) -> I + Send + Sync + 'static,
    {
        self.each_batch().flat_map(function).boxed()
    }

    /// Calls a function with the batches of two streams for the same interval, and emits what it returns.
    ///
    /// The interval is that of this stream. The function gets the interval and the records of each stream; one of them may have none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let hour = Duration::from_secs(3_600);
    /// let graph = Graph::new("not blocked");
    /// let (sink, table) = memory_sink();
    /// let blocked = graph.source(memory([2u64])).batches(hour);
    /// graph
    ///     .source(memory([1u64, 2, 3]))
    ///     .batches(hour)
    ///     .transform_with(blocked, |_, rows, blocked| {
    ///         rows.into_iter().filter(move |row| !blocked.contains(row)).collect::<Vec<_>>()
    ///     })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert!(table.snapshot().contains(&3));
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn transform_with<U, Q, I, F>(self, other: DStream<U, Q>, function: F) -> Stream<I::Item>
    where
        U: Data + Clone,
        Q: Chain<Out = U, Time = P::Time>,
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(Window, Vec<T>, Vec<U>) -> I + Send + Sync + 'static,
    {
        let batch = self.interval;
        let left = self.stream.map(Of::Left);
        let right = other.stream.map(Of::Right);
        left.union(right)
            .batches(batch)
            .each_batch()
            .flat_map(move |MicroBatch { interval, rows }| {
                let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
                for row in rows {
                    match row {
                        Of::Left(row) => of_left.push(row),
                        Of::Right(row) => of_right.push(row),
                    }
                }
                function(interval, of_left, of_right)
            })
            .boxed()
    }
}
