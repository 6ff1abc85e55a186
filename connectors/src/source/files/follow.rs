//! Files that grow, are rotated and truncated: which bytes of which file each block is.
//!
//! A followed file is one block, which the partition that has it reads line by line as lines are completed. When the
//! partition gets another block, the one before is *closed*: from then on it ends at a byte that is recorded, so that
//! a replay reads the same. What is appended behind that byte becomes a block of its own.
//!
//! A file is the same as long as device, inode and the [`Fingerprint`] of what has been read of it are the same. So a file
//! that is renamed stays the same block; one that restarts under the same name or in the same inode is another block,
//! read from its beginning; and what is left of the content that was there before is looked for in a copy beside it.

mod parts;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_operators::{ProcessingTime, SourceError, SourceLog};

use super::catalogue::{Block, Position};
use super::identity::{self, Copied, FileId, Fingerprint, matches};
use super::name::shown;
use super::pattern::Found;
use super::scan::{Opened, failed};
use super::segment::{End, Note, Segment, vanished, warn_of_likeness, warn_of_loss};
use super::sought;

/// How many files that have been read to their end are kept open, to notice what a writer that has not yet been told of
/// the rotation still appends.
const KEPT_OPEN: usize = 16;

/// Where a partition stands.
#[derive(Clone, Copy, Default)]
struct Standing {
    position: Position,
    read: Option<Fingerprint>,
}

/// What a reader is to read next of a block.
pub(super) struct Part {
    pub(super) path: Arc<Path>,
    pub(super) id: Option<FileId>,
    /// Nothing if nothing is left to be read.
    pub(super) file: Option<Arc<File>>,
    pub(super) start: u64,
    pub(super) end: Option<End>,
    /// What the file has before the byte to be read.
    pub(super) read: Option<Fingerprint>,
}

/// The end of a plan, and what the file has before it.
pub(super) type Until = (Position, Option<Fingerprint>);

/// The followed files that are known.
#[derive(Default)]
pub(super) struct Followed {
    log: Option<Arc<dyn SourceLog>>,
    partitions: u64,
    segments: Vec<Segment>,
    /// The blocks without an end.
    open: BTreeSet<u64>,
    /// The last block of each file and of each name.
    by_id: HashMap<FileId, u64>,
    by_path: HashMap<PathBuf, u64>,
    standing: BTreeMap<u64, Standing>,
    /// Blocks that have been read to their end, and whose files are still open.
    rotated: VecDeque<u64>,
}

impl Followed {
    /// The files of a query that starts, or resumes from its log.
    pub(super) fn new(log: Option<Arc<dyn SourceLog>>, partitions: u32, notes: Vec<Note>) -> Followed {
        let mut followed = Followed { log, partitions: u64::from(partitions.max(1)), ..Followed::default() };
        notes.into_iter().for_each(|note| followed.apply(note));
        followed
    }

    /// How many blocks there are.
    pub(super) fn total(&self) -> u64 {
        self.segments.len() as u64
    }

    fn segment(&self, block: u64) -> Option<&Segment> {
        self.segments.get(crate::length(block))
    }

    fn segment_mut(&mut self, block: u64) -> Option<&mut Segment> {
        self.segments.get_mut(crate::length(block))
    }

    /// Finds the block of that number.
    pub(super) fn block(&self, number: u64) -> Option<Block> {
        let Segment { path, start, end, .. } = self.segment(number)?;
        let end = end.map_or(u64::MAX, |end| end.at);
        Some(Block { path: Arc::clone(path), start: *start, end, len: end })
    }

    /// Returns the last block of a file that a listing shows, if it is known.
    fn known(&self, found: &Found) -> Option<u64> {
        let by_path = || self.by_path.get(&found.path).copied();
        let Some(id) = found.id else { return by_path() };
        // A device may have another number after it was mounted again.
        let was = |block| self.segment(block).is_some_and(|s| s.id.is_some_and(|was| was.inode == id.inode));
        self.by_id.get(&id).copied().or_else(|| by_path().filter(|block| was(*block)))
    }

