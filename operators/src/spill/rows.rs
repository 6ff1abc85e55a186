//! Rows in order: the newest in memory, older ones in blocks elsewhere.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SpillError, SpillHandle, StateMemory};
use crate::Data;
use crate::codec::{Codec, CodecError};

/// This many bytes in memory are worth a block of their own as soon as memory is short.
const BLOCK: usize = 16 << 10;
/// At most about this many bytes go into a block: so much is in memory twice while it is written or read.
const LARGEST: usize = 256 << 10;
/// So few are worth no block: its description takes as much memory.
const SMALLEST: usize = 128;
/// A block of fewer bytes is small, and this many small ones at the end become one.
const SMALL: u32 = 4 << 10;
const SMALL_ONES: usize = 8;

/// Rows in order, of which some may be elsewhere. Serialized it is a sequence, whole, as a `Vec` would be.
///
/// Where no [`StateMemory`] has been entered it is a `Vec` and nothing else.
pub struct Rows<T: Data + Clone, C: Codec<T>> {
    tail: Vec<T>,
    /// From the first time that the rows in memory are counted.
    store: Option<Box<Store>>,
    codec: PhantomData<fn() -> C>,
}

struct Store {
    memory: Arc<StateMemory>,
    /// What the rows in memory are counted as.
    charged: usize,
    /// Rows in all blocks.
    rows: usize,
    /// In order, each before the next, all before the rows in memory.
    blocks: Vec<SpillHandle>,
}

impl Store {
    fn of(memory: Arc<StateMemory>) -> Box<Store> {
        Box::new(Store { memory, charged: 0, rows: 0, blocks: Vec::new() })
    }

    /// The rows in memory are to be counted as so much.
    fn count(&mut self, bytes: usize) {
        if bytes > self.charged {
            self.memory.charge(bytes - self.charged);
        } else {
            self.memory.discharge(self.charged - bytes);
        }
        self.charged = bytes;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.memory.discharge(self.charged);
        self.blocks.iter().for_each(|block| self.memory.space().free(*block));
    }
}

impl Clone for Store {
    fn clone(&self) -> Self {
        self.blocks.iter().for_each(|block| self.memory.space().retain(*block));
        self.memory.charge(self.charged);
        Store { memory: Arc::clone(&self.memory), blocks: self.blocks.clone(), ..*self }
    }
}

impl<T: Data + Clone, C: Codec<T>> Clone for Rows<T, C> {
    fn clone(&self) -> Self {
        Rows { tail: self.tail.clone(), store: self.store.clone(), codec: PhantomData }
    }
}

impl<T: Data + Clone + std::fmt::Debug, C: Codec<T>> std::fmt::Debug for Rows<T, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("elsewhere", &self.elsewhere()).field("tail", &self.tail).finish()
    }
}

impl<T: Data + Clone, C: Codec<T>> Rows<T, C> {
    /// One row.
    #[inline]
    pub fn of(row: T) -> Self {
        Rows { tail: vec![row], store: None, codec: PhantomData }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.elsewhere() + self.tail.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn elsewhere(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.rows)
    }

    /// Appends a row.
    #[inline]
    pub fn push(&mut self, row: T) {
        if self.tail.len() == self.tail.capacity() {
            self.grow();
        }
        self.tail.push(row);
    }

    /// Appends the rows of another.
    pub fn append(&mut self, mut other: Self) {
        let theirs = other.store.as_ref().filter(|store| !store.blocks.is_empty());
        match (theirs, self.memory()) {
            (None, None) => self.tail.append(&mut other.tail),
            (None, Some(_)) => std::mem::take(&mut other.tail).into_iter().for_each(|row| self.push(row)),
            (Some(theirs), _) if self.spill_for(&Arc::clone(&theirs.memory)) => {
                if let (Some(store), Some(theirs)) = (&mut self.store, &mut other.store) {
                    store.blocks.append(&mut theirs.blocks);
                    store.rows += std::mem::take(&mut theirs.rows);
                }
                std::mem::take(&mut other.tail).into_iter().for_each(|row| self.push(row));
            }
            _ => {
                // One block at a time, so that what is read need not all be in memory before it is spilled again.
                other.each(|row| self.push(row));
            }
        }
    }

