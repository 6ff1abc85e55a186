//! State that leaves memory when there is too much of it.
//!
//! An aggregate that keeps what it was given ([`Collect`](crate::aggregate::Collect)) keeps it in [`Rows`]: the newest
//! ones in memory, older ones, once the worker holds more than its [`StateMemory`] allows, as blocks elsewhere. Where
//! that is, is decided by the engine: a [`SpillSpace`].
//!
//! What is bounded: the rows in memory, by their size and an estimate of what they own. What is not: keys, what each key
//! needs by itself (with blocks, some 150 bytes), and what is on its way: a window that closes is whole in memory, with
//! those that close at the same time, until its results have been emitted.

mod memory;
mod rows;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use self::memory::{Entered, StateMemory};
pub use self::rows::Rows;

/// Where blocks are while they are not in memory.
pub trait SpillSpace: Send + Sync {
    /// Keeps the bytes.
    ///
    /// # Errors
    ///
    /// [`SpillError`] if there is no room; the query ends with it.
    fn write(&self, bytes: &[u8]) -> Result<SpillHandle, SpillError>;

    /// Replaces what is in `bytes` by what was written.
    ///
    /// # Errors
    ///
    /// [`SpillError`] if it cannot be had back; the query ends with it.
    fn read(&self, handle: SpillHandle, bytes: &mut Vec<u8>) -> Result<(), SpillError>;

    /// The handle is held once more.
    fn retain(&self, handle: SpillHandle);

    /// The handle is held once less; when it is held no more, what was written may be forgotten.
    fn free(&self, handle: SpillHandle);
}

/// What a [`SpillSpace`] has kept, in its own terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpillHandle {
    /// Which file.
    pub file: u32,
    /// How many bytes.
    pub length: u32,
    /// Where they begin.
    pub at: u64,
}

impl From<crate::codec::CodecError> for SpillError {
    fn from(error: crate::codec::CodecError) -> Self {
        SpillError::Codec(error)
    }
}

/// Why what was to be spilled cannot be written or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The disk refuses.
    #[error("state that exceeds `--state-memory` cannot be {doing} {}: {error}; set `--spill-dir` to a directory with \
             more space, or raise `--state-memory`", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// `written to` or `read from`.
        doing: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The rows do.
    #[error("state that exceeds `--state-memory`: {0}")]
    Codec(crate::codec::CodecError),
    /// The space knows nothing of the handle: a defect.
    #[error("a spilled block is missing: this is a defect of Tidemill, please report it")]
    Lost,
}
