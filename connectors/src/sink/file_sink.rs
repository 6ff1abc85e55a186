//! A file of rows, JSON Lines or CSV.

use std::path::PathBuf;

use serde::Serialize;
use tidemill_operators::{Committed, Epoch, Prepared, RowKind, Sink, SinkContext, SinkError};

use super::encode::RowFormat;
use super::file::OutFile;
use super::non_finite::NonFinite;

/// A sink into a file; see [`json_lines_sink`] and [`csv_sink`].
///
/// Rows are written when their epoch commits, in continuous mode at once. A new query truncates an existing file,
/// unless it [appends](FileSink::append); missing directories are created. If the rows are snapshots, the file holds
/// the last one in both modes: each is written to a hidden file, which replaces the file when the epoch commits. So a
/// reader never sees a part of a snapshot.
///
/// Only one sink may write to the file: a lock on the hidden file `.name.claim` beside it refuses a second sink, in
/// this process and in others. Without a checkpoint any number of sinks may append, and the hidden file is removed at
/// the end. With a checkpoint it stays, and names the query that owns the file. Other queries are refused while the
/// file has rows, except a query with a new checkpoint that appends, and a run with `--take-over`.
///
/// With a checkpoint each row is in the file exactly once: the rows of an epoch are stored in the checkpoint until they
/// are in the file. That suits results of moderate size; for larger results, and for several workers, use
/// [`json_lines_dir`](crate::json_lines_dir) and [`csv_dir`](crate::csv_dir). While an epoch is being written, a reader
/// may see a part of it. In continuous mode a reader may see rows that recovery removes and the query then emits again,
/// perhaps with other values; [`at_commit`](crate::at_commit) prevents that. Use `at_commit` also if rows are appended
/// to an existing file, or by several workers: otherwise recovery cannot identify rows that the very first epoch had
/// written before a crash.
///
/// It takes inserts and snapshots. For upserts, call [`as_inserts`](tidemill_operators::Stream::as_inserts) before the
/// sink: the file then has all versions of each value.
#[derive(Debug)]
pub struct FileSink {
    file: OutFile,
    format: RowFormat,
    /// Whether the next rows begin the file.
    begins: bool,
    /// The epoch of the last rows.
    last: Option<Epoch>,
}

/// Returns a sink that writes one JSON value per line to the file at `path`.
///
/// [`FileSink`] describes when rows are visible.
///
/// ```
/// use tidemill::prelude::*;
///
/// let sink = json_lines_sink("out/counts.jsonl").append();
/// ```
pub fn json_lines_sink(path: impl Into<PathBuf>) -> FileSink {
    FileSink::new(path.into(), RowFormat::JsonLines(NonFinite::Error))
}

/// Returns a sink that writes CSV to the file at `path`.
///
/// For structs it writes a header with the names of the fields. A field that is a struct or a tuple is an error: `.map`
/// such rows to a flat struct. [`FileSink`] describes when rows are visible.
///
/// ```
/// use tidemill::prelude::*;
///
/// let sink = csv_sink("out/counts.csv");
/// ```
pub fn csv_sink(path: impl Into<PathBuf>) -> FileSink {
    FileSink::new(path.into(), RowFormat::Csv)
}

impl FileSink {
    fn new(path: PathBuf, format: RowFormat) -> Self {
        FileSink { file: OutFile::new(path), format, begins: true, last: None }
    }

    /// Appends to the file instead of replacing it.
    ///
    /// CSV gets a header only if the file is empty.
    #[must_use]
    pub fn append(mut self) -> Self {
        self.file.append = true;
        self
    }

    /// Sets how NaN and infinities are written in JSON, which has no number for them.
    ///
    /// By default they are an error. CSV always has `NaN` and `inf`.
    #[must_use]
    pub fn non_finite(mut self, non_finite: NonFinite) -> Self {
        if let RowFormat::JsonLines(_) = self.format {
            self.format = RowFormat::JsonLines(non_finite);
        }
        self
    }
}

