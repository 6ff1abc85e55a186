//! The two clocks by which windows are assigned and close: event time and the engine's.

use crate::build::{StatefulOperator, To};
use crate::chain::pull::Rows;
use crate::chain::sealed::Sealed;
use crate::chain::{Chain, FromEdge, ObservedWatermark, TimeDomain, Timed, Untimed, WatermarkSpec};
use crate::named::{HashedKey, Timers};
use crate::{EventTime, Key, ProcessingTime};

/// The clock of windows. Named in types, implemented only here.
pub trait WindowClock: Sealed + Send + Sync + 'static {
    /// Whether results have an event time.
    type Out: TimeDomain;
    /// Whether it is event time.
    #[doc(hidden)]
    const IS_EVENT: bool;

    /// The instant that the clock has come to.
    #[doc(hidden)]
    fn reached<O: StatefulOperator>(to: &To<'_, O>) -> EventTime;

    /// Has a key woken at an instant.
    #[doc(hidden)]
    fn set_timer<K: Key>(timers: &mut Timers<K>, key: HashedKey<'_, K>, at: EventTime);
}

/// Windows of event time.
#[derive(Debug, Clone, Copy)]
pub enum EventClock {}

/// Windows of processing time: of the clock of the engine.
#[derive(Debug, Clone, Copy)]
pub enum EngineClock {}

impl Sealed for EventClock {}
impl Sealed for EngineClock {}

impl WindowClock for EventClock {
    type Out = Timed;
    const IS_EVENT: bool = true;

    #[inline]
    fn reached<O: StatefulOperator>(to: &To<'_, O>) -> EventTime {
        to.watermark()
    }

    #[inline]
    fn set_timer<K: Key>(timers: &mut Timers<K>, key: HashedKey<'_, K>, at: EventTime) {
        timers.set_event(key, at);
    }
}

impl WindowClock for EngineClock {
    type Out = Untimed;
    const IS_EVENT: bool = false;

    #[inline]
    fn reached<O: StatefulOperator>(to: &To<'_, O>) -> EventTime {
        EventTime::from_micros(to.now().as_micros())
    }

    #[inline]
    fn set_timer<K: Key>(timers: &mut Timers<K>, key: HashedKey<'_, K>, at: EventTime) {
        // A window that ends with the input needs no timer.
        if at < EventTime::MAX {
            timers.set_processing(key, ProcessingTime::from_micros(at.as_micros()));
        }
    }
}

/// The chain before windows of the engine's clock. A stream without event time gets a watermark that advances only when its
/// sources end, which closes the windows that are open then.
#[derive(Debug, Clone)]
pub struct UntilEnd<P> {
    previous: P,
}

impl<P> UntilEnd<P> {
    pub(super) fn of(previous: P) -> Self {
        UntilEnd { previous }
    }
}

impl<P> Sealed for UntilEnd<P> {}

impl<P: Chain> Chain for UntilEnd<P> {
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
        if P::Time::CARRIED {
            return self.previous.run(rows, observed, emit);
        }
        let mut seen = false;
        self.previous.run(rows, &mut ObservedWatermark::new(), &mut |time, value| {
            seen = true;
            emit(time, value);
        });
        observed.seen |= seen;
    }

    fn watermark(&self) -> Option<WatermarkSpec> {
        if P::Time::CARRIED {
            return self.previous.watermark();
        }
        Some(WatermarkSpec { delay: None, idle_after: None })
    }
}
