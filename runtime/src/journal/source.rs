//! The source that wraps another one and journals its records.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_operators::schema::Schema;
use tidemill_operators::{
    Clock, Data, JournalSlot, PlanLimits, PrepareContext, ProcessingTime, ReaderContext, Source, SourceError,
    SourceInfo, turn,
};

use super::Attachment;
use super::pump::Pump;
use super::queue::Queue;
use super::reader::JournalReader;
use super::store::{Store, Writer};
use crate::checkpoint::CheckpointError;

/// A source with a journal: see [`Journal::journaled`](super::Journal::journaled).
pub struct Journaled<S: Source> {
    source: Arc<S>,
    slot: JournalSlot,
    runs: Mutex<Runs<S>>,
    buffer: usize,
    segment_size: u64,
}

/// What belongs to one run of the query.
struct Runs<S: Source> {
    attachment: Option<Arc<Attachment>>,
    frozen: bool,
    /// What the source within has found out.
    info: Option<SourceInfo<S::Offset>>,
    partitions: BTreeMap<u32, Partition<S>>,
}

struct Partition<S: Source> {
    queue: Arc<Queue<S::Item>>,
    store: Option<Arc<Store>>,
    /// Until the partition is opened and a thread takes it over.
    pump: Option<Pump<S>>,
    /// It is of a run that should be over.
    is_old: bool,
}

impl<S: Source> Journaled<S>
where
    S::Item: Data,
{
    pub(super) fn new(source: S) -> Self {
        let runs = Runs { attachment: None, frozen: false, info: None, partitions: BTreeMap::new() };
        Journaled {
            source: Arc::new(source),
            slot: JournalSlot::of::<S::Item>(),
            runs: Mutex::new(runs),
            buffer: 64 * 1024,
            segment_size: 8 << 20,
        }
    }

    /// Sets how many records per partition may be in the journal without having been read by the graph.
    ///
    /// It is 65,536 by default, at least one, and at most 8 MiB of them. At this limit the source stops receiving.
    #[must_use]
    pub fn with_buffer(mut self, records: usize) -> Self {
        self.buffer = records.max(1);
        self
    }

    /// Sets the size of the journal's files in bytes, 8 MiB by default.
    ///
    /// A file is removed when all its records are committed, so up to this many bytes of committed records stay on the
    /// disk.
    #[must_use]
    pub fn with_segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self
    }
}

impl<S: Source> Journaled<S> {
    fn attachment(&self) -> Option<Arc<Attachment>> {
        self.slot.get()
    }

    /// The runs, of this run of the query and no other.
    fn runs(&self) -> MutexGuard<'_, Runs<S>> {
        // What panics while holding the lock is a source; its partition is then lost, and said to be so.
        let mut runs = turn::lock(&self.runs);
        let now = self.attachment();
        let same = match (&runs.attachment, &now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            runs.attachment = now;
            runs.frozen = false;
            runs.info = None;
            runs.partitions.values_mut().for_each(|partition| {
                partition.pump = None;
                partition.is_old = true;
            });
        }
        runs
    }
}

impl<S: Source> Journaled<S>
where
    S::Item: Data,
{
    /// A partition, made ready. Nothing is read from the source yet.
    fn begin<'a>(
        &self,
        runs: &'a mut Runs<S>,
        number: u32,
        clock: &Clock,
    ) -> Result<&'a mut Partition<S>, SourceError> {
        if runs.partitions.get(&number).is_some_and(|partition| !partition.queue.is_gone()) {
            let problem =
                format!("{} has a reader already: it is read by one query at a time", self.describe());
            return Err(SourceError::Setup(problem));
        }
        let start = runs.info.as_ref().and_then(|info| info.start(number)).cloned();
        let start = start.ok_or_else(|| self.no_partition(number))?;
        let store = self.store(runs.attachment.as_deref(), number).map_err(other)?.map(Arc::new);
        let writer =
            store.as_ref().map(|store| Writer::open(Arc::clone(store))).transpose().map_err(other)?;
        let head = writer.as_ref().map_or(0, Writer::end);
        let queue = Arc::new(Queue::new(head, self.buffer, runs.frozen));
        let pump =
            Pump::new(Arc::clone(&self.source), (number, start), clock.clone(), writer, Arc::clone(&queue));
        runs.partitions.insert(number, Partition { queue, store, pump: Some(pump), is_old: false });
        runs.partitions.get_mut(&number).ok_or_else(|| self.no_partition(number))
    }

    /// Notes what the source within has found out. The journals of the first `known` partitions are not looked at again.
    fn learn(&self, info: SourceInfo<S::Offset>, known: u32) -> Result<SourceInfo<u64>, SourceError> {
        let attachment = self.attachment();
        let oldest = |partition, _| {
            if partition < known {
                return Ok(0);
            }
            let store = self.store(attachment.as_deref(), partition).map_err(other)?;
            Ok(store.and_then(|store| store.first()).unwrap_or(0))
        };
        let own = info.clone().try_map(oldest)?;
        self.runs().info = Some(info);
        Ok(own)
    }

    fn no_partition(&self, number: u32) -> SourceError {
        SourceError::Setup(format!("{} has no partition {number}", self.describe()))
    }

    fn store(&self, attachment: Option<&Attachment>, number: u32) -> Result<Option<Store>, CheckpointError> {
        let Some(Attachment { storage: Some(storage), uid, .. }) = attachment else { return Ok(None) };
        let records = self.slot.records().cloned().unwrap_or_else(|| Arc::new(Schema::of::<S::Item>()));
        Store::open(Arc::clone(storage), uid, number, self.segment_size, records).map(Some)
    }
}

