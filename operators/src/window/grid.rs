//! The arithmetic of aligned windows: which windows an instant is in, and how event time divides into panes.

use std::time::Duration;

use super::Window;
use crate::EventTime;
use crate::time::micros;

/// Windows of one size that begin at `offset + k * slide` for every integer `k`, in microseconds.
///
/// The start of a window is an `i128` here: the windows around the ends of time begin or end beyond them. They are cut
/// off where they are shown ([`Grid::window`]).
///
/// A pane is a longest stretch of time whose instants are all in the same windows (the "pairs" of Krishnamurthy, Wu
/// and Franklin, 2006): the slide itself if it divides the size, otherwise two panes to each slide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    size: i128,
    slide: i128,
    offset: i128,
}

impl Grid {
    /// Sizes below a microsecond count as one, so that even a definition that is refused elsewhere divides by no zero.
    pub(crate) fn new(size: Duration, slide: Duration, offset: Duration) -> Self {
        let slide = i128::from(micros(slide).max(1));
        Grid { size: i128::from(micros(size).max(1)), slide, offset: i128::from(micros(offset)) % slide }
    }

    /// Whether every instant is in exactly one window.
    pub(crate) fn is_tumbling(&self) -> bool {
        self.size == self.slide
    }

    /// How many panes a window has.
    pub(crate) fn panes(&self) -> u64 {
        let slides = self.size / self.slide;
        let panes = if self.size % self.slide == 0 { slides } else { 2 * slides + 1 };
        u64::try_from(panes).unwrap_or(u64::MAX)
    }

    /// The start of the last window that the instant is in.
    pub(crate) fn last(&self, time: EventTime) -> i128 {
        let time = i128::from(time.as_micros());
        time - (time - self.offset).rem_euclid(self.slide)
    }

    /// The start of the first window that the instant is in.
    pub(crate) fn first(&self, time: EventTime) -> i128 {
        let last = self.last(time);
        let phase = i128::from(time.as_micros()) - last;
        last - (self.size - 1 - phase).div_euclid(self.slide) * self.slide
    }

    /// The start of the first window that has not closed by the watermark.
    pub(crate) fn open(&self, watermark: EventTime) -> i128 {
        match watermark {
            EventTime::MIN => i128::from(i64::MIN) - self.size,
            EventTime::MAX => i128::from(i64::MAX) + 1,
            time => {
                let micros = time.as_micros();
                let closed = i128::from(micros) - self.size - self.offset;
                self.offset + (closed.div_euclid(self.slide) + 1) * self.slide
            }
        }
    }

    /// The start of the window after that one.
    pub(crate) fn next(&self, start: i128) -> i128 {
        start + self.slide
    }

    /// The window of that start, cut off at the ends of time.
    pub(crate) fn window(&self, start: i128) -> Window {
        Window { start: instant(start), end: instant(start + self.size) }
    }

    /// The first and the last instant of the pane around an instant.
    pub(crate) fn pane(&self, time: EventTime) -> (EventTime, EventTime) {
        let slot = self.last(time);
        let cut = slot + self.size % self.slide;
        let (start, end) = if cut == slot {
            (slot, slot + self.slide)
        } else if i128::from(time.as_micros()) < cut {
            (slot, cut)
        } else {
            (cut, slot + self.slide)
        };
        (instant(start), instant(end - 1))
    }
}

/// The nearest instant within the ends of time.
fn instant(micros: i128) -> EventTime {
    EventTime::from_micros(micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(size: u64, slide: u64, offset: u64) -> Grid {
        Grid::new(Duration::from_micros(size), Duration::from_micros(slide), Duration::from_micros(offset))
    }

    #[test]
    fn a_slide_that_divides_the_size_is_the_pane() {
        assert_eq!(
            grid(10, 5, 2).pane(EventTime::from_micros(-3)),
            (EventTime::from_micros(-3), EventTime::from_micros(1))
        );
    }

    #[test]
    fn a_slide_that_does_not_is_cut_in_two_panes() {
        let grid = grid(12, 5, 0);
        assert_eq!(
            grid.pane(EventTime::from_micros(11)),
            (EventTime::from_micros(10), EventTime::from_micros(11))
        );
        assert_eq!(
            grid.pane(EventTime::from_micros(12)),
            (EventTime::from_micros(12), EventTime::from_micros(14))
        );
    }

    #[test]
    fn pane_is_a_longest_stretch_in_the_same_windows() {
        for (size, slide) in [(12, 5), (10, 5), (7, 7), (9, 4), (5, 1), (7, 6)] {
            let grid = grid(size, slide, 3);
            let windows = |t| (grid.first(EventTime::from_micros(t)), grid.last(EventTime::from_micros(t)));
            for t in -40..40 {
                let (first, last) = grid.pane(EventTime::from_micros(t));
                assert!((first.as_micros()..=last.as_micros()).contains(&t));
                assert!((first.as_micros()..=last.as_micros()).all(|other| windows(other) == windows(t)));
                assert_ne!(windows(last.as_micros() + 1), windows(t), "{size}/{slide}");
            }
        }
    }

    #[test]
    fn a_window_has_as_many_panes_as_its_instants_have() {
        for (size, slide) in [(12, 5), (10, 5), (7, 7), (9, 4), (5, 1), (7, 6), (1, 1)] {
            let grid = grid(size, slide, 3);
            let mut panes: Vec<_> =
                (3..3 + size).map(|t| grid.pane(EventTime::from_micros(t as i64))).collect();
            panes.dedup();
            assert_eq!(grid.panes(), panes.len() as u64, "{size}/{slide}");
        }
    }

    #[test]
    fn first_open_window_is_first_that_ends_after_watermark() {
        for (size, slide, offset) in [(12, 5, 2), (10, 5, 0), (7, 7, 3)] {
            let grid = grid(size, slide, offset);
            for watermark in -30..30 {
                let open = grid.open(EventTime::from_micros(watermark));
                assert!(grid.window(open).end.as_micros() > watermark);
                assert!(grid.window(open - i128::from(slide)).end.as_micros() <= watermark);
            }
        }
    }

    #[test]
    fn the_ends_of_time_have_windows_and_panes_too() {
        for (size, slide) in [(12, 5), (u64::MAX, 1), (u64::MAX, u64::MAX), (1, 1)] {
            let grid = grid(size, slide, 1);
            for time in [
                EventTime::MIN,
                EventTime::from_micros(i64::MIN + 1),
                EventTime::from_micros(i64::MAX - 1),
                EventTime::MAX,
            ] {
                assert!(grid.first(time) <= grid.last(time));
                let (first, last) = grid.pane(time);
                assert!(first <= time && time <= last);
                for start in [grid.first(time), grid.last(time)] {
                    let window = grid.window(start);
                    assert!(window.start <= time && (time < window.end || time == EventTime::MAX));
                }
            }
            assert!(grid.open(EventTime::MIN) <= grid.first(EventTime::MIN));
            assert!(grid.open(EventTime::MAX) > grid.last(EventTime::MAX));
        }
    }
}
