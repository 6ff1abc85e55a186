//! The source of files, and its settings.

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

/// A source that reads files, and by default waits for new ones.
///
/// Files are read the oldest first (by time of modification, then by name), or in the order of their
/// [names](FileSource::by_name). An epoch reads as much as is committed within some milliseconds;
/// [`max_files_per_epoch`](FileSource::max_files_per_epoch) and
/// [`max_bytes_per_epoch`](FileSource::max_bytes_per_epoch) set other limits.
///
/// The pattern is a directory, one file, or a glob (`*`, `?`) in the last part of a path. Names that begin with `.` or
/// `_` are hidden. Messages quote a name that is not UTF-8 and write its invalid bytes as `\xF6`.
///
/// Only regular files are read. A pipe, a device or a file of `/proc` is refused if the pattern names it, and skipped
/// with a warning (by `tracing`) if a directory or a glob contains it. A file must be complete when it appears (write
/// it elsewhere and rename it): it is read up to the length at which it was found, unless it is
/// [followed](FileSource::follow). Files are UTF-8; a byte order mark is skipped, and bytes that are not UTF-8 fail the
/// query, unless the source is [lossy](FileSource::lossy).
///
/// Files are cut into blocks, and block `i` belongs to partition `i % n` of `n`, so that several workers read one file.
/// A partition reads its blocks in the order of the files.
///
/// A file is known by its path, unless it is [followed](FileSource::follow): it is read once, up to the length at which it was found,
/// whatever its time of modification and its content are later. So a bad record can be corrected in place as long as the file keeps
/// its number of bytes.
///
/// The source can be read again. A checkpoint stores the list of the files that were found. After a restart, files that
/// have not been read to their end must still exist and must not be shorter, and the number of partitions must be the
/// same. If the pattern has changed under the same uid, a [bounded](FileSource::bounded) source is refused, since it
/// would find no new files. An unbounded source reads the rest of the files in its list, and finds new files by the new
/// pattern. It warns (by `tracing`) of files in its list that no longer match, and of files that have grown and are not
/// followed.
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

/// Returns a source of lines, without their terminators (LF or CRLF).
///
/// A last line without terminator is a line, too.
///
/// Files are read the oldest first, or in the order of their names with [`by_name`](FileSource::by_name);
/// [`max_files_per_epoch`](FileSource::max_files_per_epoch) limits an epoch.
///
/// A line is a [`Text`](crate::Text), which dereferences to `&str` and shares the memory of the block that was read. A
/// function for lines of any source (those of a socket are `String`s) takes `L: Deref<Target = str>`.
/// [`Text::place`](crate::Text::place) is the place of a line in its file; [`BadRecord::of`](super::BadRecord::of)
/// makes an error with file and line of it.
pub fn text_files(pattern: impl Into<String>) -> TextFiles {
    FileSource::new(pattern.into(), Lines::default())
}

/// Returns a source of blocks of lines, with their terminators, for programs that split text themselves.
///
/// A block has 256 KiB or slightly more. A limit of records counts blocks.
pub fn text_blocks(pattern: impl Into<String>) -> TextBlocks {
    FileSource::new(pattern.into(), WholeBlocks)
}

/// Returns a source of JSON values, one on each line. Empty lines are skipped.
///
/// All its files are one sequence, the oldest first, with one watermark. If files cover the same event time, read each
/// with a source of its own and merge the sources with `union`; otherwise one file makes the records of the others
/// late.
///
/// The pattern is a directory, a file or a glob. New files are read as they appear, until the query is stopped, unless
/// the source is [`bounded`](FileSource::bounded). A line that cannot be parsed fails the query, with its file and
/// line; it can also be [skipped and counted](FileSource::on_bad_record), or [emitted as an
/// `Err`](FileSource::with_bad_records).
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

