//! Whether the records of a stream have an event time, and what then travels on an edge.

use crate::EventTime;

/// Whether the records of a stream have an event time.
pub trait TimeDomain: Send + Sync + 'static {
    /// What travels on an edge.
    type Row<T: Send + 'static>: Send + 'static;
    /// Whether that is more than the record itself.
    const CARRIED: bool;
    /// Puts a record on an edge.
    fn pack<T: Send + 'static>(time: EventTime, value: T) -> Self::Row<T>;
    /// Takes a record from an edge.
    fn unpack<T: Send + 'static>(row: Self::Row<T>) -> (EventTime, T);
}

/// What [`Timed`] is and [`Untimed`] is not, so that the compiler can say what is missing:
///
/// ```compile_fail
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// // "windows and joins need event time, and this stream has none"
/// let windows = Graph::new("untimed").source(memory(0..5)).window(tumbling(Duration::from_secs(1)));
/// ```
#[diagnostic::on_unimplemented(
    message = "windows and joins need event time, and this stream has none",
    label = "put `.with_watermark(|record| event_time, delay)` on the stream before",
    note = "before `key_by`, if there is one; the rows of later steps keep the event time of their record"
)]
pub trait HasEventTime: TimeDomain {}

impl HasEventTime for Timed {}

/// What [`Untimed`] is and [`Timed`] is not, for the same reason.
#[diagnostic::on_unimplemented(
    message = "this stream has an event time already",
    label = "leave out one of the two: a stream has one watermark, and `.map` keeps the event time of its record",
    note = "the results of a window have the window's last instant as their event time"
)]
pub trait NoEventTime: TimeDomain {}

impl NoEventTime for Untimed {}

/// Whether pairs of records of two streams have an event time: only if both records have one.
pub trait WithTime<B: TimeDomain>: TimeDomain {
    /// The same as one type.
    type Both: TimeDomain;
}

impl<B: TimeDomain> WithTime<B> for Timed {
    type Both = B;
}

impl<B: TimeDomain> WithTime<B> for Untimed {
    type Both = Untimed;
}

/// Records have an event time: windows are possible.
#[derive(Debug, Clone, Copy)]
pub enum Timed {}

/// Records have no event time yet: see [`Stream::with_watermark`](crate::Stream::with_watermark).
#[derive(Debug, Clone, Copy)]
pub enum Untimed {}

impl TimeDomain for Timed {
    type Row<T: Send + 'static> = (EventTime, T);
    const CARRIED: bool = true;
    #[inline(always)]
    fn pack<T: Send + 'static>(time: EventTime, value: T) -> (EventTime, T) {
        (time, value)
    }
    #[inline(always)]
    fn unpack<T: Send + 'static>(row: (EventTime, T)) -> (EventTime, T) {
        row
    }
}

impl TimeDomain for Untimed {
    type Row<T: Send + 'static> = T;
    const CARRIED: bool = false;
    #[inline(always)]
    fn pack<T: Send + 'static>(_: EventTime, value: T) -> T {
        value
    }
    #[inline(always)]
    fn unpack<T: Send + 'static>(row: T) -> (EventTime, T) {
        (EventTime::MIN, row)
    }
}