fn other(error: CheckpointError) -> SourceError {
    SourceError::Other(Box::new(error))
}

impl<S: Source> Source for Journaled<S>
where
    S::Item: Data,
{
    type Item = S::Item;
    type Offset = u64;
    type Reader = JournalReader<S::Item>;

    fn describe(&self) -> String {
        format!("journal of {}", self.source.describe())
    }

    /// Each partition begins with the oldest record in the journal: what was received and never committed is not lost. The
    /// positions of the source within are in the journal.
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        self.learn(self.source.prepare(context)?, 0)
    }

    fn discover(&self, now: ProcessingTime) -> Result<SourceInfo<u64>, SourceError> {
        let known = self.runs().info.as_ref().map_or(0, SourceInfo::partitions);
        self.learn(self.source.discover(now)?, known)
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }

    /// Where there is a checkpoint to keep the journal in.
    fn is_replayable(&self) -> bool {
        self.attachment().is_some_and(|attachment| attachment.storage.is_some())
    }

    /// Receives what is available, as long as no thread does: so the first epoch has it.
    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
        self.source.refresh(limits)?;
        let mut runs = self.runs();
        let Some(attachment) = runs.attachment.clone() else { return Ok(()) };
        for number in 0..runs.info.as_ref().map_or(0, SourceInfo::partitions) {
            if runs.partitions.get(&number).is_none_or(|partition| partition.is_old) {
                self.begin(&mut runs, number, &attachment.clock)?;
            }
        }
        let mut queues = Vec::new();
        for partition in runs.partitions.values_mut() {
            match &mut partition.pump {
                Some(pump) => pump.look(),
                None => queues.push(Arc::clone(&partition.queue)),
            }
        }
        let frozen = runs.frozen;
        drop(runs);
        if frozen {
            queues.iter().for_each(|queue| queue.settle());
        }
        Ok(())
    }

    /// As far as the journal is durable.
    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let queue = self.runs().partitions.get(&partition).map(|partition| Arc::clone(&partition.queue));
        let Some(queue) = queue else { return Ok(*from) };
        let most = from.saturating_add(limits.records());
        Ok(queue.end(*from)?.clamp(*from, most))
    }

    fn open(
        &self,
        partition: u32,
        from: &u64,
        context: ReaderContext,
    ) -> Result<JournalReader<S::Item>, SourceError> {
        let mut runs = self.runs();
        let is_ready = runs.partitions.get(&partition).is_some_and(|partition| partition.pump.is_some());
        if !is_ready {
            self.begin(&mut runs, partition, &context.clock)?;
        }
        let Some((own, pump)) = runs.partitions.get_mut(&partition).and_then(|own| {
            let pump = own.pump.take()?;
            Some((own, pump))
        }) else {
            return Err(self.no_partition(partition));
        };
        let (queue, store) = (Arc::clone(&own.queue), own.store.clone());
        drop(runs);
        queue.open(context.waker, store.is_none().then_some(*from));
        Ok(JournalReader::new(queue, store, self.describe(), *from)?.with_thread(pump.start()?))
    }

    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
        self.source.freeze(now)?;
        let mut runs = self.runs();
        runs.frozen = true;
        runs.partitions.values().for_each(|partition| partition.queue.freeze());
        Ok(())
    }

    /// Removes what lies wholly before that. The source was told when the journal had it.
    fn committed(&self, partition: u32, offset: &u64) -> Result<(), SourceError> {
        let store = self.runs().partitions.get(&partition).and_then(|own| own.store.clone());
        if let Some(store) = store {
            store.trim(*offset);
        }
        Ok(())
    }

    fn journal(&self) -> Option<&JournalSlot> {
        Some(&self.slot)
    }

    fn skip_bad_records(&mut self, skip: bool) {
        // The threads that share it begin with the query.
        if let Some(source) = Arc::get_mut(&mut self.source) {
            source.skip_bad_records(skip);
        }
    }
}

impl<S: Source> fmt::Debug for Journaled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journaled").field("source", &self.source.describe()).finish_non_exhaustive()
    }
}
