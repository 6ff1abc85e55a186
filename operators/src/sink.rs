//! Where records go: the trait that every sink implements, ours and yours.
//!
//! An epoch reaches a sink in this order: any number of [`write`](Sink::write), then [`prepare`](Sink::prepare),
//! then, once everything else about the epoch is safe too, [`commit`](Sink::commit). A query that fails or is
//! cancelled calls [`abort`](Sink::abort) for what was written and not committed.

use std::marker::PhantomData;

use crate::stream::TimeDomain;
use crate::{Batch, Epoch, OutputMode};

/// Takes the rows of a stream.
///
/// In micro-batch nothing may become visible before [`commit`](Sink::commit); in continuous rows may be shown as they
/// are written ([`SinkContext::immediate`] tells which).
///
/// ```
/// use tidemill_operators::{Epoch, Sink, SinkContext, SinkError};
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
/// # sink.write(Epoch(0), &mut vec![1, 2])?; sink.prepare(Epoch(0))?; sink.commit(Epoch(0))?;
/// # assert_eq!(sink.total, 3);
/// # Ok::<(), SinkError>(())
/// ```
pub trait Sink<T>: Send + 'static {
    /// What the sink is, for plans and errors.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("sink").to_owned()
    }

    /// Called once, on the worker that will write, before anything else.
    fn open(&mut self, _context: &SinkContext) -> Result<(), SinkError> {
        Ok(())
    }

    /// Takes rows of an epoch; `rows` may be left empty or full. Rows of several epochs never mix: epochs come in order.
    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError>;

    /// All rows of the epoch have been written: make sure that a commit cannot fail any more.
    fn prepare(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }

    /// The epoch is safe: show it. May be called again for the same epoch after a restart.
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// Forgets everything that was written and not committed; the query ends.
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
    /// What a row means: added once, changed, or one of a whole table that replaces the last one.
    pub output_mode: OutputMode,
    /// The name of the query.
    pub query: String,
}

impl SinkContext {
    /// A context, for those who drive a sink themselves.
    pub fn new(query: &str, output_mode: OutputMode, immediate: bool) -> Self {
        SinkContext { worker: 0, workers: 1, immediate, output_mode, query: query.to_owned() }
    }

    /// The same for one worker of several.
    #[must_use]
    pub fn on_worker(mut self, worker: usize, workers: usize) -> Self {
        self.worker = worker;
        self.workers = workers;
        self
    }
}

/// Why a sink cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A file, socket or device failed; a full disk is one.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// What the system said.
        #[source]
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
    /// Nobody takes the rows any more.
    #[error("{0} has been closed by its reader")]
    Closed(String),
    /// The sink was set up in a way that cannot work.
    #[error("{0}")]
    Setup(String),
    /// Anything else a sink of your own has to say.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl SinkError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Self {
        SinkError::Io { what: what.into(), error }
    }
}

/// A [`Sink`] whose type is hidden; made by the graph, used by the engine.
pub trait DynSink: Send {
    /// See [`Sink::describe`].
    fn describe(&self) -> String;
    /// See [`Sink::open`].
    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError>;
    /// See [`Sink::write`].
    fn write(&mut self, epoch: Epoch, batch: Batch) -> Result<(), SinkError>;
    /// See [`Sink::prepare`].
    fn prepare(&mut self, epoch: Epoch) -> Result<(), SinkError>;
    /// See [`Sink::commit`].
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError>;
    /// See [`Sink::abort`].
    fn abort(&mut self);
}

/// Hides the types of a sink. Rows come as they are on edges of the domain `M`; the sink sees no event times.
pub(crate) struct ErasedSink<S, T, M>(S, PhantomData<fn(T, M)>);

impl<S, T, M> ErasedSink<S, T, M> {
    pub(crate) fn new(sink: S) -> Self {
        ErasedSink(sink, PhantomData)
    }
}

impl<T: Send + 'static, S: Sink<T>, M: TimeDomain> DynSink for ErasedSink<S, T, M> {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.0.open(context)
    }
    fn write(&mut self, epoch: Epoch, mut batch: Batch) -> Result<(), SinkError> {
        match batch.take::<M::Row<T>>() {
            Some(rows) => self.0.write(epoch, &mut M::strip(rows)),
            None => Err(SinkError::Setup(format!("{} was handed rows of another type", self.0.describe()))),
        }
    }
    fn prepare(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.0.prepare(epoch)
    }
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.0.commit(epoch)
    }
    fn abort(&mut self) {
        self.0.abort();
    }
}
