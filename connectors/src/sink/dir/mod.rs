//! A directory of files, JSON Lines or CSV: exactly once, and for results of any size.

mod name;
mod parts;
mod recovery;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tidemill_operators::{Committed, Epoch, Prepared, RowKind, Sink, SinkContext, SinkError};

use super::encode::RowFormat;
use super::non_finite::NonFinite;
use parts::Parts;

/// A sink into a directory of files; see [`json_lines_dir`] and [`csv_dir`].
///
/// # What a reader sees
///
/// Files have names like `part-0-3-000017.jsonl`: the worker that wrote the file, the run of the query, a sequence
/// number. Such a file contains rows of committed epochs only, each row once, and never changes. In continuous mode as
/// well as in micro-batch, a row is visible when its epoch has committed *and* its file is finished. Until then it is
/// in a file whose name begins with a dot (`.part-0-3-000018.jsonl.pending`), which globs and most readers skip. Do not
/// change or remove such files.
///
/// A file is finished at the end of an epoch, when it is [large](DirSink::roll_at) or [old](DirSink::roll_every)
/// enough, or when the query ends. A micro-batch query without new input has no epochs, so it finishes its last file
/// only when it is stopped. To publish each epoch as it commits, call [`roll_every_epoch`](DirSink::roll_every_epoch).
///
/// # After a crash
///
/// With a checkpoint, the rows of an epoch are synced to the disk before the epoch is recorded as committed. The next
/// run, with any number of workers, publishes the committed rows and deletes the others. It needs the same directory. A
/// directory belongs to one sink of one query. A lock on the hidden file `.claim` in the directory refuses other sinks,
/// in this process and in others. With a checkpoint the file stays, and names the query that owns the directory
/// (`--take-over` changes the owner). Without a checkpoint nothing is synced, and a crash leaves unfinished files in
/// the directory.
///
/// Existing files are kept, and new ones are added beside them. A reader may remove finished files, but not hidden
/// ones, and a copy of the directory must include the hidden files: a missing committed file is an error, unless an
/// empty `.part-….shown` records that it was finished. Finished files that are newer than the checkpoint are an error,
/// too. A query with a new checkpoint reads its input from the beginning, and would write its results a second time. So
/// it is refused if the directory has files of an earlier run, unless the sink may [add to
/// them](DirSink::add_to_existing).
///
/// It takes inserts only, since finished files never change. To write all versions of upserts, call
/// [`as_inserts`](tidemill_operators::Stream::as_inserts) before the sink.
#[derive(Debug)]
pub struct DirSink {
    parts: Parts,
    format: RowFormat,
    name: String,
}

/// Returns a sink that writes files of JSON Lines into the directory `dir`, and creates it if necessary.
///
/// [`DirSink`] describes when rows are visible and what happens after a crash.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::{RowKind, Sink, SinkContext};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("counts");
/// let mut sink = json_lines_dir(&dir).roll_every_epoch();
/// # Sink::<u32>::open(&mut sink, &SinkContext::new("example", RowKind::Insert, false))?;
/// sink.write(Epoch::new(0), &mut vec![1, 2])?;
/// # Sink::<u32>::prepare(&mut sink, Epoch::new(0))?;
/// Sink::<u32>::commit(&mut sink, Epoch::new(0))?;
/// assert_eq!(std::fs::read_to_string(dir.join("part-0-0-000000.jsonl"))?, "1\n2\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn json_lines_dir(dir: impl Into<PathBuf>) -> DirSink {
    DirSink::new(dir.into(), RowFormat::JsonLines(NonFinite::Error))
}

/// Returns a sink that writes CSV files into the directory `dir`, and creates it if necessary.
///
/// For structs each file gets a header with the names of the fields. A field that is a struct or a tuple is an error:
/// `.map` such rows to a flat struct. [`DirSink`] describes when rows are visible and what happens after a crash.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let sink = csv_dir("out/counts").roll_at(1 << 20).roll_every(Duration::from_secs(10));
/// ```
pub fn csv_dir(dir: impl Into<PathBuf>) -> DirSink {
    DirSink::new(dir.into(), RowFormat::Csv)
}

impl DirSink {
    fn new(dir: PathBuf, format: RowFormat) -> Self {
        let name = dir.display().to_string();
        DirSink { parts: Parts::new(dir, format.extension()), format, name }
    }

    /// Sets the size in bytes at which a file is finished, when its epoch ends; 64 MiB by default.
    ///
    /// ```
    /// let sink = tidemill::connectors::json_lines_dir("out").roll_at(256 << 20);
    /// ```
    #[must_use]
    pub fn roll_at(mut self, bytes: u64) -> Self {
        self.parts.roll.at = bytes;
        self
    }

    /// Sets the age at which a file is finished, when an epoch ends; 60 seconds by default.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let sink = tidemill::connectors::json_lines_dir("out").roll_every(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn roll_every(mut self, age: Duration) -> Self {
        self.parts.roll.every = age;
        self
    }

    /// Lets a query with a new checkpoint write into a directory that has finished files of other runs.
    ///
    /// By default it is refused, since in most cases the directory would have all rows twice. A query that resumes from
    /// its checkpoint, or has no checkpoint, adds files in any case.
    ///
    /// ```
    /// let sink = tidemill::connectors::json_lines_dir("results/all-days").add_to_existing();
    /// ```
    #[must_use]
    pub fn add_to_existing(mut self) -> Self {
        self.parts.adds = true;
        self
    }

    /// Sets how NaN and infinities are written in JSON, which has no number for them.
    ///
    /// By default they are an error. CSV always has `NaN` and `inf`.
    ///
    /// ```
    /// use tidemill::connectors::NonFinite;
    /// use tidemill::prelude::*;
    ///
    /// let sink = json_lines_dir("out").non_finite(NonFinite::String);
    /// ```
    #[must_use]
    pub fn non_finite(mut self, non_finite: NonFinite) -> Self {
        if let RowFormat::JsonLines(_) = self.format {
            self.format = RowFormat::JsonLines(non_finite);
        }
        self
    }

    /// Finishes a file at the end of each epoch that has rows.
    ///
    /// Its rows are visible when the epoch commits. With short epochs this makes many small files.
    ///
    /// ```
    /// let sink = tidemill::connectors::json_lines_dir("out").roll_every_epoch();
    /// ```
    #[must_use]
    pub fn roll_every_epoch(self) -> Self {
        self.roll_at(0)
    }
}

impl<T: Serialize + Send + 'static> Sink<T> for DirSink {
    fn describe(&self) -> String {
        format!("{} files in {}", self.format.name(), self.name)
    }

    fn place(&self) -> Option<PathBuf> {
        Some(self.parts.place())
    }

    /// Rows are added to files that are finished and never written again.
    fn takes(&self, kind: RowKind) -> bool {
        kind == RowKind::Insert
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.parts.open(context)
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.parts.recover(committed)
    }

    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        let bytes = self.format.encode(rows, self.parts.begins(), &self.name)?;
        self.parts.write(&bytes)
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        self.parts.prepare(epoch)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.parts.commit(epoch)
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.parts.close()
    }

    fn abort(&mut self) {
        self.parts.abort();
    }
}
