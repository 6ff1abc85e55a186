//! Sources and readers whose types are hidden, as the engine holds them.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::buffers::{batch_capacity, with_room};
use crate::chain::pull::{PulledRows, Shared};
use crate::schema::{Shape, probe_text};
use crate::source::{
    Offset, PlanLimits, Polled, PrepareContext, Reader, ReaderContext, Source, SourceError, SourceInfo, Waker,
};
use crate::turn;
use crate::{Batch, JournalSlot, ProcessingTime};

/// A position as the engine keeps it, serialised by code that knows its type.
pub type ErasedOffset = serde_json::Value;

/// A [`Source`] whose types are hidden; made by the graph, used by the engine.
pub trait DynSource: Send + Sync {
    /// See [`Source::describe`].
    fn describe(&self) -> String;
    /// See [`Source::prepare`]. A source with too many partitions is refused.
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<ErasedOffset>, SourceError>;
    /// See [`Source::discover`]. Too many partitions are refused.
    fn discover(&self, now: ProcessingTime) -> Result<SourceInfo<ErasedOffset>, SourceError>;
    /// What the source has found out last; none before it was prepared. A run may be using it.
    fn known(&self) -> Option<SourceInfo<ErasedOffset>>;
    /// See [`Source::is_bounded`].
    fn is_bounded(&self) -> bool;
    /// See [`Source::is_replayable`].
    fn is_replayable(&self) -> bool;
    /// See [`Source::may_move`].
    fn may_move(&self) -> bool;
    /// See [`Source::refresh`].
    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError>;
    /// See [`Source::latest`].
    fn latest(
        &self,
        partition: u32,
        from: &ErasedOffset,
        limits: &PlanLimits,
    ) -> Result<ErasedOffset, SourceError>;
    /// See [`Source::open`].
    fn open(
        &self,
        partition: u32,
        from: &ErasedOffset,
        context: ReaderContext,
    ) -> Result<Box<dyn DynReader>, SourceError>;
    /// See [`Source::freeze`].
    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError>;
    /// See [`Source::committed`].
    fn committed(&self, partition: u32, offset: &ErasedOffset) -> Result<(), SourceError>;
    /// The shape of its offsets as JSON, where that can be found out.
    fn offset_shape(&self) -> Option<Shape>;
    /// See [`Source::journal`].
    fn journal(&self) -> Option<&JournalSlot>;
}

/// A [`Reader`] whose types are hidden.
pub trait DynReader: Send {
    /// Sets how far the next polls may read; `None` lifts the limit.
    fn read_until(&mut self, until: Option<&ErasedOffset>) -> Result<(), SourceError>;
    /// Whether the limit is reached.
    fn at_limit(&self) -> bool;
    /// See [`Reader::poll`].
    fn poll(&mut self, max: usize) -> Result<(Batch, Polled), SourceError>;
    /// A batch in which there are no rows yet: the operator that takes it, on the same worker, reads at most `max` from
    /// this reader then. Until [`polled`](Self::polled) says that it has, the reader must be left alone.
    fn pull_batch(&mut self, max: usize, done: &Waker) -> Batch;
    /// The outcome of the last pull, once it is over.
    fn polled(&mut self) -> Option<Result<Polled, SourceError>>;
    /// See [`Reader::offset`].
    fn offset(&self) -> Result<ErasedOffset, SourceError>;
    /// See [`Reader::rank`].
    fn rank(&self) -> u64;
    /// See [`Reader::next_rank`].
    fn next_rank(&self) -> Option<u64>;
}

fn encode<O: Offset>(offset: &O) -> Result<ErasedOffset, SourceError> {
    serde_json::to_value(offset).map_err(|e| SourceError::Other(Box::new(e)))
}

fn decode<O: Offset>(offset: &ErasedOffset) -> Result<O, SourceError> {
    O::deserialize(offset).map_err(|e| SourceError::Other(Box::new(e)))
}

/// Hides the types of a source.
pub(crate) struct ErasedSource<S> {
    source: S,
    /// What it has found out last.
    known: Mutex<Option<SourceInfo<ErasedOffset>>>,
}

impl<S> ErasedSource<S> {
    pub(crate) fn new(source: S) -> Self {
        ErasedSource { source, known: Mutex::new(None) }
    }
}

impl<S: Source> ErasedSource<S> {
    /// Notes what the source has found out.
    fn note(&self, info: SourceInfo<S::Offset>) -> Result<SourceInfo<ErasedOffset>, SourceError> {
        let info = info.try_map(|_, start| encode(&start))?;
        *turn::lock(&self.known) = Some(info.clone());
        Ok(info)
    }
}

