//! The snapshots of harnesses, epoch after epoch.

use std::collections::BTreeMap;

use crate::{Epoch, EventTime, Folded, KeyGroup, Operator, OperatorError, ProcessingTime, SnapshotWriter};

/// A chain of snapshots in memory: what the instances of an operator have written at the end of every epoch, by
/// [`Harness::snapshot`](super::Harness::snapshot), and from which
/// [`Harness::restored`](super::Harness::restored) makes instances on any number of workers.
///
/// ```
/// use tidemill::OperatorError;
/// use tidemill::operator::Place;
/// use tidemill::prelude::*;
/// use tidemill::testing::{Checkpoint, Harness, operator_of};
///
/// let numbers = Graph::new("even and odd").source(memory(0..0u64));
/// let count = operator_of(numbers.key_by(|n| n % 2).count().update());
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
    /// By state, where a state has a name.
    groups: BTreeMap<(String, KeyGroup), Vec<Vec<u8>>>,
    /// Where the instances stand: the epoch after the last that is in here, the watermark and the clock.
    pub(super) stand: (Epoch, EventTime, ProcessingTime),
    /// When one of the instances wanted to be called, as they stand there.
    pub(super) wake_at: Option<ProcessingTime>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        let stand = (Epoch::new(0), EventTime::MIN, ProcessingTime::from_micros(0));
        Checkpoint { groups: BTreeMap::new(), stand, wake_at: None }
    }
}

impl Checkpoint {
    /// A checkpoint before the first epoch.
    pub fn new() -> Self {
        Checkpoint::default()
    }

    /// An instance stands there, and wants to be called at that time.
    pub(super) fn stand_at(
        &mut self,
        stand: (Epoch, EventTime, ProcessingTime),
        wake_at: Option<ProcessingTime>,
    ) {
        let of_others = self.wake_at.filter(|_| self.stand.0 == stand.0);
        self.wake_at = of_others.into_iter().chain(wake_at).min();
        self.stand = stand;
    }

    /// Appends changes of a group.
    pub fn push(&mut self, group: KeyGroup, changes: Vec<u8>) {
        self.push_of("", group, changes);
    }

    /// Appends changes of a group in a [state](SnapshotWriter::named).
    pub(super) fn push_of(&mut self, state: &str, group: KeyGroup, changes: Vec<u8>) {
        self.groups.entry((state.to_owned(), group)).or_default().push(changes);
    }

    /// Appends all that has been written.
    pub(super) fn push_all(&mut self, mut writer: SnapshotWriter) {
        for (state, written) in writer.take_named() {
            for (group, bytes) in written.into_groups() {
                self.push_of(&state, group, bytes);
            }
        }
        for (group, bytes) in writer.into_groups() {
            self.push(group, bytes);
        }
    }

    /// The changes by group, the oldest first; also those of states with names.
    pub fn changes(&self) -> impl Iterator<Item = (KeyGroup, &[u8])> {
        self.states().map(|(_, group, bytes)| (group, bytes))
    }

    /// The changes by state and group, the oldest first.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, KeyGroup, &[u8])> {
        self.groups.iter().flat_map(|((state, group), parts)| {
            parts.iter().map(|bytes| (state.as_str(), *group, bytes.as_slice()))
        })
    }

    /// Gives an operator all that is in here.
    pub(super) fn restore(&self, operator: &mut impl Operator) -> Result<(), OperatorError> {
        self.states().try_for_each(|(state, group, bytes)| match state {
            "" => operator.restore(group, bytes),
            state => operator.restore_named(state, group, bytes),
        })
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
