//! The traits that every source implements.
//!
//! Any thread may call a [`Source`]. It returns the partitions and where each begins ([`Source::prepare`], once when a
//! query starts; [`Source::discover`], while it runs), and how far each could be read now. A [`Reader`] reads one
//! partition, on the worker that owns it. Both modes use the same traits: in micro-batch the planner calls
//! [`Source::latest`], and the reader stops at the offset that it returned; in continuous mode the reader has no limit.

#[cfg(test)]
pub(crate) mod counting;
mod info;
mod wrap;

pub use self::info::{PrepareContext, SourceInfo};
pub use self::wrap::WrapSource;

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::buffers::chunk_capacity;
use crate::{Cancellation, JournalSlot, ProcessingTime};

/// A position in a partition: the next record to be read. Kept in checkpoints, shown in progress.
pub trait Offset: Clone + PartialEq + fmt::Debug + Send + Serialize + DeserializeOwned + 'static {}
impl<O: Clone + PartialEq + fmt::Debug + Send + Serialize + DeserializeOwned + 'static> Offset for O {}

/// A source of records in one or more partitions.
///
/// The number of partitions does not depend on the number of workers: partition `p` is read by worker `p % workers`, unless
/// the source [lets its partitions move](Self::may_move). While a query runs, partitions are added only if the source
/// [discovers](Source::discover) them, and none are removed. The records of a partition stay in order.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source",
    note = "use `memory(…)` for a collection, `iterate(|| …)` for an iterator, `text_files(pattern)` for files; `impl \
            Source` for your own"
)]
pub trait Source: Send + Sync + 'static {
    /// The type of the records.
    type Item: Send + 'static;
    /// A position in a partition.
    type Offset: Offset;
    /// The reader of one partition.
    type Reader: Reader<Item = Self::Item, Offset = Self::Offset>;

    /// Describes the source, for plans, progress and errors: `files data/*.txt`, `socket localhost:9999`.
    fn describe(&self) -> String;

    /// Finds the input: the partitions, and where each begins in a query without a checkpoint.
    ///
    /// Called once when a query starts or resumes, before all other calls. Return an error if the source cannot be
    /// read: the engine adds the source's name and line. A query that resumes begins at the offsets of its checkpoint.
    /// The number of partitions must then be that of the checkpoint, or greater if it [may grow](SourceInfo::may_grow).
    ///
    /// The [log](PrepareContext::log) stores facts to which offsets refer and that cannot be found out again, such as
    /// the order in which files were found.
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<Self::Offset>, SourceError>;

    /// Returns the current partitions: first those that the query has, then new ones, each with its start.
    ///
    /// Called only if [`prepare`](Self::prepare) has returned an [interval](SourceInfo::with_discovery); `now` is the
    /// engine's clock. New partitions are read from the next epoch on, which begins even if they have no records. Their
    /// starts are recorded with that epoch, so a replay of the epoch reads the same ranges. It is an error to return
    /// fewer partitions than before, or more than [`SourceInfo::MOST`]. It is not called in a run that reads the
    /// available input and ends (`once`, `available-now`).
    ///
    /// From its discovery on, a new partition holds the watermark of its stream at the current value, until its first
    /// record arrives or `idle_after` has passed. The watermark never decreases, so records of the new partition that
    /// are before it are late; choose a delay longer than the discovery interval. A source without partitions holds the
    /// watermark until it has one.
    ///
    /// The query plans and commits nothing during the call, so return at once. A source that queries a broker does so
    /// on a thread of its own, and returns here what that thread has found.
    fn discover(&self, _now: ProcessingTime) -> Result<SourceInfo<Self::Offset>, SourceError> {
        Err(SourceError::Setup(format!(
            "{} has a discovery interval, but finds no partitions while a query runs: implement `Source::discover`, or leave \
             out `with_discovery` in `Source::prepare`",
            self.describe()
        )))
    }

    /// Returns whether every partition ends. When all have ended, the watermark advances to [`EventTime::MAX`](crate::EventTime::MAX)
    /// and every window closes.
    fn is_bounded(&self) -> bool {
        false
    }

    /// Returns whether a range of offsets can be read again, with the same records.
    ///
    /// If not, a crash may lose records.
    fn is_replayable(&self) -> bool {
        false
    }

    /// Returns whether an idle worker may read a partition for the worker that owns it; by default it may not.
    ///
    /// In micro-batch a worker that has read its partitions of an epoch takes over those of other workers that have not
    /// begun theirs. So an epoch does not wait for a slow worker. The [`Reader`] moves to the other worker's thread,
    /// between two epochs: what one epoch reads of a partition is always read by one worker. Continuous mode moves no
    /// partitions, and neither does a graph whose results would show which worker has read a row, such as one with a sink on
    /// each worker and no exchange before it.
    ///
    /// Return `true` if the reader finds all rows of a planned range by itself, as a reader of files or an iterator does.
    /// Keep the default if the reader depends on its thread, or if rows of a partition must stay on one worker.
    fn may_move(&self) -> bool {
        false
    }

    /// Called once before the partitions of an epoch are planned.
    ///
    /// List a directory or query a broker here, and return the result in [`latest`](Self::latest).
    fn refresh(&self, _limits: &PlanLimits) -> Result<(), SourceError> {
        Ok(())
    }

    /// Returns the offset up to which the next epoch may read a partition from `from`.
    ///
    /// Return `from` if there are no new records. The offset may lie beyond the end of the partition: the reader then
    /// returns [`Poll::End`] when it reaches the end. If a [bounded](Self::is_bounded) source has no new records, the
    /// reader is polled once at `from`, so that it can report the end. After a call without new records, the driver calls
    /// again when the [`Waker`] of the reader is called, or after 1 ms, a time that doubles up to 20 ms; with a trigger of an
    /// interval, at its next multiple.
    fn latest(
        &self,
        partition: u32,
        from: &Self::Offset,
        limits: &PlanLimits,
    ) -> Result<Self::Offset, SourceError>;

    /// Opens a partition for reading from `from`.
    fn open(
        &self,
        partition: u32,
        from: &Self::Offset,
        context: ReaderContext,
    ) -> Result<Self::Reader, SourceError>;

    /// Fixes the end of the input at what is available now.
    ///
    /// Called for the triggers `once` and `available-now`. After it, [`latest`](Source::latest) and readers must not go
    /// beyond the input that is available now. A source that cannot find that out may ignore the call; it is then read
    /// until it has no more records.
    fn freeze(&self, _now: ProcessingTime) -> Result<(), SourceError> {
        Ok(())
    }

    /// Called when epochs have been committed. Records before `offset` will never be read again.
    fn committed(&self, _partition: u32, _offset: &Self::Offset) -> Result<(), SourceError> {
        Ok(())
    }

    /// Returns the slot through which the engine gives a journaled source the place of its journal.
    fn journal(&self) -> Option<&JournalSlot> {
        None
    }

    /// Sets whether bad input is skipped and counted instead of failing the query.
    ///
    /// Implement it in a source that may receive incomplete records, such as half a line of a peer that has died. A
    /// source that parses the records of another one passes its setting on to that source with this call, before the
    /// query starts. By default it does nothing.
    fn skip_bad_records(&mut self, _skip: bool) {}
}

