//! A file of state: what one worker wrote for one epoch, or what a compaction made of many files.
//!
//! Its frames: a head, a section for each key group of each operator, and an index of the sections. A section is the
//! number of the operator in the head (`u32`), the group (`u16`), and the changes as the operator wrote them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tidemill_operators::{Epoch, KeyGroup, KeyGroups};

use super::format::{FRAME_HEAD, FrameReader, FrameWriter, Kind, checksum};
use super::records::FileRef;
use super::{CheckpointError, Storage};

/// The changes of one key group of one operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    pub(crate) uid: Arc<str>,
    pub(crate) group: KeyGroup,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Head {
    epoch: Epoch,
    execution: u64,
    worker: u32,
    base: bool,
    uids: Vec<String>,
    sections: u32,
    /// The last commit that was durable before the file was written.
    committed: Option<Epoch>,
}

/// Where a section is: operator, group, place of its changes.
type SectionEntry = (u32, u16, Range<u64>);

/// The same, with the group checked.
type CheckedEntry = (u32, KeyGroup, Range<u64>);

/// How many bytes of a section come before its changes.
const SECTION_HEAD: usize = 6;

/// Writes files of state; may be cloned and moved to another thread.
#[derive(Clone)]
pub(crate) struct StateWriter {
    storage: Arc<dyn Storage>,
    execution: u64,
    /// The epoch behind the last durable commit; 0 before the first.
    committed: Arc<AtomicU64>,
}

/// What a file of state is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct About {
    pub(crate) epoch: Epoch,
    pub(crate) worker: u32,
    pub(crate) base: bool,
}

impl StateWriter {
    pub(crate) fn new(storage: Arc<dyn Storage>, execution: u64, last: Option<Epoch>) -> Self {
        let writer = StateWriter { storage, execution, committed: Arc::new(AtomicU64::new(0)) };
        last.into_iter().for_each(|epoch| writer.note_commit(epoch));
        writer
    }

    /// A commit is durable: files that are written from now on say so.
    pub(super) fn note_commit(&self, epoch: Epoch) {
        self.committed.store(epoch.next().number(), Ordering::Release);
    }

    /// Writes the state of a worker at an epoch; durable when it returns. A delta without sections is no file.
    pub(crate) fn write(
        &self,
        about: About,
        sections: &[Section],
    ) -> Result<Option<FileRef>, CheckpointError> {
        if sections.is_empty() && !about.base {
            return Ok(None);
        }
        let bytes = self.encode(about, sections)?;
        let About { epoch, worker, base } = about;
        let ending = if base { "base" } else { "delta" };
        let name = format!("state/{epoch}-{}-{worker}.{ending}", self.execution);
        self.storage.put(&name, &bytes)?;
        let groups = || sections.iter().map(|section| section.group.number());
        let groups = groups().min().zip(groups().max());
        let (len, checksum) = (bytes.len() as u64, checksum(&bytes));
        Ok(Some(FileRef { name, len, checksum, epoch, worker, base, groups }))
    }

    fn encode(&self, about: About, sections: &[Section]) -> Result<Vec<u8>, CheckpointError> {
        let too_many = |_| CheckpointError::Misuse("more sections of state than can be counted".to_owned());
        let About { epoch, worker, base } = about;
        let mut uids: Vec<String> = sections.iter().map(|section| section.uid.to_string()).collect();
        uids.sort();
        uids.dedup();
        let mut writer = FrameWriter::new(Kind::State);
        let payload: usize = sections.iter().map(|section| section.bytes.len() + 32).sum();
        writer.reserve(payload + 32 * sections.len())?;
        let count = u32::try_from(sections.len()).map_err(too_many)?;
        let committed = self.committed.load(Ordering::Acquire).checked_sub(1).map(Epoch::new);
        let head = Head { epoch, execution: self.execution, worker, base, uids, sections: count, committed };
        writer.value(&head)?;
        let mut index: Vec<SectionEntry> = Vec::with_capacity(sections.len());
        for Section { uid, group, bytes } in sections {
            let operator = head.uids.binary_search_by(|known| known.as_str().cmp(uid)).unwrap_or_default();
            let operator = u32::try_from(operator).map_err(too_many)?;
            let begin = (writer.len() + FRAME_HEAD + SECTION_HEAD) as u64;
            writer.frame(&[&operator.to_le_bytes(), &group.number().to_le_bytes(), bytes])?;
            index.push((operator, group.number(), begin..begin + bytes.len() as u64));
        }
        writer.value(&index)?;
        Ok(writer.into_bytes())
    }
}

