//! Folds changes without their types: for compaction, and for reports about checkpoints.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::writer::push_varint;
use super::{Change, SnapshotReader, tag};
use crate::OperatorError;

type Keys<'a> = HashMap<&'a [u8], &'a [u8], foldhash::fast::FixedState>;

/// The state of one key group after a number of changes.
#[derive(Clone, Debug, Default)]
pub struct Folded<'a> {
    slots: BTreeMap<&'a [u8], Keys<'a>>,
}

/// How a state differs from an earlier one, in entries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Difference {
    /// Keys that are new.
    pub added: u64,
    /// Keys that have another value.
    pub changed: u64,
    /// Keys that are gone.
    pub removed: u64,
}

impl std::ops::AddAssign for Difference {
    fn add_assign(&mut self, other: Difference) {
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
    }
}

impl<'a> Folded<'a> {
    /// A state without entries.
    pub fn new() -> Self {
        Folded::default()
    }

    /// Applies changes: the oldest byte string first.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Changes`] if the bytes are not changes; those before the fault have been applied.
    pub fn apply(&mut self, bytes: &'a [u8]) -> Result<(), OperatorError> {
        let mut reader = SnapshotReader::new(bytes);
        let mut change = reader.next_change()?;
        while let Some(first) = change {
            let slot = first.slot();
            // Changes of one slot follow each other: it is looked up once.
            let keys = self.slots.entry(slot).or_default();
            while let Some(next) = change
                && std::ptr::eq(next.slot(), slot)
            {
                match next {
                    Change::Put { key, value, .. } => drop(keys.insert(key, value)),
                    Change::Remove { key, .. } => drop(keys.remove(key)),
                    Change::DropSlot { .. } => keys.clear(),
                }
                change = reader.next_change()?;
            }
            if keys.is_empty() {
                self.slots.remove(slot);
            }
        }
        Ok(())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.slots.values().map(Keys::len).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The entries as `(slot, key, value)`: slots in order, the keys of a slot in none.
    pub fn entries(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], &'a [u8])> {
        self.slots.iter().flat_map(|(slot, keys)| keys.iter().map(|(key, value)| (*slot, *key, *value)))
    }

    /// The same state as one byte string: a put for each entry.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (slot, keys) in &self.slots {
            push(&mut bytes, tag::SLOT, &[slot]);
            for (key, value) in keys {
                push(&mut bytes, tag::PUT, &[key, value]);
            }
        }
        bytes
    }

    /// As [`write`](Self::write), with every value replaced by what `convert` makes of its slot, key and value.
    ///
    /// # Errors
    ///
    /// The first error of `convert`.
    pub fn write_converted<E>(
        &self,
        mut convert: impl FnMut(&'a [u8], &'a [u8], &'a [u8]) -> Result<Cow<'a, [u8]>, E>,
    ) -> Result<Vec<u8>, E> {
        let mut bytes = Vec::new();
        for (slot, keys) in &self.slots {
            push(&mut bytes, tag::SLOT, &[slot]);
            for (key, value) in keys {
                push(&mut bytes, tag::PUT, &[key, &convert(slot, key, value)?]);
            }
        }
        Ok(bytes)
    }

    /// How this state differs from an `earlier` one.
    pub fn difference(&self, earlier: &Folded<'_>) -> Difference {
        let mut difference = Difference::default();
        for (slot, key, value) in self.entries() {
            match earlier.slots.get(slot).and_then(|keys| keys.get(key)) {
                None => difference.added += 1,
                Some(before) if *before != value => difference.changed += 1,
                Some(_) => {}
            }
        }
        let kept = self.len() as u64 - difference.added;
        difference.removed = earlier.len() as u64 - kept;
        difference
    }
}

/// Appends a change.
fn push(bytes: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    bytes.push(tag);
    for part in parts {
        push_varint(bytes, part.len());
        bytes.extend_from_slice(part);
    }
}

/// The same changes without those of slots that are dropped later, and without the drops: what remains can be applied
/// by operators to which dropping a slot is dear. Parts of a group, the oldest first; one that has nothing to be left
/// out is not copied.
///
/// # Errors
///
/// [`OperatorError::Changes`] if the bytes are not changes.
pub fn without_dropped<'a>(parts: &[&'a [u8]]) -> Result<Vec<Cow<'a, [u8]>>, OperatorError> {
    // For each slot that is dropped: after how many changes of the group for the last time.
    let mut dropped: HashMap<&[u8], u64, foldhash::fast::FixedState> = HashMap::default();
    let mut number = 0;
    for part in parts {
        let mut reader = SnapshotReader::new(part);
        while let Some(change) = reader.next_change()? {
            number += 1;
            if let Change::DropSlot { slot } = change {
                match dropped.entry(slot) {
                    Entry::Occupied(mut last) => drop(last.insert(number)),
                    Entry::Vacant(first) => drop(first.insert(number)),
                }
            }
        }
    }
    if dropped.is_empty() {
        return Ok(parts.iter().map(|part| Cow::Borrowed(*part)).collect());
    }
    let mut number = 0;
    let mut kept = Vec::with_capacity(parts.len());
    for part in parts {
        let mut bytes = Vec::new();
        let mut current = None;
        let mut reader = SnapshotReader::new(part);
        while let Some(change) = reader.next_change()? {
            number += 1;
            let slot = change.slot();
            if dropped.get(slot).is_some_and(|last| number <= *last) {
                continue;
            }
            if current != Some(slot) {
                push(&mut bytes, tag::SLOT, &[slot]);
                current = Some(slot);
            }
            match change {
                Change::Put { key, value, .. } => push(&mut bytes, tag::PUT, &[key, value]),
                Change::Remove { key, .. } => push(&mut bytes, tag::REMOVE, &[key]),
                Change::DropSlot { .. } => {}
            }
        }
        kept.push(Cow::Owned(bytes));
    }
    Ok(kept)
}