/// A log of one source in the checkpoint of the query. See [`PrepareContext::log`].
pub trait SourceLog: Send + Sync {
    /// Appends an entry; it is durable when this returns.
    fn append(&self, entry: &[u8]) -> Result<(), SourceError>;

    /// All entries, in their order.
    fn entries(&self) -> Result<Vec<Vec<u8>>, SourceError>;
}

/// The limits of what an epoch may read from a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanLimits {
    /// The maximum of records from one partition, if the user has set one.
    pub max_records: Option<u64>,
    /// The soft limit of records from one partition, where the user has set none. The engine chooses it so that an epoch is
    /// committed about 12 ms after it was planned, or takes twice as long as a commit where that is longer.
    pub enough: u64,
    /// The engine's clock, which a test may drive.
    pub now: ProcessingTime,
    /// Whether the epoch must read all available input, without the limits of the source.
    pub whole: bool,
}

impl PlanLimits {
    /// What is [`enough`](Self::enough) unless set. The engine always sets it.
    pub const ENOUGH: u64 = 1_000_000;

    /// Limits for an epoch that is planned now.
    pub fn new(max_records: Option<u64>, now: ProcessingTime) -> Self {
        PlanLimits { max_records, enough: Self::ENOUGH, now, whole: false }
    }

    /// Returns how many records of a partition the epoch may take, of a source that has no limits of its own.
    ///
    /// ```
    /// use tidemill::{PlanLimits, ProcessingTime};
    ///
    /// let limits = PlanLimits::new(None, ProcessingTime::from_micros(0)).with_enough(500);
    /// assert_eq!(limits.records(), 500);
    /// assert_eq!(limits.whole(true).records(), u64::MAX);
    /// assert_eq!(PlanLimits::new(Some(20), ProcessingTime::from_micros(0)).records(), 20);
    /// ```
    pub fn records(&self) -> u64 {
        let enough = if self.whole { u64::MAX } else { self.enough };
        self.max_records.unwrap_or(enough)
    }

