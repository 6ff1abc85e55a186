//! Windows that begin together and end one after the other.

use std::time::Duration;

use super::WindowAssigner;
use crate::span::{fraction_problem, offset_words, span_problem, words};
use crate::time::micros;
use crate::window::{Grid, Window};
use crate::{EventTime, tumbling};

/// Cumulative windows: each period begins one window per step, and each of these ends a step later than the one before.
///
/// With a period of a day and a step of an hour, the windows of a day are 00:00 to 01:00, 00:00 to 02:00 and so on to
/// 00:00 to 24:00: the total since midnight, every hour. They are Flink's `CUMULATE`. A record is added to each window of its
/// period that ends after it.
///
/// ```
/// use std::time::Duration;
/// use tidemill::cumulative;
/// use tidemill::prelude::*;
///
/// let (hour, step) = (Duration::from_secs(3_600), Duration::from_secs(1_200));
/// let graph = Graph::new("sales of the hour so far");
/// let (sink, table) = memory_sink();
/// graph
///     .source(memory([5i64, 10, 25, 65]))
///     .with_watermark(|minute| EventTime::from_secs(60 * minute), Duration::ZERO)
///     .window_by(cumulative(hour, step))
///     .count()
///     .append()
///     .map(|row| (row.window.end.as_secs() / 60, row.value))
///     .sink(sink);
/// graph.run(Options::default())?;
/// assert_eq!(table.snapshot(), [(20, 2), (40, 3), (60, 3), (80, 1), (100, 1), (120, 1)]);
/// # Ok::<(), RunError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CumulativeWindow {
    period: Duration,
    step: Duration,
    offset: Duration,
}

/// Returns windows that begin every `period` and grow by `step` until the period ends.
///
/// Periods are aligned to 1970-01-01T00:00:00Z. Both are whole numbers of microseconds, and the period is a multiple of the step.
pub fn cumulative(period: Duration, step: Duration) -> CumulativeWindow {
    CumulativeWindow { period, step, offset: Duration::ZERO }
}

impl CumulativeWindow {
    /// Shifts all windows later by `offset`, a whole number of microseconds.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        CumulativeWindow { offset, ..self }
    }

    /// Returns the windows that contain a time, in the order of their ends.
    pub fn windows_of(&self, time: EventTime) -> impl Iterator<Item = Window> + use<> {
        let period = tumbling(self.period).offset(self.offset).window_of(time);
        // A step later, the offset of the grid of steps is the same: the period is a multiple of the step.
        let steps = Grid::new(self.step, self.step, self.offset);
        let first = steps.last(time);
        std::iter::successors(Some(first), move |start| Some(steps.next(*start)))
            .map(move |start| Window { start: period.start, end: steps.window(start).end })
            .scan(false, move |is_over, window| {
                let last = window.end >= period.end;
                (!std::mem::replace(is_over, last))
                    .then_some(Window { end: window.end.min(period.end), ..window })
            })
    }
}

impl<V: 'static> WindowAssigner<V> for CumulativeWindow {
    #[inline]
    fn assign(&self, time: EventTime, _: &V, windows: &mut Vec<Window>) {
        windows.extend(self.windows_of(time));
    }

    fn problem(&self) -> Option<String> {
        let uneven = || {
            (micros(self.period) % micros(self.step) != 0).then(|| {
                format!(
                    "the period of {} is not a multiple of the step of {}: choose a step that divides it",
                    words(self.period),
                    words(self.step)
                )
            })
        };
        span_problem("period", self.period)
            .or_else(|| span_problem("step", self.step))
            .or_else(|| fraction_problem("offset", self.offset))
            .or_else(uneven)
    }

    fn describe(&self) -> String {
        format!("cumulative {} by {}{}", words(self.period), words(self.step), offset_words(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(definition: CumulativeWindow, time: i64) -> Vec<(i64, i64)> {
        let bounds = |window: Window| (window.start.as_micros(), window.end.as_micros());
        definition.windows_of(EventTime::from_micros(time)).map(bounds).collect()
    }

    fn of(period: u64, step: u64) -> CumulativeWindow {
        cumulative(Duration::from_micros(period), Duration::from_micros(step))
    }

    #[test]
    fn record_is_in_each_window_of_period_that_ends_later() {
        assert_eq!(windows(of(30, 10), 0), [(0, 10), (0, 20), (0, 30)]);
        assert_eq!(windows(of(30, 10), 10), [(0, 20), (0, 30)]);
        assert_eq!(windows(of(30, 10), 29), [(0, 30)]);
        assert_eq!(windows(of(30, 10), 30), [(30, 40), (30, 50), (30, 60)]);
        assert_eq!(windows(of(30, 10), -1), [(-30, 0)]);
        assert_eq!(windows(of(30, 10), -30), [(-30, -20), (-30, -10), (-30, 0)]);
        assert_eq!(windows(of(30, 10).offset(Duration::from_micros(44)), 13), [(-16, 14)]);
    }

    #[test]
    fn windows_at_ends_of_time_are_cut_off_and_end() {
        assert!(windows(of(30, 10), i64::MAX).len() <= 3);
        assert!(windows(of(30, 10), i64::MIN).len() <= 3);
    }

    #[test]
    fn definition_that_cannot_work_has_a_problem() {
        let problem = |window: CumulativeWindow| WindowAssigner::<u8>::problem(&window);
        assert_eq!(problem(of(30, 10)), None);
        assert!(problem(of(30, 0)).unwrap().contains("step is zero"));
        assert!(problem(of(0, 10)).unwrap().contains("period is zero"));
        assert!(problem(of(30, 20)).unwrap().contains("not a multiple"));
    }
}