    /// Whether a file that a listing shows is none of those that are known.
    pub(super) fn is_new(&self, found: &Found) -> bool {
        self.known(found).is_none()
    }

    /// Whether a file has been read up to some byte, and it is not known yet what to do with what it has behind that.
    pub(super) fn is_pending(&self, found: &Found) -> bool {
        let segment = self.known(found).and_then(|block| self.segment(block));
        segment.is_some_and(|s| s.end.is_some() && s.compared != Some((found.len, found.changed)))
    }

    /// Records what has been decided, and does it.
    fn note(&mut self, notes: Vec<Note>) -> Result<(), SourceError> {
        if notes.is_empty() {
            return Ok(());
        }
        if let Some(log) = &self.log {
            log.append(&sought::written(&notes)?)?;
        }
        notes.into_iter().for_each(|note| self.apply(note));
        Ok(())
    }

    fn apply(&mut self, note: Note) {
        match note {
            Note::Begun { path, id, start, before } => {
                let block = self.total();
                let last = id.and_then(|id| self.by_id.insert(id, block)).and_then(|last| self.segment(last));
                let mut segment = Segment::new(path.clone(), id, start, before);
                if let Some(last) = last.filter(|_| start > 0) {
                    segment.found_at = Arc::clone(&last.found_at);
                    (segment.file, segment.times) = (last.file.clone(), last.times.saturating_add(1));
                }
                self.by_path.insert(path, block);
                self.open.insert(block);
                self.segments.push(segment);
            }
            Note::Closed { block, end, read } => {
                self.open.remove(&block);
                if let Some(segment) = self.segment_mut(block) {
                    segment.end = Some(End { at: end.max(segment.start), read });
                    segment.compared = None;
                }
            }
            Note::Moved { block, path, id } => {
                if let Some(id) = id {
                    self.by_id.insert(id, block);
                }
                if let Some(segment) = self.segment_mut(block) {
                    (segment.path, segment.id, segment.compared) = (path.into(), id, None);
                }
            }
        }
    }

    fn standing(&self, partition: u64) -> Standing {
        let begin = Standing { position: Position { block: partition, byte: 0 }, ..Standing::default() };
        self.standing.get(&partition).copied().unwrap_or(begin)
    }

    /// A partition has been read, or planned to be read, up to there. It never goes back: readers may be behind the plan.
    pub(super) fn stand(&mut self, position: Position, read: Option<Fingerprint>) {
        let partition = position.block % self.partitions;
        let before = self.standing(partition).position;
        if position < before {
            return;
        }
        let before = before.block;
        self.standing.insert(partition, Standing { position, read });
        if before >= position.block {
            return;
        }
        for block in (before..position.block).step_by(crate::length(self.partitions)) {
            self.open.remove(&block);
        }
        self.leave(before);
    }

    /// A block has been read to its end: its file stays open for some time.
    pub(super) fn leave(&mut self, block: u64) {
        if self.segment(block).is_some_and(|segment| segment.file.is_some()) && !self.rotated.contains(&block)
        {
            self.rotated.push_back(block);
        }
        while self.rotated.len() > KEPT_OPEN {
            let oldest = self.rotated.pop_front();
            if let Some(segment) = oldest.and_then(|block| self.segment_mut(block)) {
                segment.file = None;
            }
        }
    }

    /// Returns the byte of its file up to which a block has been read, and the fingerprint there; nothing if its partition
    /// has read it to its end.
    fn read_of(&self, block: u64) -> Option<(u64, Option<Fingerprint>)> {
        let (segment, standing) = (self.segment(block)?, self.standing(block % self.partitions));
        match standing.position.block.cmp(&block) {
            std::cmp::Ordering::Less => Some((segment.start, segment.before)),
            std::cmp::Ordering::Equal => {
                Some((segment.start + standing.position.byte, standing.read.or(segment.before)))
            }
            std::cmp::Ordering::Greater => None,
        }
    }