    /// The same where this many records of a partition are enough.
    #[must_use]
    pub fn with_enough(mut self, records: u64) -> Self {
        self.enough = records;
        self
    }

    /// The same for an epoch that is to take everything that is there.
    #[must_use]
    pub fn whole(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }
}

/// Reads one partition.
pub trait Reader: Send + 'static {
    /// What it yields.
    type Item: Send + 'static;
    /// Its position.
    type Offset: Offset;

    /// Appends at most `max` records to `out`, reading no further than `until`.
    ///
    /// `max` is at least one and may differ in each call. At `until` it returns [`Poll::Ready`] or [`Poll::Idle`]. It
    /// never waits: if there is nothing to read, it returns [`Poll::Idle`] at once and calls the [`Waker`] of its
    /// context later, or returns [`Poll::IdleUntil`] with the time of the next poll.
    fn poll(
        &mut self,
        until: Option<&Self::Offset>,
        max: usize,
        out: &mut Vec<Self::Item>,
    ) -> Result<Poll, SourceError>;

    /// Calls `take` with at most `max` records, one by one.
    ///
    /// They are the records that [`poll`](Self::poll) would append, and the same rules apply. If a source has a
    /// backlog, the engine reads it in this way from within the loop of the steps behind it, so that no record is
    /// materialised in between.
    ///
    /// If a partition is a slice of a sequence, the call must return [`Poll::Ready`] when the [rank](Self::rank)
    /// changes, since the next record of the sequence may be in another slice.
    ///
    /// By default it polls for a few KiB at a time. Implement it in a reader that produces its records one by one, such
    /// as a reader over an iterator.
    fn pull(
        &mut self,
        until: Option<&Self::Offset>,
        max: usize,
        mut take: impl FnMut(Self::Item),
    ) -> Result<Poll, SourceError>
    where
        Self: Sized,
    {
        let mut chunk = Vec::new();
        let (mut left, rank) = (max, self.rank());
        loop {
            let poll = self.poll(until, left.min(const { chunk_capacity::<Self::Item>() }), &mut chunk)?;
            let read = chunk.len();
            chunk.drain(..).for_each(&mut take);
            left = left.saturating_sub(read);
            if poll != Poll::Ready || read == 0 || left == 0 || self.rank() != rank {
                return Ok(poll);
            }
        }
    }

    /// Returns the offset of the next record to be read.
    fn offset(&self) -> Self::Offset;

    /// Continues at another offset. Only replayable sources need it.
    fn seek(&mut self, offset: &Self::Offset) -> Result<(), SourceError>;

    /// Returns the number of malformed records that were skipped since the last call.
    fn take_skipped(&mut self) -> u64 {
        0
    }

    /// Returns the place of the next record in the sequence, if the partition is a slice of one.
    ///
    /// A worker reads its slices in the order of ranks, so that it reads the sequence in order, as the watermark
    /// requires. So a [`poll`](Self::poll) must return when the rank changes. Do not implement it for partitions that
    /// are not slices.
    fn rank(&self) -> u64 {
        0
    }

    /// Returns the least rank of the existing rows that this reader has not read; by default [`rank`](Self::rank).
    ///
    /// The watermark waits for rows of that rank while other readers read higher ranks. At the end of a slice that
    /// grows in place, such as a followed file, return `None`: the watermark does not wait for rows that have not been
    /// written yet.
    fn next_rank(&self) -> Option<u64> {
        Some(self.rank())
    }
}

