//! The arithmetic of lines and records within a file.
//!
//! A line belongs to the block in which it *begins*. With `line_start(x)`, the first beginning of a line at or after
//! byte `x`, the lines of the block `[start, end)` are exactly the bytes `[line_start(start), line_start(end))`: so
//! the blocks' texts are disjoint, leave nothing out, and each can be found without its neighbours.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::{memchr, memrchr};
use tidemill_operators::{SourceError, files};

use super::identity::{Fingerprint, read_exact_at};
use super::name::shown;

/// The byte order mark that some programs put before UTF-8.
pub(super) const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Larger allocations are tried first.
const ASKED_FROM: usize = 4 << 20;
/// How much is read to find the end of a line, at first and at most.
const PROBE: usize = 4 * 1024;
const LARGE_PROBE: u64 = 64 * PROBE as u64;

/// How the bytes of a file fall into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splitting {
    /// Every line is one; a file is cut into blocks.
    Lines,
    /// Every block of lines is one.
    Blocks,
    /// Lines, but for line breaks within quotes; so a file is one block.
    Csv {
        /// What separates fields.
        delimiter: u8,
        /// Whether the first record names the columns.
        header: bool,
    },
}

/// Finds the ends of records in bytes that come piece by piece, the first at the beginning of a record.
pub(super) struct Ends {
    splitting: Splitting,
    quote: Quote,
}

#[derive(Clone, Copy, PartialEq)]
enum Quote {
    FieldStart,
    Outside,
    Inside,
    /// After a quote inside quotes: the end of them, or the first of two that stand for one.
    Maybe,
}

impl Ends {
    pub(super) fn new(splitting: Splitting) -> Self {
        Ends { splitting, quote: Quote::FieldStart }
    }

    /// The byte after the first end of a record in `bytes`; the rest is looked at in the next call.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<usize> {
        let Splitting::Csv { delimiter, .. } = self.splitting else {
            return memchr(b'\n', bytes).map(|at| at + 1);
        };
        for (at, &byte) in bytes.iter().enumerate() {
            self.quote = match (self.quote, byte) {
                (Quote::FieldStart | Quote::Maybe, b'"') => Quote::Inside,
                (Quote::Inside, b'"') => Quote::Maybe,
                (Quote::Inside, _) => Quote::Inside,
                (_, b'\n') => {
                    self.quote = Quote::FieldStart;
                    return Some(at + 1);
                }
                (_, byte) if byte == delimiter || byte == b'\r' => Quote::FieldStart,
                _ => Quote::Outside,
            };
        }
        None
    }

    /// Returns the byte after the last end of a record in `bytes`, which begin at byte `from` of the file.
    pub(super) fn last(splitting: Splitting, bytes: &[u8], from: u64) -> Option<usize> {
        if !matches!(splitting, Splitting::Csv { .. }) {
            return memrchr(b'\n', bytes).map(|at| at + 1);
        }
        let begin = mark(bytes, from);
        let (mut ends, mut last) = (Ends::new(splitting), begin);
        while let Some(end) = ends.next(bytes.get(last..).unwrap_or_default()) {
            last += end;
        }
        (last > begin).then_some(last)
    }
}

/// Returns the length of the byte order mark in bytes that begin at byte `from` of a file. The mark belongs to no field:
/// a quote behind it opens a quoted field.
fn mark(bytes: &[u8], from: u64) -> usize {
    if from == 0 && bytes.starts_with(&MARK) { MARK.len() } else { 0 }
}