    /// Takes account of a listing of the files.
    pub(super) fn list(
        &mut self,
        files: &[Found],
        now: Option<ProcessingTime>,
        last: bool,
    ) -> Result<(), SourceError> {
        // A truncated file first: a copy of it is then no new file.
        let stand: Vec<u64> = (0..self.partitions).map(|p| self.standing(p).position.block).collect();
        for &block in stand.iter().filter(|block| self.open.contains(block)).collect::<Vec<_>>() {
            if let Some((at, read)) = self.read_of(block) {
                self.check(block, at, read, None)?;
            }
        }
        let mut notes = Vec::new();
        let (known, new): (Vec<_>, Vec<_>) = files.iter().partition(|found| !self.is_new(found));
        for found in known {
            if let Some(block) = self.known(found) {
                self.look_at(block, found, files, now, &mut notes)?;
            }
        }
        // Two names of one file are one file.
        let mut begun: HashSet<FileId> = notes.iter().filter_map(Note::begun).collect();
        for found in new.into_iter().filter(|found| found.id.is_none_or(|id| begun.insert(id))) {
            self.warn_of_likeness(found);
            notes.push(Note::Begun { path: found.path.clone(), id: found.id, start: 0, before: None });
        }
        let done = self.look_at_rotated(now, &mut notes)?;
        self.note(notes)?;
        for block in done {
            if let Some(segment) = self.segment_mut(block) {
                segment.file = None;
            }
        }
        self.close(now, last)?;
        // What is read now stays at hand, whatever becomes of its name.
        for block in stand {
            if self.open.contains(&block) {
                self.file(block)?;
            }
        }
        Ok(())
    }

    /// A listing shows a file that is known.
    fn look_at(
        &mut self,
        block: u64,
        found: &Found,
        files: &[Found],
        now: Option<ProcessingTime>,
        notes: &mut Vec<Note>,
    ) -> Result<(), SourceError> {
        let Found { path, id, .. } = found;
        // Under another name of the same file.
        let seen = id.is_some() && notes.iter().any(|note| note.begun() == *id);
        let Some(segment) = self.segment_mut(block).filter(|_| !seen) else { return Ok(()) };
        if segment.id != *id {
            notes.push(Note::Moved { block, path: path.clone(), id: *id });
        } else if *segment.path != **path
            && !files.iter().any(|other| other.id == *id && *other.path == *segment.path)
            && !segment.path.metadata().is_ok_and(|metadata| FileId::of(&metadata) == *id)
        {
            segment.path = path.as_path().into();
        }
        let Some(end) = segment.end else { return Ok(()) };
        if segment.compared == Some((found.len, found.changed)) {
            return Ok(());
        }
        let Some(file) = identity::open(path, *id).map_err(|error| failed(path, error))? else {
            return Ok(());
        };
        let same = found.len >= end.at && matches(end.read, &file, path)?;
        if !same {
            tracing::info!(file = %shown(path), "the file was truncated or replaced, and is read from its beginning");
            // What was appended since the block was closed is in the copy, if there is one.
            if let Some(copy) = self.copy_of(block, end.read)? {
                notes.push(Note::Begun { path: copy.path, id: copy.id, start: end.at, before: end.read });
            }
            notes.push(Note::Begun { path: path.clone(), id: *id, start: 0, before: None });
        } else if found.len == end.at {
            segment.compared = Some((found.len, found.changed));
        } else if segment.may_resume(now) {
            notes.push(Note::Begun { path: path.clone(), id: *id, start: end.at, before: end.read });
        }
        Ok(())
    }

    /// Looks for what has been appended to files that have been read to their end. Returns the blocks whose files need not
    /// stay open.
    fn look_at_rotated(
        &mut self,
        now: Option<ProcessingTime>,
        notes: &mut Vec<Note>,
    ) -> Result<Vec<u64>, SourceError> {
        let mut done = Vec::new();
        for block in std::mem::take(&mut self.rotated) {
            let Some(segment) = self.segment(block) else { continue };
            let (Some(file), Some(end)) = (&segment.file, segment.end) else { continue };
            let metadata = file.metadata().map_err(|error| failed(&segment.path, error))?;
            let is_last = segment.id.is_some_and(|id| self.by_id.get(&id) == Some(&block));
            let grown = metadata.len() > end.at;
            let listed = notes.iter().any(|note| note.begun().is_some() && note.begun() == segment.id);
            if is_last
                && grown
                && !listed
                && segment.may_resume(now)
                && matches(end.read, file, &segment.path)?
            {
                let (path, id) = (segment.path.to_path_buf(), segment.id);
                notes.push(Note::Begun { path, id, start: end.at, before: end.read });
            } else if is_last && (grown || !identity::is_deleted(&metadata)) {
                self.rotated.push_back(block);
                continue;
            }
            done.push(block);
        }
        Ok(done)
    }

