//! The source of files, and what the user may say about it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_operators::{
    PlanLimits, PrepareContext, ProcessingTime, ReaderContext, Source, SourceError, SourceInfo,
};

use super::catalogue::{Catalogue, Position, Settings};
use super::csv_format::Csv;
use super::format::{Format, Lines, Splitting, WholeBlocks};
use super::identity::Fingerprint;
use super::name::shown;
use super::reader::FileReader;
use super::records::{BadRecords, Checked, Json, Parse, Routed};
use crate::lock;

/// A source of the lines of text files; see [`text_files`].
pub type TextFiles = FileSource<Lines>;
/// A source of blocks of text files; see [`text_blocks`].
pub type TextBlocks = FileSource<WholeBlocks>;
/// A source of JSON Lines; see [`json_lines`].
pub type JsonLines<T> = FileSource<Checked<Json<T>>>;
/// A source of CSV rows; see [`csv_files`].
pub type CsvFiles<T> = FileSource<Checked<Csv<T>>>;

/// A source that reads files, by default for ever: new ones as they appear, the oldest first (by time of change, then
/// by name), or in the order of their [names](FileSource::by_name). An epoch takes as much as is committed soon;
/// [`max_files_per_epoch`](FileSource::max_files_per_epoch) and [`max_bytes_per_epoch`](FileSource::max_bytes_per_epoch) set
/// limits.
///
/// The pattern is a directory, one file, or a glob (`*`, `?`) in the last part of a path. Names that begin with `.` or
/// `_` are hidden. Messages quote a name that is not UTF-8 and write its invalid bytes as `\xF6`.
///
/// Only regular files are read. A pipe, a device or a file of `/proc` is refused if the pattern names it, and skipped
/// with a warning (by `tracing`) if a directory or a glob contains it. A file must appear whole (write it elsewhere and
/// rename it): it is read up to the length at which it was first seen, unless it is [followed](FileSource::follow).
/// Files are UTF-8; a byte order mark is skipped, and bytes that are not UTF-8 fail the query, unless the source is
/// [lossy](FileSource::lossy).
///
/// Files are cut into blocks, and every n-th block belongs to one of the n partitions, so that several workers read one
/// file. Within a partition the order of the files is kept.
///
/// It can be read again. A checkpoint keeps the list of the files as they were found; so after a restart those that have
/// not been read to their end must still be there, not shorter, and the number of partitions must be the same. With
/// another pattern under the same uid a [bounded](FileSource::bounded) source is refused, since it would read nothing of
/// it; any other reads what is left of the files that it knows, and from then on finds files by the new pattern. It warns
/// (by `tracing`) of files that it knows and that no longer match, and of any that have grown and are not followed.
///
/// ```
/// use tidemill::Source;
/// use tidemill::prelude::*;
///
/// let directory = tempfile::tempdir()?;
/// std::fs::write(directory.path().join("a.txt"), "to be\nor not\n")?;
/// let lines = text_files(directory.path().join("*.txt").display().to_string()).bounded();
/// assert!(lines.is_bounded() && lines.is_replayable());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FileSource<F: Format> {
    settings: Arc<Settings>,
    format: F,
    catalogue: Arc<Mutex<Catalogue>>,
}

/// A source of lines, without their terminators (LF or CRLF). A last line without terminator counts.
///
/// Files are read the oldest first, or in the order of their names with [`by_name`](FileSource::by_name);
/// [`max_files_per_epoch`](FileSource::max_files_per_epoch) limits an epoch.
///
/// A line is a [`Text`](crate::Text): a piece of the block that was read, which reads as a `&str` and copies nothing. A
/// function over lines of any source (those of a socket are `String`s) takes `L: Deref<Target = str>`. It knows its
/// [place](crate::Text::place); [`BadRecord::of`](super::BadRecord::of) returns file and line of one that makes no sense.
pub fn text_files(pattern: impl Into<String>) -> TextFiles {
    FileSource::new(pattern.into(), Lines::default())
}

/// A source of blocks of lines, with all terminators, 256 KiB or a little more each: for programs that split text
/// themselves. A limit of records counts blocks.
pub fn text_blocks(pattern: impl Into<String>) -> TextBlocks {
    FileSource::new(pattern.into(), WholeBlocks)
}

