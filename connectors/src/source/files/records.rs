//! Records that may be malformed, and how these are handled. JSON Lines; CSV is next door.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use memchr::memchr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_operators::SourceError;

use super::format::{Decode, Format, Piece, Splitting};
use super::name::shown;
use super::scan::LineNumbers;

/// What to do with a record that cannot be read as what it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRecords {
    /// The query fails, naming the file and the line.
    #[default]
    Fail,
    /// Leave it out and count it.
    Skip,
}

/// A record that cannot be read as what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BadRecord {
    /// The file it stands in; empty if it was not read from one.
    pub file: String,
    /// The line that it begins in, from 1; 0 if that cannot be told (any more).
    pub line: u64,
    /// What it looks like, without its terminator.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

thread_local! {
    /// Lines that have been counted for [`BadRecord::of`].
    static LINES: RefCell<LineNumbers> = RefCell::default();
}

impl BadRecord {
    /// The account of a line that the program itself finds to be bad, with the file and the line that it was read from,
    /// for lines of [`text_files`](super::text_files). To number a line, the file is read again up to there, or on from
    /// the last one that was numbered: that is for a few lines, not for all.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("numbers");
    /// let lines = graph.source(text_files("numbers/*.txt"));
    /// let (numbers, bad) = lines.split(|line| match line.parse::<u64>() {
    ///     Ok(number) => Either::Left(number),
    ///     Err(error) => Either::Right(BadRecord::of(&line, error.to_string())),
    /// });
    /// # let _ = (numbers, bad);
    /// ```
    pub fn of(line: &crate::Text, reason: impl Into<String>) -> BadRecord {
        let (text, reason) = (line.to_string(), reason.into());
        let Some((file, at)) = line.place() else {
            return BadRecord { file: String::new(), line: 0, text, reason };
        };
        // The file may have been taken away since.
        let number = LINES.try_with(|lines| lines.try_borrow_mut().ok()?.line(file, at).ok());
        let line = number.ok().flatten().unwrap_or(0);
        BadRecord { file: shown(file).to_string(), line, text, reason }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => f.write_str(&self.reason),
            (file, 0) => write!(f, "{file}: {}", self.reason),
            (file, line) => write!(f, "{file}, line {line}: {}", self.reason),
        }
    }
}

impl std::error::Error for BadRecord {}

/// A format of records that may be malformed. The formats are those of this crate: [`Json`] and [`Csv`](super::Csv).
pub trait Parse: Clone + Send + Sync + 'static {
    /// What a record is.
    type Record: Send + 'static;
    #[doc(hidden)]
    type Parser: Parser<Record = Self::Record>;
    #[doc(hidden)]
    const NAME: &'static str;
    #[doc(hidden)]
    fn splitting(&self) -> Splitting;
    #[doc(hidden)]
    fn parser(&self, max_line: usize) -> Self::Parser;
}

/// Where in the piece a record stands, and the record, or what is wrong with it.
pub(super) type Parsed<T> = (Range<usize>, Result<T, Wrong>);

/// What is wrong with a record.
pub struct Wrong {
    pub(super) reason: String,
    /// Whether all records of the file are like that: then to skip bad records is no way out.
    pub(super) in_all: bool,
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Wrong { reason, in_all: false }
    }
}

/// Reads the records of one piece after the other.
pub trait Parser: Send + 'static {
    /// What a record is.
    type Record: Send + 'static;

    /// Takes the next piece.
    fn begin(&mut self, piece: &Piece) -> Result<(), SourceError>;

    /// The next record of the piece.
    fn next(&mut self) -> Option<Parsed<Self::Record>>;

    /// How many bytes of the piece have been dealt with.
    fn consumed(&self) -> usize;
}

/// JSON Lines: every line is a JSON value; empty lines mean nothing.
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    pub(in crate::source) fn new() -> Self {
        Json(PhantomData)
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Json::new()
    }
}

/// Reads JSON Lines.
pub struct JsonParser<T> {
    text: crate::Text,
    at: usize,
    max_line: usize,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Send + 'static> Parse for Json<T> {
    type Record = T;
    type Parser = JsonParser<T>;
    const NAME: &'static str = "JSON Lines";

    fn splitting(&self) -> Splitting {
        Splitting::Lines
    }

    fn parser(&self, max_line: usize) -> JsonParser<T> {
        JsonParser { text: crate::Text::default(), at: 0, max_line, record: PhantomData }
    }
}

impl<T: DeserializeOwned + Send + 'static> Parser for JsonParser<T> {
    type Record = T;

    fn begin(&mut self, piece: &Piece) -> Result<(), SourceError> {
        self.text = piece.text.clone();
        self.at = 0;
        Ok(())
    }

    fn next(&mut self) -> Option<Parsed<T>> {
        loop {
            let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
            let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
            let (line, begin) = (rest.get(..end).unwrap_or_default(), self.at);
            self.at = (begin + end + 1).min(self.text.len());
            let is_too_long =
                line.len() > self.max_line && line.strip_suffix('\r').unwrap_or(line).len() > self.max_line;
            let record =
                if is_too_long { Some(Err(crate::source::too_long(self.max_line))) } else { json_line(line) };
            if let Some(record) = record {
                return Some((begin..begin + end, record.map_err(Wrong::from)));
            }
        }
    }

    fn consumed(&self) -> usize {
        self.at
    }
}

