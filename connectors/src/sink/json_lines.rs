//! JSON Lines: a file with a JSON value on each line.

use std::path::PathBuf;

use serde::Serialize;
use tidemill_operators::{Committed, Epoch, Prepared, Sink, SinkContext, SinkError};

use super::encode::RowFormat;
use super::file::OutFile;
use super::non_finite::NonFinite;

/// A sink into a file of JSON Lines; see [`json_lines_sink`].
#[derive(Debug)]
pub struct JsonLinesSink {
    file: OutFile,
    non_finite: NonFinite,
}

/// A sink into a file at `path`, a JSON value on each line. Rows are written when their epoch commits, in continuous
/// mode at once. A query that begins empties a file that is there, unless it is [appended](JsonLinesSink::append) to;
/// directories are made.
/// Where every epoch outputs the complete table, the file holds the last one: each is written beside it and renamed when its
/// epoch commits, in both modes, so readers and crashes see a whole table. One that is there stays until then.
/// The file is this sink's alone: a second sink is refused, in this process and in others, by a lock on the hidden file
/// `.name.claim` beside it. Without a checkpoint any number of sinks may append, and the hidden file does not stay. With
/// one it stays, and says which query the file belongs to: others are refused while there are rows in it (but a query with a new
/// checkpoint that appends), unless the run takes it over (`--take-over`).
///
/// With a checkpoint the file is exactly once too, and a restart goes on where it ended: the rows of an epoch are kept
/// in the checkpoint until they are in the file. That suits results of moderate size; for others, and for several
/// workers, there is [`json_lines_dir`](crate::json_lines_dir). A reader who comes while an epoch is being written may see a part
/// of it. In continuous mode a reader sees rows that a crash takes back (they or others come again);
/// [`at_commit`](crate::at_commit) prevents that. It should be said, too, where rows are appended to a file that was
/// there, or by several workers: what a file's very first epoch had shown before a crash cannot be told then.
///
/// ```
/// use tidemill_connectors::json_lines_sink;
///
/// let sink = json_lines_sink("out/counts.jsonl").append();
/// ```
pub fn json_lines_sink(path: impl Into<PathBuf>) -> JsonLinesSink {
    JsonLinesSink { file: OutFile::new(path.into()), non_finite: NonFinite::Error }
}

impl JsonLinesSink {
    /// Keeps what is in the file, and writes after it.
    #[must_use]
    pub fn append(mut self) -> Self {
        self.file.append = true;
        self
    }

    /// Sets what becomes of NaN and infinities, for which JSON has no number; an error unless told otherwise.
    #[must_use]
    pub fn non_finite(mut self, non_finite: NonFinite) -> Self {
        self.non_finite = non_finite;
        self
    }
}

impl<T: Serialize + Send + 'static> Sink<T> for JsonLinesSink {
    fn describe(&self) -> String {
        format!("JSON Lines {}", self.file.name())
    }

    fn place(&self) -> Option<PathBuf> {
        self.file.place()
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.file.open(context).map(drop)
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.file.recover(committed).map(drop)
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        let bytes = RowFormat::JsonLines(self.non_finite).encode(rows, false, &self.file.name())?;
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

    #[test]
    fn rows_reach_the_file_with_their_epoch_or_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/x.jsonl");
        let text = || std::fs::read_to_string(&path).unwrap();
        let mut sink = json_lines_sink(&path);
        open::<(u8, &str)>(&mut sink, OutputMode::Append, false);
        write(&mut sink, 0, vec![(1, "a\nb")]);
        assert_eq!(text(), "");
        Sink::<(u8, &str)>::commit(&mut sink, Epoch(0)).unwrap();
        assert_eq!(text(), "[1,\"a\\nb\"]\n");
        Sink::<(u8, &str)>::close(&mut sink).unwrap();
        let mut sink = json_lines_sink(&path).append();
        open::<u8>(&mut sink, OutputMode::Append, true);
        write(&mut sink, 0, vec![2u8]);
        assert_eq!(text(), "[1,\"a\\nb\"]\n2\n");
    }

    #[test]
    fn a_complete_table_replaces_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let mut sink = json_lines_sink(&path);
        open::<u64>(&mut sink, OutputMode::Complete, false);
        for epoch in 0..2 {
            write(&mut sink, epoch, vec![epoch, 100]);
            Sink::<u64>::commit(&mut sink, Epoch(epoch)).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n100\n");
        let context = SinkContext::new("test", OutputMode::Complete, false);
        assert!(Sink::<u64>::open(&mut json_lines_sink(&path).append(), &context).is_err());
    }
}