/// A source of JSON values, one on each line. Empty lines mean nothing.
///
/// All its files are one sequence, the oldest first, with one watermark. Files that cover the same event time need a source
/// each, joined by `union`; otherwise they make each other's records late.
///
/// The pattern is a directory, a file or a glob. New files are read as they appear, until the query is stopped, unless
/// the source is [`bounded`](FileSource::bounded). A line that is not such a value fails the query with its file and line;
/// it can also be [skipped and counted](FileSource::on_bad_record), or
/// [come out as a row of its own](FileSource::with_bad_records).
///
/// ```
/// use tidemill::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Request { path: String, ms: u64 }
///
/// let requests = json_lines::<Request>("logs/*.jsonl").bounded().on_bad_record(BadRecords::Skip);
/// # let _ = requests;
/// ```
pub fn json_lines<T: serde::de::DeserializeOwned + Send + 'static>(
    pattern: impl Into<String>,
) -> JsonLines<T> {
    FileSource::new(pattern.into(), Checked { parse: Json::new(), bad: BadRecords::Fail })
}

/// A source of the rows of CSV files, whose first row names the fields. One file is read by one worker.
///
/// ```
/// use tidemill::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
///     item: String,
/// }
/// let orders = csv_files::<Order>("orders/*.csv").on_bad_record(BadRecords::Skip);
/// ```
pub fn csv_files<T: serde::de::DeserializeOwned + Send + 'static>(pattern: impl Into<String>) -> CsvFiles<T> {
    FileSource::new(pattern.into(), Checked { parse: Csv::new(), bad: BadRecords::Fail })
}

impl<F: Format> FileSource<F> {
    fn new(pattern: String, format: F) -> Self {
        let settings = Settings::new(pattern, format.splitting());
        FileSource { settings: Arc::new(settings), format, catalogue: Arc::default() }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    fn with_format<G: Format>(self, format: G) -> FileSource<G> {
        let splitting = format.splitting();
        FileSource { settings: self.settings, format, catalogue: self.catalogue }
            .set(|s| s.splitting = splitting)
    }

    /// Reads the files that exist when the query starts for the first time, and ends: its end closes every window. A query that
    /// resumes from a checkpoint does not look for other files (it warns, by `tracing`, if there are any). For a job that is started repeatedly for new
    /// files, leave the source unbounded and use the trigger `available-now`, after which windows stay open.
    ///
    /// A pattern that matches no file is an error, unless [`allow_empty`](FileSource::allow_empty) is set.
    #[must_use]
    pub fn bounded(self) -> Self {
        self.set(|settings| settings.bounded = true)
    }

    /// Lets a [bounded](FileSource::bounded) source end at once where no file matches its pattern. Otherwise that is an error.
    #[must_use]
    pub fn allow_empty(self) -> Self {
        self.set(|settings| settings.allow_empty = true)
    }

    /// Reads lines as they are appended to files, which may be rotated and truncated. The limits of an epoch do not apply.
    /// Not for CSV, nor for a [bounded](FileSource::bounded) source.
    ///
    /// As many files as there are partitions are followed at once. A partition that gets another file reads the one before
    /// to its end, where a last line without terminator counts once the file has not grown for 5 s; what is appended later
    /// is still read, but looked for less and less often. So let there be at least as many partitions as files that grow.
    ///
    /// A file is the same as long as its device, its inode and a fingerprint of what has been read of it are the same:
    ///
    /// - renamed within its directory, it is read to its end, also if the new name does not match the pattern, and also
    ///   if it was renamed while the query did not run. (A file that appears and is renamed between two looks, or while the
    ///   query does not run, is found only if its new name matches the pattern: best follow `app.log*`.)
    /// - truncated, or replaced by another under the same name, it is read from its beginning. What had not been read of
    ///   the content before is read from its copy, if there is one in the directory whose name begins with the name of the
    ///   file (`app.log.1` for `app.log`); otherwise a warning (by `tracing`) names the file and the bytes that are lost;
    /// - a file that may be a copy of one that has been read, or the same, is read from its beginning, with a warning: its
    ///   lines may be repeated, but none is lost.
    ///
    /// An epoch that has been planned, in micro-batch, is read as planned, or fails with an error that names file and bytes.
    #[must_use]
    pub fn follow(self) -> Self {
        self.set(|settings| settings.follow = true)
    }

    /// Sets the number of partitions among which the blocks are distributed: at least one, 8 by default. No more workers than that can
    /// read. A query that has a checkpoint must keep the number.
    #[must_use]
    pub fn partitions(self, partitions: u32) -> Self {
        self.set(|settings| settings.partitions = partitions.max(1))
    }

    /// Reads files that are found together in the order of their names, instead of the oldest first: for files named by date
    /// that were copied, and so have times of change that mean nothing. Files that are found later come later in any case.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("days");
    /// let lines = graph.source(text_files("days/2026-*.txt").bounded().by_name());
    /// # let _ = lines;
    /// ```
    #[must_use]
    pub fn by_name(self) -> Self {
        self.set(|settings| settings.by_name = true)
    }

    /// Sets from how many files an epoch may read: at least one; any number by default.
    #[must_use]
    pub fn max_files_per_epoch(self, files: u64) -> Self {
        self.set(|settings| settings.max_files = Some(files))
    }

    /// Sets about how many bytes an epoch may read, in whole blocks and at least one. By default as many as are committed some
    /// milliseconds later, and at most 256 MiB; with `max_files_per_epoch`, 256 MiB.
    #[must_use]
    pub fn max_bytes_per_epoch(self, bytes: u64) -> Self {
        self.set(|settings| settings.max_bytes = Some(bytes))
    }

    /// Sets how often continuous mode looks for new files, and for new lines in followed ones: every 100 ms by default.
    ///
    /// A directory of more than 128 entries is watched with inotify on Linux. A file that appears in it counts once its
    /// writer closes it, but no later than half an interval after. Without inotify, or on a network file system that does
    /// not report what others write, a thread lists such a directory as rarely as that takes time: a warning (by `tracing`)
    /// says how much later new files are found.
    #[must_use]
    pub fn poll_interval(self, interval: Duration) -> Self {
        self.set(|settings| settings.interval = interval)
    }

    /// Leaves out files whose names match a glob (`*`, `?`), besides those that the pattern leaves out. For a directory in
    /// which another program writes copies, as one that compresses rotated logs. Can be called several times.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("logs");
    /// let lines = graph.source(text_files("logs/app.log*").follow().exclude("*.gz").exclude("*.zst"));
    /// # let _ = lines;
    /// ```
    #[must_use]
    pub fn exclude(self, names: impl Into<String>) -> Self {
        self.set(|settings| settings.exclude.push(names.into()))
    }

    /// Sets how many bytes a line may have, without its end; any number by default. For CSV that is a row. A longer one is a
    /// [bad record](FileSource::on_bad_record), of which no more than that is kept in memory. Not for
    /// [blocks](text_blocks).
    #[must_use]
    pub fn max_line(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_line = bytes)
    }