/// A file that is open for reading, up to the length that it had when it was first seen.
pub(super) struct Opened {
    file: Arc<File>,
    /// Whether others read the same file, so that its cursor cannot be used.
    shared: bool,
    pub(super) path: PathBuf,
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = files::open_to_read(path).map_err(|error| failed(path, error))?;
        Ok(Opened { file: Arc::new(file), shared: false, path: path.to_owned() })
    }

    /// A file that is open already, and that others may read too.
    pub(super) fn of(file: Arc<File>, path: &Path) -> Self {
        Opened { file, shared: true, path: path.to_owned() }
    }

    pub(super) fn len(&self) -> Result<u64, SourceError> {
        Ok(self.file.metadata().map_err(|error| failed(&self.path, error))?.len())
    }

    /// Reads exactly the bytes `[from, to)`.
    pub(super) fn read(&self, from: u64, to: u64) -> Result<Vec<u8>, SourceError> {
        self.try_read(from, to)?.ok_or_else(|| self.truncated(to))
    }

    /// The file has fewer bytes than it had.
    pub(super) fn truncated(&self, to: u64) -> SourceError {
        let reason = format!("it has been truncated since it was found with at least {to} bytes");
        failed(&self.path, std::io::Error::new(std::io::ErrorKind::UnexpectedEof, reason))
    }

    /// Returns the fingerprint at the end of bytes that have been read from byte `from` on.
    pub(super) fn fingerprint(&self, from: u64, bytes: &[u8]) -> Result<Option<Fingerprint>, SourceError> {
        Fingerprint::behind(&self.file, from, bytes).map_err(|error| failed(&self.path, error))
    }

    /// Returns whether the file has what the fingerprint was made of.
    pub(super) fn has(&self, read: Fingerprint) -> Result<bool, SourceError> {
        read.matches(&self.file).map_err(|error| failed(&self.path, error))
    }

    /// Reads exactly the bytes `[from, to)`; nothing if the file is shorter.
    pub(super) fn try_read(&self, from: u64, to: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let wanted = crate::length(to.saturating_sub(from));
        grantable(wanted).map_err(|error| failed(&self.path, error))?;
        files::reading(&self.path).map_err(|error| failed(&self.path, error))?;
        let read = if self.shared {
            let mut bytes = vec![0; wanted];
            read_exact_at(&self.file, &mut bytes, from).map(|()| Some(bytes))
        } else {
            let (mut file, mut bytes) = (&*self.file, Vec::with_capacity(wanted));
            file.seek(SeekFrom::Start(from))
                .and_then(|_| file.take(wanted as u64).read_to_end(&mut bytes))
                .map(|read| (read == wanted).then_some(bytes))
        };
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            read => read.map_err(|error| failed(&self.path, error)),
        }
    }

    /// The first beginning of a line at or after `at`, in a file of `len` bytes; `len` if there is none.
    pub(super) fn line_start(&self, at: u64, len: u64) -> Result<u64, SourceError> {
        if at == 0 {
            return Ok(0);
        }
        let (mut from, mut probe) = (at - 1, PROBE as u64);
        while from < len {
            let bytes = self.read(from, len.min(from + probe))?;
            if let Some(end) = memchr(b'\n', &bytes) {
                return Ok(from + end as u64 + 1);
            }
            from += bytes.len() as u64;
            probe = LARGE_PROBE.min(2 * probe);
        }
        Ok(len)
    }

    /// The byte after the last line break in `[from, to)`; `from` if there is none.
    pub(super) fn last_line_end(&self, from: u64, mut to: u64) -> Result<u64, SourceError> {
        let mut probe = PROBE as u64;
        while to > from {
            let begin = from.max(to.saturating_sub(probe));
            probe = LARGE_PROBE.min(2 * probe);
            // Nothing if the file has been truncated meanwhile.
            let Some(bytes) = self.try_read(begin, to)? else { return Ok(from) };
            if let Some(at) = memrchr(b'\n', &bytes) {
                return Ok(begin + at as u64 + 1);
            }
            to = begin;
        }
        Ok(from)
    }

    /// Returns where the record ends that begins at `from` with `bytes`, and not beyond `to`; nothing if the file is shorter.
    pub(super) fn record_end(
        &self,
        splitting: Splitting,
        from: u64,
        to: u64,
        bytes: &[u8],
    ) -> Result<Option<u64>, SourceError> {
        let (mut ends, mut at) = (Ends::new(splitting), from + bytes.len() as u64);
        if let Some(end) = ends.next(bytes.get(mark(bytes, from)..).unwrap_or_default()) {
            return Ok(Some(from + (mark(bytes, from) + end) as u64));
        }
        while at < to {
            let Some(bytes) = self.try_read(at, to.min(at + LARGE_PROBE))? else { return Ok(None) };
            if let Some(end) = ends.next(&bytes) {
                return Ok(Some(at + end as u64));
            }
            at += bytes.len() as u64;
        }
        Ok(Some(to))
    }

    /// Counts the records in `[from, to)`, which begins with one, up to `most`: how many, and where the last ends.
    pub(super) fn count(
        &self,
        splitting: Splitting,
        from: u64,
        to: u64,
        most: u64,
    ) -> Result<(u64, u64), SourceError> {
        let csv = matches!(splitting, Splitting::Csv { .. });
        let (mut ends, mut records, mut end, mut at) = (Ends::new(splitting), 0, from, from);
        while at < to && records < most {
            let bytes = self.read(at, to.min(at + 16 * PROBE as u64))?;
            let mut rest = bytes.get(mark(&bytes, at)..).unwrap_or_default();
            while let Some(next) = ends.next(rest) {
                // An empty row is no record.
                let empty = rest.get(..next).is_some_and(|row| matches!(row, b"\n" | b"\r\n"));
                records += u64::from(!(csv && empty));
                rest = rest.get(next..).unwrap_or_default();
                end = at + (bytes.len() - rest.len()) as u64;
                if records == most {
                    break;
                }
            }
            at += bytes.len() as u64;
        }
        if records < most && end < to {
            (records, end) = (records + 1, to);
        }
        Ok((records, end))
    }
}