    /// All rows in order. If a block cannot be read the query ends, and the missing rows are never emitted.
    pub fn to_vec(&self) -> Vec<T> {
        let mut rows = Vec::with_capacity(self.len());
        self.each_block(|bytes| C::decode(bytes, &mut rows));
        rows.extend_from_slice(&self.tail);
        rows
    }

    /// Spills what is in memory, if that is worth it.
    pub(crate) fn relieve(&mut self) {
        self.recount();
        if self.store.as_ref().is_some_and(|store| store.charged >= SMALLEST && !store.memory.has_failed()) {
            self.spill();
        }
    }

    /// How many blocks there are, if anything is counted.
    #[cfg(test)]
    pub(super) fn blocks(&self) -> Option<usize> {
        self.store.as_ref().map(|store| store.blocks.len())
    }

    fn each(&self, mut each: impl FnMut(T)) {
        let mut rows = Vec::new();
        self.each_block(|bytes| {
            C::decode(bytes, &mut rows)?;
            rows.drain(..).for_each(&mut each);
            Ok(())
        });
        self.tail.iter().cloned().for_each(each);
    }

    /// All blocks, one after the other.
    fn each_block(&self, mut each: impl FnMut(&mut [u8]) -> Result<(), CodecError>) {
        let Some(store) = &self.store else { return };
        let mut bytes = Vec::new();
        for block in &store.blocks {
            let read = store.memory.space().read(*block, &mut bytes);
            if let Err(error) = read.and_then(|()| Ok(each(&mut bytes)?)) {
                return store.memory.fail(error);
            }
        }
    }

    /// What counts the rows in memory.
    fn memory(&self) -> Option<Arc<StateMemory>> {
        match &self.store {
            Some(store) => Some(Arc::clone(&store.memory)),
            None => StateMemory::current(),
        }
    }

    /// There is no room for another row: makes it, or spills the rows.
    #[cold]
    fn grow(&mut self) {
        let Some(memory) = self.memory() else { return self.tail.reserve(1) };
        let counted = self.store.get_or_insert_with(|| Store::of(Arc::clone(&memory))).charged;
        let unit = self.unit();
        let mut more = self.tail.capacity().max(4);
        let grown = ((self.tail.len() + more) * unit).saturating_sub(counted);
        if self.tail.len() * unit >= BLOCK && !memory.has_room(grown) && !memory.has_failed() {
            self.spill();
            more = (BLOCK / unit).max(4);
        }
        if self.tail.len() == self.tail.capacity() {
            self.tail.reserve_exact(more);
        }
        let bytes = self.tail.capacity() * unit;
        if let Some(store) = &mut self.store {
            store.count(bytes);
        }
    }

    /// Counts the rows in memory as what they are now.
    fn recount(&mut self) {
        if self.store.is_none() {
            self.store = StateMemory::current().map(Store::of);
        }
        let bytes = self.tail.capacity() * self.unit();
        if let Some(store) = &mut self.store {
            store.count(bytes);
        }
    }

    /// What a row in memory is counted as: its size and, if it owns anything, what a few of them take when encoded.
    fn unit(&self) -> usize {
        /// What an allocation takes besides what is in it.
        const OVERHEAD: usize = 16;
        let size = size_of::<T>().max(1);
        if !std::mem::needs_drop::<T>() {
            return size;
        }
        let step = (self.tail.len() / 4).max(1);
        let owned = |row| postcard::experimental::serialized_size(row).unwrap_or(0) + OVERHEAD;
        let (rows, bytes) = self
            .tail
            .iter()
            .rev()
            .step_by(step)
            .fold((0, 0), |(rows, bytes), row| (rows + 1, bytes + owned(row)));
        size + bytes / rows.max(1)
    }

