//! What a source finds out when a query starts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::SourceLog;
use crate::SourceError;

/// What a source is given when a query starts.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct PrepareContext {
    /// The log that the query's checkpoint keeps for the source; none without a checkpoint.
    pub log: Option<Arc<dyn SourceLog>>,
}

impl PrepareContext {
    /// Returns a context with that log, for those who drive a source themselves.
    pub fn new(log: Option<Arc<dyn SourceLog>>) -> Self {
        PrepareContext { log }
    }
}

impl fmt::Debug for PrepareContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrepareContext").field("log", &self.log.is_some()).finish()
    }
}

/// The partitions of a source, and where each begins.
///
/// ```
/// use tidemill::SourceInfo;
///
/// let three = SourceInfo::new(3, |partition| u64::from(partition) * 100);
/// assert_eq!((three.partitions(), three.start(2)), (3, Some(&200)));
/// assert_eq!(three.watermark_partition(2), 2);
/// assert_eq!(three.in_one_sequence().watermark_partition(2), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo<O> {
    partitions: u32,
    /// At most [`MOST`](Self::MOST) partitions: a source with more is refused.
    starts: Vec<O>,
    in_one_sequence: bool,
    may_grow: bool,
    discovery: Option<Duration>,
}

impl<O> SourceInfo<O> {
    /// The most partitions that a source can have: their numbers have 16 bits beside that of the source.
    pub const MOST: u32 = 1 << 16;

    /// Returns `partitions` partitions, each of which begins at `start` in a query without a checkpoint.
    pub fn new(partitions: u32, mut start: impl FnMut(u32) -> O) -> Self {
        let mut starts = Vec::new();
        for partition in 0..partitions.min(Self::MOST) {
            starts.push(start(partition));
        }
        SourceInfo { partitions, starts, in_one_sequence: false, may_grow: false, discovery: None }
    }

    /// Declares that the partitions are slices of one ordered sequence, such as blocks of one file.
    ///
    /// They have one watermark together.
    #[must_use]
    pub fn in_one_sequence(mut self) -> Self {
        self.in_one_sequence = true;
        self
    }

    /// Declares that partitions may be added between runs, with the next numbers.
    ///
    /// A query that resumes reads partitions that are not in its checkpoint from their start. Without this setting it
    /// refuses another number of partitions.
    #[must_use]
    pub fn may_grow(mut self) -> Self {
        self.may_grow = true;
        self
    }

    /// Declares that partitions may also be added while a query runs.
    ///
    /// The driver calls [`Source::discover`](super::Source::discover) about once per `every`, by the engine's clock: in
    /// micro-batch when it plans an epoch, in continuous mode at any time.
    ///
    /// Such a source never ends: when all its partitions have ended, new ones may be added. So it must not be
    /// [bounded](super::Source::is_bounded), and its partitions cannot be slices of [one
    /// sequence](Self::in_one_sequence).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::SourceInfo;
    ///
    /// let shards = SourceInfo::new(3, |_| 0).with_discovery(Duration::from_secs(30));
    /// assert_eq!(shards.discovery_interval(), Some(Duration::from_secs(30)));
    /// assert!(shards.fits(2), "those that are new since the checkpoint are read from their start");
    /// ```
    #[must_use]
    pub fn with_discovery(mut self, every: Duration) -> Self {
        self.discovery = Some(every);
        self.may_grow()
    }

    /// Returns how often a query looks for new partitions while it runs; `None` if never.
    pub fn discovery_interval(&self) -> Option<Duration> {
        self.discovery
    }

    /// Returns whether a query can resume whose checkpoint has that number of partitions.
    pub fn fits(&self, partitions: usize) -> bool {
        let now = self.partitions as usize;
        partitions == now || (self.may_grow && partitions < now)
    }

    /// Returns how many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Returns where a partition begins in a query without a checkpoint.
    pub fn start(&self, partition: u32) -> Option<&O> {
        self.starts.get(usize::try_from(partition).ok()?)
    }

    /// Returns the partition of the watermark that a partition counts as.
    pub fn watermark_partition(&self, partition: u32) -> u32 {
        if self.in_one_sequence { 0 } else { partition }
    }

    /// Returns whether several partitions are slices of one sequence.
    pub fn is_sliced(&self) -> bool {
        self.in_one_sequence && self.partitions > 1
    }

    /// Returns the same partitions with other positions, for a source that reads another one.
    ///
    /// # Errors
    ///
    /// The first error of `start`, or more than [`MOST`](Self::MOST) partitions.
    pub fn try_map<U>(
        self,
        mut start: impl FnMut(u32, O) -> Result<U, SourceError>,
    ) -> Result<SourceInfo<U>, SourceError> {
        let SourceInfo { partitions, starts, in_one_sequence, may_grow, discovery } = self;
        check(partitions)?;
        let mut mapped = Vec::with_capacity(starts.len());
        for (partition, from) in (0..).zip(starts) {
            mapped.push(start(partition, from)?);
        }
        Ok(SourceInfo { partitions, starts: mapped, in_one_sequence, may_grow, discovery })
    }
}

fn check(partitions: u32) -> Result<(), SourceError> {
    let most = SourceInfo::<()>::MOST;
    if partitions > most {
        return Err(SourceError::Setup(format!(
            "a source can have at most {most} partitions (got {partitions}): give it fewer"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_with_too_many_partitions_is_refused_unasked() {
        let mut asked = 0;
        let info = SourceInfo::new(u32::MAX, |_| asked += 1);
        assert_eq!((info.partitions(), asked), (u32::MAX, SourceInfo::<()>::MOST));
        let said = info.try_map(|_, ()| Ok(())).unwrap_err().to_string();
        assert!(said.contains("at most 65536 partitions (got 4294967295)"), "{said}");
        assert!(SourceInfo::new(SourceInfo::<()>::MOST, |_| ()).try_map(|_, ()| Ok(())).is_ok());
    }

    #[test]
    fn other_positions_leave_all_else() {
        let every = Duration::from_secs(1);
        let info = SourceInfo::new(3, |partition| partition).in_one_sequence().with_discovery(every);
        let mapped = info.clone().try_map(|partition, start| Ok((partition, start))).unwrap();
        assert_eq!(
            mapped,
            SourceInfo::new(3, |partition| (partition, partition)).in_one_sequence().with_discovery(every)
        );
        let refused = info.try_map(|partition, _| match partition {
            1 => Err(SourceError::Setup("no".to_owned())),
            _ => Ok(()),
        });
        assert!(refused.is_err());
    }

    #[test]
    fn only_growing_source_fits_fewer_partitions() {
        let info = SourceInfo::new(3, |_| ());
        assert_eq!([2, 3, 4].map(|before| info.fits(before)), [false, true, false]);
        let info = info.may_grow();
        assert_eq!([2, 3, 4].map(|before| info.fits(before)), [true, true, false]);
    }
}
