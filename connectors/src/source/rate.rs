//! Numbered rows at a fixed rate, each with the time at which it was due.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tidemill_operators::{
    Clock, EventTime, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source,
    SourceError, SourceInfo,
};

use crate::lock;

const SECOND: i128 = 1_000_000;

/// A row of a [`RateSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateRow {
    /// The time at which the row was due, even if it was emitted later.
    pub time: EventTime,
    /// The number of the row, from 0, unique over all partitions.
    pub value: u64,
}

/// A source of numbered rows at a fixed rate. It can be read again.
///
/// Row 0 is due when the query first plans or reads. After a restart the source first emits the rows that were due
/// while the query did not run.
///
/// ```
/// use tidemill::Source;
/// use tidemill::prelude::*;
///
/// let ticks = rate(1_000).partitions(4).rows(60_000);
/// assert!(ticks.is_bounded());
/// assert_eq!(ticks.describe(), "rate 1000/s");
/// ```
#[derive(Clone, Debug)]
pub struct RateSource {
    schedule: Schedule,
    start: Arc<Mutex<Option<i64>>>,
    /// Nothing that is due later is read.
    frozen: Arc<Mutex<Option<ProcessingTime>>>,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    rate: u64,
    partitions: u32,
    rows: Option<u64>,
}

/// Returns a source of `rows_per_second` rows per second over all partitions.
///
/// A rate of 0 is an error when the query starts.
pub fn rate(rows_per_second: u64) -> RateSource {
    let schedule = Schedule { rate: rows_per_second, partitions: 1, rows: None };
    RateSource { schedule, start: Arc::new(Mutex::new(None)), frozen: Arc::default() }
}

impl RateSource {
    /// Distributes the rows among `partitions` partitions, at least one.
    ///
    /// Partition `p` of `n` yields the rows `p`, `p + n`, ….
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.schedule.partitions = partitions.max(1);
        self
    }

    /// Ends after `rows` rows in all.
    #[must_use]
    pub fn rows(mut self, rows: u64) -> Self {
        self.schedule.rows = Some(rows);
        self
    }
}

impl Schedule {
    /// How many of the first `rows` rows fall to a partition.
    fn share(&self, partition: u32, rows: u64) -> u64 {
        rows.saturating_sub(u64::from(partition)).div_ceil(u64::from(self.partitions))
    }

    /// The number of the row that a partition yields at `index`.
    fn value(&self, partition: u32, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.partitions)).saturating_add(u64::from(partition))
    }

    /// When a row is due, in microseconds.
    fn time(&self, start: i64, value: u64) -> i64 {
        let micros = i128::from(value) * SECOND / i128::from(self.rate.max(1));
        i64::try_from(i128::from(start) + micros).unwrap_or(i64::MAX)
    }

    /// How many rows of a partition are due.
    fn due(&self, partition: u32, start: i64, now: ProcessingTime) -> u64 {
        let elapsed = i128::from(now.as_micros()) - i128::from(start);
        if elapsed < 0 {
            return 0;
        }
        // Row v is due when floor(v * SECOND / rate) <= elapsed, that is when v * SECOND < (elapsed + 1) * rate.
        let due = ((elapsed + 1) * i128::from(self.rate) + SECOND - 1) / SECOND;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        self.share(partition, self.rows.map_or(due, |rows| due.min(rows)))
    }

    /// When row 0 would have been due, for the next row of a position to be due when it was at the rate until then: a
    /// query that is restarted with another rate continues from there at the new one.
    fn start_after(&self, partition: u32, from: &RateOffset) -> Option<i64> {
        let start = from.start?;
        if from.rate == self.rate {
            return Some(start);
        }
        let next = self.value(partition, from.index);
        let due = Schedule { rate: from.rate, ..*self }.time(start, next);
        let at_new_rate = i128::from(next) * SECOND / i128::from(self.rate.max(1));
        i64::try_from(i128::from(due) - at_new_rate).ok()
    }

    /// Where a partition ends.
    fn end(&self, partition: u32) -> Option<u64> {
        self.rows.map(|rows| self.share(partition, rows))
    }
}

/// A position in a partition of a [`RateSource`].
///
/// `start` is known as soon as a row has been read, and never before: so positions that mean the same are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateOffset {
    /// When row 0 was due at this rate, in microseconds since 1970-01-01T00:00:00Z; `None` at index 0.
    pub start: Option<i64>,
    /// How many rows of this partition come before.
    pub index: u64,
    /// The rows a second of all partitions; 0 at index 0.
    pub rate: u64,
}

impl RateOffset {
    fn at(start: i64, index: u64, rate: u64) -> Self {
        if index == 0 {
            RateOffset { start: None, index, rate: 0 }
        } else {
            RateOffset { start: Some(start), index, rate }
        }
    }
}

