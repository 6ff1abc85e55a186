//! Windows that end with a pause of a key.

use std::sync::Arc;
use std::time::Duration;

use crate::setting::Setting;
use crate::span::{span_problem, words};
use crate::state::{Gap, Mark, SessionParts, SessionState, Windowing};
use crate::window::Window;
use crate::{Aggregate, EventTime, Key};

/// Session windows: per key, records at most `gap` apart are one session.
///
/// A record at `t` spans `[t, t + gap)`, and spans of the same key that overlap or touch are one session.
///
/// `append` emits a session and drops its state when the watermark is beyond its end, since a record at its very end
/// still belongs to it. So the watermark of sessions, and of what is behind them, is a microsecond behind that of their
/// input.
///
/// A record whose own span ends at the watermark or after it is not late. If such a record arrives after the session was
/// emitted, but its time is before the end of that session, it begins a second session that overlaps the first. A
/// longer delay of the watermark makes this rarer.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let visit = session(Duration::from_secs(30));
/// let alone = visit.span_of(EventTime::from_secs(100));
/// assert_eq!(alone.end, EventTime::from_secs(130));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionWindow {
    gap: Duration,
    /// The same as records need it.
    micros: i64,
}

/// Returns sessions that end when a key has had no record for longer than `gap` of event time.
///
/// The gap is a whole number of microseconds. A record exactly `gap` after the last one belongs to the session.
/// [`SessionWindow`] says when two sessions of a key may overlap.
pub fn session(gap: Duration) -> SessionWindow {
    SessionWindow { gap, micros: i64::try_from(gap.as_micros()).unwrap_or(i64::MAX).max(1) }
}

impl SessionWindow {
    /// What a record at that time spans: the session it would be alone.
    #[inline]
    pub fn span_of(&self, time: EventTime) -> Window {
        // A gap is never negative, so there is one end of time to stop at: half as many instructions.
        Window {
            start: time,
            end: EventTime::from_micros(time.as_micros().checked_add(self.micros).unwrap_or(i64::MAX)),
        }
    }
}

/// Sessions whose gap is taken from each record: see [`session_by`].
pub struct SessionBy<F> {
    gap: Arc<F>,
}

/// Returns sessions whose gap is taken from each record.
///
/// A record at `t` spans `[t, t + gap)`, and a session ends with the latest end of its records' spans, which may not be
/// the span of its last record. A gap shorter than a microsecond counts as a microsecond, so that no record is lost.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// struct Click {
///     is_video: bool,
/// }
///
/// let visit = session_by(|click: &Click| Duration::from_secs(if click.is_video { 600 } else { 30 }));
/// let alone = visit.span_of(EventTime::from_secs(0), &Click { is_video: true });
/// assert_eq!(alone.end, EventTime::from_secs(600));
/// ```
pub fn session_by<V, F: Fn(&V) -> Duration>(gap: F) -> SessionBy<F> {
    SessionBy { gap: Arc::new(gap) }
}

impl<F> SessionBy<F> {
    /// What a record at that time spans: the session it would be alone.
    #[inline]
    pub fn span_of<V>(&self, time: EventTime, value: &V) -> Window
    where
        F: Fn(&V) -> Duration,
    {
        Window { start: time, end: end(time, (self.gap)(value)) }
    }
}

impl<F> Clone for SessionBy<F> {
    fn clone(&self) -> Self {
        SessionBy { gap: Arc::clone(&self.gap) }
    }
}

/// Where a gap after an instant ends, at least a microsecond later unless time itself ends there.
#[inline]
fn end(time: EventTime, gap: Duration) -> EventTime {
    time + gap.max(Duration::from_micros(1))
}

impl<V> Gap<V> for SessionWindow {
    #[inline]
    fn span(&self, time: EventTime, _value: &V) -> Window {
        self.span_of(time)
    }
}

impl<V: 'static, F: Fn(&V) -> Duration + Send + Sync + 'static> Gap<V> for SessionBy<F> {
    #[inline]
    fn span(&self, time: EventTime, value: &V) -> Window {
        self.span_of(time, value)
    }
}

impl<V: 'static> Windowing<V> for SessionWindow {
    type Slot = Window;
    type State<K: Key, A: Aggregate<In = V>, M: Mark> = SessionState<K, A, M, Self>;
    type Partials<K: Key, A: Aggregate<In = V>> = SessionParts<K, A, Self>;

    fn state<K: Key, A: Aggregate<In = V>, M: Mark>(&self) -> SessionState<K, A, M, Self> {
        SessionState::new(*self)
    }

    fn partials<K: Key, A: Aggregate<In = V>>(&self) -> SessionParts<K, A, Self> {
        SessionParts::new(*self)
    }

    fn problem(&self) -> Option<String> {
        span_problem("session gap", self.gap)
    }

    fn describe(&self) -> String {
        format!("session, gap {}", words(self.gap))
    }

    fn settings(&self) -> Vec<Setting> {
        vec![("window", "session".to_owned()), ("gap", words(self.gap))]
    }
}

impl<V: 'static, F: Fn(&V) -> Duration + Send + Sync + 'static> Windowing<V> for SessionBy<F> {
    type Slot = Window;
    type State<K: Key, A: Aggregate<In = V>, M: Mark> = SessionState<K, A, M, Self>;
    type Partials<K: Key, A: Aggregate<In = V>> = SessionParts<K, A, Self>;

    fn state<K: Key, A: Aggregate<In = V>, M: Mark>(&self) -> SessionState<K, A, M, Self> {
        SessionState::new(self.clone())
    }

    fn partials<K: Key, A: Aggregate<In = V>>(&self) -> SessionParts<K, A, Self> {
        SessionParts::new(self.clone())
    }

    fn problem(&self) -> Option<String> {
        None
    }

    fn describe(&self) -> String {
        "session, gap by record".to_owned()
    }

    fn settings(&self) -> Vec<Setting> {
        vec![("window", "session".to_owned()), ("gap", "by record".to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_gap_is_refused_if_fixed_and_one_microsecond_per_record() {
        assert!(Windowing::<u8>::problem(&session(Duration::ZERO)).unwrap().contains("gap is zero"));
        let none = session_by(|_: &u8| Duration::ZERO);
        assert_eq!(none.span_of(EventTime::from_micros(7), &0).end, EventTime::from_micros(8));
    }

    #[test]
    fn a_session_at_the_end_of_time_ends_with_it() {
        assert_eq!(session(Duration::MAX).span_of(EventTime::from_micros(0)).end, EventTime::MAX);
        assert_eq!(session(Duration::from_secs(1)).span_of(EventTime::MAX).end, EventTime::MAX);
    }

    #[test]
    fn a_definition_describes_itself() {
        assert_eq!(Windowing::<u8>::describe(&session(Duration::from_secs(30))), "session, gap 30s");
    }
}
