//! What a partition is to read next of followed files.

use std::sync::Arc;

use tidemill_operators::SourceError;

use super::{Followed, Part, Until};
use crate::source::files::catalogue::Position;
use crate::source::files::identity::{FileId, Fingerprint};
use crate::source::files::scan::{Opened, failed};
use crate::source::files::segment::{End, Segment, vanished};

impl Followed {
    /// Returns the byte after the last line break of a block's file from byte `from` on; `from` if there is none. What has
    /// been looked at without finding one is not looked at again.
    pub(in crate::source::files) fn line_end(
        &mut self,
        block: u64,
        file: &Opened,
        from: u64,
    ) -> Result<u64, SourceError> {
        let to = file.len()?.max(from);
        let known = self.segment(block).and_then(|segment| segment.unended);
        let looked = known.filter(|(begin, end)| *begin == from && *end <= to).map_or(from, |(_, end)| end);
        let end = file.last_line_end(looked, to)?;
        if end > looked {
            return Ok(end);
        }
        if let Some(segment) = self.segment_mut(block) {
            segment.unended = Some((from, to));
        }
        Ok(from)
    }

    /// Returns what has been planned to be read of a block.
    fn needed(&self, block: u64, until: Option<Until>) -> Option<End> {
        let segment = self.segment(block)?;
        match until {
            Some((until, read)) if until.block == block => Some(End { at: segment.start + until.byte, read }),
            Some(_) => segment.end,
            None => None,
        }
    }

    /// Returns what is to be read next of the block at which a partition stands; nothing if there is no such block yet.
    pub(in crate::source::files) fn part(
        &mut self,
        position: Position,
        read: Option<Fingerprint>,
        until: Option<Until>,
    ) -> Result<Option<Part>, SourceError> {
        let block = position.block;
        let need = self.needed(block, until);
        let Some(Segment { start, before, end, .. }) = self.segment(block) else { return Ok(None) };
        let (at, read) = (start + position.byte, read.or(*before));
        let done = end.is_some_and(|end| end.at <= at) && need.is_none_or(|need| need.at <= at);
        let file = if done { None } else { self.check(block, at, read, need)? };
        let Some(Segment { path, id, start, end, .. }) = self.segment(block) else { return Ok(None) };
        if let Some(need) = need.filter(|need| need.at > at && end.is_some_and(|end| end.at < need.at)) {
            return Err(vanished(path, at, need.at));
        }
        Ok(Some(Part { path: Arc::clone(path), id: *id, file, start: *start, end: *end, read }))
    }

    /// Does as [`replace`](Self::replace) after a partition has read, from the file `id`, bytes that its block did not have.
    ///
    /// Another thread may have noticed the same meanwhile, and the block then is to be read from another file: nothing is
    /// done.
    pub(in crate::source::files) fn broken(
        &mut self,
        position: Position,
        id: Option<FileId>,
        read: Option<Fingerprint>,
        until: Option<Until>,
    ) -> Result<(), SourceError> {
        if self.segment(position.block).is_some_and(|segment| segment.id != id) {
            return Ok(());
        }
        let need = self.needed(position.block, until);
        let at = self.segment(position.block).map_or(0, |segment| segment.start + position.byte);
        self.replace(position.block, at, read, need)
    }

    /// Returns where the complete lines end that a partition could read now, and the fingerprint there.
    pub(in crate::source::files) fn latest(
        &mut self,
        partition: u32,
        from: Position,
        read: Option<Fingerprint>,
    ) -> Result<(Position, Option<Fingerprint>), SourceError> {
        let mut position = if from.block % self.partitions == u64::from(partition) % self.partitions {
            from
        } else {
            return Ok((from, read));
        };
        let mut known = read;
        self.stand(from, read);
        loop {
            let Some(Part { path, file, start, end, .. }) = self.part(position, known, None)? else {
                return Ok((position, known));
            };
            let at = start + position.byte;
            let next = Position { block: position.block + self.partitions, byte: 0 };
            let to = match (end, &file) {
                (Some(_), _) if next.block < self.total() => {
                    self.leave(position.block);
                    (position, known) = (next, None);
                    continue;
                }
                // What has been read is not planned again where the file was truncated before it was known to be read.
                (Some(end), _) if end.at < at => return Ok((position, known)),
                (Some(end), _) => return Ok((Position { byte: end.at - start, ..position }, end.read)),
                (None, Some(file)) => {
                    let opened = Opened::of(Arc::clone(file), &path);
                    self.line_end(position.block, &opened, at)?
                }
                (None, None) => at,
            };
            if let Some(file) = file.filter(|_| to > at) {
                // If it has been truncated meanwhile, the next look finds that.
                match Fingerprint::read(&file, to).map_err(|error| failed(&path, error))? {
                    Some(read) => (position.byte, known) = (to - start, Some(read)),
                    None => return Ok((position, known)),
                }
            }
            return Ok((position, known));
        }
    }
}
