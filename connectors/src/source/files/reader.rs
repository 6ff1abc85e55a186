//! Reads one partition of a file source: every n-th block, one file open at a time.

use std::sync::{Arc, Mutex};

use memchr::memrchr;
use tidemill_operators::{Poll, Reader, ReaderContext, SourceError};

use super::catalogue::{Block, Catalogue, Position, Settings};
use super::follow::Until;
use super::format::{Decode, Format, Piece};
use super::identity::Fingerprint;
use super::name::{is_shown_as, shown};
use super::scan::{Ends, LongLine, MARK, Opened};
use super::source::FileOffset;
use super::utf8;
use crate::{Text, lock};

/// Reads one partition of a [`FileSource`](super::FileSource).
///
/// Invariant: `position` is the next record that has not been handed out. While a piece is being decoded it lies in
/// the piece; when the piece is finished it is `after`, which is where `latest` would put a limit: at a byte of a
/// block only if the block has more, else at byte 0 of the partition's next block.
pub struct FileReader<F: Format> {
    settings: Arc<Settings>,
    catalogue: Arc<Mutex<Catalogue>>,
    context: ReaderContext,
    decoder: F::Decoder,
    position: Position,
    /// What a followed file has before the piece, or before `position` between pieces.
    read: Option<Fingerprint>,
    file: Option<Opened>,
    name: String,
    piece: Option<Current>,
    long_line: LongLine,
    /// Whether all that a followed file holds has been read.
    at_end: bool,
}

/// The piece that is being decoded.
struct Current {
    text: Text,
    /// Where in the file the block begins.
    start: u64,
    after: Position,
    read: Option<Fingerprint>,
}

/// What could be loaded.
enum Loaded {
    Piece,
    /// The block has nothing for us; look at the next one.
    Passed,
    Nothing(Poll),
}

impl<F: Format> FileReader<F> {
    pub(super) fn new(
        settings: Arc<Settings>,
        catalogue: Arc<Mutex<Catalogue>>,
        format: &F,
        from: &FileOffset,
        context: ReaderContext,
    ) -> Self {
        let (position, name) = (from.position(), from.file.clone());
        let decoder = format.decoder(settings.max_line);
        let read = from.read;
        FileReader {
            settings,
            catalogue,
            context,
            decoder,
            position,
            read,
            file: None,
            name,
            piece: None,
            long_line: LongLine::default(),
            at_end: false,
        }
    }

    fn next_block(&self) -> Position {
        Position { block: self.position.block.saturating_add(u64::from(self.settings.partitions)), byte: 0 }
    }

    fn has_ended(&self) -> bool {
        self.settings.bounded && self.position.block >= lock(&self.catalogue).total()
    }

    /// Finds the block to read, looking for new files where there is none.
    fn find(&self, planned: bool) -> Result<Result<Block, Poll>, SourceError> {
        let mut catalogue = lock(&self.catalogue);
        if let Some(block) = catalogue.block(self.position.block, &self.settings) {
            return Ok(Ok(block));
        }
        let idle = if self.settings.bounded {
            Poll::End
        } else if planned {
            // A replay reads what an earlier run had found.
            catalogue.list(&self.settings, None)?;
            Poll::Idle
        } else {
            Poll::IdleUntil(catalogue.look_again(&self.settings, self.context.clock.now())?)
        };
        match catalogue.block(self.position.block, &self.settings) {
            Some(block) => Ok(Ok(block)),
            None if planned && !self.settings.bounded => Err(self.missing()),
            None => Ok(Err(idle)),
        }
    }

    fn load(&mut self, planned: Option<Until>) -> Result<Loaded, SourceError> {
        self.at_end = false;
        let until = planned.map(|(until, _)| until);
        if until.is_some_and(|until| until <= self.position) {
            return Ok(Loaded::Nothing(if self.has_ended() { Poll::End } else { Poll::Idle }));
        }
        if self.settings.follow {
            return self.load_followed(planned);
        }
        let block = match self.find(until.is_some())? {
            Ok(block) => block,
            Err(poll) => return Ok(Loaded::Nothing(poll)),
        };
        let file = match self.file.take() {
            Some(file) if *file.path == *block.path => file,
            _ => {
                self.name = shown(&block.path).to_string();
                Opened::open(&block.path)?
            }
        };
        let stop =
            until.filter(|until| until.block == self.position.block).map(|until| block.start + until.byte);
        let loaded = if self.settings.whole_files() {
            let to = stop.unwrap_or(block.len);
            let Some((bytes, end)) = self.cut(&file, self.position.byte, to)? else {
                return Err(file.truncated(to));
            };
            let after =
                if end < block.len { Position { byte: end, ..self.position } } else { self.next_block() };
            self.begin(&block, bytes, self.position.byte, after, None)
        } else {
            let from = match self.position.byte {
                0 => self.long_line.line_start(&file, block.start, block.len)?,
                byte => block.start + byte,
            };
            let (to, after) = match (stop, until) {
                (Some(stop), Some(until)) => (stop, until),
                _ => (self.long_line.line_start(&file, block.end, block.len)?, self.next_block()),
            };
            if from >= to {
                self.position = after;
                Ok(Loaded::Passed)
            } else {
                let bytes = self.lines(&file, from, to)?;
                self.begin(&block, bytes, from, after, None)
            }
        };
        self.file = Some(file);
        loaded
    }

