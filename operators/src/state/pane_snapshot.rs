//! Panes in checkpoints.
//!
//! Slots: none for the watermark by which windows were closed, a pane's first instant for its accumulators. A pane may
//! still be there for a later window when an earlier one has closed, and that must not be emitted again: so each group that
//! has accumulators has the watermark too.

use super::groups::Groups;
use super::pane::{Pane, put_back};
use super::table::Table;
use super::{Mark, PaneState, split};
use crate::{
    Aggregate, Change, EventTime, Key, KeyGroup, OperatorError, SnapshotReader, SnapshotWriter, decode,
    hash_key,
};

/// More keys than that are many.
const LARGE: usize = 1 << 16;

/// What has been written of the panes, and what has not.
pub(super) struct Record {
    pub(super) tracked: bool,
    /// A pane with more accumulators than that may be written as a whole, once.
    pub(super) large: usize,
    /// The pane and hash of every entry whose change has been told and not yet written.
    pub(super) kept: Vec<(EventTime, u64)>,
    /// Panes that have closed since the last snapshot, and the groups in which they had been written.
    gone: Vec<(EventTime, Groups)>,
    /// The groups in which the watermark stands as it is now.
    pub(super) told: Groups,
}

impl Default for Record {
    fn default() -> Self {
        let (kept, gone, told) = (Vec::new(), Vec::new(), Groups::default());
        Record { tracked: false, large: LARGE, kept, gone, told }
    }
}

impl Record {
    /// Windows have closed, and with them these panes: of those that came and went between two snapshots nothing is
    /// known to anybody.
    pub(super) fn closed<K, Acc, M>(&mut self, panes: impl Iterator<Item = Pane<K, Acc, M>>) {
        self.told = Groups::default();
        let gone = panes.map(|pane| (pane.start, pane.written));
        self.gone.extend(gone.filter(|(_, written)| !written.is_empty()));
    }
}

impl<K: Key, A: Aggregate, M: Mark> PaneState<K, A, M> {
    /// What has changed since the last snapshot, or everything if that is not tracked.
    pub(super) fn write(&mut self, aggregate: &A, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        if !self.record.tracked {
            return self.write_all(writer);
        }
        // First: a pane of the same name may have been opened again.
        let all = writer.key_groups();
        for (start, groups) in self.record.gone.drain(..) {
            for group in groups.numbers().filter_map(|number| all.group(number)) {
                writer.drop_slot(group, &Some(start))?;
            }
        }
        if M::TRACKED {
            self.write_marked(writer)?;
        } else {
            let large = self.record.large;
            for Pane { start, settled, table, written, was_written, touched, .. } in &mut self.panes {
                if !std::mem::take(touched) {
                    continue;
                }
                let mut write = |hash, key: &K, acc: &A::Acc| {
                    let group = writer.key_groups().of(hash);
                    written.insert(group);
                    writer.put(group, &Some(*start), key, acc)
                };
                // Many panes close before the next snapshot. To put a large one together again then costs more than to
                // write it once more if it does not close.
                if !*was_written && table.len() > large.max(4 * settled.len()) {
                    *was_written = true;
                    put_back(aggregate, settled, table);
                    table.iter().try_for_each(|entry| write(hash_key(&entry.key), &entry.key, &entry.acc))?;
                } else {
                    split::settle(aggregate, settled, table, write)?;
                }
            }
        }
        if self.closed > EventTime::MIN {
            let mut untold = Groups::default();
            self.panes.iter().for_each(|pane| untold.add(&pane.written));
            untold.subtract(&self.record.told);
            self.write_closed(&untold, writer)?;
            self.record.told.add(&untold);
        }
        Ok(())
    }

    fn write_marked(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let mut kept = std::mem::take(&mut self.record.kept);
        // What has not been told is written too, and stays to be told.
        for (start, hash) in &self.changes {
            let Some(pane) = find(&mut self.panes, *start) else { continue };
            let untold = pane.table.of_hash_mut(*hash).filter(|entry| entry.mark.is_set());
            kept.extend(untold.filter_map(|entry| entry.mark.keep().then_some((*start, *hash))));
        }
        for (start, hash) in kept {
            let Some(pane) = find(&mut self.panes, start) else { continue };
            let group = writer.key_groups().of(hash);
            for entry in pane.table.of_hash_mut(hash) {
                if entry.mark.take_kept() {
                    pane.written.insert(group);
                    writer.put(group, &Some(start), &entry.key, &entry.acc)?;
                }
            }
        }
        Ok(())
    }

    fn write_all(&self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let mut groups = Groups::default();
        for pane in &self.panes {
            for entry in pane.table.iter() {
                let group = writer.key_groups().of(hash_key(&entry.key));
                groups.insert(group);
                writer.put(group, &Some(pane.start), &entry.key, &entry.acc)?;
            }
        }
        self.write_closed(&groups, writer)
    }

    /// Writes in each of these groups by which watermark windows have closed.
    fn write_closed(&self, groups: &Groups, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let all = writer.key_groups();
        let mut groups = groups.numbers().filter_map(|number| all.group(number));
        groups.try_for_each(|group| writer.put_own(group, &None::<EventTime>, &self.closed))
    }

    /// Removes what was written of a group.
    pub(super) fn read(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        let mut reader = SnapshotReader::new(bytes);
        while let Some(change) = reader.next_change()? {
            let slot: Option<EventTime> = decode(change.slot())?;
            match (slot, change) {
                (Some(start), Change::Put { key, value, .. }) => {
                    let key: K = decode(key)?;
                    self.written(start, group).set(hash_key(&key), key, decode(value)?);
                }
                (Some(start), Change::Remove { key, .. }) => {
                    let key: K = decode(key)?;
                    self.written(start, group).remove(hash_key(&key), |entry| entry.key == key);
                    self.tidy(start);
                }
                (Some(start), Change::DropSlot { .. }) => {
                    self.written(start, group).drop_group(group, |_| ());
                    self.pane(start).written.remove(group);
                    self.tidy(start);
                }
                (None, Change::Put { value, .. }) => {
                    let closed = decode(value)?;
                    if closed > self.closed {
                        self.closed = closed;
                        self.record.told = Groups::default();
                    }
                    if closed == self.closed {
                        self.record.told.insert(group);
                    }
                }
                // A watermark never goes back.
                (None, Change::Remove { .. } | Change::DropSlot { .. }) => {}
            }
        }
        Ok(())
    }

    /// Where a group's accumulators of a pane belong that come from a checkpoint.
    fn written(&mut self, start: EventTime, group: KeyGroup) -> &mut Table<K, A::Acc, M> {
        let tracked = self.record.tracked;
        let pane = self.pane(start);
        if tracked {
            pane.written.insert(group);
        }
        if tracked && !M::TRACKED { &mut pane.settled } else { &mut pane.table }
    }
}

/// The pane of that first instant.
fn find<K, Acc, M>(panes: &mut [Pane<K, Acc, M>], start: EventTime) -> Option<&mut Pane<K, Acc, M>> {
    let place = panes.binary_search_by_key(&start, |pane| pane.start).ok()?;
    panes.get_mut(place)
}
