//! Writing changes down.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::tag;
use crate::schema::{StateSchema, encode};
use crate::{KeyGroup, KeyGroups, OperatorError};

/// Where an operator's state goes: changes, each under its key group.
///
/// ```
/// use tidemill::operator::HashedKey;
/// use tidemill::{Change, SnapshotReader, SnapshotWriter, decode};
///
/// let mut writer = SnapshotWriter::new();
/// let group = writer.key_groups().of(HashedKey::of(&1u64).hash);
/// writer.put(group, &"orders", &1u64, &"open")?;
/// writer.remove(group, &"orders", &2u64)?;
/// let (written, bytes) = writer.into_groups().next().ok_or("nothing was written")?;
/// assert_eq!(written, group);
///
/// let mut reader = SnapshotReader::new(&bytes);
/// let Some(Change::Put { key, value, .. }) = reader.next_change()? else { return Err("a put".into()) };
/// assert_eq!((decode::<u64>(key)?, decode::<&str>(value)?), (1, "open"));
/// assert!(matches!(reader.next_change()?, Some(Change::Remove { .. })));
/// assert!(reader.next_change()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct SnapshotWriter {
    key_groups: KeyGroups,
    /// By number of the group.
    groups: Vec<Group>,
    /// Buffers to use before new ones are made.
    spare: Vec<Vec<u8>>,
    /// A slot, on its way to be compared with the one before.
    slot: Vec<u8>,
    /// What every entry completes: the schema of a type that rejects made-up values.
    learning: Option<Arc<StateSchema>>,
    /// What is written of states with a name of their own.
    named: BTreeMap<String, SnapshotWriter>,
}

#[derive(Debug, Default)]
struct Group {
    bytes: Vec<u8>,
    /// Where the current slot stands in the bytes: from, to. Nowhere as long as the group is empty.
    slot: (usize, usize),
}

impl SnapshotWriter {
    /// An empty snapshot.
    pub fn new() -> Self {
        SnapshotWriter::default()
    }

    /// An empty snapshot that writes into these buffers first. What is in them is lost.
    pub fn reusing(buffers: Vec<Vec<u8>>) -> Self {
        SnapshotWriter { spare: buffers, ..SnapshotWriter::default() }
    }

    /// The same for another number of key groups.
    #[must_use]
    pub fn with_key_groups(mut self, groups: KeyGroups) -> Self {
        self.key_groups = groups;
        self
    }

    /// Returns the key groups of the checkpoint.
    #[inline]
    pub fn key_groups(&self) -> KeyGroups {
        self.key_groups
    }

