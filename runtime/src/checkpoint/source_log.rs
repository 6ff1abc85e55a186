//! What a source keeps with the checkpoint, for as long as the checkpoint lasts: one log for each source.

use std::sync::{Arc, Mutex};

use tidemill_operators::{SourceError, SourceLog, turn};

use super::format::{FrameReader, FrameWriter, Kind, Step};
use super::{CheckpointError, Log, Storage};

/// Where the logs of sources are.
pub(crate) const SOURCES: &str = "sources/";

/// The log of one source.
pub(crate) struct KeptLog {
    name: String,
    inner: Mutex<Inner>,
}

struct Inner {
    log: Box<dyn Log>,
    /// How many frames the log has; none if not even its head is written.
    frames: Option<u64>,
    /// Whether an append has failed: nobody knows whether its entry is there, and one written again would count twice.
    has_failed: bool,
}

impl KeptLog {
    /// Opens the log of a source, and cuts off what a crash has left of an append.
    pub(crate) fn open(storage: &dyn Storage, uid: &str) -> Result<Arc<KeptLog>, CheckpointError> {
        let name = format!("{SOURCES}{}.log", file_name(uid));
        let mut log = storage.log(&name)?;
        let bytes = log.read()?;
        let kept = parse(&name, &bytes)?;
        if kept.length < bytes.len() as u64 {
            log.truncate(kept.length)?;
        }
        let frames = (kept.length > 0).then_some(kept.entries.len() as u64);
        Ok(Arc::new(KeptLog { name, inner: Mutex::new(Inner { log, frames, has_failed: false }) }))
    }
}

impl SourceLog for KeptLog {
    fn append(&self, entry: &[u8]) -> Result<(), SourceError> {
        let mut inner = turn::lock(&self.inner);
        if inner.has_failed {
            let reason =
                format!("{} takes no more after a failed write: a restart finds out what it has", self.name);
            return Err(SourceError::Setup(reason));
        }
        let mut writer = match inner.frames {
            None => FrameWriter::new(Kind::Source),
            Some(frames) => FrameWriter::behind(Kind::Source, frames),
        };
        writer.frame(&[entry]).map_err(|error| SourceError::Other(error.into()))?;
        inner.frames = Some(writer.number());
        let appended = inner.log.append(&writer.into_bytes());
        inner.has_failed = appended.is_err();
        appended.map_err(|error| SourceError::Other(error.into()))
    }

    fn entries(&self) -> Result<Vec<Vec<u8>>, SourceError> {
        let mut inner = turn::lock(&self.inner);
        let bytes = inner.log.read().map_err(|error| SourceError::Other(error.into()))?;
        let kept = parse(&self.name, &bytes).map_err(|error| SourceError::Other(error.into()))?;
        Ok(kept.entries.into_iter().map(<[u8]>::to_vec).collect())
    }
}

struct Kept<'a> {
    entries: Vec<&'a [u8]>,
    /// How many bytes count.
    length: u64,
}

fn parse<'a>(name: &'a str, bytes: &'a [u8]) -> Result<Kept<'a>, CheckpointError> {
    // The first append writes the head as well, and may have been cut short.
    if bytes.len() < super::format::FILE_HEAD {
        return Ok(Kept { entries: Vec::new(), length: 0 });
    }
    let mut reader = FrameReader::new(name, bytes, Kind::Source)?;
    let mut entries = Vec::new();
    while let Step::Frame(payload, _) = reader.step()? {
        entries.push(payload);
    }
    let length = if entries.is_empty() { 0 } else { reader.offset() as u64 };
    Ok(Kept { entries, length })
}

/// A uid as part of a file's name: other characters than letters, digits, `-` and `_` are written as their numbers.
fn file_name(uid: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    uid.chars().map(|c| if plain(c) { c.to_string() } else { format!(".{:x}", u32::from(c)) }).collect()
}

/// Copies the logs of all sources.
pub(super) fn copy(source: &dyn Storage, target: &dyn Storage) -> Result<(), CheckpointError> {
    for name in source.list(SOURCES)? {
        let bytes = source.log(&name)?.read()?;
        target.put(&name, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::MemoryStorage;

    /// A log whose first append fails, after it has happened.
    struct FailsLate(Box<dyn Log>, bool);

    impl Log for FailsLate {
        fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
            self.0.append(bytes)?;
            if std::mem::replace(&mut self.1, true) {
                return Ok(());
            }
            Err(CheckpointError::Misuse("the disk".to_owned()))
        }
        fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
            self.0.read()
        }
        fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
            self.0.truncate(length)
        }
    }

    #[test]
    fn log_takes_nothing_after_failed_append() {
        let storage = MemoryStorage::new();
        let log = Box::new(FailsLate(storage.log("sources/files.log").unwrap(), false));
        let log = KeptLog {
            name: "files".to_owned(),
            inner: Mutex::new(Inner { log, frames: None, has_failed: false }),
        };
        assert!(log.append(b"one").is_err());
        let again = log.append(b"one").unwrap_err().to_string();
        assert!(again.contains("after a failed write"), "{again}");
        assert_eq!(log.entries().unwrap(), [b"one"], "once, though the write has failed");
    }

    #[test]
    fn entries_come_back_in_order_and_a_torn_one_is_cut_off() {
        let storage = MemoryStorage::new();
        let log = KeptLog::open(&storage, "files a/b").unwrap();
        assert!(log.entries().unwrap().is_empty());
        log.append(b"one").unwrap();
        log.append(b"").unwrap();
        log.append(b"three").unwrap();
        let whole = storage.log("sources/files.20a.2fb.log").unwrap().read().unwrap();
        for length in 0..whole.len() {
            let torn = MemoryStorage::new();
            torn.put("sources/files.20a.2fb.log", &whole[..length]).unwrap();
            let log = KeptLog::open(&torn, "files a/b").unwrap();
            let before = log.entries().unwrap();
            assert!(
                before.len() < 3
                    && [&b"one"[..], b""].starts_with(&before.iter().map(Vec::as_slice).collect::<Vec<_>>())
            );
            log.append(b"again").unwrap();
            let after = KeptLog::open(&torn, "files a/b").unwrap().entries().unwrap();
            assert_eq!(after.len(), before.len() + 1, "{length}");
            assert_eq!(after.last().unwrap(), b"again");
        }
    }
}
