//! Where records go: the trait that every sink implements, ours and yours.
//!
//! An epoch reaches a sink in this order: any number of [`write`](Sink::write), then [`prepare`](Sink::prepare),
//! then, once everything else about the epoch is safe too, [`commit`](Sink::commit). A query that ends in order calls
//! [`close`](Sink::close) after the last commit; one that fails or is cancelled calls [`abort`](Sink::abort) for what
//! was written and not committed. A query with a checkpoint calls [`recover`](Sink::recover) before the first write.

mod identity;
mod prepared;

pub use identity::{OutputClaim, QueryIdentity};
pub use prepared::{Committed, Prepared};

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Cancellation, Clock, Epoch, ProcessingTime, RowKind};

/// A sink: writes the rows of a stream, epoch by epoch.
///
/// In micro-batch nothing may become visible before [`commit`](Sink::commit); in continuous rows may be shown as they
/// are written ([`SinkContext::immediate`] tells which). A sink may wait for the commit there as well: what it shows is
/// then exactly once in both modes.
///
/// # With a checkpoint
///
/// The engine writes down that an epoch is committed *between* `prepare` and `commit`. So whatever a crash leaves behind
/// is one of three cases, and each has its place to be dealt with:
///
/// - Not prepared, or prepared and not written down: the epoch is run again. [`recover`](Sink::recover) throws away
///   what the sink had written of it.
/// - Written down, but not (or half) committed: that epoch is not run again. `recover` does what `commit` would have
///   done, out of the [`Prepared`] that `prepare` returned. A sink that does not implement it may lose that epoch's rows.
/// - Committed: `recover` finds that there is nothing left to do.
///
/// [`SinkContext::fork`] tells a run that resumes from another query's commit: what that query prepared is not this
/// one's to finish. [`OutputClaim`] says how a sink knows whose an output is.
///
/// A sink that can do its work twice without harm has it easier: it does it in `prepare`, which is called again for
/// whatever was not written down, and needs no `recover`.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::{Sink, SinkContext, SinkError};
///
/// /// Adds up what it is given, an epoch at a time.
/// #[derive(Default)]
/// struct Total { pending: i64, total: i64 }
///
/// impl Sink<i64> for Total {
///     fn write(&mut self, _epoch: Epoch, rows: &mut Vec<i64>) -> Result<(), SinkError> {
///         self.pending += rows.drain(..).sum::<i64>();
///         Ok(())
///     }
///     fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
///         self.total += std::mem::take(&mut self.pending);
///         Ok(())
///     }
/// }
/// # let mut sink = Total::default();
/// # sink.write(Epoch::new(0), &mut vec![1, 2])?; sink.prepare(Epoch::new(0))?; sink.commit(Epoch::new(0))?;
/// # assert_eq!(sink.total, 3);
/// # Ok::<(), SinkError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink for rows of type `{T}`",
    note = "use `for_each(|row| …)` for a closure, `try_for_each` for one that can fail; `impl Sink` for your own"
)]
pub trait Sink<T>: Send + 'static {
    /// Describes the sink, for plans and errors.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("sink").to_owned()
    }

    /// Returns the file or directory that the sink needs for itself, as an absolute path.
    ///
    /// A graph with two sinks into one place is refused, since one would overwrite the other's rows. It is called when the sink
    /// is added to the graph, and not for sinks made per worker.
    ///
    /// ```
    /// # use std::path::PathBuf;
    /// use tidemill::prelude::*;
    /// # use tidemill::{Sink, SinkError};
    /// struct Table { file: PathBuf }
    ///
    /// impl Sink<u64> for Table {
    ///     fn place(&self) -> Option<PathBuf> {
    ///         Some(std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone()))
    ///     }
    ///     # fn write(&mut self, _epoch: Epoch, _rows: &mut Vec<u64>) -> Result<(), SinkError> { Ok(()) }
    ///     # fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> { Ok(()) }
    ///     // ...
    /// }
    ///
    /// let graph = Graph::new("tables");
    /// graph.source(memory(0..3u64)).sink(Table { file: "numbers.table".into() });
    /// graph.source(memory(0..4u64)).sink(Table { file: "numbers.table".into() });
    /// assert!(graph.validate().is_err());
    /// ```
    fn place(&self) -> Option<PathBuf> {
        None
    }

    /// Returns whether the sink can write rows of that kind. By default all kinds but [changes](RowKind::Changes).
    ///
    /// The rows of a stream of changes are of type [`RowChange`](crate::RowChange): a sink of changes is a
    /// `Sink<RowChange<T>>`, which adds each row or takes it away, as its `diff` says.
    ///
    /// A graph whose rows a sink does not take is refused before it runs; a sink on every worker is asked when it is made.
    /// [`SinkContext::row_kind`] tells the sink which kind comes.
    ///
    /// ```
    /// use tidemill::prelude::*;
    /// # use tidemill::{RowKind, Sink, SinkError};
    /// struct Log;
    ///
    /// impl Sink<u64> for Log {
    ///     fn takes(&self, kind: RowKind) -> bool {
    ///         kind == RowKind::Insert
    ///     }
    ///     # fn write(&mut self, _epoch: Epoch, _rows: &mut Vec<u64>) -> Result<(), SinkError> { Ok(()) }
    ///     # fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> { Ok(()) }
    ///     // ...
    /// }
    ///
    /// let graph = Graph::new("counts");
    /// graph.source(memory(0..3u64)).count().update().sink(Log);
    /// assert!(graph.validate().is_err());
    /// ```
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot)
    }

    /// Called once, on the worker that will write, before anything else. If it fails, nothing more is called. One of a graph that
    /// runs twice at a time is called for the second run too: if it refuses that, the first continues.
    fn open(&mut self, _context: &SinkContext) -> Result<(), SinkError> {
        Ok(())
    }

    /// Takes rows of an epoch; `rows` may be left empty or full. Rows of several epochs never mix: epochs come in order.
    ///
    /// How many there are at a time is the engine's choice, and may be few under full load too, if rows are wide: they are
    /// then still in the core's cache.
    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError>;

    /// Whether the sink prefers row-at-a-time delivery, to [`write_one`](Sink::write_one): as soon as the steps before the sink have
    /// made one, and where these run in the sink's own loop. For a sink that is done with a row at once. What a row owns is
    /// then freed while the allocator still has it at hand, and may be used for the next: of records with a few strings
    /// that made half of the time of a query without steps. Rows that are there already go to [`write`](Sink::write) even
    /// so. It is asked once a batch, after `open`.
    fn one_by_one(&self) -> bool {
        false
    }

    /// Takes a row of an epoch: as [`write`](Sink::write) with that row alone.
    fn write_one(&mut self, epoch: Epoch, row: T) -> Result<(), SinkError> {
        self.write(epoch, &mut vec![row])
    }

    /// Called once after [`open`](Sink::open) and before the first write, if the query has a checkpoint: finishes the
    /// commit that a former run may have left half done, and throws away what was written and never committed.
    ///
    /// `committed` is the last epoch that the checkpoint holds as committed, or `None` where no epoch got that far; what
    /// there is then belongs to a run that died early. What this does may have been done before, by a `commit` or by a
    /// `recover` that was itself cut short, so it must do no harm twice. Later epochs are written next: often the one after,
    /// but their numbers may have gaps.
    fn recover(&mut self, _committed: Option<Committed>) -> Result<(), SinkError> {
        Ok(())
    }

    /// Called when all rows of the epoch have been written: makes sure that a commit cannot fail any more. The checkpoint keeps
    /// the returned value for [`recover`](Sink::recover).
    ///
    /// Later epochs may be written and prepared before this one is committed. Only the last one that was written down
    /// is told to `recover`, so what is returned must cover earlier epochs that still wait for their commit.
    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared, SinkError> {
        Ok(Prepared::nothing())
    }

    /// Publishes the epoch: its commit is durable.
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// Called when the query ends in order, after every epoch has been committed.
    fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Forgets everything that was written and not committed; the query ends. Where the query has a checkpoint, an
    /// epoch that was prepared may have been written down as committed: what belongs to it must stay for
    /// [`recover`](Sink::recover).
    fn abort(&mut self) {}
}