    /// Replaces bytes that are not UTF-8 by U+FFFD, instead of failing the query. Positions stay those of the file; so a
    /// query that has failed for such bytes can be given this and resume from its checkpoint.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("lossy");
    /// let lines = graph.source(text_files("logs/*.log").lossy());
    /// # let _ = lines;
    /// ```
    #[must_use]
    pub fn lossy(self) -> Self {
        self.set(|settings| settings.lossy = true)
    }

    #[cfg(test)]
    pub(super) fn block_size(self, bytes: u64) -> Self {
        self.set(|settings| settings.block = bytes)
    }
}

impl TextFiles {
    /// Sets what becomes of a line that is longer than [`max_line`](FileSource::max_line): by default it fails the query.
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.format.bad = what;
        self
    }
}

impl<P: Parse> FileSource<Checked<P>> {
    /// Sets what happens to a record that cannot be read; by default it fails the query. Bytes that are not UTF-8 fail it in any
    /// case, unless the source is [lossy](FileSource::lossy); then a record may be read with what stands for them.
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.format.bad = what;
        self
    }

    /// Yields each record as a `Result`: a bad one is an `Err` that describes it.
    #[must_use]
    pub fn with_bad_records(self) -> FileSource<Routed<P>> {
        let parse = self.format.parse.clone();
        self.with_format(Routed { parse })
    }
}

impl<T: serde::de::DeserializeOwned + Send + 'static> CsvFiles<T> {
    /// Reads the first row as a record too; fields are matched by their order.
    #[must_use]
    pub fn no_header(self) -> Self {
        let mut format = self.format.clone();
        format.parse.header = false;
        self.with_format(format)
    }

    /// Sets the byte that separates fields; a comma by default.
    #[must_use]
    pub fn delimiter(self, delimiter: u8) -> Self {
        let mut format = self.format.clone();
        format.parse.delimiter = delimiter;
        self.with_format(format)
    }
}

/// A position in a partition of a [`FileSource`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileOffset {
    /// The block, counted through all files.
    pub block: u64,
    /// The byte within the block where the next record begins; 0 is before the block's first.
    pub byte: u64,
    /// The file that was read last, for people; two offsets that differ only here are equal.
    pub file: String,
    /// What a followed file has before that byte, or before one that is not far ahead of it: tells whether it is still the
    /// same file.
    #[serde(default)]
    pub(super) read: Option<Fingerprint>,
}

