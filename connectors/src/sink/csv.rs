//! CSV: a file with a row on each line, and the names of the fields on the first.

use std::path::PathBuf;

use serde::Serialize;
use tidemill_operators::{Committed, Epoch, Prepared, Sink, SinkContext, SinkError};

use super::encode::RowFormat;
use super::file::OutFile;

/// A sink into a CSV file; see [`csv_sink`].
#[derive(Debug)]
pub struct CsvSink {
    file: OutFile,
    header: bool,
    last: Option<Epoch>,
}

/// A sink into a CSV file at `path`. Structs give a header with the names of their fields. Rows are written when their
/// epoch commits, in continuous mode at once. A query that begins empties a file that is there, unless it is
/// [appended](CsvSink::append) to;
/// directories are made. Where every epoch outputs the complete table, the file holds the last one: each is written beside it and renamed when its
/// epoch commits, in both modes, so readers and crashes see a whole table. One that is there stays until then.
/// The file is this sink's alone: a second sink is refused, in this process and in others, by a lock on the hidden file
/// `.name.claim` beside it. Without a checkpoint any number of sinks may append, and the hidden file does not stay. With
/// one it stays, and says which query the file belongs to: others are refused while there are rows in it (but a query with a new
/// checkpoint that appends), unless the run takes it over (`--take-over`).
///
/// With a checkpoint the file is exactly once too, and a restart goes on where it ended: the rows of an epoch are kept
/// in the checkpoint until they are in the file. That suits results of moderate size; for others, and for several
/// workers, there is [`csv_dir`](crate::csv_dir). A reader who comes while an epoch is being written may see a part
/// of it. In continuous mode a reader sees rows that a crash takes back (they or others come again);
/// [`at_commit`](crate::at_commit) prevents that. It should be said, too, where rows are appended to a file that was
/// there, or by several workers: what a file's very first epoch had shown before a crash cannot be told then.
///
/// ```
/// use tidemill_connectors::csv_sink;
///
/// let sink = csv_sink("out/counts.csv");
/// ```
pub fn csv_sink(path: impl Into<PathBuf>) -> CsvSink {
    CsvSink { file: OutFile::new(path.into()), header: true, last: None }
}

impl CsvSink {
    /// Keeps what is in the file, and writes after it; without a header, unless the file is empty.
    #[must_use]
    pub fn append(mut self) -> Self {
        self.file.append = true;
        self
    }
}

impl<T: Serialize + Send + 'static> Sink<T> for CsvSink {
    fn describe(&self) -> String {
        format!("CSV {}", self.file.name())
    }

    fn place(&self) -> Option<PathBuf> {
        self.file.place()
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.header = self.file.open(context)?;
        self.last = None;
        Ok(())
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.header = self.file.recover(committed)?;
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        // A file that is replaced begins anew with every epoch.
        let header = self.header || (self.file.replaces() && self.last != Some(epoch));
        let bytes = RowFormat::Csv.encode(rows, header, &self.file.name())?;
        if !bytes.is_empty() {
            self.header = false;
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
    use tidemill_operators::OutputMode;

    use super::super::testing::{open, write};
    use super::*;

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
            open::<Count>(&mut sink, OutputMode::Append, false);
            write(&mut sink, epoch, vec![count("a,b", 1), count("c", 2)]);
            Sink::<Count>::commit(&mut sink, Epoch(epoch)).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "word,count\n\"a,b\",1\nc,2\n\"a,b\",1\nc,2\n");
    }

    #[test]
    fn a_complete_table_replaces_the_file_and_has_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let mut sink = csv_sink(&path);
        open::<Count>(&mut sink, OutputMode::Complete, true);
        let text = || std::fs::read_to_string(&path).ok();
        for (epoch, rows, expected) in [
            (0, vec![count("a", 1)], "word,count\na,1\n"),
            (1, vec![count("a", 2), count("b", 1)], "word,count\na,2\nb,1\n"),
        ] {
            let before = text();
            write(&mut sink, epoch, rows);
            assert_eq!(text(), before, "a table is shown when it is whole");
            Sink::<Count>::commit(&mut sink, Epoch(epoch)).unwrap();
            assert_eq!(text().as_deref(), Some(expected));
        }
    }
}