impl<S: Source> DynSource for ErasedSource<S> {
    fn describe(&self) -> String {
        self.source.describe()
    }
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<ErasedOffset>, SourceError> {
        let info = self.source.prepare(context)?;
        if info.discovery_interval().is_some() {
            let cannot = |what| {
                let name = self.source.describe();
                Err(SourceError::Setup(format!(
                    "{name} cannot look for new partitions while a query runs, since {what}: leave out `with_discovery`"
                )))
            };
            if self.source.is_bounded() {
                return cannot("it is bounded, and ends when all its partitions have ended");
            }
            if info.watermark_partition(1) == 0 {
                return cannot("its partitions are slices of one sequence");
            }
        }
        self.note(info)
    }
    fn discover(&self, now: ProcessingTime) -> Result<SourceInfo<ErasedOffset>, SourceError> {
        self.note(self.source.discover(now)?)
    }
    fn known(&self) -> Option<SourceInfo<ErasedOffset>> {
        turn::lock(&self.known).clone()
    }
    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }
    fn is_replayable(&self) -> bool {
        self.source.is_replayable()
    }
    fn may_move(&self) -> bool {
        self.source.may_move()
    }
    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
        self.source.refresh(limits)
    }
    fn latest(
        &self,
        partition: u32,
        from: &ErasedOffset,
        limits: &PlanLimits,
    ) -> Result<ErasedOffset, SourceError> {
        encode(&self.source.latest(partition, &decode(from)?, limits)?)
    }
    fn open(
        &self,
        partition: u32,
        from: &ErasedOffset,
        context: ReaderContext,
    ) -> Result<Box<dyn DynReader>, SourceError> {
        let reader = self.source.open(partition, &decode(from)?, context)?;
        Ok(Box::new(ErasedReader::new(reader)))
    }
    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
        self.source.freeze(now)
    }
    fn committed(&self, partition: u32, offset: &ErasedOffset) -> Result<(), SourceError> {
        self.source.committed(partition, &decode(offset)?)
    }
    fn offset_shape(&self) -> Option<Shape> {
        probe_text::<S::Offset>().ok()
    }
    fn journal(&self) -> Option<&JournalSlot> {
        self.source.journal()
    }
}

/// A reader that the operator behind it may read as well, in turn.
struct ErasedReader<R: Reader> {
    shared: Arc<Mutex<Shared<R>>>,
    /// Whether the last poll brought a good part of a batch.
    filled: bool,
}

impl<R: Reader> ErasedReader<R> {
    fn new(reader: R) -> Self {
        let shared = Arc::new(Mutex::new(Shared { reader, until: None, polled: None }));
        ErasedReader { shared, filled: false }
    }

    /// Never waits: the reader is on this thread, or has gone.
    fn shared(&self) -> MutexGuard<'_, Shared<R>> {
        turn::lock(&self.shared)
    }
}

impl<R: Reader> DynReader for ErasedReader<R> {
    fn read_until(&mut self, until: Option<&ErasedOffset>) -> Result<(), SourceError> {
        self.shared().until = until.map(decode).transpose()?;
        Ok(())
    }
    fn at_limit(&self) -> bool {
        let shared = self.shared();
        shared.until.as_ref().is_some_and(|until| shared.reader.offset() == *until)
    }
    fn poll(&mut self, max: usize) -> Result<(Batch, Polled), SourceError> {
        let max = max.min(batch_capacity::<R::Item>());
        // A source that has filled a batch may well fill another.
        let mut rows = if self.filled { with_room(max) } else { Vec::new() };
        let polled = self.shared().poll(max, &mut rows)?;
        self.filled = polled.rows >= max / 2;
        // A worker that waits for a record polls often, and needs no memory for that.
        let batch = if rows.is_empty() { Batch::default() } else { Batch::from_vec(rows) };
        Ok((batch, polled))
    }
    fn pull_batch(&mut self, max: usize, done: &Waker) -> Batch {
        PulledRows::new(Arc::clone(&self.shared), max, done.clone()).into_batch()
    }
    fn polled(&mut self) -> Option<Result<Polled, SourceError>> {
        self.shared().polled.take()
    }
    fn offset(&self) -> Result<ErasedOffset, SourceError> {
        encode(&self.shared().reader.offset())
    }
    fn rank(&self) -> u64 {
        self.shared().reader.rank()
    }
    fn next_rank(&self) -> Option<u64> {
        self.shared().reader.next_rank()
    }
}