/// The state of a partition after [`Reader::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// More records can be read now: the partition has a backlog. In continuous mode operators may then hold results
    /// for up to the latency budget. Return it also after `max` records if it is unknown whether there are more.
    Ready,
    /// The partition has no backlog, but more records may come within microseconds: the worker polls again without parking.
    /// Return it once, after records, and [`Idle`](Poll::Idle) if the next call finds nothing: a reader that always returns it
    /// keeps a core busy.
    Soon,
    /// There is nothing to read now, and the [`Waker`] will be called when there is. First record that the reader
    /// waits, then check for records once more, and only then return this: otherwise a record that arrives in between
    /// wakes no worker.
    Idle,
    /// There is nothing to read before this time by the engine's clock.
    IdleUntil(ProcessingTime),
    /// The partition has ended: it will have no more records.
    End,
}

/// The result of reading several records.
#[derive(Clone, Copy, Debug)]
pub struct Polled {
    /// How many records.
    pub rows: usize,
    /// What the reader found after them.
    pub poll: Poll,
    /// See [`Reader::take_skipped`].
    pub skipped: u64,
}

/// Wakes the worker that reads a partition. Cheap to clone, callable from any thread.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Waker(Arc::new(wake))
    }

    /// Requests a poll of the partition.
    ///
    /// A call before the worker parks is not lost. A superfluous call only wakes the worker.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// The engine's clock, the only source of processing time. A test may control it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> ProcessingTime + Send + Sync>);

impl Clock {
    /// A clock that reads `now`.
    pub fn new(now: impl Fn() -> ProcessingTime + Send + Sync + 'static) -> Self {
        Clock(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> ProcessingTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// The context that a reader gets when it is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderContext {
    /// Wakes the worker that polls this reader.
    pub waker: Waker,
    /// The engine's clock.
    pub clock: Clock,
    /// Signals a thread of the reader, or a call that takes long, that the query has been cancelled.
    pub cancellation: Cancellation,
}

impl ReaderContext {
    /// A context for a reader.
    pub fn new(waker: Waker, clock: Clock) -> Self {
        ReaderContext { waker, clock, cancellation: Cancellation::new() }
    }

    /// The same for a query that is cancelled by that.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }
}

/// The error of a source.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file, socket or device failed.
    #[error("{what}: {error}")]
    Io {
        /// The action that failed and its object.
        what: String,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A record cannot be parsed.
    #[error("{place}: {reason}")]
    BadRecord {
        /// The file and line, or the partition and offset.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer closed the connection, and the source is not configured to reconnect.
    #[error("{peer} closed the connection")]
    Disconnected {
        /// The other side.
        peer: String,
    },
    /// The source cannot go back to that position.
    #[error("{source_name} cannot be read again from {offset}: it is not replayable")]
    NotReplayable {
        /// The source.
        source_name: String,
        /// The position asked for.
        offset: String,
    },
    /// The source was set up in a way that cannot work.
    #[error("{0}")]
    Setup(String),
    /// Any other error of a source of your own.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// What it says to people: this is what `main` prints of an error that it returns.
impl std::fmt::Debug for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl SourceError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Self {
        SourceError::Io { what: what.into(), error }
    }
}
