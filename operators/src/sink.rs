//! The trait that every sink implements.
//!
//! An epoch reaches a sink in this order: any number of [`write`](Sink::write), then [`prepare`](Sink::prepare), then,
//! once everything else about the epoch is safe too, [`commit`](Sink::commit). If a query ends in order, the engine
//! calls [`close`](Sink::close) after the last commit; if it fails or is cancelled, [`abort`](Sink::abort). A query
//! with a checkpoint calls [`recover`](Sink::recover) before the first write.

mod identity;
mod prepared;

pub use identity::{OutputClaim, QueryIdentity};
pub use prepared::{Committed, Prepared};

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Cancellation, Clock, Epoch, ProcessingTime, RowKind};

/// A sink: writes the rows of a stream, epoch by epoch.
///
/// In micro-batch no row may become visible before [`commit`](Sink::commit). In continuous mode a sink may publish rows
/// in [`write`](Sink::write) ([`SinkContext::immediate`] is `true` then), or also wait for the commit: then its output
/// is exactly once in both modes.
///
/// # With a checkpoint
///
/// The engine writes the commit record of an epoch *between* `prepare` and `commit`. So a crash leaves the sink in one
/// of three states:
///
/// - No commit record: the epoch is run again. [`recover`](Sink::recover) removes the rows that the sink had written of
///   it.
/// - A commit record, but `commit` has not finished: the epoch is not run again. `recover` does the work of `commit`
///   with the [`Prepared`] that `prepare` returned. A sink that does not implement `recover` may lose that epoch's
///   rows.
/// - `commit` has finished: `recover` has nothing to do.
///
/// If [`SinkContext::fork`] is set, the run resumes from the commit of another query, and must not finish what that
/// query prepared. [`OutputClaim`] describes how a sink finds out which query an output belongs to.
///
/// A sink whose writes are idempotent can make them in `prepare`, and needs no `recover`: an epoch without a commit
/// record is prepared again.
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

    /// Returns the absolute path of the file or directory that only this sink may write to.
    ///
    /// A graph with two sinks that return the same path is refused, since one would overwrite the rows of the other.
    /// The engine calls `place` when the sink is added to the graph, but not for sinks made per worker.
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

    /// Returns whether the sink can write rows of this kind.
    ///
    /// By default it can write all kinds but [changes](RowKind::Changes).
    ///
    /// The rows of a stream of changes have the type [`RowChange`](crate::RowChange). A sink of changes implements
    /// `Sink<RowChange<T>>`, and adds or removes each row by its `diff`.
    ///
    /// If a sink does not take the kind of its rows, the graph is refused before it runs; a sink per worker is checked
    /// when it is made. [`SinkContext::row_kind`] is the kind of the rows.
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

    /// Called once, on the worker that will write, before all other calls.
    ///
    /// If it fails, no other method is called. If a graph is run twice at the same time, it is called again for the
    /// second run: an error then ends only the second run.
    fn open(&mut self, _context: &SinkContext) -> Result<(), SinkError> {
        Ok(())
    }

    /// Writes rows of an epoch.
    ///
    /// The sink may drain `rows` or leave them. A call has rows of one epoch only, and epochs come in order.
    ///
    /// The engine chooses the number of rows per call. Wide rows come in small batches even under full load, so that
    /// they stay in the core's cache.
    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError>;

    /// Whether [`one_by_one`](Sink::one_by_one) may ever return `true`.
    ///
    /// Otherwise the engine does not call it, and the loops for it are not compiled.
    const ONE_BY_ONE: bool = false;

    /// Returns whether the sink prefers single rows, by [`write_one`](Sink::write_one).
    ///
    /// If the steps before the sink run in its own loop, each row is then written as soon as it is computed. Return
    /// `true` if the sink drops each row at once: the memory of the row is then freed and reused for the next row. With
    /// records of a few strings this halved the time of a query without steps. Rows that are already in a batch still
    /// go to [`write`](Sink::write). The engine calls this once per batch, after `open`.
    fn one_by_one(&self) -> bool {
        false
    }

    /// Writes one row of an epoch, as [`write`](Sink::write) does.
    fn write_one(&mut self, epoch: Epoch, row: T) -> Result<(), SinkError> {
        self.write(epoch, &mut vec![row])
    }

    /// Finishes the last commit and removes rows that were never committed.
    ///
    /// Called once after [`open`](Sink::open) and before the first write, if the query has a checkpoint.
    ///
    /// `committed` is the last epoch with a commit record, or `None` if there is none: then all existing rows are
    /// uncommitted. `recover` must be idempotent, since `commit` or an earlier `recover` may have done all or a part of
    /// its work. The epochs that are written next have greater numbers, which may have gaps.
    fn recover(&mut self, _committed: Option<Committed>) -> Result<(), SinkError> {
        Ok(())
    }

    /// Does everything that may fail before the commit.
    ///
    /// Called when all rows of the epoch have been written. The checkpoint stores the returned value for
    /// [`recover`](Sink::recover).
    ///
    /// Later epochs may be written and prepared before this one is committed. `recover` only gets the value of the last
    /// epoch with a commit record. So the returned value must also cover earlier epochs that are prepared and not yet
    /// committed.
    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared, SinkError> {
        Ok(Prepared::nothing())
    }

    /// Publishes the epoch, whose commit record is durable.
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// Called after the last commit when the query ends in order.
    fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Drops rows that are not committed; called when the query fails or is cancelled.
    ///
    /// If the query has a checkpoint, a prepared epoch may have a commit record: its rows must stay for
    /// [`recover`](Sink::recover).
    fn abort(&mut self) {}
}