/// Which run wrote a file of state, and the last commit that was durable before; none if the file is not whole.
pub(super) fn written_after(name: &str, bytes: &[u8]) -> Option<(u64, Epoch)> {
    let head: Head = FrameReader::new(name, bytes, Kind::State).ok()?.value().ok()?;
    Some((head.execution, head.committed?))
}

/// A file of state that has been read and checked.
#[derive(Debug)]
pub(crate) struct StateFile {
    pub(crate) name: String,
    bytes: Vec<u8>,
    uids: Vec<String>,
    sections: Vec<CheckedEntry>,
}

/// A section of a file that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) uid: &'a str,
    pub(crate) group: KeyGroup,
    pub(crate) bytes: &'a [u8],
    /// Where the bytes are in the file.
    pub(crate) range: Range<u64>,
}

impl StateFile {
    /// Reads the file that a commit refers to, and checks that it is that one, to the last byte.
    pub(crate) fn open(
        storage: &dyn Storage,
        file: &FileRef,
        groups: KeyGroups,
    ) -> Result<StateFile, CheckpointError> {
        let name = &file.name;
        let bytes = storage.get(name)?.ok_or_else(|| CheckpointError::Missing {
            file: format!("{name} in {}", storage.describe()),
            needed: "it is part of the state of a committed epoch".to_owned(),
        })?;
        let (uids, sections) = parse(name, &bytes, file, groups)?;
        if (bytes.len() as u64, checksum(&bytes)) != (file.len, file.checksum) {
            let reason = "it is a file of a checkpoint, but not the one that was committed";
            return Err(CheckpointError::damaged(name, 0..bytes.len(), reason));
        }
        Ok(StateFile { name: name.clone(), bytes, uids, sections })
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sections, as they were written.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Piece<'_>> {
        self.sections.iter().filter_map(|(operator, group, range)| {
            let uid = self.uids.get(*operator as usize)?;
            let bytes = self.bytes.get(range.start as usize..range.end as usize)?;
            Some(Piece { uid, group: *group, bytes, range: range.clone() })
        })
    }
}

fn parse(
    name: &str,
    bytes: &[u8],
    file: &FileRef,
    groups: KeyGroups,
) -> Result<(Vec<String>, Vec<CheckedEntry>), CheckpointError> {
    let mut reader = FrameReader::new(name, bytes, Kind::State)?;
    let head: Head = reader.value()?;
    if (head.epoch, head.worker, head.base) != (file.epoch, file.worker, file.base) {
        let reason = "it is the state of another epoch or worker";
        return Err(CheckpointError::damaged(name, 0..reader.offset(), reason));
    }
    let (mut sections, mut index) = (Vec::<CheckedEntry>::new(), Vec::<SectionEntry>::new());
    for _ in 0..head.sections {
        let (payload, range) = reader.frame()?;
        let damaged = |reason: &str| CheckpointError::damaged(name, range.clone(), reason);
        let Some((&[a, b, c, d, e, f], changes)) = payload.split_first_chunk::<SECTION_HEAD>() else {
            return Err(damaged("a section without a head"));
        };
        let (operator, group) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
        let known = groups.group(group).filter(|_| (operator as usize) < head.uids.len());
        let Some(known) = known else {
            return Err(damaged("a section of a key group or an operator that does not exist"));
        };
        let end = range.end as u64;
        let place = end - changes.len() as u64..end;
        sections.push((operator, known, place.clone()));
        index.push((operator, group, place));
    }
    let at = reader.offset();
    if reader.value::<Vec<SectionEntry>>()? != index {
        return Err(CheckpointError::damaged(name, at..bytes.len(), "the index is not that of the sections"));
    }
    reader.end()?;
    Ok((head.uids, sections))
}
