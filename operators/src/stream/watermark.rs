//! `with_watermark`: gives every record an event time, and the stream a watermark.
//!
//! The watermark of a source partition is its latest event time minus the delay. The watermark of the stream is the
//! least over its partitions that are not idle. A watermark never decreases, and checkpoints store it. The rules are
//! those of Spark's `withWatermark`, but per partition, as in Flink: a fast partition never makes the records of a slow
//! one late.

use std::panic::Location;
use std::time::Duration;

use super::Stream;
use crate::EventTime;
use crate::chain::pull::Rows;
use crate::chain::sealed::Sealed;
use crate::chain::{Chain, FromEdge, NoEventTime, ObservedWatermark, Timed, Untimed, WatermarkSpec};
use crate::graph::OnKind;

/// The chain of [`Stream::with_watermark`].
#[derive(Debug, Clone)]
pub struct AssignTime<P, F> {
    previous: P,
    event_time: F,
    delay: Duration,
    idle_after: Option<Duration>,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Assigns event times, and a watermark `delay` behind the latest of each partition.
    ///
    /// A record that is further behind may be late: a window counts it and drops it, or emits it to the second stream
    /// of a method such as [`append_with_late`](crate::WindowedAggregate::append_with_late).
    /// [`WindowedStream::allowed_lateness`](crate::WindowedStream::allowed_lateness) keeps windows beyond their end for such records.
    ///
    /// A single record with a time far in the future advances the watermark, and from then on all records with an
    /// earlier time are late. If you do not trust the times of a source, filter its records first.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("timed");
    /// let timed = graph
    ///     .source(memory(0..3u64))
    ///     .with_watermark(|n| EventTime::from_secs(*n as i64), Duration::from_secs(10))
    ///     .idle_after(Duration::from_secs(30));
    /// # let _ = timed;
    /// ```
    #[track_caller]
    pub fn with_watermark<F>(self, event_time: F, delay: Duration) -> Stream<T, AssignTime<P, F>>
    where
        F: Fn(&T) -> EventTime + Send + Sync + 'static,
        P::Time: NoEventTime,
    {
        self.step("with_watermark", Location::caller(), |previous| AssignTime {
            previous,
            event_time,
            delay,
            idle_after: None,
        })
        .on_kind(OnKind::TakesInserts)
    }

    /// Assigns event times, and takes the watermark from marker records.
    ///
    /// A marker with watermark `t` states that no record with an event time before `t` follows in its partition. Use it
    /// for sources that know their own progress.
    #[track_caller]
    pub fn with_punctuated_watermark<F, G>(
        self,
        event_time: F,
        watermark: G,
    ) -> Stream<T, Punctuated<P, F, G>>
    where
        F: Fn(&T) -> EventTime + Send + Sync + 'static,
        G: Fn(&T) -> Option<EventTime> + Send + Sync + 'static,
        P::Time: NoEventTime,
    {
        self.step("with_punctuated_watermark", Location::caller(), |previous| Punctuated {
            previous,
            event_time,
            watermark,
        })
        .on_kind(OnKind::TakesInserts)
    }
}

impl<T: Send + 'static, P, F> Stream<T, AssignTime<P, F>> {
    /// Sets the time without records after which a partition counts as idle.
    ///
    /// By default, a partition without records holds the watermark of the stream until its next record or its end. With
    /// this setting it does so for `idle_after` only, and then does not hold the watermark until its next record. A
    /// stream whose partitions are all idle does not hold the watermark of a union.
    ///
    /// `idle_after` is measured in processing time. For a partition that has not had a record it begins with the query,
    /// and it does not pass while no query runs. In micro-batch it is measured by the clocks of epochs, which are in
    /// their plans, so a replay finds the same partitions idle. When a partition becomes idle, the driver plans an
    /// epoch.
    pub fn idle_after(mut self, idle_after: Duration) -> Self {
        self.chain.idle_after = Some(idle_after);
        self
    }
}

impl<P, F> Sealed for AssignTime<P, F> {}

impl<P: Chain<Time = Untimed>, F: Fn(&P::Out) -> EventTime + Send + Sync + 'static> Chain
    for AssignTime<P, F>
{
    type In = P::In;
    type Out = P::Out;
    type Time = Timed;
    type Pulled = P::Pulled;
    type Closed = FromEdge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        FromEdge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, P::Out)>(
        &self,
        rows: N,
        observed: &mut ObservedWatermark,
        emit: &mut E,
    ) {
        let mut latest = EventTime::MIN;
        let mut seen = false;
        let mut inner = ObservedWatermark::new();
        self.previous.run(rows, &mut inner, &mut |_, value| {
            let time = (self.event_time)(&value);
            latest = latest.max(time);
            seen = true;
            emit(time, value);
        });
        if seen {
            observed.seen = true;
            observed.watermark = observed.watermark.max(latest - self.delay);
        }
    }

    fn watermark(&self) -> Option<WatermarkSpec> {
        Some(WatermarkSpec { delay: Some(self.delay), idle_after: self.idle_after })
    }
}

/// The chain of [`Stream::with_punctuated_watermark`].
#[derive(Debug, Clone)]
pub struct Punctuated<P, F, G> {
    previous: P,
    event_time: F,
    watermark: G,
}

impl<P, F, G> Sealed for Punctuated<P, F, G> {}

impl<P, F, G> Chain for Punctuated<P, F, G>
where
    P: Chain<Time = Untimed>,
    F: Fn(&P::Out) -> EventTime + Send + Sync + 'static,
    G: Fn(&P::Out) -> Option<EventTime> + Send + Sync + 'static,
{
    type In = P::In;
    type Out = P::Out;
    type Time = Timed;
    type Pulled = P::Pulled;
    type Closed = FromEdge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        FromEdge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, P::Out)>(
        &self,
        rows: N,
        observed: &mut ObservedWatermark,
        emit: &mut E,
    ) {
        let mut inner = ObservedWatermark::new();
        let (mut said, mut seen) = (EventTime::MIN, false);
        self.previous.run(rows, &mut inner, &mut |_, value| {
            seen = true;
            if let Some(watermark) = (self.watermark)(&value) {
                said = said.max(watermark);
            }
            emit((self.event_time)(&value), value);
        });
        observed.seen |= seen;
        observed.watermark = observed.watermark.max(said);
    }

    fn watermark(&self) -> Option<WatermarkSpec> {
        Some(WatermarkSpec { delay: None, idle_after: None })
    }
}