/// The settings of a run that a sink gets when it is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkContext {
    /// The worker that writes, from 0.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Whether rows may be published as they are written (continuous) instead of at the commit (micro-batch).
    pub immediate: bool,
    /// Whether an epoch that is run again after a crash has the same rows. This is so in micro-batch with a checkpoint,
    /// which contains the plan of each epoch. Without a checkpoint epoch numbers start at 0 in every run.
    pub repeatable: bool,
    /// The kind of the rows.
    pub row_kind: RowKind,
    /// The name of the query.
    pub query: String,
    /// Whether the query has a checkpoint. If so, prepared and committed rows must survive a crash of the machine.
    pub durable: bool,
    /// The number of this run, from 0: each restart from the checkpoint increases it.
    pub execution: u64,
    /// The random id that the checkpoint got when it was created; empty without a checkpoint. A restart keeps it. A
    /// query that starts from a savepoint of another one gets a new id, since it must write to other outputs.
    pub query_id: String,
    /// Whether the run starts from a savepoint of another query. What that query prepared is in its outputs, and this
    /// run must not change them.
    pub fork: bool,
    /// Whether the user has set `--take-over`: this run takes over outputs that belong to another query.
    pub take_over: bool,
    /// The last committed epoch of the checkpoint; `None` if there is none. The epochs that are written have greater
    /// numbers, in order and possibly with gaps.
    pub committed: Option<Epoch>,
    /// The name of the sink and its line in the user's program, for messages.
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

/// The error of a sink.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A file, socket or device failed; a full disk is one.
    #[error("{what}: {error}")]
    Io {
        /// The action that failed and its object.
        what: String,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A row cannot be written in the format of the sink.
    #[error("a row cannot be written to {sink}: {reason}")]
    Encode {
        /// The sink.
        sink: String,
        /// What is wrong with the row.
        reason: String,
    },
    /// The reader of the rows has closed its end.
    #[error("{0} has been closed by its reader")]
    Closed(String),
    /// The sink was set up in a way that cannot work.
    #[error("{0}")]
    Setup(String),
    /// Rows that are committed in the checkpoint cannot be found.
    #[error("{what} cannot be recovered: {reason}")]
    Recovery {
        /// The file or other output.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The query was cancelled, or failed elsewhere, while the sink waited.
    #[error("the query has been cancelled")]
    Cancelled,
    /// Any other error of a sink of your own.
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
