//! Where records come from: the traits that every source implements, ours and yours.
//!
//! A [`Source`] is a description that any thread may ask: which partitions there are and where they begin
//! ([`Source::prepare`], once when a query starts; [`Source::discover`], while it runs), how far one could read now. A [`Reader`]
//! reads one partition, on the worker that owns it. Both modes use the same two: in
//! micro-batch the planner asks [`Source::latest`] and the reader stops there; in continuous the reader simply reads.

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
/// The number of partitions does not depend on the number of workers: partition `p` is read by worker `p % workers`. It is
/// fixed while a query runs, unless the source [discovers](Source::discover) new ones; it never shrinks. Order is kept within a
/// partition.
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
    /// Called once whenever a query starts or resumes, before anything else and before anything runs. What cannot work is
    /// an error here: it names the source and its line in the program. A query that resumes begins where its checkpoint
    /// says, and must find as many partitions as that has, or more where they [may grow](SourceInfo::may_grow).
    ///
    /// The [log](PrepareContext::log) is for what offsets refer to and the outside world does not keep, such as the order in
    /// which files were found.
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<Self::Offset>, SourceError>;

    /// Returns the partitions that there are now, while the query runs: those that it knows, and behind them new ones, each
    /// with its start.
    ///
    /// Called only if [`prepare`](Self::prepare) has returned an
    /// [interval](SourceInfo::with_discovery); `now` is the engine's clock. New partitions take part from the next epoch on: it
    /// is planned, or called, for them even if they have no records. Their starts are recorded with it, so a replay of the epoch
    /// reads the same ranges. Fewer partitions than before are an error; so is more than [`SourceInfo::MOST`]. Not called in a run
    /// that reads the available input and ends (`once`, `available-now`): `prepare` has found what it reads.
    ///
    /// A new partition holds the watermark of its stream where it is, from its discovery until its first record or until it
    /// has been silent for `idle_after`. The watermark never goes back: records of the new partition that are behind it are late.
    /// A delay longer than the discovery interval leaves room for them. A source that has no partition yet holds the watermark
    /// until it has one.
    ///
    /// The query plans and commits nothing during the call, so return at once: a source that asks a broker does so on a thread of
    /// its own, and returns here what that has found.
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

    /// Returns whether a range of offsets can be read again, with the same records. Without that a crash may lose records.
    fn is_replayable(&self) -> bool {
        false
    }

    /// Called once before the partitions of an epoch are planned: list a directory or ask a broker here, and return in
    /// [`latest`](Self::latest) what was found.
    fn refresh(&self, _limits: &PlanLimits) -> Result<(), SourceError> {
        Ok(())
    }

    /// How far the partition could be read now, starting at `from`: the end of the next epoch's range. Equal to `from`
    /// when there is nothing. It may lie beyond the end of a partition that ends: the reader then returns [`Poll::End`]
    /// before it gets there. If a [bounded](Self::is_bounded) source has nothing, the reader is polled once at `from`, so
    /// that it can report an end that has been reached. A source that had nothing has its reader's [`Waker`] called once it
    /// has; otherwise it is polled again after 100 ms.
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

    /// The query is to end with the input available now: from here on, [`latest`](Source::latest) and readers must not go
    /// beyond it. A source that cannot tell may ignore the call; it is then read until it has nothing more to give.
    fn freeze(&self, _now: ProcessingTime) -> Result<(), SourceError> {
        Ok(())
    }

    /// Called when epochs have been committed: records before this offset will never be read again.
    fn committed(&self, _partition: u32, _offset: &Self::Offset) -> Result<(), SourceError> {
        Ok(())
    }

    /// Where the runtime says where a journal is to be kept, if the source keeps one: it writes down what it receives
    /// before it hands it over.
    fn journal(&self) -> Option<&JournalSlot> {
        None
    }

    /// Sets whether input that is no whole record is left out and counted, instead of failing the query.
    ///
    /// For sources that can have such input, as half a line of a peer that has died. A source that parses the records of
    /// another one passes its own choice on with this, before the query starts. Does nothing by default.
    fn skip_bad_records(&mut self, _skip: bool) {}
}

/// A log of a source's own, kept with the checkpoint of the query. See [`PrepareContext::log`].
pub trait SourceLog: Send + Sync {
    /// Appends an entry; it is durable when this returns.
    fn append(&self, entry: &[u8]) -> Result<(), SourceError>;

