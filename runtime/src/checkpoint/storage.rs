//! What a checkpoint asks of the place where it is kept.
//!
//! A storage holds named byte strings and logs. Names are plain, of one level or two: `current`, `state/7-1-0.delta`.
//! Everything is durable when the call returns, or the call fails; after a crash whatever it was doing has happened, or
//! not, or (only for [`Log::append`]) the first part of it has.

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::clock::wall_time;

/// A place for a checkpoint: a directory, memory, an object store.
pub trait Storage: Send + Sync {
    /// What and where it is, for messages.
    fn describe(&self) -> String;

    /// Makes `name` hold these bytes and no others, at once: readers and crashes see the old or the new bytes.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`]; `name` then holds what it held before, or the new bytes.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError>;

    /// What `name` holds, if it is there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError>;

    /// The names that begin so, in order. Asked for at recovery and by the command line, never while epochs go by.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError>;

    /// Removes `name`; nothing happens if it is not there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn delete(&self, name: &str) -> Result<(), CheckpointError>;

    /// Opens `name`, which is made if it is not there, to append to it. What it has then is durable, also if the run that
    /// appended it died before it had synced that.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError>;

    /// Takes the storage for one owner. It is given back when the lock is dropped, and when the process ends, however
    /// it ends.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Locked`] if it is taken, [`CheckpointError::Io`].
    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError>;
}

/// A byte string that grows at its end.
pub trait Log: Send {
    /// Appends bytes; they are durable when this returns. Several records in one call cost one wait.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`]; a first part of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError>;

    /// All that is there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn read(&mut self) -> Result<Vec<u8>, CheckpointError>;

    /// Cuts off what is behind that length, and makes what is before it durable.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError>;
}

/// A storage that is taken. Dropping it gives the storage back.
pub trait Lock: Send {
    /// Says more about the owner, for the messages of those who come too late.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`].
    fn set_owner(&mut self, owner: &Owner) -> Result<(), CheckpointError>;
}

/// Who has taken a storage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// The query.
    pub query: String,
    /// Which run of the query it is, from 1; not known until the checkpoint has been read.
    pub execution: Option<u64>,
    /// The process.
    pub pid: u32,
    /// The machine.
    pub host: String,
    /// Since when, as RFC 3339 in UTC.
    pub since: String,
}

impl Owner {
    /// This process, from now on.
    pub fn this_process(query: &str) -> Owner {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::env::var("HOSTNAME"))
            .unwrap_or_else(|_| "an unknown host".to_owned());
        let now = jiff::Timestamp::from_microsecond(wall_time().as_micros()).unwrap_or_default();
        Owner {
            query: query.to_owned(),
            execution: None,
            pid: std::process::id(),
            host: host.trim().to_owned(),
            since: now.to_string(),
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "query `{}`", self.query)?;
        if let Some(execution) = self.execution {
            write!(f, " (execution {execution})")?;
        }
        write!(f, ", process {} on {}, since {}", self.pid, self.host, self.since)
    }
}
