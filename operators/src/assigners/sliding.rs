//! Windows of one size that overlap.

use std::time::Duration;

use crate::setting::Setting;
use crate::span::{fraction_problem, offset_setting, offset_words, span_problem, words};
use crate::state::{Mark, PaneState, Windowing};
use crate::window::{Grid, Window};
use crate::{Aggregate, EventTime, Key};

/// Sliding windows: windows of one size, one starting every `slide`.
///
/// A record belongs to all windows that contain its time. It is added once, to the *pane* that these windows share.
///
/// When a window closes, its result is merged from its panes. If there are four or more panes and the aggregate can be
/// retracted ([`Aggregate::RETRACTS`]: counts, sums and averages of integers, tuples of these), a running total per key
/// is kept instead. The cost of closing a window then depends only on the panes that enter and leave it. The totals are
/// one more table in memory, with a key, an accumulator and eight bytes for each key of the window that closed last.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let last_ten_minutes = sliding(Duration::from_secs(600), Duration::from_secs(300));
/// let starts: Vec<_> = last_ten_minutes
///     .windows_of("2026-03-01T12:12:00Z".parse::<EventTime>()?)
///     .map(|window| window.start.to_string())
///     .collect();
/// assert_eq!(starts, ["2026-03-01T12:05:00Z", "2026-03-01T12:10:00Z"]);
/// # Ok::<(), tidemill::ParseTimeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlidingWindow {
    size: Duration,
    slide: Duration,
    offset: Duration,
}

/// Returns windows of length `size`, one starting every `slide` of event time.
///
/// Windows are aligned to 1970-01-01T00:00:00Z. Size and slide are whole numbers of microseconds, and the slide must
/// not be longer than the size.
pub fn sliding(size: Duration, slide: Duration) -> SlidingWindow {
    SlidingWindow { size, slide, offset: Duration::ZERO }
}

impl SlidingWindow {
    /// Shifts all windows later by `offset`, a whole number of microseconds.
    ///
    /// An offset of a multiple of the slide changes nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let shifted = sliding(Duration::from_secs(60), Duration::from_secs(60)).offset(Duration::from_secs(15));
    /// let window = shifted.windows_of(EventTime::from_secs(70)).next();
    /// assert_eq!(window.map(|w| w.start), Some(EventTime::from_secs(15)));
    /// ```
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        SlidingWindow { offset, ..self }
    }

    /// Returns the windows that contain a time, in the order of their starts.
    pub fn windows_of(&self, time: EventTime) -> impl Iterator<Item = Window> + use<> {
        let grid = self.grid();
        let last = grid.last(time);
        std::iter::successors(Some(grid.first(time)), move |start| Some(grid.next(*start)))
            .take_while(move |start| *start <= last)
            .map(move |start| grid.window(start))
    }

    pub(crate) fn grid(&self) -> Grid {
        Grid::new(self.size, self.slide, self.offset)
    }
}

impl<V: 'static> Windowing<V> for SlidingWindow {
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
        let gaps = || {
            (self.slide > self.size).then(|| {
                format!(
                    "the slide of {} is longer than the window of {}: records between two windows would be lost; \
                     make the slide at most the window size, or filter these records out before",
                    words(self.slide),
                    words(self.size)
                )
            })
        };
        span_problem("window size", self.size)
            .or_else(|| span_problem("slide", self.slide))
            .or_else(|| fraction_problem("offset", self.offset))
            .or_else(gaps)
    }

    fn describe(&self) -> String {
        format!("sliding {} every {}{}", words(self.size), words(self.slide), offset_words(self.offset))
    }

    fn settings(&self) -> Vec<Setting> {
        vec![
            ("window", "sliding".to_owned()),
            ("size", words(self.size)),
            ("slide", words(self.slide)),
            ("offset", offset_setting(self.offset, self.slide)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    fn windows(definition: SlidingWindow, time: &str) -> Vec<String> {
        let clock = |t: EventTime| t.to_string()[11..16].to_owned();
        definition
            .windows_of(format!("2026-03-01T{time}:00Z").parse().unwrap())
            .map(|w| format!("{}-{}", clock(w.start), clock(w.end)))
            .collect()
    }

    #[test]
    fn a_record_is_in_every_window_that_overlaps_there() {
        assert_eq!(
            windows(sliding(minutes(12), minutes(5)), "12:05"),
            ["11:55-12:07", "12:00-12:12", "12:05-12:17"]
        );
    }

    #[test]
    fn an_offset_moves_the_windows_and_may_leave_one_less() {
        let shifted = sliding(minutes(12), minutes(5)).offset(minutes(2));
        assert_eq!(windows(shifted, "12:05"), ["11:57-12:09", "12:02-12:14"]);
    }

    #[test]
    fn windows_at_the_end_of_time_are_cut_off_there_and_end() {
        let definition = sliding(minutes(10), minutes(5));
        assert_eq!(definition.windows_of(EventTime::MAX).count(), 2);
        assert_eq!(definition.windows_of(EventTime::MIN).count(), 2);
        assert!(definition.windows_of(EventTime::MIN).all(|w| w.start == EventTime::MIN));
    }

    #[test]
    fn a_definition_that_cannot_work_says_why() {
        let problem = |w: SlidingWindow| Windowing::<u8>::problem(&w);
        assert_eq!(problem(sliding(minutes(10), minutes(10))), None);
        assert!(problem(sliding(minutes(0), minutes(1))).unwrap().contains("size is zero"));
        assert!(problem(sliding(minutes(1), minutes(0))).unwrap().contains("slide is zero"));
        assert!(problem(sliding(minutes(1), minutes(2))).unwrap().contains("would be lost"));
        assert_eq!(sliding(minutes(1), minutes(2)).windows_of(EventTime::from_micros(90_000_000)).count(), 0);
    }

    #[test]
    fn a_definition_describes_itself() {
        let definition = sliding(minutes(12), minutes(5));
        assert_eq!(Windowing::<u8>::describe(&definition), "sliding 12m every 5m");
    }
}