    fn load_followed(&mut self, until: Option<Until>) -> Result<Loaded, SourceError> {
        let shared = Arc::clone(&self.catalogue);
        let mut catalogue = lock(&shared);
        let look_again = match until {
            Some(_) => None,
            None => Some(catalogue.look_again(&self.settings, self.context.clock.now())?),
        };
        let nothing = Ok(Loaded::Nothing(look_again.map_or(Poll::Idle, Poll::IdleUntil)));
        let (here, next) = (self.position, self.next_block());
        let followed = catalogue.followed(&self.settings);
        let Some(part) = followed.part(here, self.read, until)? else {
            return if until.is_some() { Err(self.missing()) } else { nothing };
        };
        if !is_shown_as(&part.path, &self.name) {
            self.name = shown(&part.path).to_string();
        }
        let from = part.start + here.byte;
        let file = part.file.map(|file| Opened::of(file, &part.path));
        let end = match (until, part.end, &file) {
            (Some((until, read)), ..) if until.block == here.block => Some((part.start + until.byte, read)),
            (_, Some(end), _) => Some((end.at, end.read)),
            (Some(_), None, _) => return Err(self.missing()),
            (None, None, Some(file)) => Some((followed.line_end(here.block, file, from)?, None)),
            (None, None, None) => None,
        };
        let (to, expected) = end.unwrap_or((from, None));
        if until.is_none() {
            followed.stand(here, self.read);
        }
        let Some(file) = file.filter(|_| from < to) else {
            let passes = until.map_or(followed.total() > next.block, |(until, _)| until.block > here.block);
            if passes && part.end.is_some_and(|end| end.at <= from) {
                followed.leave(here.block);
                (self.position, self.read) = (next, None);
                return Ok(Loaded::Passed);
            }
            self.at_end = followed.total() <= next.block;
            return nothing;
        };
        drop(catalogue);
        if let Some((bytes, end)) = self.cut(&file, from, to)? {
            // Looked at behind the read, so that what was read is known to be what the file had.
            let read = match end == from + bytes.len() as u64 {
                true => file.fingerprint(from, &bytes)?,
                false => file.fingerprint(end, &[])?,
            };
            let expected = expected.filter(|expected| expected.upto == end);
            let was = part.read.map_or(Ok(true), |was| file.has(was))?;
            if was
                && read.is_some_and(|read| expected.is_none_or(|it| it == read))
                && read.map_or(Ok(false), |read| file.has(read))?
            {
                let block = Block { path: part.path, start: part.start, end: to, len: to };
                let after = Position { byte: end - part.start, ..here };
                return self.begin(&block, bytes, from, after, read);
            }
        }
        lock(&shared).followed(&self.settings).broken(here, part.id, self.read, until)?;
        Ok(Loaded::Passed)
    }

    fn missing(&self) -> SourceError {
        SourceError::Setup(format!(
            "files that the query had read are no longer at {}: block {} is missing",
            self.settings.pattern, self.position.block
        ))
    }

    /// Reads `[from, to)`, or as many whole records of it as make a block, and returns where they end; nothing if the file is
    /// shorter. Of a record that is too long it reads the beginning.
    fn cut(&self, file: &Opened, from: u64, to: u64) -> Result<Option<(Vec<u8>, u64)>, SourceError> {
        let Settings { block, splitting, .. } = *self.settings;
        let certainly_too_long = self.certainly_too_long();
        let mut size = block;
        loop {
            let end = to.min(from.saturating_add(size));
            let Some(mut bytes) = file.try_read(from, end)? else { return Ok(None) };
            if end == to {
                return Ok(Some((bytes, to)));
            }
            if let Some(last) = Ends::last(splitting, &bytes, from) {
                bytes.truncate(last);
                return Ok(Some((bytes, from + last as u64)));
            }
            if bytes.len() as u64 >= certainly_too_long {
                let end = file.record_end(splitting, from, to, &bytes)?;
                return Ok(end.map(|end| (self.shortened(bytes), end)));
            }
            size = size.saturating_mul(2).min(certainly_too_long.max(block));
        }
    }

