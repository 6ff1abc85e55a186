//! Records parsed from the lines of another source: a socket, a channel, your own.

use std::ops::Deref;

use serde::de::DeserializeOwned;
use tidemill_operators::{Poll, Reader, Source, SourceError, WrapSource};

use super::files::{BadRecord, BadRecords, Checked, Json, Parse, Routed, json_line};

/// How much of a bad line an error shows.
const SHOWN: usize = 200;

/// Parses the lines of a source as records. Import it to call [`json`](ParseLines::json).
pub trait ParseLines: Source + Sized
where
    Self::Item: Deref<Target = str>,
{
    /// Returns a source that parses each line as a JSON value.
    ///
    /// As in [`json_lines`](super::json_lines), empty lines are skipped. A line that cannot be parsed fails the query,
    /// is [skipped and counted](ParsedLines::on_bad_record), or is [emitted as an
    /// `Err`](ParsedLines::with_bad_records).
    ///
    /// Behind a journal, as in `socket("localhost:9999").journaled().json::<Request>()`, the journal stores the lines,
    /// also bad ones: if one fails the query, a corrected program reads it again.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Request { path: String, ms: u64 }
    ///
    /// let graph = Graph::new("requests");
    /// let requests = graph.source(socket("localhost:9999").json::<Request>().on_bad_record(BadRecords::Skip));
    /// let slow = requests.filter(|request| request.ms > 500).map(|request| request.path);
    /// # let _ = slow;
    /// ```
    fn json<T: DeserializeOwned + Send + 'static>(self) -> ParsedLines<Self, Checked<Json<T>>> {
        ParsedLines { lines: self, format: Checked { parse: Json::new(), bad: BadRecords::Fail } }
    }
}

impl<S: Source> ParseLines for S where S::Item: Deref<Target = str> {}

/// A source of records that are parsed from the lines of another source; see [`ParseLines::json`].
pub struct ParsedLines<S, F> {
    lines: S,
    format: F,
}

impl<S: Source, T: DeserializeOwned + Send + 'static> ParsedLines<S, Checked<Json<T>>> {
    /// Sets whether a line that cannot be parsed fails the query, which is the default, or is skipped.
    ///
    /// It also sets how the source of the lines handles incomplete lines: see [`Source::skip_bad_records`].
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.format.bad = what;
        self.lines.skip_bad_records(what == BadRecords::Skip);
        self
    }

    /// Emits each record as a `Result`: a bad record is an `Err` that describes it, without a file.
    ///
    /// Lines that are incomplete or too long are not among them: the source of the lines handles them.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("numbers");
    /// let lines = graph.source(memory(["1".to_owned(), "one".to_owned()]).json::<u64>().with_bad_records());
    /// let (numbers, bad) = lines.split(|line| match line {
    ///     Ok(number) => Either::Left(number),
    ///     Err(bad) => Either::Right(format!("{}: {}", bad.text, bad.reason)),
    /// });
    /// # let _ = (numbers, bad);
    /// ```
    #[must_use]
    pub fn with_bad_records(self) -> ParsedLines<S, Routed<Json<T>>> {
        ParsedLines { lines: self.lines, format: Routed { parse: self.format.parse } }
    }
}

/// How a line is handled.
pub enum Line<T> {
    /// A record.
    Record(T),
    /// Nothing; the line says nothing.
    Empty,
    /// Nothing; the line is bad, and counted.
    Skipped,
}

/// What is made of a line. The formats are those of this crate.
pub trait LineFormat: Clone + Send + Sync + 'static {
    /// What it yields.
    type Item: Send + 'static;
    #[doc(hidden)]
    fn read(&self, line: &str, name: &str) -> Result<Line<Self::Item>, SourceError>;
}

