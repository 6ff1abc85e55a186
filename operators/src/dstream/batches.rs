//! Windows that consist of whole batches.

use std::time::Duration;

use crate::assigners::{SlidingWindow, WindowAssigner, sliding};
use crate::span::{span_problem, words};
use crate::{EventTime, Window};

/// Sliding windows whose length and slide are multiples of the batch interval.
#[derive(Clone, Copy, Debug)]
pub struct BatchWindow {
    windows: SlidingWindow,
    interval: Duration,
    length: Duration,
    slide: Duration,
}

impl BatchWindow {
    pub(super) fn new(interval: Duration, length: Duration, slide: Duration) -> Self {
        BatchWindow { windows: sliding(length, slide), interval, length, slide }
    }

    /// The windows of one batch each.
    pub(super) fn each(interval: Duration) -> Self {
        BatchWindow::new(interval, interval, interval)
    }

    /// Why the windows cannot be, if they cannot.
    pub(super) fn cannot_be(&self) -> Option<String> {
        let problem = span_problem("batch interval", self.interval);
        problem.or_else(|| WindowAssigner::<()>::problem(&self.windows)).or_else(|| {
            let BatchWindow { interval, length, slide, .. } = *self;
            [("length", length), ("slide", slide)].into_iter().find_map(|(what, span)| {
                (span.as_nanos() % interval.as_nanos().max(1) != 0).then(|| {
                    format!(
                        "the window's {what} of {} is not a multiple of the batch interval of {}: windows consist of whole \
                         batches, so change one of the two",
                        words(span),
                        words(interval)
                    )
                })
            })
        })
    }

    /// The definition in words.
    pub(super) fn in_words(&self) -> String {
        format!("{}, batches of {}", WindowAssigner::<()>::describe(&self.windows), words(self.interval))
    }
}

impl<V: 'static> WindowAssigner<V> for BatchWindow {
    #[inline]
    fn assign(&self, time: EventTime, value: &V, windows: &mut Vec<Window>) {
        self.windows.assign(time, value, windows);
    }

    fn problem(&self) -> Option<String> {
        self.cannot_be()
    }

    fn describe(&self) -> String {
        self.in_words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_parts_of_batches_are_refused() {
        let seconds = Duration::from_secs;
        let problem =
            |length, slide| BatchWindow::new(seconds(2), seconds(length), seconds(slide)).cannot_be();
        assert_eq!(problem(6, 4), None);
        assert!(problem(6, 3).unwrap().contains("slide of 3s is not a multiple of the batch interval of 2s"));
        assert!(problem(5, 4).unwrap().contains("length of 5s"));
        assert!(problem(0, 2).is_some() && problem(2, 4).is_some());
        let zero = BatchWindow::new(Duration::ZERO, seconds(1), seconds(1));
        assert!(zero.cannot_be().unwrap().contains("batch interval is zero"));
    }
}
