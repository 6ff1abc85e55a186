//! What a source keeps with the checkpoint, for as long as the checkpoint lasts: one log for each source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidemill_operators::{SourceError, SourceLog, turn};
use xxhash_rust::xxh3::Xxh3;

use super::format::{FrameReader, FrameWriter, Kind, NextFrame, checksum};
use super::records::LogMark;
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
    /// Whether an append has failed: it is unknown whether its entry is durable, and one written again would count twice.
    has_failed: bool,
    length: u64,
    /// Of all its bytes.
    digest: Box<Xxh3>,
}

impl KeptLog {
    /// Opens the log of a source, and cuts off what a crash has left of an append.
    ///
    /// # Errors
    ///
    /// The log is refused if it lacks, or has otherwise, anything of what a plan or commit relies on.
    pub(crate) fn open(
        storage: &dyn Storage,
        uid: &str,
        mark: Option<&LogMark>,
    ) -> Result<Arc<KeptLog>, CheckpointError> {
        let name = name_of(uid);
        if let Some(mark) = mark {
            check(storage, uid, mark)?;
        }
        let mut log = storage.log(&name)?;
        let mut bytes = log.read()?;
        let kept = parse(&name, &bytes)?;
        let (length, entries) = (kept.length, kept.entries.len() as u64);
        if length < bytes.len() as u64 {
            log.truncate(length)?;
            bytes.truncate(length as usize);
        }
        let mut digest = Box::new(Xxh3::new());
        digest.update(&bytes);
        let frames = (length > 0).then_some(entries);
        let inner = Inner { log, frames, has_failed: false, length, digest };
        Ok(Arc::new(KeptLog { name, inner: Mutex::new(inner) }))
    }

    /// How far the log reaches now.
    pub(crate) fn mark(&self) -> LogMark {
        let inner = turn::lock(&self.inner);
        LogMark { length: inner.length, digest: inner.digest.digest() }
    }
}

/// Checks that the log of a source has what a plan or commit relies on.
pub(crate) fn check(storage: &dyn Storage, uid: &str, mark: &LogMark) -> Result<(), CheckpointError> {
    if mark.length == 0 {
        return Ok(());
    }
    let name = name_of(uid);
    let advice = format!(
        "the offsets of the source `{uid}` refer to it: restore it, or start from a savepoint; \
         --drop-state {uid} drops the position of the source, which then reads everything again"
    );
    let Some(bytes) = storage.get(&name)? else {
        let file = format!("{name} in {}", storage.describe());
        return Err(CheckpointError::Missing { file, needed: advice });
    };
    let reason = match bytes.get(..usize::try_from(mark.length).unwrap_or(usize::MAX)) {
        None => format!(
            "it has {} bytes, and had {} when they were last relied on; {advice}",
            bytes.len(),
            mark.length
        ),
        Some(relied_on) if checksum(relied_on) != mark.digest => {
            // Where a frame is damaged, say which.
            parse(&name, &bytes)?;
            format!("it is not the log that was written with the last commit; {advice}")
        }
        Some(_) => return Ok(()),
    };
    Err(CheckpointError::damaged(&name, 0..bytes.len(), reason))
}

impl SourceLog for KeptLog {
    fn append(&self, entry: &[u8]) -> Result<(), SourceError> {
        let mut inner = turn::lock(&self.inner);
        if inner.has_failed {
            let reason = format!(
                "{} accepts no more writes after a failed one: restart the query, which reads the file \
                         again",
                self.name
            );
            return Err(SourceError::Setup(reason));
        }
        let mut writer = match inner.frames {
            None => FrameWriter::new(Kind::Source),
            Some(frames) => FrameWriter::behind(Kind::Source, frames),
        };
        writer.frame(&[entry]).map_err(|error| SourceError::Other(error.into()))?;
        inner.frames = Some(writer.number());
        let bytes = writer.into_bytes();
        let appended = inner.log.append(&bytes);
        inner.has_failed = appended.is_err();
        appended.map_err(|error| SourceError::Other(error.into()))?;
        inner.length += bytes.len() as u64;
        inner.digest.update(&bytes);
        Ok(())
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
    while let NextFrame::Frame(payload, _) = reader.step()? {
        entries.push(payload);
    }
    let length = if entries.is_empty() { 0 } else { reader.offset() as u64 };
    Ok(Kept { entries, length })
}

fn name_of(uid: &str) -> String {
    format!("{SOURCES}{}.log", file_name(uid))
}

/// A uid as part of a file's name: other characters than letters, digits, `-` and `_` are written as their numbers.
fn file_name(uid: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    uid.chars().map(|c| if plain(c) { c.to_string() } else { format!(".{:x}", u32::from(c)) }).collect()
}

/// Copies the logs of all sources, which must have what is relied on.
pub(super) fn copy(
    source: &dyn Storage,
    marks: &BTreeMap<String, LogMark>,
    target: &dyn Storage,
) -> Result<(), CheckpointError> {
    for (uid, mark) in marks {
        check(source, uid, mark)?;
    }
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
        let digest = Box::new(Xxh3::new());
        let inner = Inner { log, frames: None, has_failed: false, length: 0, digest };
        let log = KeptLog { name: "files".to_owned(), inner: Mutex::new(inner) };
        assert!(log.append(b"one").is_err());
        let again = log.append(b"one").unwrap_err().to_string();
        assert!(again.contains("no more writes after a failed one"), "{again}");
        assert_eq!(log.entries().unwrap(), [b"one"], "once, though the write has failed");
    }

    #[test]
    fn entries_come_back_in_order_and_a_torn_one_is_cut_off() {
        let storage = MemoryStorage::new();
        let log = KeptLog::open(&storage, "files a/b", None).unwrap();
        assert!(log.entries().unwrap().is_empty());
        log.append(b"one").unwrap();
        log.append(b"").unwrap();
        log.append(b"three").unwrap();
        let whole = storage.log("sources/files.20a.2fb.log").unwrap().read().unwrap();
        for length in 0..whole.len() {
            let torn = MemoryStorage::new();
            torn.put("sources/files.20a.2fb.log", &whole[..length]).unwrap();
            let log = KeptLog::open(&torn, "files a/b", None).unwrap();
            let before = log.entries().unwrap();
            assert!(
                before.len() < 3
                    && [&b"one"[..], b""].starts_with(&before.iter().map(Vec::as_slice).collect::<Vec<_>>())
            );
            log.append(b"again").unwrap();
            let after = KeptLog::open(&torn, "files a/b", None).unwrap().entries().unwrap();
            assert_eq!(after.len(), before.len() + 1, "{length}");
            assert_eq!(after.last().unwrap(), b"again");
        }
    }
}