/// What a sink is told when it is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkContext {
    /// The worker that writes, from 0.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Whether rows may be shown as they are written (continuous), not only with their epoch (micro-batch).
    pub immediate: bool,
    /// Whether an epoch that is run again after a crash has the same rows again: so it is in micro-batch with a checkpoint,
    /// which logs what each epoch reads. Without a checkpoint numbers begin again at 0 in every run.
    pub repeatable: bool,
    /// What a row means: one more row, the newest value of a key, or a row of the whole table.
    pub row_kind: RowKind,
    /// The name of the query.
    pub query: String,
    /// Whether the query has a checkpoint: what is prepared and committed must survive a crash of the machine.
    pub durable: bool,
    /// Which run of the query this is, from 0: each restart from a checkpoint has a number of its own.
    pub execution: u64,
    /// The random id that the checkpoint got when it was created; empty without a checkpoint. A restart keeps it. A query
    /// that begins from a savepoint of another one gets an id of its own, as it is to have outputs of its own.
    pub query_id: String,
    /// Whether the commit from which the run resumes was made by another query, from whose savepoint this one begins.
    /// What that query prepared is in its own outputs, which this run must leave alone.
    pub fork: bool,
    /// Whether the user asked for this run to take over outputs that another query has claimed and no longer writes to.
    pub take_over: bool,
    /// The last epoch that the checkpoint holds as committed, by whichever sinks: `None` if the query begins. Later epochs
    /// are written, in order; their numbers may have gaps.
    pub committed: Option<Epoch>,
    /// Which sink of the program it is, for messages: its name and the user's line.
    pub site: String,
    /// A number that the instances of one sink have in common in this run, and nothing else in this process has: for what
    /// they share, and others must not. 0 where no engine drives the sink.
    pub group: u64,
    /// The engine's clock.
    pub clock: Clock,
    /// Tells a sink that waits for something, or calls a function for many rows, that the query has ended where it stands:
    /// it returns [`SinkError::Cancelled`] then.
    pub cancellation: Cancellation,
    /// The query's id and its runs; none without a checkpoint.
    identity: Option<Arc<QueryIdentity>>,
}

