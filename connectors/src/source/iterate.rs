//! Records from an iterator: a generator, for tests and benchmarks.

use std::fmt;
use std::sync::Arc;

use tidemill_operators::{
    PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError, SourceInfo,
};

use super::room;

/// Room to make in a batch before it is filled; a longer batch grows.
const RESERVE: usize = 1 << 16;

/// A source that reads the iterator that a function returns. The iterator may be endless.
///
/// It can be read again, because the function can be called again; the function must then return the same records. To
/// continue at an offset, the source skips all records before it.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::{PrepareContext, Source, SourceError};
///
/// let squares = iterate(|| (0u64..).map(|n| n * n));
/// assert_eq!(squares.prepare(&PrepareContext::default())?.partitions(), 1);
/// // Partition 0 yields 0, 4, 8 …; partition 1 yields 1, 5, 9 …
/// let numbers = iterate_partitions(4, |partition| (u64::from(partition)..1_000_000).step_by(4));
/// assert_eq!(numbers.prepare(&PrepareContext::default())?.partitions(), 4);
/// # Ok::<(), SourceError>(())
/// ```
pub struct IterSource<I> {
    factory: Arc<dyn Fn(u32) -> I + Send + Sync>,
    partitions: u32,
}

/// Returns a source of the items of the iterator that `factory` returns, in one partition.
pub fn iterate<I, F>(factory: F) -> IterSource<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
    F: Fn() -> I + Send + Sync + 'static,
{
    iterate_partitions(1, move |_| factory())
}

/// Returns a source with `partitions` partitions, at least one.
///
/// `factory` is called with the number of the partition, from 0.
pub fn iterate_partitions<I, F>(partitions: u32, factory: F) -> IterSource<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
    F: Fn(u32) -> I + Send + Sync + 'static,
{
    IterSource { factory: Arc::new(factory), partitions: partitions.max(1) }
}

impl<I> Clone for IterSource<I> {
    fn clone(&self) -> Self {
        IterSource { factory: Arc::clone(&self.factory), partitions: self.partitions }
    }
}

impl<I> fmt::Debug for IterSource<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterSource").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl<I> Source for IterSource<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Item = I::Item;
    type Offset = u64;
    type Reader = IterReader<I>;

    fn describe(&self) -> String {
        "iterator".to_owned()
    }

    /// An iterator may end. One that does not is merely very long.
    fn is_bounded(&self) -> bool {
        true
    }

    fn is_replayable(&self) -> bool {
        true
    }

    fn may_move(&self) -> bool {
        true
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(self.partitions, |_| 0))
    }

    fn latest(&self, _partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(from.saturating_add(limits.max_records.unwrap_or(limits.enough)))
    }

    fn open(
        &self,
        partition: u32,
        from: &u64,
        _context: ReaderContext,
    ) -> Result<IterReader<I>, SourceError> {
        let mut reader = IterReader {
            factory: Arc::clone(&self.factory),
            partition,
            iter: Some((self.factory)(partition)),
            at: 0,
        };
        reader.skip(*from);
        Ok(reader)
    }
}

/// Reads one partition of an [`IterSource`].
pub struct IterReader<I> {
    factory: Arc<dyn Fn(u32) -> I + Send + Sync>,
    partition: u32,
    /// Gone once the iterator has ended: not every iterator may be polled after its end.
    iter: Option<I>,
    at: u64,
}

impl<I: Iterator> IterReader<I> {
    fn skip(&mut self, count: u64) {
        if let (Some(iter), Some(last)) = (&mut self.iter, count.checked_sub(1))
            && iter.nth(crate::length(last)).is_none()
        {
            self.iter = None;
        }
        self.at += count;
    }
}

/// Appends records until there are `end`, or no more.
#[inline]
fn fill<T>(mut rows: Vec<T>, iter: &mut impl Iterator<Item = T>, end: usize) -> Vec<T> {
    if rows.capacity() == end {
        // As nearly always: one comparison tells both that there is room and that more is wanted.
        while rows.len() < rows.capacity() {
            let Some(record) = iter.next() else { break };
            rows.push(record);
        }
    } else {
        rows.extend(iter.take(end - rows.len()));
    }
    rows
}