impl<T: Serialize + Send + 'static> Sink<T> for FileSink {
    fn describe(&self) -> String {
        format!("{} {}", self.format.name(), self.file.name())
    }

    fn place(&self) -> Option<PathBuf> {
        self.file.place()
    }

    /// A file holds inserts, or the table of an epoch where it need not be kept.
    fn takes(&self, kind: RowKind) -> bool {
        match kind {
            RowKind::Snapshot => !self.file.append,
            kind => kind == RowKind::Insert,
        }
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.begins = self.file.open(context)?;
        self.last = None;
        Ok(())
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.begins = self.file.recover(committed)?;
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        // A file that is replaced starts empty with every epoch.
        let first = self.begins || (self.file.replaces() && self.last != Some(epoch));
        let bytes = self.format.encode(rows, first, &self.file.name())?;
        if !bytes.is_empty() {
            self.begins = false;
            self.last = Some(epoch);
        }
        self.file.write(epoch, bytes)
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        self.file.prepare(epoch)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.file.commit(epoch)
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.file.close()
    }

    fn abort(&mut self) {
        self.file.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{open, write};
    use super::*;

    #[test]
    fn rows_reach_the_file_with_their_epoch_or_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/x.jsonl");
        let text = || std::fs::read_to_string(&path).unwrap();
        let mut sink = json_lines_sink(&path);
        open::<(u8, &str)>(&mut sink, RowKind::Insert, false);
        write(&mut sink, 0, vec![(1, "a\nb")]);
        assert_eq!(text(), "");
        Sink::<(u8, &str)>::commit(&mut sink, Epoch::new(0)).unwrap();
        assert_eq!(text(), "[1,\"a\\nb\"]\n");
        Sink::<(u8, &str)>::close(&mut sink).unwrap();
        let mut sink = json_lines_sink(&path).append();
        open::<u8>(&mut sink, RowKind::Insert, true);
        write(&mut sink, 0, vec![2u8]);
        assert_eq!(text(), "[1,\"a\\nb\"]\n2\n");
    }

    #[test]
    fn a_complete_table_replaces_a_file_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let mut sink = json_lines_sink(&path);
        open::<u64>(&mut sink, RowKind::Snapshot, false);
        for epoch in 0..2 {
            write(&mut sink, epoch, vec![epoch, 100]);
            Sink::<u64>::commit(&mut sink, Epoch::new(epoch)).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n100\n");
        assert!(!Sink::<u64>::takes(&json_lines_sink(&path).append(), RowKind::Snapshot));
    }

    #[derive(Serialize)]
    struct Count {
        word: String,
        count: u64,
    }

    fn count(word: &str, count: u64) -> Count {
        Count { word: word.to_owned(), count }
    }

    #[test]
    fn the_header_comes_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        for (sink, epoch) in [(csv_sink(&path), 0), (csv_sink(&path).append(), 1)] {
            let mut sink = sink;
            open::<Count>(&mut sink, RowKind::Insert, false);
            write(&mut sink, epoch, vec![count("a,b", 1), count("c", 2)]);
            Sink::<Count>::commit(&mut sink, Epoch::new(epoch)).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "word,count\n\"a,b\",1\nc,2\n\"a,b\",1\nc,2\n");
    }

    #[test]
    fn a_complete_table_replaces_the_file_and_has_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let mut sink = csv_sink(&path);
        open::<Count>(&mut sink, RowKind::Snapshot, true);
        let text = || std::fs::read_to_string(&path).ok();
        for (epoch, rows, expected) in [
            (0, vec![count("a", 1)], "word,count\na,1\n"),
            (1, vec![count("a", 2), count("b", 1)], "word,count\na,2\nb,1\n"),
        ] {
            let before = text();
            write(&mut sink, epoch, rows);
            assert_eq!(text(), before, "a table is shown when it is whole");
            Sink::<Count>::commit(&mut sink, Epoch::new(epoch)).unwrap();
            assert_eq!(text().as_deref(), Some(expected));
        }
    }

    #[test]
    fn rows_that_csv_cannot_hold_say_what_to_do() {
        #[derive(Serialize)]
        struct Tagged {
            id: u64,
            tags: Vec<u64>,
        }
        let dir = tempfile::tempdir().unwrap();
        let mut sink = csv_sink(dir.path().join("x.csv"));
        open::<Tagged>(&mut sink, RowKind::Insert, false);
        let error =
            sink.write(Epoch::new(0), &mut vec![Tagged { id: 1, tags: vec![2] }]).unwrap_err().to_string();
        assert!(
            error.contains("x.csv") && error.contains("`.map` the rows to structs of plain fields"),
            "{error}"
        );
        let mut sink = csv_sink(dir.path().join("y.csv"));
        open::<(u64, Vec<u64>)>(&mut sink, RowKind::Insert, false);
        let error = sink.write(Epoch::new(0), &mut vec![(1, vec![2]), (1, vec![])]).unwrap_err().to_string();
        assert!(error.contains("a row has 1 fields, and those before it 2"), "{error}");
    }
}
