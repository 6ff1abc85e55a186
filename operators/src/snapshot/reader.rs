//! Reading changes back.

use serde::Deserialize;

use super::tag;
use crate::OperatorError;

/// What happened to a key or a slot; slots, keys and values as they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// The key has this value from now on.
    Put {
        /// Where the key is.
        slot: &'a [u8],
        /// The key.
        key: &'a [u8],
        /// Its value, instead of any that it had.
        value: &'a [u8],
    },
    /// The key is gone.
    Remove {
        /// Where the key was.
        slot: &'a [u8],
        /// The key.
        key: &'a [u8],
    },
    /// Every key of the slot is gone.
    DropSlot {
        /// The slot.
        slot: &'a [u8],
    },
}

impl<'a> Change<'a> {
    /// The slot that the change is about.
    pub fn slot(&self) -> &'a [u8] {
        match *self {
            Change::Put { slot, .. } | Change::Remove { slot, .. } | Change::DropSlot { slot } => slot,
        }
    }
}

/// A slot, key or value from its bytes, all of them.
///
/// # Errors
///
/// [`OperatorError::Codec`] if they are not of that type.
#[inline]
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, OperatorError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(OperatorError::Codec)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(OperatorError::Codec(postcard::Error::DeserializeBadEncoding))
    }
}

/// Reads the changes that a [`SnapshotWriter`](super::SnapshotWriter) wrote for one group, in the same order.
///
/// It is an iterator too, which ends after the first error.
#[derive(Clone, Debug)]
pub struct SnapshotReader<'a> {
    bytes: &'a [u8],
    length: usize,
    slot: Option<&'a [u8]>,
}

impl<'a> SnapshotReader<'a> {
    /// Reads the bytes of one group.
    pub fn new(bytes: &'a [u8]) -> Self {
        SnapshotReader { bytes, length: bytes.len(), slot: None }
    }

    /// The next change, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Changes`] if the bytes are not changes.
    #[inline]
    pub fn next_change(&mut self) -> Result<Option<Change<'a>>, OperatorError> {
        loop {
            let Some((tag, rest)) = self.bytes.split_first() else { return Ok(None) };
            let at = self.offset();
            self.bytes = rest;
            if *tag == tag::SLOT {
                self.slot = Some(self.sized()?);
                continue;
            }
            let slot = self.slot.ok_or(OperatorError::Changes { at, reason: "a change before any slot" })?;
            return Ok(Some(match *tag {
                tag::PUT => Change::Put { slot, key: self.sized()?, value: self.sized()? },
                tag::REMOVE => Change::Remove { slot, key: self.sized()? },
                tag::DROP_SLOT => Change::DropSlot { slot },
                _ => return Err(OperatorError::Changes { at, reason: "a change of an unknown kind" }),
            }));
        }
    }

    /// How many bytes have been read.
    fn offset(&self) -> usize {
        self.length - self.bytes.len()
    }

    #[inline]
    fn sized(&mut self) -> Result<&'a [u8], OperatorError> {
        let length = match self.bytes.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.bytes = rest;
                usize::from(*byte)
            }
            _ => self.varint()?,
        };
        match self.bytes.split_at_checked(length) {
            Some((sized, rest)) => {
                self.bytes = rest;
                Ok(sized)
            }
            None => Err(self.error("a length beyond the end")),
        }
    }

    #[cold]
    fn varint(&mut self) -> Result<usize, OperatorError> {
        let mut number = 0u64;
        for shift in (0..63).step_by(7) {
            let Some((byte, rest)) = self.bytes.split_first() else {
                return Err(self.error("a truncated length"));
            };
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return usize::try_from(number).map_err(|_| self.error("a length beyond all memory"));
            }
        }
        Err(self.error("a length beyond all memory"))
    }

    fn error(&self, reason: &'static str) -> OperatorError {
        OperatorError::Changes { at: self.offset(), reason }
    }
}

impl<'a> Iterator for SnapshotReader<'a> {
    type Item = Result<Change<'a>, OperatorError>;

    fn next(&mut self) -> Option<Self::Item> {
        let change = self.next_change();
        if change.is_err() {
            (self.length, self.bytes) = (self.offset(), &[]);
        }
        change.transpose()
    }
}