    /// Warns of a new file that begins as one that has been read: it may be a copy.
    fn warn_of_likeness(&self, found: &Found) {
        let was = self.by_path.get(&found.path).copied();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rotated = self.standing.values().map(|standing| standing.position.block).filter(|block| {
            self.segment(*block).is_some_and(|segment| name(&found.path).starts_with(&name(&segment.path)))
        });
        for block in was.into_iter().chain(rotated) {
            let Some(segment) = self.segment(block) else { continue };
            let read = match self.read_of(block) {
                Some((_, read)) => read,
                None => segment.end.and_then(|end| end.read),
            };
            let Some(read) = read.filter(|read| read.upto > 0 && read.upto <= found.len) else { continue };
            if let Ok(Some(file)) = identity::open(&found.path, found.id)
                && read.matches(&file).unwrap_or(false)
            {
                warn_of_likeness(&found.path, &segment.path, read.upto);
                return;
            }
        }
    }

    /// Closes the blocks whose partitions have another to read.
    fn close(&mut self, now: Option<ProcessingTime>, last: bool) -> Result<(), SourceError> {
        let passed: Vec<u64> =
            self.open.range(..self.total().saturating_sub(self.partitions)).copied().collect();
        let mut notes = Vec::new();
        for block in passed {
            let Some((at, read)) = self.read_of(block) else {
                self.open.remove(&block);
                continue;
            };
            notes.extend(self.end_of(block, at, read, now, last)?);
            // Of many files that are closed at once few may be open.
            if self.standing(block % self.partitions).position.block != block
                && let Some(segment) = self.segment_mut(block)
            {
                segment.file = None;
            }
        }
        self.note(notes)
    }

    /// Returns the end of a block whose partition has another to read, if its last line is complete or counts without
    /// terminator.
    fn end_of(
        &mut self,
        block: u64,
        at: u64,
        read: Option<Fingerprint>,
        now: Option<ProcessingTime>,
        last: bool,
    ) -> Result<Option<Note>, SourceError> {
        let Some(file) = self.check(block, at, read, None)? else { return Ok(None) };
        let Some(segment) = self.segment_mut(block).filter(|segment| segment.end.is_none()) else {
            return Ok(None);
        };
        let opened = Opened::of(Arc::clone(&file), &segment.path);
        let end = opened.len()?.max(at);
        let complete = end == at || opened.try_read(end - 1, end)?.is_some_and(|byte| byte == b"\n");
        if !complete && !last && !segment.has_waited(end, now) {
            return Ok(None);
        }
        segment.wait_to_resume(now);
        let read = Fingerprint::read(&file, end).map_err(|error| failed(&segment.path, error))?;
        Ok(Some(Note::Closed { block, end, read }))
    }

    /// Returns the file of a block, by whatever name it can be found.
    fn file(&mut self, block: u64) -> Result<Option<Arc<File>>, SourceError> {
        let Some(segment) = self.segment_mut(block) else { return Ok(None) };
        if let Some(file) = &segment.file {
            return Ok(Some(Arc::clone(file)));
        }
        let (path, id) = (Arc::clone(&segment.path), segment.id);
        let mut found = identity::open(&path, id).map_err(|error| failed(&path, error))?;
        if let (None, Some(id)) = (&found, id) {
            let renamed = identity::find(identity::directory_of(&path), id);
            if let Some((path, file)) = renamed.map_err(|error| failed(&path, error))? {
                (segment.path, found) = (path.into(), Some(file));
            }
        }
        segment.file = found.map(Arc::new);
        Ok(segment.file.clone())
    }

