//! State as it goes into checkpoints: changes, in a framing that needs no types.
//!
//! The state of an operator is a map of two levels, (slot, key) → value: the slot is a pane, a table, or nothing at all.
//! What is written is not the map but what happened to it: a value was put, a key was removed, a whole slot was dropped.
//! A full snapshot is nothing but puts. Changes are divided by key group, and those of a group are one byte string:
//!
//! ```text
//! change := 0 length slot                    what follows is about this slot
//!         | 1 length key length value        the key has this value now
//!         | 2 length key                     the key is gone
//!         | 3                                every key of the slot is gone
//! ```
//!
//! Lengths are varints (seven bits a byte, least significant first). Slots, keys and values are postcard, but only those
//! who read and write them know it: the byte strings of many epochs can be [folded](Folded) into one, counted and
//! compared without their types. Equal keys must have equal bytes; postcard sees to it.

mod folded;
mod reader;
mod writer;

pub use self::folded::{Difference, Folded, without_dropped};
pub use self::reader::{Change, SnapshotReader, decode};
pub use self::writer::SnapshotWriter;

/// The first byte of a change.
mod tag {
    pub(super) const SLOT: u8 = 0;
    pub(super) const PUT: u8 = 1;
    pub(super) const REMOVE: u8 = 2;
    pub(super) const DROP_SLOT: u8 = 3;
}

#[cfg(test)]
mod tests;
