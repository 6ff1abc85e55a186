//! Durable checkpoints: what a query needs to resume after a stop or a crash.
//!
//! A checkpoint is kept in a [`Storage`]: [`LocalDirectory`], [`MemoryStorage`] in tests, or one of your own. It holds
//! the state of the operators, by key group, as a base and the changes since; and a log with two kinds of records: the
//! plan of an epoch, before it is read, and the commit of an epoch, which makes it happen. `docs/checkpoint-format.md`
//! has the bytes and the order in which they become durable. [`inspect`](crate::inspect) looks at a checkpoint without the query.

pub(crate) mod compaction;
mod error;
pub(crate) mod format;
pub(crate) mod identity;
pub(crate) mod loader;
mod local;
pub(crate) mod log;
mod memory;
pub(crate) mod records;
mod savepoint;
pub(crate) mod source_log;
pub(crate) mod state_file;
mod storage;
pub(crate) mod store;
#[cfg(test)]
mod tests;

/// The names of the files of journals begin with it.
pub(crate) const JOURNALS: &str = "journal/";

pub(crate) use self::savepoint::{copy_savepoint, is_begun};

pub use self::error::CheckpointError;
pub use self::local::LocalDirectory;
pub use self::memory::MemoryStorage;
pub use self::storage::{Lock, Log, Owner, Storage};
