//! The windows of a window join: which rows are in which, and when they close.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::assigners::{SessionWindow, SlidingWindow, TumblingWindow, session_by};
use crate::build::Dealt;
use crate::setting::Setting;
use crate::state::Windowing;
use crate::window::Grid;
use crate::{EventTime, Window};

/// Windows in which two streams are joined: [`tumbling`](crate::tumbling), [`sliding`](crate::sliding) or
/// [`session`](crate::session) ones.
#[derive(Clone, Debug)]
pub struct JoinWindows {
    pub(super) kind: WindowKind,
    pub(super) settings: Vec<Setting>,
    pub(super) problem: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum WindowKind {
    Grid(Grid),
    Session(SessionWindow),
    /// With the ends of [`Gaps`].
    SessionBy,
}

/// Passes the ends of the spans of rows to a vector. Called for each batch.
type Ends<T> = Arc<dyn Fn(&[T], &mut Vec<EventTime>) + Send + Sync>;

/// The gaps that rows of both sides have, where each row has its own.
pub(super) struct Gaps<K, L, R> {
    pub(super) left: Ends<Dealt<K, L>>,
    pub(super) right: Ends<Dealt<K, R>>,
}

impl<K: 'static, L: 'static, R: 'static> Gaps<K, L, R> {
    pub(super) fn new(
        left: impl Fn(&L) -> Duration + Send + Sync + 'static,
        right: impl Fn(&R) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Gaps { left: ends(left), right: ends(right) }
    }
}

fn ends<K: 'static, T: 'static>(gap: impl Fn(&T) -> Duration + Send + Sync + 'static) -> Ends<Dealt<K, T>> {
    let session = session_by(gap);
    Arc::new(move |rows, ends| {
        ends.extend(rows.iter().map(|row| session.span_of(row.time, &row.value).end));
    })
}

impl<K, L, R> Clone for Gaps<K, L, R> {
    fn clone(&self) -> Self {
        Gaps { left: Arc::clone(&self.left), right: Arc::clone(&self.right) }
    }
}

impl JoinWindows {
    fn new(kind: WindowKind, window: &impl Windowing<()>) -> Self {
        JoinWindows { kind, settings: window.settings(), problem: window.problem() }
    }
}

impl JoinWindows {
    /// Sessions whose gap is taken from each row.
    pub(super) fn session_by() -> Self {
        let settings = vec![("window", "session".to_owned()), ("gap", "by record".to_owned())];
        JoinWindows { kind: WindowKind::SessionBy, settings, problem: None }
    }
}

impl From<TumblingWindow> for JoinWindows {
    fn from(window: TumblingWindow) -> Self {
        JoinWindows::new(WindowKind::Grid(window.grid()), &window)
    }
}

impl From<SlidingWindow> for JoinWindows {
    fn from(window: SlidingWindow) -> Self {
        JoinWindows::new(WindowKind::Grid(window.grid()), &window)
    }
}

impl From<SessionWindow> for JoinWindows {
    fn from(window: SessionWindow) -> Self {
        JoinWindows::new(WindowKind::Session(window), &window)
    }
}

impl WindowKind {
    /// Whether all windows of a row at that time have closed. `end` is that of the row's own span, where each row has its own gap.
    #[inline]
    pub(super) fn is_late(self, time: EventTime, end: Option<EventTime>, watermark: EventTime) -> bool {
        match self {
            WindowKind::Grid(grid) => grid.window(grid.last(time)).end <= watermark,
            WindowKind::Session(session) => session.span_of(time).end <= watermark,
            WindowKind::SessionBy => end.is_some_and(|end| end <= watermark),
        }
    }
}

/// The first window of a row at that time that has not closed, by its start.
#[inline]
pub(super) fn first_open(grid: Grid, time: EventTime, watermark: EventTime) -> i128 {
    grid.first(time).max(grid.open(watermark))
}

/// The first window that ends at that time or later, by its start.
pub(super) fn first_ending(grid: Grid, end: EventTime) -> i128 {
    grid.first(EventTime::from_micros(end.as_micros().saturating_sub(1)))
}

/// The times of the rows of a window. The last instant of time belongs to the windows that end there.
pub(super) fn times(window: Window) -> RangeInclusive<EventTime> {
    let end = if window.end == EventTime::MAX { EventTime::MAX } else { window.last_instant() };
    window.start..=end
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{session, sliding, tumbling};

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    #[test]
    fn row_is_late_when_its_last_window_has_closed() {
        let micros = Duration::from_micros;
        let late =
            |windows: JoinWindows, time, watermark| windows.kind.is_late(at(time), None, at(watermark));
        assert!(!late(tumbling(micros(10)).into(), 9, 9) && late(tumbling(micros(10)).into(), 9, 10));
        let sliding = || sliding(micros(10), micros(5)).into();
        assert!(!late(sliding(), 9, 14) && late(sliding(), 9, 15));
        assert!(!late(session(micros(1)).into(), 9, 9) && late(session(micros(1)).into(), 9, 10));
    }

    #[test]
    fn first_window_of_an_end_is_the_one_that_ends_there() {
        let sliding = sliding(Duration::from_micros(10), Duration::from_micros(5));
        let grid = sliding.grid();
        for end in [-20, -5, 0, 5, 10] {
            assert_eq!(grid.window(first_ending(grid, at(end))).end, at(end));
        }
        assert_eq!(grid.window(first_open(grid, at(7), at(11))).end, at(15));
        assert_eq!(grid.window(first_open(grid, at(7), at(-50))).end, at(10));
        assert_eq!(grid.window(first_ending(grid, EventTime::MAX)).end, EventTime::MAX);
    }
}