    /// Whether all rows are in blocks of that memory now, so that blocks can follow.
    fn spill_for(&mut self, memory: &Arc<StateMemory>) -> bool {
        let store = self.store.get_or_insert_with(|| Store::of(Arc::clone(memory)));
        if !Arc::ptr_eq(&store.memory, memory) || memory.has_failed() {
            return false;
        }
        self.spill();
        self.tail.is_empty()
    }

    /// Writes the rows in memory as blocks. If that fails they stay where they are, and the query ends.
    fn spill(&mut self) {
        let unit = self.unit();
        let Some(store) = &mut self.store else { return };
        let mut bytes = Vec::new();
        let mut begin = 0;
        if let Err(error) = collapse::<T, C>(store, &mut bytes) {
            return store.memory.fail(error);
        }
        for rows in self.tail.chunks((LARGEST / unit).max(1)) {
            match write::<T, C>(&store.memory, rows, &mut bytes) {
                Ok(block) => {
                    store.blocks.push(block);
                    store.rows += rows.len();
                    begin += rows.len();
                }
                Err(error) => {
                    store.memory.fail(error);
                    break;
                }
            }
        }
        self.tail.drain(..begin);
        if self.tail.is_empty() {
            self.tail = Vec::new();
        }
        store.count(self.tail.capacity() * unit);
    }
}

fn write<T: Data, C: Codec<T>>(
    memory: &StateMemory,
    rows: &[T],
    bytes: &mut Vec<u8>,
) -> Result<SpillHandle, SpillError> {
    bytes.clear();
    C::encode(rows, bytes)?;
    memory.write(bytes)
}

/// Makes one block of the small ones at the end when there are many: a key that gets a row now and then would else have
/// more to remember about its blocks than there is in them.
fn collapse<T: Data, C: Codec<T>>(store: &mut Store, bytes: &mut Vec<u8>) -> Result<(), SpillError> {
    let from = store.blocks.len().saturating_sub(SMALL_ONES);
    let Some(small) = store.blocks.get(from..) else { return Ok(()) };
    if small.len() < SMALL_ONES || small.iter().any(|block| block.length >= SMALL) {
        return Ok(());
    }
    let mut rows = Vec::new();
    for block in small {
        store.memory.space().read(*block, bytes)?;
        C::decode(bytes, &mut rows)?;
    }
    let whole = write::<T, C>(&store.memory, &rows, bytes)?;
    for block in store.blocks.drain(from..) {
        store.memory.space().free(block);
    }
    store.blocks.push(whole);
    Ok(())
}

impl<T: Data + Clone, C: Codec<T>> Serialize for Rows<T, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        let mut outcome = Ok(());
        let mut rows = 0;
        self.each_block(|bytes| {
            C::visit(bytes, &mut |block| {
                rows += block.len();
                if outcome.is_ok() {
                    outcome = block.iter().try_for_each(|row| sequence.serialize_element(row));
                }
            })
        });
        outcome?;
        if rows != self.elsewhere() {
            return Err(serde::ser::Error::custom("spilled rows cannot be read back"));
        }
        self.tail.iter().try_for_each(|row| sequence.serialize_element(row))?;
        sequence.end()
    }
}

impl<'de, T: Data + Clone, C: Codec<T>> Deserialize<'de> for Rows<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sequence<T, C>(PhantomData<fn() -> (T, C)>);

        impl<'de, T: Data + Clone, C: Codec<T>> Visitor<'de> for Sequence<T, C> {
            type Value = Rows<T, C>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a sequence of rows")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut rows = Rows { tail: Vec::new(), store: None, codec: PhantomData };
                while let Some(row) = sequence.next_element()? {
                    rows.push(row);
                }
                Ok(rows)
            }
        }

        deserializer.deserialize_seq(Sequence(PhantomData))
    }
}