/// Returns a source of the rows of CSV files, whose first row names the fields.
///
/// Each file is read by one worker.
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

    /// Reads the files that exist when the query first starts, and ends, which closes every window.
    ///
    /// A query that resumes from a checkpoint does not read other files; it warns (by `tracing`) if there are any. For
    /// a job that is started repeatedly to read new files, leave the source unbounded and use the trigger
    /// `available-now`, after which windows stay open.
    ///
    /// A pattern that matches no file is an error, unless [`allow_empty`](FileSource::allow_empty) is set.
    #[must_use]
    pub fn bounded(self) -> Self {
        self.set(|settings| settings.bounded = true)
    }

    /// Lets a [bounded](FileSource::bounded) source end at once if no file matches its pattern. By default that is an
    /// error.
    #[must_use]
    pub fn allow_empty(self) -> Self {
        self.set(|settings| settings.allow_empty = true)
    }

    /// Reads lines as they are appended to files, which may be rotated and truncated.
    ///
    /// The limits of an epoch do not apply. It cannot be used with CSV or with a [bounded](FileSource::bounded) source.
    ///
    /// Each partition follows one file at a time. When a partition gets another file, it reads the previous one to its
    /// end; a last line without terminator counts once the file has not grown for 5 s. Lines that are appended to the
    /// previous file later are still read, but the file is checked less and less often. So use at least as many
    /// partitions as there are files that grow.
    ///
    /// A file is identified by its device, its inode and a fingerprint of the bytes that have been read:
    ///
    /// - renamed within its directory, it is read to its end, also if the new name does not match the pattern, and also
    ///   if it was renamed while the query did not run. (A file that appears and is renamed between two polls, or while
    ///   the query does not run, is found only if its new name matches the pattern: use a pattern like `app.log*`.)
    /// - truncated, or replaced by another under the same name, it is read from its beginning. The unread rest of the
    ///   old content is read from its copy, if the directory has one whose name begins with the name of the file
    ///   (`app.log.1` for `app.log`); otherwise a warning (by `tracing`) names the file and the bytes that are lost;
    /// - if it cannot be decided whether a file is a copy of one that has been read, it is read from its beginning,
    ///   with a warning: its lines may be repeated, but none is lost.
    ///
    /// An epoch that has been planned, in micro-batch, is read as planned, or fails with an error that names file and bytes.
    #[must_use]
    pub fn follow(self) -> Self {
        self.set(|settings| settings.follow = true)
    }

    /// Sets the number of partitions among which the blocks are distributed.
    ///
    /// It is at least one, 8 by default, and the maximum of workers that read. A query with a checkpoint must keep the
    /// number.
    #[must_use]
    pub fn partitions(self, partitions: u32) -> Self {
        self.set(|settings| settings.partitions = partitions.max(1))
    }

    /// Reads files that are found at the same time in the order of their names.
    ///
    /// By default the oldest is read first. Use it for files whose times of modification have no meaning, such as
    /// copies of files named by date. Files that are found later are read later in any case.
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

    /// Sets the maximum of files from which an epoch reads, at least one; by default it is not limited.
    #[must_use]
    pub fn max_files_per_epoch(self, files: u64) -> Self {
        self.set(|settings| settings.max_files = Some(files))
    }

    /// Sets about how many bytes an epoch may read, in whole blocks and at least one.
    ///
    /// By default an epoch reads as much as is committed within some milliseconds, and at most 256 MiB; with
    /// `max_files_per_epoch`, 256 MiB.
    #[must_use]
    pub fn max_bytes_per_epoch(self, bytes: u64) -> Self {
        self.set(|settings| settings.max_bytes = Some(bytes))
    }

    /// Sets how often continuous mode looks for new files, and for new lines in followed ones: every 100 ms by default.
    ///
    /// On Linux, a directory of more than 128 entries is watched with inotify. A new file in it is read once its writer
    /// has closed it, or after half an interval at the latest. Without inotify, or on a network file system that does
    /// not report changes of other machines, a thread lists such a directory, the less often the longer that takes: a
    /// warning (by `tracing`) states how much later new files are found.
    #[must_use]
    pub fn poll_interval(self, interval: Duration) -> Self {
        self.set(|settings| settings.interval = interval)
    }

    /// Skips files whose names match a glob (`*`, `?`), although they match the pattern.
    ///
    /// Use it if another program writes copies into the directory, such as one that compresses rotated logs. Several
    /// calls add up.
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

    /// Sets the maximum of bytes in a line (in CSV, in a row), without its terminator.
    ///
    /// By default it is not limited. A longer line is a [bad record](FileSource::on_bad_record), of which only this
    /// many bytes are kept in memory. [Blocks](text_blocks) do not have this setting.
    #[must_use]
    pub fn max_line(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_line = bytes)
    }

    /// Replaces bytes that are not UTF-8 by U+FFFD, instead of failing the query.
    ///
    /// Offsets do not change, so a query that has failed because of such bytes can add this setting and resume from its
    /// checkpoint.
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
    /// Sets whether a line longer than [`max_line`](FileSource::max_line) fails the query, which is the default, or is
    /// skipped.
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.format.bad = what;
        self
    }
}

impl<P: Parse> FileSource<Checked<P>> {
    /// Sets whether a record that cannot be parsed fails the query, which is the default, or is skipped.
    ///
    /// Bytes that are not UTF-8 fail the query in any case, unless the source is [lossy](FileSource::lossy): then they
    /// are replaced before the record is parsed.
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.format.bad = what;
        self
    }

    /// Emits each record as a `Result`: a bad record is an `Err` that describes it.
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

    /// Readers of followed files share what they know of files that grow.
    fn may_move(&self) -> bool {
        !self.settings.follow
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
