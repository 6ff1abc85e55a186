//! Sources and readers whose types are hidden, as the engine holds them.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::buffers::{batch_capacity, with_room};
use crate::chain::pull::{PulledRows, Shared};
use crate::schema::{Shape, probe_text};
use crate::source::{
    Offset, PlanLimits, Polled, Reader, ReaderContext, Source, SourceError, SourceLog, Waker,
};
use crate::turn;
use crate::{Batch, JournalSlot, ProcessingTime};

/// A position as the engine keeps it: written down by whoever knows its type.
pub type ErasedOffset = serde_json::Value;

/// A [`Source`] whose types are hidden; made by the graph, used by the engine.
pub trait DynSource: Send + Sync {
    /// See [`Source::describe`].
    fn describe(&self) -> String;
    /// See [`Source::partitions`].
    fn partitions(&self) -> u32;
    /// See [`Source::is_bounded`].
    fn is_bounded(&self) -> bool;
    /// See [`Source::is_replayable`].
    fn is_replayable(&self) -> bool;
    /// See [`Source::start`].
    fn start(&self, partition: u32) -> Result<ErasedOffset, SourceError>;
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
    /// See [`Source::watermark_partition`].
    fn watermark_partition(&self, partition: u32) -> u32;
    /// See [`Source::committed`].
    fn committed(&self, partition: u32, offset: &ErasedOffset) -> Result<(), SourceError>;
    /// See [`Source::keep`].
    fn keep(&self, log: Option<Arc<dyn SourceLog>>) -> Result<(), SourceError>;
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
pub(crate) struct ErasedSource<S>(pub(crate) S);

impl<S: Source> DynSource for ErasedSource<S> {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn partitions(&self) -> u32 {
        self.0.partitions()
    }
    fn is_bounded(&self) -> bool {
        self.0.is_bounded()
    }
    fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }
    fn start(&self, partition: u32) -> Result<ErasedOffset, SourceError> {
        encode(&self.0.start(partition)?)
    }
    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
        self.0.refresh(limits)
    }
    fn latest(
        &self,
        partition: u32,
        from: &ErasedOffset,
        limits: &PlanLimits,
    ) -> Result<ErasedOffset, SourceError> {
        encode(&self.0.latest(partition, &decode(from)?, limits)?)
    }
    fn open(
        &self,
        partition: u32,
        from: &ErasedOffset,
        context: ReaderContext,
    ) -> Result<Box<dyn DynReader>, SourceError> {
        let reader = self.0.open(partition, &decode(from)?, context)?;
        let origin = self.0.watermark_partition(partition);
        Ok(Box::new(ErasedReader::new(reader, origin)))
    }
    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
        self.0.freeze(now)
    }
    fn watermark_partition(&self, partition: u32) -> u32 {
        self.0.watermark_partition(partition)
    }
    fn committed(&self, partition: u32, offset: &ErasedOffset) -> Result<(), SourceError> {
        self.0.committed(partition, &decode(offset)?)
    }
    fn keep(&self, log: Option<Arc<dyn SourceLog>>) -> Result<(), SourceError> {
        self.0.keep(log)
    }
    fn offset_shape(&self) -> Option<Shape> {
        probe_text::<S::Offset>().ok()
    }
    fn journal(&self) -> Option<&JournalSlot> {
        self.0.journal()
    }
}

/// A reader that the operator behind it may read as well, in turn.
struct ErasedReader<R: Reader> {
    shared: Arc<Mutex<Shared<R>>>,
    origin: u32,
    /// Whether the last poll brought a good part of a batch.
    filled: bool,
}

impl<R: Reader> ErasedReader<R> {
    fn new(reader: R, origin: u32) -> Self {
        let shared = Arc::new(Mutex::new(Shared { reader, until: None, polled: None }));
        ErasedReader { shared, origin, filled: false }
    }

    /// Never waits: whoever reads is on this thread, or has gone.
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
        // Whoever has filled a batch may well fill another.
        let mut rows = if self.filled { with_room(max) } else { Vec::new() };
        let polled = self.shared().poll(max, &mut rows)?;
        self.filled = polled.rows >= max / 2;
        // Whoever waits for a record asks again and again, and needs no memory for that.
        let batch = if rows.is_empty() { Batch::default() } else { Batch::from_vec(rows) };
        Ok((batch.with_origin(self.origin), polled))
    }
    fn pull_batch(&mut self, max: usize, done: &Waker) -> Batch {
        PulledRows::new(Arc::clone(&self.shared), max, done.clone()).into_batch().with_origin(self.origin)
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