    /// Makes sure that the file of a block still has what has been read of it, up to byte `at`; otherwise does as
    /// [`replace`](Self::replace). Returns the file that the block is to be read from.
    fn check(
        &mut self,
        block: u64,
        at: u64,
        read: Option<Fingerprint>,
        need: Option<End>,
    ) -> Result<Option<Arc<File>>, SourceError> {
        let file = self.file(block)?;
        let Some(segment) = self.segment_mut(block) else { return Ok(None) };
        if let Some(file) = file {
            let metadata = file.metadata().map_err(|error| failed(&segment.path, error))?;
            // Times do not tell: two changes within a tick of the system's clock have the same.
            if metadata.len() >= at && matches(read, &file, &segment.path)? {
                if metadata.len() < segment.seen && segment.end.is_none() {
                    tracing::warn!(
                        file = %shown(&segment.path),
                        "the followed file has shrunk from {} to {} bytes, of which {at} have been read: the bytes \
                         that were cut off are lost",
                        segment.seen,
                        metadata.len()
                    );
                }
                segment.seen = metadata.len();
                return Ok(Some(file));
            }
        }
        self.replace(block, at, read, need)?;
        match self.segment(block) {
            Some(segment) if segment.end.is_some_and(|end| end.at > at) => self.file(block),
            _ => Ok(None),
        }
    }

    /// Finds a copy of the file of a block by what it had.
    fn copy_of(&self, block: u64, read: Option<Fingerprint>) -> Result<Option<Copied>, SourceError> {
        let (Some(segment), Some(read)) = (self.segment(block), read.filter(|read| read.upto > 0)) else {
            return Ok(None);
        };
        identity::find_copy(&segment.found_at, read, &|id| self.by_id.contains_key(&id))
            .map_err(|error| failed(&segment.path, error))
    }

    /// The file of a block no longer has what it had, or is gone: the rest is read from a copy, if there is one; and what
    /// the file has now is a block of its own, read from the beginning.
    ///
    /// Fails if there is no copy and bytes are needed that have been planned to be read.
    fn replace(
        &mut self,
        block: u64,
        at: u64,
        read: Option<Fingerprint>,
        need: Option<End>,
    ) -> Result<(), SourceError> {
        let Some(segment) = self.segment(block) else { return Ok(()) };
        let (path, id, end, seen) = (Arc::clone(&segment.path), segment.id, segment.end, segment.seen);
        let file = segment.file.clone();
        let by_content = need.and_then(|need| need.read).or(end.and_then(|end| end.read)).or(read);
        let copy = self.copy_of(block, by_content)?;
        let (mut notes, mut handle) = (Vec::new(), None);
        if let Some(copy) = copy {
            tracing::info!(
                file = %shown(&path),
                "the file was truncated, replaced or removed: the unread rest of its old content is read from its \
                 copy {}",
                shown(&copy.path)
            );
            let file = Arc::new(copy.file);
            if end.is_none() {
                let read = Fingerprint::read(&file, copy.len).map_err(|error| failed(&copy.path, error))?;
                notes.push(Note::Closed { block, end: copy.len.max(at), read });
            }
            notes.push(Note::Moved { block, path: copy.path, id: copy.id });
            handle = Some(file);
        } else {
            if let Some(need) = need.filter(|need| need.at > at) {
                return Err(vanished(&path, at, need.at));
            }
            if end.is_none_or(|end| end.at > at) {
                warn_of_loss(&path, at, end.map_or(seen, |end| end.at), file.as_deref());
                notes.push(Note::Closed { block, end: at, read });
            }
        }
        if end.is_none() && file.is_some() {
            notes.push(Note::Begun { path: path.to_path_buf(), id, start: 0, before: None });
        }
        self.note(notes)?;
        if let Some(segment) = self.segment_mut(block) {
            segment.file = handle;
        }
        let begun = self.total().saturating_sub(1);
        if let Some(segment) = self.segment_mut(begun).filter(|segment| begun != block && segment.id == id) {
            segment.file = segment.file.take().or(file);
        }
        Ok(())
    }
}
