//! A followed file, or the part of one that is a block: what is known of it, and what is recorded.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tidemill_operators::{ProcessingTime, SourceError};

use super::identity::{FileId, Fingerprint};
use super::name::shown;

/// How long the last line of a file may lack its terminator before it counts without one, once the partition of the file
/// has another to read.
const UNTERMINATED: Duration = Duration::from_secs(5);

/// How long what is appended behind the end of a closed file waits for a block of its own at first; each time for the
/// same file doubles it.
const RESUME: Duration = Duration::from_secs(1);

/// What happened to followed files, as the log records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note {
    /// The next block: a file from byte `start` on, before which it has what the fingerprint says.
    Begun {
        #[serde(with = "super::name")]
        path: PathBuf,
        id: Option<FileId>,
        start: u64,
        before: Option<Fingerprint>,
    },
    /// A block ends at that byte of its file.
    Closed { block: u64, end: u64, read: Option<Fingerprint> },
    /// A block is to be read from another file, which has the same content.
    Moved {
        block: u64,
        #[serde(with = "super::name")]
        path: PathBuf,
        id: Option<FileId>,
    },
}

impl Note {
    /// The file of which a block begins.
    pub(super) fn begun(&self) -> Option<FileId> {
        match self {
            Note::Begun { id, .. } => *id,
            Note::Closed { .. } | Note::Moved { .. } => None,
        }
    }

    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Note::Begun { path, .. } | Note::Moved { path, .. } => Some(path),
            Note::Closed { .. } => None,
        }
    }
}

/// Where a block ends, and what the file has before.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) at: u64,
    pub(super) read: Option<Fingerprint>,
}

/// A block.
pub(super) struct Segment {
    pub(super) path: Arc<Path>,
    /// The path at which it was found first: copies of it are named after that.
    pub(super) found_at: Arc<Path>,
    pub(super) id: Option<FileId>,
    pub(super) start: u64,
    pub(super) before: Option<Fingerprint>,
    pub(super) end: Option<End>,
    /// The file, while it is read and for some time after.
    pub(super) file: Option<Arc<File>>,
    /// The largest length seen.
    pub(super) seen: u64,
    /// The file has no line break from the first byte on up to the second one.
    pub(super) unended: Option<(u64, u64)>,
    /// Length and time of change when the content of a closed block was last compared.
    pub(super) compared: Option<(u64, SystemTime)>,
    /// A length at which the last line has no terminator, and since when it has been that.
    pub(super) waits: Option<(u64, ProcessingTime)>,
    /// How often the file had been closed before, and when it may be read on after this time.
    pub(super) times: u32,
    pub(super) resume: Option<ProcessingTime>,
}

impl Segment {
    pub(super) fn new(path: PathBuf, id: Option<FileId>, start: u64, before: Option<Fingerprint>) -> Segment {
        let path: Arc<Path> = path.into();
        Segment {
            found_at: Arc::clone(&path),
            path,
            id,
            start,
            before,
            end: None,
            file: None,
            seen: start,
            unended: None,
            compared: None,
            waits: None,
            times: 0,
            resume: None,
        }
    }

    /// The block has been closed: sets when what is appended behind its end may be read.
    pub(super) fn wait_to_resume(&mut self, now: Option<ProcessingTime>) {
        let delay = RESUME.saturating_mul(1 << self.times.min(6));
        self.resume = now.map(|now| now + delay);
    }

    pub(super) fn may_resume(&self, now: Option<ProcessingTime>) -> bool {
        match (now, self.resume) {
            (Some(now), Some(resume)) => now >= resume,
            (_, resume) => resume.is_none(),
        }
    }

    /// Whether the file has had that length for long enough that its last line will not be terminated any more.
    pub(super) fn has_waited(&mut self, len: u64, now: Option<ProcessingTime>) -> bool {
        let Some(now) = now else { return false };
        match self.waits {
            Some((was, since)) if was == len => now >= since + UNTERMINATED,
            _ => {
                self.waits = Some((len, now));
                false
            }
        }
    }
}

/// Bytes that have been planned can no longer be read.
pub(super) fn vanished(path: &Path, at: u64, to: u64) -> SourceError {
    let (path, name) = (shown(path), path.file_name().unwrap_or_default().to_string_lossy());
    SourceError::Setup(format!(
        "bytes {at} to {to} of the followed file {path} are planned to be read and no longer exist: the file has been \
         truncated, replaced or removed since, and its directory has no copy of it. Put the old file back into the \
         directory, under a name that begins with {name}; or drop the position of the source (--drop-state with its \
         uid, which `explain()` shows): then all existing files are read again from their beginning"
    ))
}

pub(super) fn warn_of_loss(path: &Path, at: u64, seen: u64, file: Option<&File>) {
    let file_name = shown(path);
    let Some(len) = file.map(|file| file.metadata().map_or(0, |metadata| metadata.len())) else {
        tracing::warn!(
            file = %file_name,
            "the file was removed after {at} of its bytes had been read, and its directory has neither the file under \
             another name nor a copy: bytes that were appended since are lost"
        );
        return;
    };
    if seen > at {
        tracing::warn!(
            file = %file_name,
            "the file was truncated or replaced in place when {at} of its {seen} bytes had been read, and there is no copy of \
             it in its directory: the other {} bytes are lost",
            seen - at
        );
    } else if len > 0 {
        tracing::warn!(
            file = %file_name,
            "the file was truncated or replaced in place after {at} of its bytes had been read: it is read from its \
             beginning, and lines that were read before may be repeated"
        );
    } else {
        tracing::info!(file = %file_name, "the file was truncated, and is read from its beginning");
    }
}

/// A new file may be a copy of one that has been read.
pub(super) fn warn_of_likeness(path: &Path, like: &Path, upto: u64) {
    tracing::warn!(
        file = %shown(path),
        "the file begins with the {upto} bytes that have been read of {}, but is another file (inode): it is read from its \
         beginning, so that nothing is lost, and those lines may be repeated",
        shown(like)
    );
}