    /// All entries, in their order.
    fn entries(&self) -> Result<Vec<Vec<u8>>, SourceError>;
}

/// How much an epoch may take from a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanLimits {
    /// At most this many records from one partition, where the user said so.
    pub max_records: Option<u64>,
    /// The soft limit of records from one partition, where the user has set none. The engine chooses it so that an epoch is
    /// committed about 12 ms after it was planned, or takes twice as long as a commit where that is longer.
    pub enough: u64,
    /// The engine's clock, which a test may drive.
    pub now: ProcessingTime,
    /// Whether the epoch is to take everything that is there, whatever the source's own limits.
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

    /// Appends at most `max` records to `out` (whatever it then returns), reading no further than `until`. `max` is at least
    /// one, and another one with each call; at `until` it returns [`Poll::Ready`] or [`Poll::Idle`]. Never waits: with nothing to read it
    /// returns [`Poll::Idle`] at once and later calls the [`Waker`] of its context (or has told
    /// [`Poll::IdleUntil`] when to come back).
    fn poll(
        &mut self,
        until: Option<&Self::Offset>,
        max: usize,
        out: &mut Vec<Self::Item>,
    ) -> Result<Poll, SourceError>;

    /// Hands at most `max` records to `take`, one by one: those that [`poll`](Self::poll) would append, and with its
    /// rules. Where a source has much to give, the engine reads it so, from within the loop of the steps behind it: no
    /// record is materialised in between.
    ///
    /// Where a partition is a slice of a sequence, it ends with [`Poll::Ready`] when its [rank](Self::rank) changes: what
    /// comes next in the sequence may be in another slice.
    ///
    /// Unless implemented, it polls for a few KiB at a time. To implement it is worth while for a reader that makes its
    /// records one by one anyway, such as one over an iterator.
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

    /// The next record to be read.
    fn offset(&self) -> Self::Offset;

    /// Goes to another position. Only a replayable source can.
    fn seek(&mut self, offset: &Self::Offset) -> Result<(), SourceError>;

    /// Records that were refused since the last call (malformed ones that the user chose to skip).
    fn take_skipped(&mut self) -> u64 {
        0
    }

    /// Where a slice of a sequence stands in the whole of it. A worker reads the slices that it has in this order, so
    /// that it sees the sequence in order, as the watermark needs it; so a [`poll`](Self::poll) must not read on where it
    /// changes. Partitions that are not slices leave it alone.
    fn rank(&self) -> u64 {
        0
    }

    /// The least rank of the rows that this reader has yet to read, as far as they exist; by default [`rank`](Self::rank).
    /// The watermark waits for rows of that rank while other readers are further on in the sequence. `None` at the end of
    /// something that grows in place, such as a followed file: the watermark does not wait for rows that have not been written yet.
    fn next_rank(&self) -> Option<u64> {
        Some(self.rank())
    }
}

/// What a [`Reader::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// More can be read now: the partition has a backlog. In continuous mode operators may then hold results for up to the
    /// latency budget. A reader that has read `max` records and does not know whether there are more returns it too.
    Ready,
    /// The partition has no backlog, but more records may come within microseconds: the worker polls again without parking.
    /// Return it once, after records, and [`Idle`](Poll::Idle) if the next call finds nothing: a reader that always returns it
    /// keeps a core busy.
    Soon,
    /// Nothing to read now; the [`Waker`] will tell. Note that the reader waits, look once more, and only then return this:
    /// otherwise a record that arrives in between wakes no worker.
    Idle,
    /// Nothing to read before that time by the engine's clock.
    IdleUntil(ProcessingTime),
    /// The partition has ended: nothing will ever come again.
    End,
}

/// What has been read at once.
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

    /// Has the partition polled soon. A call that comes before the worker sleeps is not lost; one too many does no harm, but
    /// wakes the worker.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// The engine's clock, which a test may drive. Everything that asks for processing time asks here.
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

/// What a reader is given when it is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderContext {
    /// Wakes the worker that polls this reader.
    pub waker: Waker,
    /// The engine's clock.
    pub clock: Clock,
    /// Tells a thread of the reader, or a call that takes long, that the query has ended where it stands.
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

/// Why a source has failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file, socket or device failed.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A record cannot be read as what it should be.
    #[error("{place}: {reason}")]
    BadRecord {
        /// The file and line, or the partition and offset.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer went away, and the source was not told to connect again.
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
    /// Anything else a source of your own has to say.
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