/// The long line that was found last: of all the blocks within it, only the first scans for its end.
#[derive(Default)]
pub(super) struct LongLine {
    /// No line of the file begins behind the first byte and before the second one.
    known: Option<(PathBuf, u64, u64)>,
}

impl LongLine {
    /// Returns what [`Opened::line_start`] does.
    pub(super) fn line_start(&mut self, file: &Opened, at: u64, len: u64) -> Result<u64, SourceError> {
        if let Some((path, from, to)) = &self.known
            && (*from..=*to).contains(&at)
            && *path == file.path
        {
            return Ok(*to);
        }
        let start = file.line_start(at, len)?;
        if start.saturating_sub(at) > LARGE_PROBE / 2 {
            self.known = Some((file.path.clone(), at, start));
        }
        Ok(start)
    }
}

/// Returns an error if the system refuses an allocation of `bytes` bytes, which would abort the process otherwise.
fn grantable(bytes: usize) -> std::io::Result<()> {
    if bytes <= ASKED_FROM {
        return Ok(());
    }
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        let problem = format!(
            "not enough memory for a line of {bytes} bytes: set `max_line` on the source, or raise the limits of the process"
        );
        std::io::Error::new(std::io::ErrorKind::OutOfMemory, problem)
    })
}

pub(super) fn failed(path: &Path, error: std::io::Error) -> SourceError {
    SourceError::io(format!("cannot read {}", shown(path)), error)
}

/// Counts lines for error messages; remembers how far it has counted, so that a file is counted once.
#[derive(Default)]
pub(super) struct LineNumbers {
    counted: Option<(PathBuf, u64, u64)>,
}

impl LineNumbers {
    /// The number of the line, from 1, in which the byte `at` stands.
    pub(super) fn line(&mut self, path: &Path, at: u64) -> Result<u64, SourceError> {
        let (mut from, mut line) = match &self.counted {
            Some((counted, to, line)) if counted == path && *to <= at => (*to, *line),
            _ => (0, 1),
        };
        let file = Opened::open(path)?;
        while from < at {
            let bytes = file.read(from, at.min(from + 16 * PROBE as u64))?;
            line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
            from += bytes.len() as u64;
        }
        self.counted = Some((path.to_owned(), at, line));
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Splitting = Splitting::Csv { delimiter: b',', header: true };

    #[test]
    fn a_line_break_in_quotes_ends_no_record() {
        let text = b"a,\"b\n\"\"c\n\",d\nx\"y,z\n\"tail\n";
        let mut ends = Ends::new(CSV);
        let first = ends.next(text).unwrap();
        assert_eq!(&text[..first], b"a,\"b\n\"\"c\n\",d\n");
        assert_eq!(ends.next(&text[first..]), Some(6));
        assert_eq!(Ends::last(CSV, text, 0), Some(first + 6));
        assert_eq!(Ends::last(Splitting::Lines, text, 0), Some(text.len()));
    }

    #[test]
    fn records_are_counted_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "a\nbb\nccc").unwrap();
        let file = Opened::open(&path).unwrap();
        assert_eq!(file.count(Splitting::Lines, 0, 8, 2).unwrap(), (2, 5));
        assert_eq!(file.count(Splitting::Lines, 0, 8, 9).unwrap(), (3, 8));
        assert_eq!(file.count(Splitting::Lines, 0, 5, 9).unwrap(), (2, 5));
        assert_eq!(file.last_line_end(0, 8).unwrap(), 5);
        assert_eq!([0, 1, 2, 3, 6].map(|at| file.line_start(at, 8).unwrap()), [0, 2, 2, 5, 8]);
        assert!(file.read(0, 9).unwrap_err().to_string().contains("truncated"));
    }
}
