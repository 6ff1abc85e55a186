//! `distinct`: drops rows whose key and event time have been there.
//!
//! State: the key and event time of each row that the watermark has not passed. Rows go to the worker that owns key *and* event time,
//! so that a hot key is divided among the workers.

use std::marker::PhantomData;
use std::panic::Location;

use super::remembered::{Memory, Remembered};
use crate::chain::pull::Rows;
use crate::chain::{Chain, FromEdge, ObservedWatermark, sealed};
use crate::stream::Keying;
use crate::{Data, EventStream, EventTime, HasEventTime, Key, KeyedStream, hash_key};

impl<K, T, P, Y> KeyedStream<K, T, P, Y>
where
    K: Key,
    T: Data,
    P: Chain<Out = T, Time: HasEventTime>,
    Y: Keying<T, Key = K, Value = T>,
{
    /// Drops rows whose key and event time another row has had: of those, the first that comes passes.
    ///
    /// It is for producers that send a record more than once, with the same event time. If they may give the same record another one, use
    /// [`distinct_within_watermark`](Self::distinct_within_watermark).
    ///
    /// Rows pass at once, with their event time. Among rows of different workers it is chance which one comes first: if such rows
    /// differ in what is not in the key, any of them may pass, and after a failure another one.
    ///
    /// A row is late if its event time is before the watermark. Late rows are counted and do not pass;
    /// [`distinct_with_late`](Self::distinct_with_late) returns them. So a pair of key and event time is kept in state until the
    /// watermark has passed the time.
    ///
    /// It is Spark's `dropDuplicates` on columns among which is the event time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("readings, once each");
    /// let readings = [("a", 10, 21), ("b", 10, 19), ("a", 10, 21), ("a", 11, 21)];
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(readings.map(|(sensor, second, value)| (sensor.to_owned(), second, value))))
    ///     .with_watermark(|reading: &(String, i64, i64)| EventTime::from_secs(reading.1), Duration::from_secs(60))
    ///     .key_by(|reading| reading.0.clone())
    ///     .distinct()
    ///     .map(|(sensor, second, _)| (sensor, second))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [("a".to_owned(), 10), ("b".to_owned(), 10), ("a".to_owned(), 11)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn distinct(self) -> EventStream<T> {
        self.by_time(Location::caller()).0
    }

    /// As [`distinct`](Self::distinct), with the late rows.
    #[track_caller]
    pub fn distinct_with_late(self) -> (EventStream<T>, EventStream<T>) {
        self.by_time(Location::caller())
    }

    fn by_time(self, location: &'static Location<'static>) -> (EventStream<T>, EventStream<T>) {
        let by_key_and_time = KeyedStream {
            port: self.port,
            chain: WithTime(self.chain),
            keying: ByTime(self.keying),
            steps: self.steps,
            marker: PhantomData,
        };
        let operator =
            by_key_and_time.into_distinct("distinct", "by key and event time".to_owned(), location);
        operator.stateful(|_| Remembered::<(K, EventTime), T, _>::new(UntilPassed))
    }
}

/// A chain whose records come with their event time.
struct WithTime<P>(P);

impl<P> sealed::Sealed for WithTime<P> {}

impl<P: Chain> Chain for WithTime<P> {
    type In = P::In;
    type Out = (EventTime, P::Out);
    type Time = P::Time;
    type Pulled = P::Pulled;
    type Closed = FromEdge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        FromEdge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, Self::Out)>(
        &self,
        rows: N,
        observed: &mut ObservedWatermark,
        emit: &mut E,
    ) {
        self.0.run(rows, observed, &mut |time, record| emit(time, (time, record)));
    }

    fn watermark(&self) -> Option<crate::chain::WatermarkSpec> {
        self.0.watermark()
    }
}

/// A keying to which the event time has been added.
struct ByTime<Y>(Y);

impl<Y> sealed::Sealed for ByTime<Y> {}

impl<T, Y: Keying<T>> Keying<(EventTime, T)> for ByTime<Y> {
    type Key = (Y::Key, EventTime);
    type Query = (Y::Key, EventTime);
    type Value = Y::Value;

    #[inline(always)]
    fn each<E: FnMut(u64, &Self::Query, Y::Value)>(&self, record: (EventTime, T), emit: &mut E) {
        self.each_owned(record, &mut |hash, key, value| emit(hash, &key, value));
    }

    #[inline(always)]
    fn each_owned<E: FnMut(u64, Self::Key, Y::Value)>(&self, (time, record): (EventTime, T), emit: &mut E) {
        self.0.each_owned(record, &mut |_, key, value| {
            let key = (key, time);
            emit(hash_key(&key), key, value);
        });
    }
}

/// Until the watermark is after the time in the key: an earlier row with it is late.
#[derive(Clone, Copy)]
struct UntilPassed;

impl<K> Memory<(K, EventTime)> for UntilPassed {
    type Value = ();

    #[inline(always)]
    fn remember(self, _: EventTime) {}

    #[inline(always)]
    fn until((_, time): &(K, EventTime), (): &()) -> EventTime {
        EventTime::from_micros(time.as_micros().saturating_add(1))
    }
}