/// What a line says, or what is wrong with it; nothing if it is empty.
pub(in crate::source) fn json_line<T: DeserializeOwned>(line: &str) -> Option<Result<T, String>> {
    (!line.trim_ascii().is_empty()).then(|| serde_json::from_str(line).map_err(|error| reason(&error)))
}

/// What serde_json says, without "line 1": the line of a line is always that.
fn reason(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Good records only; bad ones as [`BadRecords`] says.
#[derive(Clone)]
pub struct Checked<P> {
    pub(in crate::source) parse: P,
    pub(in crate::source) bad: BadRecords,
}

/// All records: `Ok` the good ones, `Err` the bad ones.
#[derive(Clone)]
pub struct Routed<P> {
    pub(in crate::source) parse: P,
}

impl<P: Parse> Format for Checked<P> {
    type Item = P::Record;
    type Decoder = CheckedDecoder<P::Parser>;
    const NAME: &'static str = P::NAME;

    fn splitting(&self) -> Splitting {
        self.parse.splitting()
    }

    fn decoder(&self, max_line: usize) -> Self::Decoder {
        CheckedDecoder { records: Records::new(self.parse.parser(max_line)), bad: self.bad, skipped: 0 }
    }
}

impl<P: Parse> Format for Routed<P> {
    type Item = Result<P::Record, BadRecord>;
    type Decoder = RoutedDecoder<P::Parser>;
    const NAME: &'static str = P::NAME;

    fn splitting(&self) -> Splitting {
        self.parse.splitting()
    }

    fn decoder(&self, max_line: usize) -> Self::Decoder {
        RoutedDecoder { records: Records::new(self.parse.parser(max_line)) }
    }
}

/// A parser and the piece that it reads, for the account of a bad record.
struct Records<P> {
    parser: P,
    piece: Option<Piece>,
    lines: LineNumbers,
}

impl<P: Parser> Records<P> {
    fn new(parser: P) -> Self {
        Records { parser, piece: None, lines: LineNumbers::default() }
    }

    fn begin(&mut self, piece: Piece) -> Result<(), SourceError> {
        self.parser.begin(&piece)?;
        self.piece = Some(piece);
        Ok(())
    }

    fn bad(&mut self, range: Range<usize>, reason: String) -> Result<BadRecord, SourceError> {
        let Some(Piece { text, path, .. }) = &self.piece else {
            return Ok(BadRecord { file: String::new(), line: 0, text: String::new(), reason });
        };
        // A terminator left over from the record before belongs to that one.
        let raw = text.get(range.clone()).unwrap_or_default();
        let trimmed = raw.trim_start_matches(['\r', '\n']);
        let begin = text.byte_of_file(range.start + raw.len() - trimmed.len());
        let line = self.lines.line(path, begin)?;
        let text = trimmed.trim_end_matches(['\r', '\n']).to_owned();
        Ok(BadRecord { file: shown(path).to_string(), line, text, reason })
    }
}

/// Reads records for [`Checked`].
pub struct CheckedDecoder<P> {
    records: Records<P>,
    bad: BadRecords,
    skipped: u64,
}

impl<P: Parser> Decode for CheckedDecoder<P> {
    type Item = P::Record;

    fn begin(&mut self, piece: Piece) -> Result<(), SourceError> {
        self.records.begin(piece)
    }

    fn decode(&mut self, max: usize, out: &mut Vec<P::Record>) -> Result<bool, SourceError> {
        let before = out.len();
        while out.len() - before < max {
            match self.records.parser.next() {
                None => return Ok(true),
                Some((_, Ok(record))) => out.push(record),
                Some((range, Err(wrong))) => match self.bad {
                    BadRecords::Skip => self.skipped += 1,
                    BadRecords::Fail => {
                        let bad = self.records.bad(range, wrong.reason)?;
                        let place = format!("{}, line {}", bad.file, bad.line);
                        let reason =
                            if wrong.in_all { bad.reason } else { crate::source::skippable(bad.reason) };
                        return Err(SourceError::BadRecord { place, reason });
                    }
                },
            }
        }
        Ok(false)
    }

    fn consumed(&self) -> usize {
        self.records.parser.consumed()
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// Reads records for [`Routed`].
pub struct RoutedDecoder<P> {
    records: Records<P>,
}

impl<P: Parser> Decode for RoutedDecoder<P> {
    type Item = Result<P::Record, BadRecord>;

    fn begin(&mut self, piece: Piece) -> Result<(), SourceError> {
        self.records.begin(piece)
    }

    fn decode(&mut self, max: usize, out: &mut Vec<Self::Item>) -> Result<bool, SourceError> {
        let before = out.len();
        while out.len() - before < max {
            match self.records.parser.next() {
                None => return Ok(true),
                Some((_, Ok(record))) => out.push(Ok(record)),
                Some((range, Err(wrong))) => out.push(Err(self.records.bad(range, wrong.reason)?)),
            }
        }
        Ok(false)
    }

    fn consumed(&self) -> usize {
        self.records.parser.consumed()
    }
}