impl<T: DeserializeOwned + Send + 'static> LineFormat for Checked<Json<T>> {
    type Item = T;

    fn read(&self, line: &str, name: &str) -> Result<Line<T>, SourceError> {
        match (json_line(line), self.bad) {
            (None, _) => Ok(Line::Empty),
            (Some(Ok(record)), _) => Ok(Line::Record(record)),
            (Some(Err(_)), BadRecords::Skip) => Ok(Line::Skipped),
            (Some(Err(reason)), BadRecords::Fail) => {
                let mut shown: String = line.chars().take(SHOWN).collect();
                if shown.len() < line.len() {
                    shown.push('…');
                }
                let reason = super::skippable(format_args!("{reason}, in the line {shown}"));
                Err(SourceError::BadRecord { place: name.to_owned(), reason })
            }
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> LineFormat for Routed<Json<T>> {
    type Item = Result<T, BadRecord>;

    fn read(&self, line: &str, _name: &str) -> Result<Line<Self::Item>, SourceError> {
        let bad = |reason| BadRecord { file: String::new(), line: 0, text: line.to_owned(), reason };
        Ok(json_line(line).map_or(Line::Empty, |record| Line::Record(record.map_err(bad))))
    }
}

impl<S: Source, F: LineFormat> WrapSource for ParsedLines<S, F>
where
    S::Item: Deref<Target = str>,
{
    type Inner = S;
    type Item = F::Item;
    type Reader = ParsedReader<S::Reader, F>;

    fn inner(&self) -> &S {
        &self.lines
    }

    fn inner_mut(&mut self) -> &mut S {
        &mut self.lines
    }

    fn title(&self) -> String {
        format!("{} of {}", <Json<()> as Parse>::NAME, self.lines.describe())
    }

    fn wrap(&self, _partition: u32, lines: S::Reader) -> Result<Self::Reader, SourceError> {
        Ok(ParsedReader {
            lines,
            format: self.format.clone(),
            name: self.lines.describe(),
            read: Vec::new(),
            skipped: 0,
        })
    }
}

/// Reads one partition of a [`ParsedLines`].
pub struct ParsedReader<R: Reader, F> {
    lines: R,
    format: F,
    name: String,
    /// Lines that have been read, while they become records.
    read: Vec<R::Item>,
    skipped: u64,
}

impl<R: Reader, F: LineFormat> Reader for ParsedReader<R, F>
where
    R::Item: Deref<Target = str>,
{
    type Item = F::Item;
    type Offset = R::Offset;

    fn poll(
        &mut self,
        until: Option<&R::Offset>,
        max: usize,
        out: &mut Vec<F::Item>,
    ) -> Result<Poll, SourceError> {
        let poll = self.lines.poll(until, max, &mut self.read);
        for line in self.read.drain(..) {
            match self.format.read(&line, &self.name)? {
                Line::Record(record) => out.push(record),
                Line::Empty => {}
                Line::Skipped => self.skipped += 1,
            }
        }
        poll
    }

    fn offset(&self) -> R::Offset {
        self.lines.offset()
    }

    fn seek(&mut self, offset: &R::Offset) -> Result<(), SourceError> {
        self.lines.seek(offset)
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped) + self.lines.take_skipped()
    }

    fn rank(&self) -> u64 {
        self.lines.rank()
    }

    fn next_rank(&self) -> Option<u64> {
        self.lines.next_rank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Drive;
    use crate::{MemorySource, memory, socket};

    const LINES: [&str; 7] = ["1", "", " 2\t", "x", "3", "{\"n\":4}", "5"];

    fn lines() -> MemorySource<String> {
        memory(LINES.map(str::to_owned))
    }

    #[test]
    fn lines_are_read_as_json_and_positions_are_those_of_the_lines() {
        let source = || lines().json::<u64>().on_bad_record(BadRecords::Skip);
        assert_eq!(source().describe(), "JSON Lines of memory, 7 records");
        assert!(source().is_bounded() && source().is_replayable());
        let mut drive = Drive::new(source()).unwrap();
        let mut read = Vec::new();
        for _ in 0..9 {
            let begin = drive.offsets();
            let epoch = drive.epoch(Some(1)).unwrap();
            assert!(epoch.concat().len() <= 1, "a limit counts lines");
            let mut again = Drive::resume(source(), &begin).unwrap();
            assert_eq!(again.epoch_until(&drive.offsets()).unwrap(), epoch);
            read.extend(epoch.concat());
        }
        assert_eq!(read, [1, 2, 3, 5]);
        assert!(drive.ended());
        assert_eq!(drive.readers[0].take_skipped(), 2);
        assert_eq!(drive.readers[0].take_skipped(), 0);
    }

    #[test]
    fn a_bad_line_fails_with_its_text_or_comes_out_as_a_row() {
        let error = Drive::new(lines().json::<u64>()).unwrap().read().unwrap_err().to_string();
        assert!(
            error.starts_with("memory, 7 records: expected value at column 1, in the line x; `.on_bad"),
            "{error}"
        );
        let long = "ö".repeat(1_000);
        let error = Drive::new(memory([long]).json::<u64>()).unwrap().read().unwrap_err().to_string();
        assert!(error.contains("ö…; ") && error.len() < 600, "{error}");

        let rows = Drive::new(lines().json::<u64>().with_bad_records()).unwrap().read().unwrap().concat();
        let (good, bad): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
        assert_eq!(good.into_iter().flatten().collect::<Vec<_>>(), [1, 2, 3, 5]);
        let bad: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
        assert_eq!(bad.iter().map(|bad| bad.text.as_str()).collect::<Vec<_>>(), ["x", "{\"n\":4}"]);
        assert_eq!(bad[0].to_string(), "expected value at column 1");
    }

    #[test]
    fn a_source_around_a_source_says_what_that_one_says() {
        let source = socket("nowhere").json::<u64>();
        assert!(!source.is_bounded() && !source.is_replayable() && source.journal().is_none());
        assert!(
            source.prepare(&tidemill_operators::PrepareContext::default()).is_err(),
            "the address has no port"
        );
    }
}
