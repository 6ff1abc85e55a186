//! Why a checkpoint cannot be written or read.

use std::io;
use std::ops::Range;

use tidemill_operators::OperatorError;

use super::Owner;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The storage did not do what it was asked.
    #[error("{what}: {error}{}", advice(error))]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What the storage said.
        error: io::Error,
    },
    /// A file is not as it was written.
    #[error("{file} is damaged at bytes {}..{}: {reason}", range.start, range.end)]
    Damaged {
        /// The file, as the storage names it.
        file: String,
        /// The bytes that cannot be right, from and to; an empty range at the end of a truncated file.
        range: Range<u64>,
        /// What is wrong with them.
        reason: String,
    },
    /// A file is of another format version.
    #[error(
        "{file} is of format version {found}, and this program reads version {known}: use the version of Tidemill that wrote it"
    )]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u16,
        /// The version that this program reads.
        known: u16,
    },
    /// A file is not there.
    #[error("{file} is missing: {needed}")]
    Missing {
        /// The file.
        file: String,
        /// Who needs it.
        needed: String,
    },
    /// A file was removed or replaced while the query that writes it was running.
    #[error(
        "{file} was removed or replaced while the query was running, so no epoch can be committed any more: put the directory \
         of the checkpoint back as it was and start the query again; without it the query starts from the beginning, and outputs that \
         already have its results get them a second time"
    )]
    Gone {
        /// The file or directory.
        file: String,
    },
    /// Another query, perhaps of another process, uses the storage.
    #[error(
        "{storage} is in use by {owner}: stop that one first, or give this query a checkpoint of its own"
    )]
    Locked {
        /// The storage.
        storage: String,
        /// Who uses it.
        owner: Owner,
    },
    /// The checkpoint is that of another query.
    #[error(
        "{storage} holds the checkpoint of query `{found}`, not of `{expected}`: use another directory, or name the graph `{found}`"
    )]
    Foreign {
        /// The storage.
        storage: String,
        /// The query whose checkpoint it is.
        found: String,
        /// The query that asked for it.
        expected: String,
    },
    /// An epoch that cannot be restored: it has not been committed, or is no longer kept.
    #[error("epoch {epoch} is not in {storage}: the epochs kept there are {kept:?}")]
    NoSuchEpoch {
        /// The storage.
        storage: String,
        /// The epoch that was asked for.
        epoch: u64,
        /// The epochs that can be restored.
        kept: Vec<u64>,
    },
    /// What was written has another type than the program reads now.
    #[error("{what} was written with another type than the program reads now: {problem}")]
    OtherType {
        /// What: a file, or the uid of an operator.
        what: String,
        /// Where the types differ.
        problem: String,
    },
    /// A write has failed before. What is durable is known only after a restart.
    #[error("an earlier write of the checkpoint failed, so nothing more is written: start the query again")]
    Stopped,
    /// State cannot be read or written as changes.
    #[error(transparent)]
    State(#[from] OperatorError),
    /// A call that the checkpoint does not allow: a defect of the caller.
    #[error("wrong use of the checkpoint: {0}")]
    Misuse(String),
}

impl CheckpointError {
    /// The error of an attempt to do something with a file.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> CheckpointError {
        let what = what.into();
        move |error| CheckpointError::Io { what, error }
    }

    pub(crate) fn damaged(file: &str, range: Range<usize>, reason: impl Into<String>) -> CheckpointError {
        let range = range.start as u64..range.end as u64;
        CheckpointError::Damaged { file: file.to_owned(), range, reason: reason.into() }
    }
}

/// What to do about it, where the message of the system does not say.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            ": the disk is full; make room and start the query again, what is committed is safe"
        }
        io::ErrorKind::QuotaExceeded => ": the quota is used up; what is committed is safe",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only; what is committed is safe",
        io::ErrorKind::PermissionDenied => {
            ": the user that runs the query must be allowed to read and write it"
        }
        _ => "",
    }
}