impl SinkContext {
    /// A context, for those who drive a sink themselves: one worker, no checkpoint, a clock that stands still.
    ///
    /// ```
    /// use tidemill::{RowKind, SinkContext};
    ///
    /// let context = SinkContext::new("words", RowKind::Insert, false).on_worker(1, 4).durable(2);
    /// assert_eq!((context.worker, context.execution), (1, 2));
    /// ```
    pub fn new(query: &str, row_kind: RowKind, immediate: bool) -> Self {
        SinkContext {
            worker: 0,
            workers: 1,
            immediate,
            repeatable: false,
            row_kind,
            query: query.to_owned(),
            durable: false,
            execution: 0,
            query_id: String::new(),
            fork: false,
            take_over: false,
            committed: None,
            site: "a sink".to_owned(),
            group: 0,
            clock: Clock::new(|| ProcessingTime::from_micros(0)),
            cancellation: Cancellation::new(),
            identity: None,
        }
    }

    /// The same for one worker of several.
    #[must_use]
    pub fn on_worker(mut self, worker: usize, workers: usize) -> Self {
        self.worker = worker;
        self.workers = workers;
        self
    }

    /// The same for the run with that number of a query that has a checkpoint.
    #[must_use]
    pub fn durable(mut self, execution: u64) -> Self {
        self.durable = true;
        self.repeatable = !self.immediate;
        self.execution = execution;
        self
    }

    /// The same for a query with that identity, whose outputs are claimed for it.
    #[must_use]
    pub fn identified(mut self, identity: Arc<QueryIdentity>) -> Self {
        identity.id().clone_into(&mut self.query_id);
        self.identity = Some(identity);
        self
    }

    /// The same for a run that resumes from a commit of another query.
    #[must_use]
    pub fn as_fork(mut self, fork: bool) -> Self {
        self.fork = fork;
        self
    }

    /// The same for a run that takes over the outputs of another query.
    #[must_use]
    pub fn taking_over(mut self, take_over: bool) -> Self {
        self.take_over = take_over;
        self
    }

    /// The claim that this run leaves beside its outputs; none without a checkpoint.
    pub fn claim(&self) -> Option<OutputClaim> {
        self.identity.as_ref()?.claim(&self.query)
    }

    /// Whether a claim that was found beside an output was made by this query, in this or an earlier run.
    pub fn owns(&self, claim: &OutputClaim) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.owns(claim))
    }

    /// The same for a run that resumes after that epoch.
    ///
    /// ```
    /// use tidemill::prelude::*;
    /// use tidemill::{RowKind, SinkContext};
    ///
    /// let context = SinkContext::new("words", RowKind::Insert, false).durable(3).after_commit(Epoch::new(17));
    /// assert_eq!(context.committed, Some(Epoch::new(17)));
    /// ```
    #[must_use]
    pub fn after_commit(mut self, committed: Epoch) -> Self {
        self.committed = Some(committed);
        self
    }

    /// The same for the sink with that name and line, whose instances have that number in common.
    ///
    /// ```
    /// use tidemill::{RowKind, SinkContext};
    ///
    /// let context = SinkContext::new("words", RowKind::Insert, false).of_sink("`sink` at src/main.rs:7", 1);
    /// assert_eq!(context.group, 1);
    /// ```
    #[must_use]
    pub fn of_sink(mut self, site: &str, group: u64) -> Self {
        self.site = site.to_owned();
        self.group = group;
        self
    }

    /// The same for a query that is cancelled by that.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// The same with a clock that goes.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

/// Why a sink has failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A file, socket or device failed; a full disk is one.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A row cannot be written as this sink writes rows.
    #[error("a row cannot be written to {sink}: {reason}")]
    Encode {
        /// The sink.
        sink: String,
        /// What is wrong with the row.
        reason: String,
    },
    /// The reader of the rows has gone.
    #[error("{0} has been closed by its reader")]
    Closed(String),
    /// The sink was set up in a way that cannot work.
    #[error("{0}")]
    Setup(String),
    /// What the checkpoint holds as committed cannot be found again.
    #[error("{what} cannot be recovered: {reason}")]
    Recovery {
        /// The file or whatever it is.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The query was cancelled, or failed elsewhere, while the sink waited.
    #[error("the query has been cancelled")]
    Cancelled,
    /// Anything else a sink of your own has to say.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// What it says to people: this is what `main` prints of an error that it returns.
impl std::fmt::Debug for SinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl SinkError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Self {
        SinkError::Io { what: what.into(), error }
    }
}
