//! What harnesses have written down, epoch after epoch.

use std::collections::BTreeMap;

use crate::{Epoch, EventTime, Folded, KeyGroup, OperatorError, ProcessingTime};

/// A chain of snapshots in memory: what the instances of an operator have written at the end of every epoch, by
/// [`Harness::snapshot`](super::Harness::snapshot), and from which
/// [`Harness::restored`](super::Harness::restored) makes instances on any number of workers.
///
/// ```
/// use tidemill_operators::graph::Place;
/// use tidemill_operators::testing::{Checkpoint, Harness, numbers, operator_of};
/// use tidemill_operators::{EventTime, Graph, Mode, OperatorError};
///
/// let count = operator_of(numbers(&Graph::new("even and odd"), 0).key_by(|n| n % 2).count().update());
/// let mut checkpoint = Checkpoint::new();
/// let place = Place::new(0, 1, Mode::MicroBatch);
/// let mut harness = Harness::restored(place, count.clone(), &checkpoint)?;
/// harness.batch(0, vec![1u64, 2, 3])?;
/// harness.end_epoch(EventTime::MIN)?;
/// harness.snapshot(&mut checkpoint)?;
///
/// // After a restart:
/// let mut harness = Harness::restored(place, count, &checkpoint)?;
/// harness.batch(0, vec![5u64])?;
/// harness.end_epoch(EventTime::MIN)?;
/// assert_eq!(harness.take::<(u64, u64)>(0), [(1, 3)]);
/// # Ok::<(), OperatorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    groups: BTreeMap<KeyGroup, Vec<Vec<u8>>>,
    /// Where the instances stand: the epoch after the last that is in here, the watermark and the clock.
    pub(super) stand: (Epoch, EventTime, ProcessingTime),
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint { groups: BTreeMap::new(), stand: (Epoch(0), EventTime::MIN, ProcessingTime(0)) }
    }
}

impl Checkpoint {
    /// A checkpoint before the first epoch.
    pub fn new() -> Self {
        Checkpoint::default()
    }

    /// Appends changes of a group.
    pub fn push(&mut self, group: KeyGroup, changes: Vec<u8>) {
        self.groups.entry(group).or_default().push(changes);
    }

    /// The changes by group, the oldest first.
    pub fn changes(&self) -> impl Iterator<Item = (KeyGroup, &[u8])> {
        self.groups.iter().flat_map(|(group, parts)| parts.iter().map(|bytes| (*group, bytes.as_slice())))
    }

    /// How many bytes of changes there are.
    pub fn bytes(&self) -> usize {
        self.changes().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Folds the chain, as a compaction does: what was replaced or removed is gone.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Changes`] if what the operator wrote are not changes.
    pub fn fold(&mut self) -> Result<(), OperatorError> {
        for parts in self.groups.values_mut() {
            let mut folded = Folded::new();
            parts.iter().try_for_each(|bytes| folded.apply(bytes))?;
            let whole = folded.write();
            drop(folded);
            *parts = vec![whole];
        }
        Ok(())
    }
}