/// When row 0 is due: as a position says, or as another partition has found it to be, or now.
fn begin(shared: &Mutex<Option<i64>>, known: Option<i64>, now: ProcessingTime) -> i64 {
    let mut shared = lock(shared);
    let start = known.or(*shared).unwrap_or(now.as_micros());
    *shared = Some(start);
    start
}

/// The time up to which rows are read: now, or when the source was frozen.
fn until(frozen: &Mutex<Option<ProcessingTime>>, now: ProcessingTime) -> ProcessingTime {
    lock(frozen).map_or(now, |frozen| now.min(frozen))
}

impl Source for RateSource {
    type Item = RateRow;
    type Offset = RateOffset;
    type Reader = RateReader;

    fn describe(&self) -> String {
        format!("rate {}/s", self.schedule.rate)
    }

    fn is_bounded(&self) -> bool {
        self.schedule.rows.is_some()
    }

    fn is_replayable(&self) -> bool {
        true
    }

    fn may_move(&self) -> bool {
        true
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<RateOffset>, SourceError> {
        // The clock of a query that begins has not started; that of another one is in its offsets.
        *lock(&self.start) = None;
        *lock(&self.frozen) = None;
        if self.schedule.rate == 0 {
            return Err(SourceError::Setup(
                "a rate source needs a rate of at least 1 row a second".to_owned(),
            ));
        }
        let start = RateOffset { start: None, index: 0, rate: 0 };
        Ok(SourceInfo::new(self.schedule.partitions, |_| start))
    }

    fn latest(
        &self,
        partition: u32,
        from: &RateOffset,
        limits: &PlanLimits,
    ) -> Result<RateOffset, SourceError> {
        let start = begin(&self.start, self.schedule.start_after(partition, from), limits.now);
        if self.schedule.end(partition).is_some_and(|end| from.index >= end) {
            // One beyond the end, so that the reader is asked and says that it has ended.
            return Ok(RateOffset::at(start, from.index.saturating_add(1), self.schedule.rate));
        }
        let most = from.index.saturating_add(limits.records());
        let due = self.schedule.due(partition, start, until(&self.frozen, limits.now));
        let until = due.min(most);
        Ok(if until > from.index { RateOffset::at(start, until, self.schedule.rate) } else { *from })
    }

    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
        *lock(&self.frozen) = Some(now);
        Ok(())
    }

    fn open(
        &self,
        partition: u32,
        from: &RateOffset,
        context: ReaderContext,
    ) -> Result<RateReader, SourceError> {
        Ok(RateReader {
            schedule: self.schedule,
            partition,
            shared: Arc::clone(&self.start),
            frozen: Arc::clone(&self.frozen),
            start: self.schedule.start_after(partition, from),
            index: from.index,
            clock: context.clock,
        })
    }
}

/// Reads one partition of a [`RateSource`].
#[derive(Debug)]
pub struct RateReader {
    schedule: Schedule,
    partition: u32,
    shared: Arc<Mutex<Option<i64>>>,
    frozen: Arc<Mutex<Option<ProcessingTime>>>,
    start: Option<i64>,
    index: u64,
    clock: Clock,
}

impl Reader for RateReader {
    type Item = RateRow;
    type Offset = RateOffset;

    fn poll(
        &mut self,
        until: Option<&RateOffset>,
        max: usize,
        out: &mut Vec<RateRow>,
    ) -> Result<Poll, SourceError> {
        let now = self.clock.now();
        if let Some((until, start)) = until.and_then(|until| Some((until, until.start?))) {
            // The times of planned rows are those of the plan, which a run at another rate may have made.
            (self.schedule.rate, self.start) = (until.rate, Some(start));
        }
        let start = self.start.unwrap_or_else(|| begin(&self.shared, None, now));
        self.start = Some(start);
        let end = self.schedule.end(self.partition).unwrap_or(u64::MAX);
        // What was planned was due when it was planned, whatever a replay's clock says.
        let due = until
            .map_or_else(
                || self.schedule.due(self.partition, start, self::until(&self.frozen, now)),
                |until| until.index,
            )
            .min(end);
        let last = due.min(self.index.saturating_add(max as u64)).max(self.index);
        out.extend((self.index..last).map(|index| {
            let value = self.schedule.value(self.partition, index);
            RateRow { time: EventTime::from_micros(self.schedule.time(start, value)), value }
        }));
        self.index = last;
        Ok(if last >= end {
            Poll::End
        } else if last < due {
            Poll::Ready
        } else if until.is_some() {
            Poll::Idle
        } else {
            let next = self.schedule.value(self.partition, last);
            Poll::IdleUntil(ProcessingTime::from_micros(self.schedule.time(start, next)))
        })
    }

