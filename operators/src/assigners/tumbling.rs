//! Windows of one size, end to end.

use std::time::Duration;

use crate::setting::Setting;
use crate::span::{fraction_problem, offset_setting, offset_words, span_problem, words};
use crate::state::{Mark, PaneState, Windowing};
use crate::window::{Grid, Window};
use crate::{Aggregate, EventTime, Key};

/// Tumbling windows: windows of one size, without gaps. Each record is in exactly one window.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let ten_minutes = tumbling(Duration::from_secs(600));
/// let window = ten_minutes.window_of("2026-03-01T12:10:00Z".parse::<EventTime>()?);
/// assert_eq!(window.start.to_string(), "2026-03-01T12:10:00Z");
/// assert_eq!(window.end.to_string(), "2026-03-01T12:20:00Z");
/// # Ok::<(), tidemill::ParseTimeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TumblingWindow {
    size: Duration,
    offset: Duration,
}

/// Returns windows of length `size` in event time, aligned to 1970-01-01T00:00:00Z.
///
/// The size is a whole number of microseconds.
pub fn tumbling(size: Duration) -> TumblingWindow {
    TumblingWindow { size, offset: Duration::ZERO }
}

impl TumblingWindow {
    /// Shifts all windows later by `offset`, a whole number of microseconds.
    ///
    /// An offset of a multiple of the size changes nothing. To shift windows earlier by `d`, shift them later by `size
    /// - d`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let days_from_six = tumbling(Duration::from_secs(24 * 3600)).offset(Duration::from_secs(6 * 3600));
    /// let window = days_from_six.window_of("2026-03-01T05:00:00Z".parse::<EventTime>()?);
    /// assert_eq!(window.start.to_string(), "2026-02-28T06:00:00Z");
    /// # Ok::<(), tidemill::ParseTimeError>(())
    /// ```
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        TumblingWindow { offset, ..self }
    }

    /// Returns the window that contains a time.
    pub fn window_of(&self, time: EventTime) -> Window {
        let grid = self.grid();
        grid.window(grid.last(time))
    }

    pub(crate) fn grid(&self) -> Grid {
        Grid::new(self.size, self.size, self.offset)
    }
}

impl<V: 'static> Windowing<V> for TumblingWindow {
    type Slot = EventTime;
    type State<K: Key, A: Aggregate<In = V>, M: Mark> = PaneState<K, A, M>;
    type Partials<K: Key, A: Aggregate<In = V>> = PaneState<K, A, ()>;

    fn state<K: Key, A: Aggregate<In = V>, M: Mark>(&self) -> PaneState<K, A, M> {
        PaneState::new(self.grid())
    }

    fn partials<K: Key, A: Aggregate<In = V>>(&self) -> PaneState<K, A, ()> {
        PaneState::new(self.grid())
    }

    fn problem(&self) -> Option<String> {
        span_problem("window size", self.size).or_else(|| fraction_problem("offset", self.offset))
    }

    fn describe(&self) -> String {
        format!("tumbling {}{}", words(self.size), offset_words(self.offset))
    }

    fn settings(&self) -> Vec<Setting> {
        vec![
            ("window", "tumbling".to_owned()),
            ("size", words(self.size)),
            ("offset", offset_setting(self.offset, self.size)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(window: Window) -> (i64, i64) {
        (window.start.as_micros(), window.end.as_micros())
    }

    fn seconds(secs: u64) -> TumblingWindow {
        tumbling(Duration::from_secs(secs))
    }

    #[test]
    fn a_record_at_the_window_end_belongs_to_the_next_window() {
        assert_eq!(bounds(seconds(10).window_of(EventTime::from_micros(9_999_999))), (0, 10_000_000));
        assert_eq!(
            bounds(seconds(10).window_of(EventTime::from_micros(10_000_000))),
            (10_000_000, 20_000_000)
        );
    }

    #[test]
    fn a_time_before_1970_is_in_the_window_that_begins_before_it() {
        assert_eq!(bounds(seconds(10).window_of(EventTime::from_micros(-1_000_000))), (-10_000_000, 0));
    }

    #[test]
    fn a_window_at_the_end_of_time_is_cut_off_there() {
        assert_eq!(seconds(10).window_of(EventTime::MAX).end, EventTime::MAX);
        assert_eq!(seconds(10).window_of(EventTime::MIN).start, EventTime::MIN);
    }

    #[test]
    fn an_offset_counts_modulo_the_size() {
        let by = |secs| seconds(10).offset(Duration::from_secs(secs)).window_of(EventTime::from_micros(0));
        assert_eq!(bounds(by(3)), (-7_000_000, 3_000_000));
        assert_eq!(by(3), by(23));
    }

    #[test]
    fn a_definition_that_cannot_work_says_why() {
        let problem = |w: TumblingWindow| Windowing::<u8>::problem(&w);
        assert_eq!(problem(seconds(1)), None);
        assert!(problem(seconds(0)).unwrap().contains("zero"));
        assert!(problem(tumbling(Duration::from_nanos(1_500))).unwrap().contains("whole number"));
        assert!(problem(seconds(1).offset(Duration::from_nanos(1))).unwrap().contains("offset"));
    }

    #[test]
    fn a_definition_describes_itself() {
        let shifted = seconds(600).offset(Duration::from_secs(120));
        assert_eq!(Windowing::<u8>::describe(&seconds(600)), "tumbling 10m");
        assert_eq!(Windowing::<u8>::describe(&shifted), "tumbling 10m, offset 2m");
    }
}