    /// The key has this value from now on.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Encode`] if something cannot be serialized; what was written before is then of no use.
    #[inline]
    pub fn put<S, K, V>(&mut self, group: KeyGroup, slot: &S, key: &K, value: &V) -> Result<(), OperatorError>
    where
        S: Serialize + ?Sized,
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        if let Some(schema) = &self.learning {
            schema.learn(key, value).map_err(OperatorError::Schema)?;
        }
        let bytes = self.at(group, slot)?;
        bytes.push(tag::PUT);
        push_sized(bytes, key)?;
        push_sized(bytes, value)
    }

    /// As [`put`](Self::put), for an entry of the engine's own, which has no key.
    pub(crate) fn put_own<S, V>(&mut self, group: KeyGroup, slot: &S, value: &V) -> Result<(), OperatorError>
    where
        S: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        let bytes = self.at(group, slot)?;
        bytes.push(tag::PUT);
        push_sized(bytes, &())?;
        push_sized(bytes, value)
    }

    /// From now on every entry completes this schema, if there is one.
    pub(crate) fn learn(&mut self, schema: Option<Arc<StateSchema>>) {
        self.learning = schema;
    }

    /// The key is gone.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    #[inline]
    pub fn remove<S, K>(&mut self, group: KeyGroup, slot: &S, key: &K) -> Result<(), OperatorError>
    where
        S: Serialize + ?Sized,
        K: Serialize + ?Sized,
    {
        let bytes = self.at(group, slot)?;
        bytes.push(tag::REMOVE);
        push_sized(bytes, key)
    }

    /// Every key of the group in this slot is gone.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn drop_slot<S: Serialize + ?Sized>(
        &mut self,
        group: KeyGroup,
        slot: &S,
    ) -> Result<(), OperatorError> {
        self.at(group, slot)?.push(tag::DROP_SLOT);
        Ok(())
    }

    /// Where a state with a name of its own is written.
    pub fn named(&mut self, name: &str) -> &mut SnapshotWriter {
        let groups = self.key_groups;
        let make = || SnapshotWriter::new().with_key_groups(groups);
        self.named.entry(name.to_owned()).or_insert_with(make)
    }

    /// Takes out what was written of states with names of their own.
    pub fn take_named(&mut self) -> BTreeMap<String, SnapshotWriter> {
        std::mem::take(&mut self.named)
    }

    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        let own: usize = self.groups.iter().map(|group| group.bytes.len()).sum();
        own + self.named.values().map(SnapshotWriter::len).sum::<usize>()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, by group: only groups that have anything.
    pub fn into_groups(self) -> impl Iterator<Item = (KeyGroup, Vec<u8>)> {
        let groups = self.key_groups.iter().zip(self.groups).map(|(group, written)| (group, written.bytes));
        groups.filter(|(_, bytes)| !bytes.is_empty())
    }

    /// The bytes of the group, which are about that slot.
    #[inline]
    fn at<S: Serialize + ?Sized>(
        &mut self,
        group: KeyGroup,
        slot: &S,
    ) -> Result<&mut Vec<u8>, OperatorError> {
        self.slot.clear();
        push(&mut self.slot, slot)?;
        let number = usize::from(group.number());
        if number >= self.groups.len() || group.groups() != self.key_groups {
            self.grow(group)?;
        }
        let Some(Group { bytes, slot: (from, to) }) = self.groups.get_mut(number) else {
            return Err(OperatorError::NoSuchGroup(group.number()));
        };
        if bytes.is_empty() || bytes.get(*from..*to) != Some(self.slot.as_slice()) {
            if bytes.capacity() == 0 {
                *bytes = self.spare.pop().unwrap_or_default();
                bytes.clear();
            }
            bytes.push(tag::SLOT);
            push_varint(bytes, self.slot.len());
            *from = bytes.len();
            bytes.extend_from_slice(&self.slot);
            *to = bytes.len();
        }
        Ok(bytes)
    }

    #[cold]
    fn grow(&mut self, group: KeyGroup) -> Result<(), OperatorError> {
        if group.groups() != self.key_groups {
            return Err(OperatorError::NoSuchGroup(group.number()));
        }
        self.groups.resize_with(usize::from(group.number()) + 1, Group::default);
        Ok(())
    }
}

#[inline]
fn push<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<(), OperatorError> {
    encode(value, bytes).map_err(OperatorError::Encode)
}

/// Appends a value after its length. Nearly every length is one byte: so much is left free before the length is known.
#[inline]
fn push_sized<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<(), OperatorError> {
    let at = bytes.len();
    bytes.push(0);
    push(bytes, value)?;
    let length = bytes.len() - at - 1;
    match bytes.get_mut(at) {
        Some(place) if length < 0x80 => *place = length as u8,
        _ => widen(bytes, at, length),
    }
    Ok(())
}

/// Puts a length that needs more than a byte where one byte was left free.
#[cold]
fn widen(bytes: &mut Vec<u8>, at: usize, length: usize) {
    let mut varint = Vec::with_capacity(10);
    push_varint(&mut varint, length);
    bytes.splice(at..=at, varint);
}

/// Appends a length, or bytes after their length.
#[inline]
pub(super) fn push_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