impl<I> Reader for IterReader<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Item = I::Item;
    type Offset = u64;

    // Within its caller the loop is a fifth slower; the compiler did one or the other as the rest of a program changed.
    #[inline(never)]
    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<I::Item>) -> Result<Poll, SourceError> {
        if self.iter.is_none() {
            return Ok(Poll::End);
        }
        let wanted = room(self.at, until, max);
        if wanted == 0 {
            return Ok(Poll::Idle);
        }
        let before = out.len();
        out.reserve_exact(wanted.min(RESERVE));
        // The iterator and the vector are carried along, so that what changes with every record stays in registers.
        let (mut iter, mut rows) = (self.iter.take(), std::mem::take(out));
        if let Some(iter) = &mut iter {
            rows = fill(rows, iter, before + wanted);
        }
        (self.iter, *out) = (iter, rows);
        let taken = out.len() - before;
        self.at += taken as u64;
        if taken < wanted {
            self.iter = None;
            return Ok(Poll::End);
        }
        Ok(Poll::Ready)
    }

    #[inline]
    fn pull(
        &mut self,
        until: Option<&u64>,
        max: usize,
        mut take: impl FnMut(I::Item),
    ) -> Result<Poll, SourceError> {
        let wanted = room(self.at, until, max);
        // Carried along, so that what changes with every record stays in registers.
        let Some(mut iter) = self.iter.take() else { return Ok(Poll::End) };
        let mut left = wanted;
        while left > 0 {
            let Some(record) = iter.next() else { break };
            left -= 1;
            take(record);
        }
        self.at += (wanted - left) as u64;
        if left > 0 {
            return Ok(Poll::End);
        }
        self.iter = Some(iter);
        Ok(if wanted > 0 { Poll::Ready } else { Poll::Idle })
    }

    fn offset(&self) -> u64 {
        self.at
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        if *offset < self.at || self.iter.is_none() {
            self.iter = Some((self.factory)(self.partition));
            self.at = 0;
        }
        self.skip(*offset - self.at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Drive;

    #[test]
    fn an_endless_iterator_gives_an_epoch_its_limit() {
        let mut drive = Drive::new(iterate_partitions(2, |p| (u64::from(p)..).step_by(2))).unwrap();
        assert_eq!(drive.epoch(Some(3)).unwrap(), [vec![0, 2, 4], vec![1, 3, 5]]);
        drive.reopen().unwrap();
        assert_eq!(drive.epoch(Some(1)).unwrap(), [vec![6], vec![7]]);
        assert!(!drive.ended());
    }

    #[test]
    fn an_iterator_that_ends_before_the_planned_offset_says_so() {
        let mut drive = Drive::new(iterate(|| 0..5)).unwrap();
        assert_eq!(drive.epoch(None).unwrap(), [vec![0, 1, 2, 3, 4]]);
        assert!(drive.ended());
        drive.reopen().unwrap();
        assert!(drive.epoch(None).unwrap().concat().is_empty());
        assert!(drive.ended());
    }

    #[test]
    fn pulling_reads_what_polling_reads() {
        for (until, max, end, poll) in [
            (None, 100, 5, Poll::End),
            (None, 3, 3, Poll::Ready),
            (Some(2), 100, 2, Poll::Ready),
            (Some(0), 100, 0, Poll::Idle),
        ] {
            let context = ReaderContext::new(
                tidemill_operators::Waker::new(|| {}),
                tidemill_operators::Clock::new(|| tidemill_operators::ProcessingTime::from_micros(0)),
            );
            let mut reader = iterate(|| 0..5).open(0, &0, context).unwrap();
            let mut rows = Vec::new();
            assert_eq!(reader.pull(until.as_ref(), max, |row| rows.push(row)).unwrap(), poll);
            assert_eq!((rows, reader.offset()), ((0..end).collect(), end));
        }
    }

    #[test]
    fn seeking_back_calls_the_factory_again() {
        let mut drive = Drive::new(iterate(|| 0..5)).unwrap();
        drive.read().unwrap();
        drive.readers[0].seek(&3).unwrap();
        assert_eq!(drive.read().unwrap(), [vec![3, 4]]);
    }
}
