//! `distinct_within_watermark`: drops rows whose key has been there, for as long as the watermark allows disorder;
//! `distinct_within`: for a span of event time.
//!
//! State: each key, with the event time of its first row and the delay.

use std::panic::Location;
use std::time::Duration;

use super::remembered::{Memory, Remembered};
use crate::build::{ByKey, OperatorBuilder};
use crate::chain::Chain;
use crate::span::{span_problem, words};
use crate::stream::Keying;
use crate::time::micros;
use crate::{Data, EventStream, EventTime, HasEventTime, Key, KeyedStream};

impl<K, T, P, Y> KeyedStream<K, T, P, Y>
where
    K: Key,
    T: Data,
    P: Chain<Out = T, Time: HasEventTime>,
    Y: Keying<T, Key = K, Value = T>,
{
    /// Drops rows whose key another row has had within the delay of the watermark.
    ///
    /// The first row of a key that comes passes. Its key is remembered until the watermark reaches the event time of that row plus the
    /// delay of [`with_watermark`](crate::Stream::with_watermark); the greatest delay, if several streams have been united or
    /// joined. Duplicates do not prolong it. So rows of a key whose event times differ by less than the delay pass once, whatever
    /// their order; a row that comes when the key has been forgotten passes again. Within an epoch of micro-batch the watermark, and
    /// so what is remembered, stays the same. [`distinct_within`](Self::distinct_within) sets another time.
    ///
    /// Rows pass at once, with their event time. Among rows of different workers it is chance which one comes first.
    ///
    /// A row is late if its event time is before the watermark. Late rows are counted and do not pass;
    /// [`distinct_within_watermark_with_late`](Self::distinct_within_watermark_with_late) returns them.
    ///
    /// It is Spark's `dropDuplicatesWithinWatermark`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("orders, once each");
    /// let orders = [(17, 10), (18, 12), (17, 14), (17, 95)]; // (number, second)
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(orders))
    ///     .with_watermark(|order: &(u32, i64)| EventTime::from_secs(order.1), Duration::from_secs(60))
    ///     .key_by(|order| order.0)
    ///     .distinct_within_watermark()
    ///     .map(|(number, _)| number)
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [17, 18]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn distinct_within_watermark(self) -> EventStream<T> {
        self.within_watermark(Location::caller()).0
    }

    /// As [`distinct_within_watermark`](Self::distinct_within_watermark), with the late rows.
    #[track_caller]
    pub fn distinct_within_watermark_with_late(self) -> (EventStream<T>, EventStream<T>) {
        self.within_watermark(Location::caller())
    }

    /// Drops rows whose key another row has had within a span of event time.
    ///
    /// The first row of a key that comes passes. Rows of the key are dropped until their event time has reached that of the row that
    /// passed plus the span: the next row passes, and begins a new span. So the result depends neither on the watermark nor on epochs. A
    /// row that comes out of order, older than the one that passed, is dropped as well. A key is in state until the watermark reaches the
    /// end of its span.
    ///
    /// Rows pass at once, with their event time. Among rows of different workers it is chance which one comes first. A row is late if
    /// its event time is before the watermark. Late rows are counted and do not pass;
    /// [`distinct_within_with_late`](Self::distinct_within_with_late) returns them. A restart with another span is refused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("one alarm per hour");
    /// let alarms = [(1, 10), (1, 30), (1, 65), (2, 70), (1, 140)]; // (sensor, minute)
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(alarms))
    ///     .with_watermark(|alarm: &(u32, i64)| EventTime::from_secs(60 * alarm.1), Duration::ZERO)
    ///     .key_by(|alarm| alarm.0)
    ///     .distinct_within(Duration::from_secs(3_600))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(1, 10), (2, 70), (1, 140)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn distinct_within(self, span: Duration) -> EventStream<T> {
        self.within(span, Location::caller()).0
    }

    /// As [`distinct_within`](Self::distinct_within), with the late rows.
    #[track_caller]
    pub fn distinct_within_with_late(self, span: Duration) -> (EventStream<T>, EventStream<T>) {
        self.within(span, Location::caller())
    }

    fn within_watermark(self, location: &'static Location<'static>) -> (EventStream<T>, EventStream<T>) {
        let delay = match self.chain.watermark() {
            Some(spec) => spec.delay,
            None => self.port.watermark_delay(),
        };
        let duplicates = within_words(delay.unwrap_or_default());
        let operator = self.into_distinct("distinct_within_watermark", duplicates, location);
        match delay {
            Some(Duration::ZERO) => of(operator.problem(NO_DELAY.to_owned()), Duration::ZERO, false),
            Some(delay) => of(operator, delay, false),
            None => of(operator.problem(UNKNOWN_DELAY.to_owned()), Duration::ZERO, false),
        }
    }

    fn within(
        self,
        span: Duration,
        location: &'static Location<'static>,
    ) -> (EventStream<T>, EventStream<T>) {
        let operator = self.into_distinct("distinct_within", within_words(span), location);
        match span_problem("span of the deduplication", span) {
            Some(problem) => of(operator.problem(problem), span, true),
            None => of(operator, span, true),
        }
    }
}

const NO_DELAY: &str = "the watermark of this stream has a delay of zero, so no key would be remembered: give it one in \
                        `.with_watermark(…)`, or say with `.distinct_within(…)` for how long a key is remembered";

const UNKNOWN_DELAY: &str = "the watermark of this stream does not come from `.with_watermark(…)`, so it has no delay: say with \
                             `.distinct_within(…)` for how long a key is remembered";

fn within_words(span: Duration) -> String {
    format!("by key, within {}", words(span))
}

fn of<K: Key, T: Data>(
    operator: OperatorBuilder<(ByKey<K, T>,)>,
    span: Duration,
    by_row: bool,
) -> (EventStream<T>, EventStream<T>) {
    operator.stateful(move |_| Remembered::<K, T, _>::new(For { micros: micros(span), by_row }))
}

/// For a span from the event time of the first row. A key has the time at which it is forgotten.
#[derive(Clone, Copy)]
struct For {
    micros: i64,
    /// Whether the event time of a row decides that it is no duplicate, and not the watermark.
    by_row: bool,
}

impl<K> Memory<K> for For {
    type Value = EventTime;

    #[inline(always)]
    fn remember(self, time: EventTime) -> EventTime {
        EventTime::from_micros(time.as_micros().saturating_add(self.micros))
    }

    #[inline(always)]
    fn now(self, time: EventTime, watermark: EventTime) -> EventTime {
        if self.by_row { time } else { watermark }
    }

    #[inline(always)]
    fn until(_: &K, until: &EventTime) -> EventTime {
        *until
    }
}
