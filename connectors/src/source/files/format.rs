//! What a piece of a file is turned into, and the two simple answers: lines, and the piece itself.

use std::path::Path;
use std::sync::Arc;

use memchr::memchr_iter;
use tidemill_operators::SourceError;

use super::records::BadRecords;
use super::scan::LineNumbers;
pub(super) use super::scan::Splitting;
use crate::Text;

/// What a file source makes of the text that it reads. The formats are those of this crate.
pub trait Format: Clone + Send + Sync + 'static {
    /// What it yields.
    type Item: Send + 'static;
    #[doc(hidden)]
    type Decoder: Decode<Item = Self::Item>;
    #[doc(hidden)]
    const NAME: &'static str;
    #[doc(hidden)]
    fn splitting(&self) -> Splitting;
    #[doc(hidden)]
    fn decoder(&self, max_line: usize) -> Self::Decoder;
}

/// A piece of a file: whole records, at most a block of them, or one that is longer.
#[derive(Clone, Debug)]
pub struct Piece {
    pub(super) text: Text,
    pub(super) path: Arc<Path>,
    /// Where in the file the text begins.
    pub(super) at: u64,
}

/// Turns one piece after the other into records.
pub trait Decode: Send + 'static {
    /// What it yields.
    type Item: Send + 'static;

    /// Takes the next piece.
    fn begin(&mut self, piece: Piece) -> Result<(), SourceError>;

    /// Appends at most `max` records to `out`; `true` if the piece has no more.
    fn decode(&mut self, max: usize, out: &mut Vec<Self::Item>) -> Result<bool, SourceError>;

    /// How many bytes of the piece have been dealt with.
    fn consumed(&self) -> usize;

    /// Records refused since the last call.
    fn take_skipped(&mut self) -> u64 {
        0
    }
}

/// Every line is a record, without its terminator (LF or CRLF).
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    pub(super) bad: BadRecords,
}

/// Every block of lines is a record, with all terminators.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeBlocks;

/// Cuts pieces into lines.
pub struct LineDecoder {
    text: Text,
    at: usize,
    path: Option<Arc<Path>>,
    max_line: usize,
    bad: BadRecords,
    skipped: u64,
}

impl Format for Lines {
    type Item = Text;
    type Decoder = LineDecoder;
    const NAME: &'static str = "text files";

    fn splitting(&self) -> Splitting {
        Splitting::Lines
    }

    fn decoder(&self, max_line: usize) -> LineDecoder {
        LineDecoder { text: Text::default(), at: 0, path: None, max_line, bad: self.bad, skipped: 0 }
    }
}

impl Decode for LineDecoder {
    type Item = Text;

    fn begin(&mut self, piece: Piece) -> Result<(), SourceError> {
        (self.text, self.at, self.path) = (piece.text, 0, Some(piece.path));
        Ok(())
    }

    fn decode(&mut self, max: usize, out: &mut Vec<Text>) -> Result<bool, SourceError> {
        let text = self.text.clone();
        let bytes = text.as_bytes();
        let rest = bytes.get(self.at..).unwrap_or_default();
        let (begin, mut lines) = (self.at, 0);
        for end in memchr_iter(b'\n', rest).take(max) {
            let end = begin + end;
            let carriage_return = end > self.at && bytes.get(end - 1) == Some(&b'\r');
            self.line(&text, end - usize::from(carriage_return), out)?;
            (self.at, lines) = (end + 1, lines + 1);
        }
        if lines < max && self.at < bytes.len() {
            self.line(&text, bytes.len(), out)?;
            self.at = bytes.len();
        }
        Ok(self.at >= bytes.len())
    }

    fn consumed(&self) -> usize {
        self.at
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

impl LineDecoder {
    /// The line that begins at `at` ends before `end`.
    #[inline]
    fn line(&mut self, text: &Text, end: usize, out: &mut Vec<Text>) -> Result<(), SourceError> {
        if end - self.at <= self.max_line {
            out.push(text.slice(self.at..end));
            return Ok(());
        }
        self.too_long()
    }

    #[cold]
    fn too_long(&mut self) -> Result<(), SourceError> {
        if self.bad == BadRecords::Skip {
            self.skipped += 1;
            return Ok(());
        }
        let place = match &self.path {
            Some(path) => {
                let line = LineNumbers::default().line(path, self.text.byte_of_file(self.at))?;
                format!("{}, line {line}", path.display())
            }
            None => String::new(),
        };
        Err(SourceError::BadRecord {
            place,
            reason: crate::source::skippable(crate::source::too_long(self.max_line)),
        })
    }
}

/// Hands pieces on as they are.
#[derive(Debug, Default)]
pub struct BlockDecoder {
    text: Option<Text>,
    length: usize,
}

impl Format for WholeBlocks {
    type Item = Text;
    type Decoder = BlockDecoder;
    const NAME: &'static str = "blocks of text files";

    fn splitting(&self) -> Splitting {
        Splitting::Blocks
    }

    fn decoder(&self, _max_line: usize) -> BlockDecoder {
        BlockDecoder::default()
    }
}

impl Decode for BlockDecoder {
    type Item = Text;

    fn begin(&mut self, piece: Piece) -> Result<(), SourceError> {
        self.length = piece.text.len();
        self.text = Some(piece.text).filter(|text| !text.is_empty());
        Ok(())
    }

    fn decode(&mut self, max: usize, out: &mut Vec<Text>) -> Result<bool, SourceError> {
        if max > 0 {
            out.extend(self.text.take());
        }
        Ok(self.text.is_none())
    }

    fn consumed(&self) -> usize {
        if self.text.is_some() { 0 } else { self.length }
    }
}
