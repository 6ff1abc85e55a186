//! The windows of a run: which events are in them, when they could have closed at the earliest, and when they did.

use super::schedule::Schedule;

/// A window that an event has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When the event was due that closes it: the first one at or after its end. In nanoseconds after the beginning.
    pub ideal: u64,
    /// When its first row was shown.
    pub first: u64,
    /// When its last row was shown.
    pub last: u64,
}

/// Tumbling windows over a schedule, numbered from 0; or one that never closes.
#[derive(Clone, Debug)]
pub struct Windows {
    /// How long a window is, in microseconds of event time.
    size: Option<u64>,
    /// The number of the first event of each window, and after the last one.
    starts: Vec<u64>,
    /// When the first and the last row of each came.
    came: Vec<(u64, u64)>,
    /// Windows of which rows have come that are not shown yet, with the epoch of the rows.
    waiting: Vec<(u64, u64)>,
}

const NEVER: (u64, u64) = (u64::MAX, 0);

impl Windows {
    /// Windows of `size` microseconds.
    #[must_use]
    pub fn new(schedule: &Schedule, size: Option<u64>) -> Windows {
        let size = size.map(|size| size.max(1));
        let mut starts = vec![0];
        if let Some(size) = size {
            let starts_of_others = (1..).map(|window| schedule.due_before(window * size * 1_000));
            starts.extend(starts_of_others.take_while(|start| *start < schedule.total()));
        }
        let came = vec![NEVER; starts.len()];
        starts.push(schedule.total());
        Windows { size, starts, came, waiting: Vec::new() }
    }

    /// How many events of a key come before a window.
    #[inline]
    #[must_use]
    pub fn of_key_before(&self, schedule: &Schedule, key: u64, window: u64) -> u64 {
        if window == 0 {
            return 0;
        }
        let start = self.starts.get(window as usize).copied().unwrap_or_else(|| schedule.total());
        schedule.of_key_before(key, start)
    }

    /// Whether an event is in a window.
    #[inline]
    #[must_use]
    pub fn holds(&self, index: u64, window: u64) -> bool {
        let window = window as usize;
        match (self.starts.get(window), self.starts.get(window + 1)) {
            (Some(start), Some(end)) => (*start..*end).contains(&index),
            _ => false,
        }
    }

    /// A row of a window is shown.
    #[inline]
    pub fn came(&mut self, window: u64, now: u64) {
        if let Some((first, last)) = self.came.get_mut(window as usize) {
            *first = now.min(*first);
            *last = now.max(*last);
        }
    }

    /// A row of a window has come, and is shown when its epoch is committed.
    #[inline]
    pub fn wait(&mut self, epoch: u64, window: u64) {
        if self.waiting.last() != Some(&(epoch, window)) {
            self.waiting.push((epoch, window));
        }
    }

    /// What has come of the epochs up to this one is shown.
    pub fn shown(&mut self, epoch: u64, now: u64) {
        let waiting = std::mem::take(&mut self.waiting);
        for (of, window) in waiting {
            if of <= epoch {
                self.came(window, now);
            } else {
                self.waiting.push((of, window));
            }
        }
    }

    /// Adds what another worker has seen.
    pub fn join(&mut self, other: &Windows) {
        for (own, other) in self.came.iter_mut().zip(&other.came) {
            *own = (own.0.min(other.0), own.1.max(other.1));
        }
    }

    /// The windows that have closed before the end of the input, in order.
    #[must_use]
    pub fn closed(&self, schedule: &Schedule) -> Vec<Window> {
        if self.size.is_none() {
            return Vec::new();
        }
        let ends = self.starts.iter().skip(1).take_while(|end| **end < schedule.total());
        let came = self.came.iter().zip(ends).filter(|((first, last), _)| first <= last);
        came.map(|((first, last), end)| Window { ideal: schedule.due(*end), first: *first, last: *last })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::harness::schedule::Load;

    #[test]
    fn a_window_holds_the_events_whose_time_is_in_it() {
        let load = Load { events: 7, keys: 2, ..Load::open(3, 1.0) };
        let schedule = Schedule::beginning_at(load, 1, Instant::now());
        // Due at 0, 333,333, 666,666, 1,000,000 us, ….
        let windows = Windows::new(&schedule, Some(500_000));
        for index in 0..7 {
            let window = schedule.due(index) / 1_000 / 500_000;
            for other in 0..9 {
                assert_eq!(windows.holds(index, other), other == window, "{index} {other}");
            }
        }
        assert!((0..7).all(|index| Windows::new(&schedule, None).holds(index, 0)));
    }

    #[test]
    fn workers_agree_on_the_first_and_the_last_row() {
        let load = Load { events: 7, keys: 2, ..Load::open(3, 1.0) };
        let schedule = Schedule::beginning_at(load, 1, Instant::now());
        let mut windows = Windows::new(&schedule, Some(1_000_000));
        let mut other = windows.clone();
        windows.came(0, 2_000);
        other.came(0, 1_000);
        other.wait(3, 1);
        other.wait(4, 2);
        other.shown(3, 5_000);
        windows.join(&other);
        let ends = [(1_000_000_000, 1_000, 2_000), (2_000_000_000, 5_000, 5_000)];
        let expected = ends.map(|(ideal, first, last)| Window { ideal, first, last });
        assert_eq!(windows.closed(&schedule), expected);
    }
}
