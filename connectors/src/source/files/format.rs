//! What a piece of a file is turned into, and the two simple answers: lines, and the piece itself.

use std::path::Path;
use std::sync::Arc;

use memchr::memchr_iter;
use tidemill_operators::SourceError;

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
    fn decoder(&self) -> Self::Decoder;
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
pub struct Lines;

/// Every block of lines is a record, with all terminators.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeBlocks;

/// Cuts pieces into lines.
#[derive(Debug, Default)]
pub struct LineDecoder {
    text: Text,
    at: usize,
}

impl Format for Lines {
    type Item = Text;
    type Decoder = LineDecoder;
    const NAME: &'static str = "text files";

    fn splitting(&self) -> Splitting {
        Splitting::Lines
    }

    fn decoder(&self) -> LineDecoder {
        LineDecoder::default()
    }
}

impl Decode for LineDecoder {
    type Item = Text;

    fn begin(&mut self, piece: Piece) -> Result<(), SourceError> {
        *self = LineDecoder { text: piece.text, at: 0 };
        Ok(())
    }

    fn decode(&mut self, max: usize, out: &mut Vec<Text>) -> Result<bool, SourceError> {
        let bytes = self.text.as_bytes();
        let rest = bytes.get(self.at..).unwrap_or_default();
        let (begin, before) = (self.at, out.len());
        for end in memchr_iter(b'\n', rest).take(max) {
            let end = begin + end;
            let carriage_return = end > self.at && bytes.get(end - 1) == Some(&b'\r');
            out.push(self.text.slice(self.at..end - usize::from(carriage_return)));
            self.at = end + 1;
        }
        if out.len() - before < max && self.at < bytes.len() {
            out.push(self.text.slice(self.at..bytes.len()));
            self.at = bytes.len();
        }
        Ok(self.at >= bytes.len())
    }

    fn consumed(&self) -> usize {
        self.at
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

    fn decoder(&self) -> BlockDecoder {
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
