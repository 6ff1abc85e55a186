//! The end of a range in a partition whose last offsets have no records.
//!
//! Commits and aborts of transactions take offsets, records that were aborted or compacted away leave theirs empty. So a reader that
//! is to read up to an offset may wait for a record that does not exist. The client reports the end of the partition when it has reached
//! it, but not which offset that is, and the report may be older than the range. Therefore the reader starts the client again at
//! its position, once, after it has waited a little: the end that is reported then lies at or behind the end of the range.

use std::time::Duration;

use tidemill_operators::ProcessingTime;

/// How long a record may take from the broker before its offset is taken for empty.
const WAIT: Duration = Duration::from_millis(30);

/// What a reader knows of the offsets before it.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// Whether the end of the partition was reported since the last record.
    end: bool,
    /// Since when the reader waits behind that end.
    since: Option<ProcessingTime>,
    /// The client was started again when the range ended here.
    asked: Option<u64>,
}

/// What a reader does that has no record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The client will report something.
    Wait,
    /// It may have nothing to report.
    WaitUntil(ProcessingTime),
    /// Start the client again at the position.
    Ask,
}

impl Gap {
    /// A record was read.
    pub(super) fn record(&mut self) {
        (self.end, self.since) = (false, None);
    }

    /// The end of the partition was reported. Returns whether it lies at or behind `until`.
    pub(super) fn end(&mut self, until: Option<u64>) -> bool {
        self.end = true;
        until.is_some_and(|until| self.asked.is_some_and(|asked| asked >= until))
    }

    /// There is no record, and the range ends at `until`, before which the reader is.
    pub(super) fn none(&mut self, until: u64, now: ProcessingTime) -> Next {
        if !self.end || self.asked.is_some_and(|asked| asked >= until) {
            return Next::Wait;
        }
        let at = *self.since.get_or_insert(now) + WAIT;
        if now < at {
            return Next::WaitUntil(at);
        }
        *self = Gap { end: false, since: None, asked: Some(until) };
        Next::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> ProcessingTime {
        ProcessingTime::from_micros(millis as i64 * 1_000)
    }

    #[test]
    fn end_that_is_older_than_the_range_is_asked_for_again() {
        let mut gap = Gap::default();
        assert!(!gap.end(Some(10)));
        assert_eq!(gap.none(10, at(0)), Next::WaitUntil(at(30)));
        assert_eq!(gap.none(10, at(29)), Next::WaitUntil(at(30)));
        assert_eq!(gap.none(10, at(30)), Next::Ask);
        assert_eq!(gap.none(10, at(31)), Next::Wait);
        assert!(gap.end(Some(10)));
        // The next range ends later.
        assert!(!gap.end(Some(12)));
        assert_eq!(gap.none(12, at(40)), Next::WaitUntil(at(70)));
    }

    #[test]
    fn record_after_the_end_needs_no_question() {
        let mut gap = Gap::default();
        assert_eq!(gap.none(10, at(0)), Next::Wait);
        gap.end(Some(10));
        gap.record();
        assert_eq!(gap.none(10, at(100)), Next::Wait);
    }
}
