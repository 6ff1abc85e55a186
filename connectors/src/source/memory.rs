//! Records in memory: a collection, read from the beginning to the end.

use std::sync::Arc;

use tidemill_operators::{
    PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError, SourceInfo,
};

use super::room;

/// A source that reads a collection. It ends, and can be read again from any offset.
///
/// ```
/// use tidemill::connectors::MemorySource;
/// use tidemill::prelude::*;
/// use tidemill::{PrepareContext, Source, SourceError};
///
/// let context = PrepareContext::default();
/// assert_eq!(memory(vec!["a", "b"]).prepare(&context)?.partitions(), 1);
/// assert_eq!(MemorySource::partitioned([vec![1, 3], vec![2, 4]]).prepare(&context)?.partitions(), 2);
/// # Ok::<(), SourceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemorySource<T> {
    partitions: Vec<Arc<[T]>>,
}

/// Returns a source of these records, in this order, in one partition.
pub fn memory<T: Clone + Send + Sync + 'static>(records: impl IntoIterator<Item = T>) -> MemorySource<T> {
    MemorySource { partitions: vec![records.into_iter().collect()] }
}

impl<T: Clone + Send + Sync + 'static> MemorySource<T> {
    /// Returns a source with one partition for each collection.
    pub fn partitioned(partitions: impl IntoIterator<Item = Vec<T>>) -> Self {
        MemorySource { partitions: partitions.into_iter().map(Arc::from).collect() }
    }

    fn records(&self, partition: u32) -> Result<&Arc<[T]>, SourceError> {
        let found = usize::try_from(partition).ok().and_then(|index| self.partitions.get(index));
        found.ok_or_else(|| {
            SourceError::Setup(format!(
                "the memory source has no partition {partition}: it has {} partitions",
                self.partitions.len()
            ))
        })
    }
}

impl<T: Clone + Send + Sync + 'static> Source for MemorySource<T> {
    type Item = T;
    type Offset = u64;
    type Reader = MemoryReader<T>;

    fn describe(&self) -> String {
        format!("memory, {} records", self.partitions.iter().map(|records| records.len()).sum::<usize>())
    }

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
        let partitions = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        Ok(SourceInfo::new(partitions, |_| 0))
    }

    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let len = self.records(partition)?.len() as u64;
        if *from >= len {
            // One beyond the end, so that the reader is asked and says that it has ended.
            return Ok(from.saturating_add(1));
        }
        Ok(from.saturating_add(limits.records()).min(len))
    }

    fn open(
        &self,
        partition: u32,
        from: &u64,
        _context: ReaderContext,
    ) -> Result<MemoryReader<T>, SourceError> {
        Ok(MemoryReader { records: Arc::clone(self.records(partition)?), at: *from })
    }
}

/// Reads one partition of a [`MemorySource`].
#[derive(Debug)]
pub struct MemoryReader<T> {
    records: Arc<[T]>,
    at: u64,
}

impl<T: Clone + Send + Sync + 'static> Reader for MemoryReader<T> {
    type Item = T;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<T>) -> Result<Poll, SourceError> {
        let rest = self.records.get(crate::length(self.at)..).unwrap_or_default();
        let taken = rest.get(..room(self.at, until, max)).unwrap_or(rest);
        out.extend_from_slice(taken);
        self.at += taken.len() as u64;
        Ok(if taken.len() == rest.len() {
            Poll::End
        } else if taken.is_empty() {
            Poll::Idle
        } else {
            Poll::Ready
        })
    }

    fn offset(&self) -> u64 {
        self.at
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.at = *offset;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Drive;

    #[test]
    fn each_epoch_takes_its_limit_and_last_one_ends() {
        let mut drive = Drive::new(MemorySource::partitioned([vec![1, 2, 3], vec![4]])).unwrap();
        assert_eq!(drive.epoch(Some(2)).unwrap(), [vec![1, 2], vec![4]]);
        assert!(!drive.ended());
        assert_eq!(drive.epoch(Some(2)).unwrap(), [vec![3], vec![]]);
        assert!(drive.ended());
    }

    #[test]
    fn an_empty_source_ends_in_both_modes() {
        let mut drive = Drive::new(memory(Vec::<u8>::new())).unwrap();
        assert!(drive.epoch(None).unwrap().concat().is_empty());
        assert!(drive.ended());
        let mut drive = Drive::new(memory(Vec::<u8>::new())).unwrap();
        assert!(drive.read().unwrap().concat().is_empty());
        assert!(drive.ended());
    }

    #[test]
    fn a_reader_that_is_opened_in_the_middle_goes_on_from_there() {
        let mut drive = Drive::new(memory(0..10)).unwrap();
        assert_eq!(drive.epoch(Some(4)).unwrap(), [vec![0, 1, 2, 3]]);
        drive.reopen().unwrap();
        assert_eq!(drive.read().unwrap(), [vec![4, 5, 6, 7, 8, 9]]);
    }
}