    fn offset(&self) -> RateOffset {
        self.start.map_or(RateOffset { start: None, index: self.index, rate: 0 }, |start| {
            RateOffset::at(start, self.index, self.schedule.rate)
        })
    }

    fn seek(&mut self, offset: &RateOffset) -> Result<(), SourceError> {
        self.start = self.schedule.start_after(self.partition, offset).or(self.start);
        self.index = offset.index;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Drive;

    fn values(rows: Vec<Vec<RateRow>>) -> Vec<Vec<u64>> {
        rows.into_iter().map(|rows| rows.into_iter().map(|row| row.value).collect()).collect()
    }

    #[test]
    fn rows_come_when_they_are_due_and_carry_that_time() {
        let mut drive = Drive::new(rate(3)).unwrap();
        drive.set_clock(1_000);
        assert_eq!(drive.read().unwrap(), [vec![RateRow { time: EventTime::from_micros(1_000), value: 0 }]]);
        assert_eq!(drive.polls, [Poll::IdleUntil(ProcessingTime::from_micros(334_333))]);
        drive.set_clock(334_332);
        assert!(drive.read().unwrap()[0].is_empty());
        drive.set_clock(334_333);
        assert_eq!(
            drive.read().unwrap(),
            [vec![RateRow { time: EventTime::from_micros(334_333), value: 1 }]]
        );
        drive.set_clock(2_000_000);
        assert_eq!(values(drive.read().unwrap()), [vec![2, 3, 4, 5]]);
    }

    #[test]
    fn partitions_share_the_numbers_and_the_start() {
        let mut drive = Drive::new(rate(10).partitions(3)).unwrap();
        drive.set_clock(77);
        drive.epoch(None).unwrap();
        drive.set_clock(1_000_077);
        assert_eq!(values(drive.epoch(None).unwrap()), [vec![3, 6, 9], vec![1, 4, 7, 10], vec![2, 5, 8]]);
        drive.reopen().unwrap();
        drive.set_clock(1_200_077);
        assert_eq!(values(drive.epoch(None).unwrap()), [vec![12], vec![], vec![11]]);
    }

    #[test]
    fn a_replay_gives_the_same_rows_whatever_the_clock_says() {
        let mut drive = Drive::new(rate(10).partitions(2)).unwrap();
        drive.set_clock(5_000_000);
        drive.epoch(None).unwrap();
        drive.set_clock(5_500_000);
        let begin = drive.offsets();
        let first = drive.epoch(Some(2)).unwrap();
        let until = drive.offsets();
        let mut again = Drive::resume(rate(10).partitions(2), &begin).unwrap();
        assert_eq!(again.epoch_until(&until).unwrap(), first);
        // Also where the first epoch is the one that is replayed.
        let info = rate(10).partitions(2).prepare(&PrepareContext::default()).unwrap();
        let start: Vec<_> = (0..2).map(|p| *info.start(p).unwrap()).collect();
        let mut again = Drive::resume(rate(10).partitions(2), &start).unwrap();
        let all = again.epoch_until(&until).unwrap();
        assert!(all[0].ends_with(&first[0]) && all[1].ends_with(&first[1]), "{all:?} {first:?}");
    }

    #[test]
    fn rate_lowered_at_restart_goes_on_from_next_row() {
        for new in [1, 10, 1_000] {
            let mut drive = Drive::new(rate(10)).unwrap();
            drive.set_clock(0);
            drive.epoch(None).unwrap();
            drive.set_clock(1_000_000);
            assert_eq!(values(drive.epoch(None).unwrap()), [(1..=10).collect::<Vec<_>>()]);
            let (from, second) = (drive.offsets(), 1_000_000);
            drive.set_clock(1_500_000);
            let rows = drive.epoch(Some(2)).unwrap();
            let until = drive.offsets();
            // A plan of the earlier rate is repeated with its times, and what follows comes at the new one.
            let mut again = Drive::resume(rate(new), &from).unwrap();
            assert_eq!(again.epoch_until(&until).unwrap(), rows);
            again.set_clock(second + 300_000 + 2 * second / new as i64);
            let next = again.epoch(None).unwrap();
            let times: Vec<_> = next[0].iter().map(|row| row.time.as_micros()).take(2).collect();
            assert_eq!(times, [1_300_000, 1_300_000 + second / new as i64], "{new}");
            assert_eq!(next[0][0].value, 13);
        }
    }

    #[test]
    fn a_limited_source_ends_with_its_last_row() {
        let mut drive = Drive::new(rate(1_000_000_000).rows(5).partitions(2)).unwrap();
        assert_eq!(values(drive.epoch(None).unwrap()), [vec![0, 2, 4], vec![1, 3]]);
        assert!(drive.ended());
        assert!(Drive::new(rate(0)).is_err());
    }
}