    /// A record of that many bytes is too long, whatever of them is its terminator or a byte order mark.
    fn certainly_too_long(&self) -> u64 {
        (self.settings.max_line as u64).saturating_add(16)
    }

    /// Reads the lines `[from, to)` of a block, of which the last may begin in it and end far behind it. Of one that is too
    /// long it reads the beginning.
    fn lines(&self, file: &Opened, from: u64, to: u64) -> Result<Vec<u8>, SourceError> {
        let (block, most) = (self.settings.block, self.certainly_too_long());
        if to - from <= most.saturating_add(block) {
            return file.read(from, to);
        }
        let mut bytes = file.read(from, from + block)?;
        let last = memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        bytes.truncate(last);
        let begin = from + last as u64;
        bytes.extend(self.shortened(file.read(begin, begin + most)?));
        Ok(bytes)
    }

    /// Returns the beginning of a record that is too long, which is still too long to be taken for a whole one.
    fn shortened(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(self.settings.max_line.saturating_add(8));
        if let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            // A character is cut in two.
            bytes.truncate(error.valid_up_to());
        }
        bytes.extend_from_slice("…\n".as_bytes());
        bytes
    }

    /// Hands a piece to the decoder; `from` is where in the file it begins.
    fn begin(
        &mut self,
        block: &Block,
        mut bytes: Vec<u8>,
        mut from: u64,
        after: Position,
        read: Option<Fingerprint>,
    ) -> Result<Loaded, SourceError> {
        if from == 0 && bytes.starts_with(&MARK) {
            bytes.drain(..MARK.len());
            from = MARK.len() as u64;
        }
        let text = utf8::text(bytes, &block.path, from, self.settings.lossy)?;
        self.decoder.begin(Piece { text: text.clone(), path: Arc::clone(&block.path), at: from })?;
        self.piece = Some(Current { text, start: block.start, after, read });
        Ok(Loaded::Piece)
    }
}

impl<F: Format> Reader for FileReader<F> {
    type Item = F::Item;
    type Offset = FileOffset;

    fn poll(
        &mut self,
        until: Option<&FileOffset>,
        max: usize,
        out: &mut Vec<F::Item>,
    ) -> Result<Poll, SourceError> {
        let before = out.len();
        let block = self.position.block;
        let until = until.map(|until| (until.position(), until.read));
        loop {
            if let Some(piece) = &self.piece {
                if !self.decoder.decode(max.saturating_sub(out.len() - before), out)? {
                    // Nothing of the piece has been handed out as long as its first record has not.
                    if let Some(consumed) = Some(self.decoder.consumed()).filter(|&consumed| consumed > 0) {
                        self.position.byte = piece.text.byte_of_file(consumed) - piece.start;
                    }
                    return Ok(Poll::Ready);
                }
                (self.position, self.read) = (piece.after, piece.read);
                self.piece = None;
                if self.settings.follow {
                    lock(&self.catalogue).followed(&self.settings).stand(self.position, self.read);
                }
                if self.has_ended() {
                    return Ok(Poll::End);
                }
                // Also after a block without a record: the next one in order may be another slice's.
                if out.len() > before || self.position.block != block {
                    return Ok(Poll::Ready);
                }
            }
            match self.load(until)? {
                Loaded::Passed if self.position.block != block => {
                    return Ok(if self.has_ended() { Poll::End } else { Poll::Ready });
                }
                Loaded::Piece | Loaded::Passed => {}
                Loaded::Nothing(poll) => return Ok(poll),
            }
        }
    }

    fn offset(&self) -> FileOffset {
        FileOffset {
            block: self.position.block,
            byte: self.position.byte,
            file: self.name.clone(),
            read: self.read,
        }
    }

    fn seek(&mut self, offset: &FileOffset) -> Result<(), SourceError> {
        (self.position, self.read) = (offset.position(), offset.read);
        self.piece = None;
        self.file = None;
        Ok(())
    }

    fn rank(&self) -> u64 {
        self.position.block
    }

    fn next_rank(&self) -> Option<u64> {
        (!self.at_end).then_some(self.position.block)
    }

    fn take_skipped(&mut self) -> u64 {
        self.decoder.take_skipped()
    }
}