impl FileOffset {
    pub(super) fn position(&self) -> Position {
        Position { block: self.block, byte: self.byte }
    }
}

impl PartialEq for FileOffset {
    fn eq(&self, other: &FileOffset) -> bool {
        self.position() == other.position()
    }
}

impl<F: Format> Source for FileSource<F> {
    type Item = F::Item;
    type Offset = FileOffset;
    type Reader = FileReader<F>;

    fn describe(&self) -> String {
        format!("{} {}", F::NAME, self.settings.pattern)
    }

    fn is_bounded(&self) -> bool {
        self.settings.bounded
    }

    fn is_replayable(&self) -> bool {
        true
    }

    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<FileOffset>, SourceError> {
        let Settings { follow, bounded, splitting, max_line, exclude, .. } = &*self.settings;
        if *splitting == Splitting::Blocks && *max_line < usize::MAX {
            return Err(SourceError::Setup(format!(
                "{} has no `max_line`: it emits blocks, not lines",
                self.describe()
            )));
        }
        if let Some(names) = exclude.iter().find(|names| names.contains('/')) {
            return Err(SourceError::Setup(format!(
                "{} cannot exclude `{names}`: `exclude` takes a file name, not a path; write only the part after the \
                 last `/`",
                self.describe()
            )));
        }
        if *follow && *bounded {
            return Err(SourceError::Setup(format!(
                "{} cannot be both bounded and followed",
                self.describe()
            )));
        }
        if *follow && matches!(splitting, Splitting::Csv { .. }) {
            return Err(SourceError::Setup(format!(
                "{} cannot be followed: only lines can",
                self.describe()
            )));
        }
        let mut catalogue = lock(&self.catalogue);
        *catalogue = Catalogue::open(context.log.clone(), &self.settings)?;
        catalogue.ensure_listed(&self.settings)?;
        let start =
            |partition| FileOffset { block: u64::from(partition), byte: 0, file: String::new(), read: None };
        // The partitions are slices of one sequence.
        Ok(SourceInfo::new(self.settings.partitions, start).in_one_sequence())
    }

    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
        let mut catalogue = lock(&self.catalogue);
        if self.settings.follow {
            return catalogue.list(&self.settings, Some(limits.now));
        }
        catalogue.release(&self.settings, limits)
    }

    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
        lock(&self.catalogue).freeze(&self.settings, now)
    }

    fn latest(
        &self,
        partition: u32,
        from: &FileOffset,
        _limits: &PlanLimits,
    ) -> Result<FileOffset, SourceError> {
        let mut catalogue = lock(&self.catalogue);
        catalogue.ensure_listed(&self.settings)?;
        let position = from.position();
        let (latest, read) = if self.settings.follow {
            catalogue.followed(&self.settings).latest(partition, position, from.read)?
        } else {
            catalogue.resume(position, self.settings.partitions);
            let step = u64::from(self.settings.partitions);
            let latest = if self.settings.bounded && position.block >= catalogue.total() {
                // Beyond the end, so that the reader is asked and says that it has ended.
                Position { block: position.block.saturating_add(step), byte: 0 }
            } else {
                limit(catalogue.released(), partition, step).max(position)
            };
            (latest, None)
        };
        if latest == position {
            return Ok(from.clone());
        }
        let file = catalogue.block(latest.block, &self.settings);
        let file = file.map(|block| shown(&block.path).to_string()).unwrap_or_default();
        Ok(FileOffset { block: latest.block, byte: latest.byte, file, read })
    }

    fn open(
        &self,
        _partition: u32,
        from: &FileOffset,
        context: ReaderContext,
    ) -> Result<FileReader<F>, SourceError> {
        let mut catalogue = lock(&self.catalogue);
        catalogue.ensure_listed(&self.settings)?;
        if !self.settings.follow {
            catalogue.resume(from.position(), self.settings.partitions);
        }
        drop(catalogue);
        let (settings, catalogue) = (Arc::clone(&self.settings), Arc::clone(&self.catalogue));
        Ok(FileReader::new(settings, catalogue, &self.format, from, context))
    }
}

/// Where a partition stands that has read everything up to `released`.
fn limit(released: Position, partition: u32, step: u64) -> Position {
    let (partition, block) = (u64::from(partition), released.block);
    if block % step == partition % step {
        return released;
    }
    // The partition's first block after the limit.
    let ahead = (partition + step - block % step) % step;
    Position { block: block + ahead, byte: 0 }
}
