//! The source.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde::de::DeserializeOwned;
use tidemill_operators::{
    PlanLimits, PrepareContext, ProcessingTime, ReaderContext, Source, SourceError, SourceInfo,
};

use super::client::{Client, Reading};
use super::decode::{Bytes, Decode, Json, Mapped, Text, WithBad};
use super::message::KafkaMessage;
use super::partitions::{Partition, Partitions, Place, find_new};
use super::reader::{KafkaReader, NO_END};
use super::settings::{KafkaSettings, Start, Topics};
use crate::{BadRecords, lock};

/// A source of the records of Kafka topics; see [`kafka`].
///
/// Each partition of a topic is a partition of the source, with its own watermark. The workers share them. The positions are in the
/// checkpoint: a query that resumes continues where it was, in either mode and on any number of workers.
///
/// Records of transactions that are open or were aborted are not read, unless with [`read_uncommitted`](Self::read_uncommitted). A
/// record that the brokers have deleted before it was read ends the query, unless with [`allow_loss`](Self::allow_loss). If a
/// broker cannot be reached, the query waits for it and logs warnings, by `tracing`.
pub struct KafkaSource<D = Bytes> {
    settings: KafkaSettings,
    topics: Topics,
    start: Start,
    bounded: bool,
    discovery: Option<Duration>,
    reading: Reading,
    decode: D,
    bad: BadRecords,
    state: Mutex<Option<Arc<State>>>,
}

/// What a run of a query has.
struct State {
    client: Arc<Client>,
    live: Mutex<Live>,
    topics: Topics,
}

#[derive(Default)]
struct Live {
    partitions: Partitions,
    /// By partition, the offset behind its last record, as the brokers have said last.
    ends: Vec<u64>,
    /// By partition, where the input ends, or [`NO_END`]; shared with the readers.
    limits: Vec<Arc<AtomicU64>>,
    /// What the thread that looks for partitions has found.
    found: Option<Result<Vec<Partition>, String>>,
    is_looking: bool,
    committed: BTreeMap<u32, u64>,
}

/// Returns a source of the records of topics.
///
/// `topics` is a name, a list of names, or [`Topics::matching`] a pattern. The rows are [`KafkaRecord`](super::KafkaRecord)s, unless a decoder is
/// chosen: [`json`](KafkaSource::json), [`text`](KafkaSource::text) or [`decode`](KafkaSource::decode).
///
/// ```no_run
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use tidemill::connectors::kafka::{Start, kafka};
/// use tidemill::prelude::*;
///
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Order { shop: String, euros: u64, at: EventTime }
///
/// let graph = Graph::new("sales");
/// graph
///     .source(kafka("localhost:9092", "orders").start(Start::Latest).json::<Order>())
///     .uid("orders")
///     .with_watermark(|order| order.at, Duration::from_secs(60))
///     .key_by(|order| order.shop.clone())
///     .window(tumbling(Duration::from_secs(60)))
///     .sum(|order| order.euros)
///     .append()
///     .sink(console());
/// graph.run(Options::default().with_checkpoint("checkpoint"))?;
/// # Ok::<(), RunError>(())
/// ```
pub fn kafka(brokers: impl Into<KafkaSettings>, topics: impl Into<Topics>) -> KafkaSource {
    KafkaSource {
        settings: brokers.into(),
        topics: topics.into(),
        start: Start::Earliest,
        bounded: false,
        discovery: Some(Duration::from_secs(30)),
        reading: Reading { group: None, uncommitted: false, allow_loss: false },
        decode: Bytes,
        bad: BadRecords::Fail,
        state: Mutex::new(None),
    }
}

impl KafkaSource {
    /// Parses values as JSON. A record without a value is bad.
    pub fn json<T: DeserializeOwned + Send + 'static>(self) -> KafkaSource<Json<T>> {
        self.decoded(Json::new())
    }

    /// Takes values as text, which must be UTF-8. A record without a value is bad.
    pub fn text(self) -> KafkaSource<Text> {
        self.decoded(Text)
    }

    /// Makes rows with a function, which gets the record as it lies in the memory of the client. An error makes a record bad.
    ///
    /// ```no_run
    /// use std::str::Utf8Error;
    /// use tidemill::connectors::kafka::kafka;
    /// use tidemill::prelude::*;
    ///
    /// let names = kafka("localhost:9092", "users").decode(|record| {
    ///     let name = std::str::from_utf8(record.value().unwrap_or_default())?;
    ///     Ok::<_, Utf8Error>((record.offset(), name.to_owned()))
    /// });
    /// # let _ = names;
    /// ```
    pub fn decode<T, E, F>(self, decode: F) -> KafkaSource<Mapped<F>>
    where
        T: Send + 'static,
        E: Display,
        F: Fn(&KafkaMessage<'_>) -> Result<T, E> + Clone + Send + Sync + 'static,
    {
        self.decoded(Mapped(decode))
    }
}

impl<D: Decode> KafkaSource<D> {
    fn decoded<E>(self, decode: E) -> KafkaSource<E> {
        let KafkaSource { settings, topics, start, bounded, discovery, reading, bad, state, .. } = self;
        KafkaSource { settings, topics, start, bounded, discovery, reading, decode, bad, state }
    }

    /// Sets where a query without a checkpoint begins: by default at the oldest records.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Reads up to the records that are there when the query starts, and ends.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.bounded = true;
        self
    }

    /// Sets how often the source looks for new partitions and topics; by default every 30 seconds, `None` is never.
    ///
    /// They are read from their beginning.
    #[must_use]
    pub fn discovery(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.discovery = every.into();
        self
    }

    /// Reads records of transactions that are open or were aborted as well.
    #[must_use]
    pub fn read_uncommitted(mut self) -> Self {
        self.reading.uncommitted = true;
        self
    }

    /// Goes on at the oldest record if the next one is not there any more, instead of ending the query.
    #[must_use]
    pub fn allow_loss(mut self) -> Self {
        self.reading.allow_loss = true;
        self
    }

    /// Commits the positions of the checkpoint to a consumer group, for tools that show how far a reader is behind.
    ///
    /// They are not read again: a query resumes from its checkpoint.
    #[must_use]
    pub fn commit_to_group(mut self, group: impl Into<String>) -> Self {
        self.reading.group = Some(group.into());
        self
    }

    /// Sets whether a bad record ends the query, which is the default, or is skipped and counted.
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.bad = what;
        self
    }

    /// Returns all records: `Ok` the good ones, and `Err` the bad ones, with topic and partition, offset and what is wrong.
    pub fn with_bad_records(self) -> KafkaSource<WithBad<D>>
    where
        D: Clone,
    {
        let decode = WithBad(self.decode.clone());
        self.decoded(decode)
    }

    fn state(&self) -> Result<Arc<State>, SourceError> {
        lock(&self.state)
            .clone()
            .ok_or_else(|| SourceError::Setup(format!("{} has not been prepared", self.describe())))
    }

    fn info(&self, live: &Live) -> SourceInfo<u64> {
        let count = u32::try_from(live.partitions.list.len()).unwrap_or(u32::MAX);
        let start =
            |partition: u32| live.partitions.list.get(partition as usize).map_or(0, |known| known.start);
        let info = SourceInfo::new(count, start);
        match self.discovery {
            Some(every) if !self.bounded => info.with_discovery(every),
            _ => info.may_grow(),
        }
    }
}

impl State {
    /// Asks the brokers for the ends of all partitions.
    fn ends(&self) -> Result<(), SourceError> {
        let places = self.places();
        if places.is_empty() {
            return Ok(());
        }
        let ends = self.client.offsets(&places, Offset::End)?;
        self.note_ends(ends);
        Ok(())
    }

    /// As [`ends`](Self::ends), asking once: where there is no answer, the end that is known stays.
    fn newer_ends(&self) -> Result<(), rdkafka::error::KafkaError> {
        let places = self.places();
        if places.is_empty() {
            return Ok(());
        }
        let ends = self.client.ask(&places, Offset::End)?;
        self.note_ends(ends.into_iter().map(Result::unwrap_or_default));
        Ok(())
    }

    fn places(&self) -> Vec<Place> {
        lock(&self.live).partitions.list.iter().map(|known| known.place.clone()).collect()
    }

    fn note_ends(&self, ends: impl IntoIterator<Item = Option<u64>>) {
        let mut live = lock(&self.live);
        let count = live.partitions.list.len();
        live.ends.resize(count, 0);
        for (known, end) in live.ends.iter_mut().zip(ends) {
            *known = end.unwrap_or(0).max(*known);
        }
    }

    /// The input ends at the ends that are known.
    fn freeze(&self) {
        let mut live = lock(&self.live);
        let ends = live.ends.clone();
        live.limit();
        live.limits.iter().zip(ends).for_each(|(limit, end)| limit.store(end, Ordering::Relaxed));
    }

    /// Looks for partitions on a thread of its own, unless one is looking.
    fn look(self: &Arc<Self>) {
        let known: Vec<Place> = {
            let mut live = lock(&self.live);
            if std::mem::replace(&mut live.is_looking, true) {
                return;
            }
            live.partitions.list.iter().map(|known| known.place.clone()).collect()
        };
        let state = Arc::clone(self);
        let looks = move || {
            let found = find_new(&state.client, &state.topics, &known).map_err(|error| error.to_string());
            let mut live = lock(&state.live);
            (live.found, live.is_looking) = (Some(found), false);
        };
        if std::thread::Builder::new().name("kafka partitions".to_owned()).spawn(looks).is_err() {
            lock(&self.live).is_looking = false;
        }
    }
}

impl Live {
    fn limit(&mut self) {
        let count = self.partitions.list.len();
        self.limits.resize_with(count, || Arc::new(AtomicU64::new(NO_END)));
    }
}

impl<D: Decode> Source for KafkaSource<D> {
    type Item = D::Row;
    type Offset = u64;
    type Reader = KafkaReader<D>;

    fn describe(&self) -> String {
        format!("Kafka {} at {}", self.topics, self.settings.brokers())
    }

    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        let client = Arc::new(Client::new(&self.settings, &self.reading)?);
        let partitions = Partitions::prepare(&client, &self.topics, &self.start, context.log.clone())?;
        let state = Arc::new(State {
            client,
            live: Mutex::new(Live { partitions, ..Live::default() }),
            topics: self.topics.clone(),
        });
        state.ends()?;
        if self.bounded {
            if lock(&state.live).partitions.list.is_empty() {
                return Err(SourceError::Setup(format!(
                    "no topic at {} matches `{}`: correct the pattern, or create a topic",
                    self.settings.brokers(),
                    self.topics
                )));
            }
            state.freeze();
        }
        let info = self.info(&lock(&state.live));
        *lock(&self.state) = Some(state);
        Ok(info)
    }

    fn discover(&self, _now: ProcessingTime) -> Result<SourceInfo<u64>, SourceError> {
        let state = self.state()?;
        let mut live = lock(&state.live);
        match live.found.take() {
            Some(Ok(found)) => live.partitions.add(&found)?,
            Some(Err(error)) => tracing::warn!("{error}"),
            None => {}
        }
        let info = self.info(&live);
        drop(live);
        state.look();
        Ok(info)
    }

    fn is_bounded(&self) -> bool {
        self.bounded
    }

    fn is_replayable(&self) -> bool {
        true
    }

    fn refresh(&self, _limits: &PlanLimits) -> Result<(), SourceError> {
        let state = self.state()?;
        if let Err(error) = state.newer_ends() {
            // What was known is read; the client reconnects by itself.
            state.client.check()?;
            tracing::warn!("{}: {error}", self.describe());
        }
        Ok(())
    }

    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let state = self.state()?;
        let live = lock(&state.live);
        let at = partition as usize;
        let end = live.ends.get(at).copied().unwrap_or(*from);
        let limit = live.limits.get(at).map_or(NO_END, |limit| limit.load(Ordering::Relaxed));
        Ok(end.min(limit).min(from.saturating_add(limits.records())).max(*from))
    }

    fn open(
        &self,
        partition: u32,
        from: &u64,
        context: ReaderContext,
    ) -> Result<KafkaReader<D>, SourceError> {
        let state = self.state()?;
        let (place, end) = {
            let mut live = lock(&state.live);
            live.limit();
            let at = partition as usize;
            match (live.partitions.list.get(at), live.limits.get(at)) {
                (Some(known), Some(limit)) => (known.place.clone(), Arc::clone(limit)),
                _ => {
                    return Err(SourceError::Setup(format!(
                        "{} has no partition {partition}",
                        self.describe()
                    )));
                }
            }
        };
        let how = (self.decode.clone(), self.bad);
        KafkaReader::open(Arc::clone(&state.client), place, *from, how, context, end)
    }

    fn freeze(&self, _now: ProcessingTime) -> Result<(), SourceError> {
        let state = self.state()?;
        state.ends()?;
        state.freeze();
        Ok(())
    }

    fn committed(&self, partition: u32, offset: &u64) -> Result<(), SourceError> {
        if self.reading.group.is_none() {
            return Ok(());
        }
        let state = self.state()?;
        let mut live = lock(&state.live);
        let Some(known) = live.partitions.list.get(partition as usize) else { return Ok(()) };
        let (topic, number) = known.place.clone();
        if live.committed.insert(partition, *offset) == Some(*offset) {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(1);
        let at = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
        let committed = list
            .add_partition_offset(&topic, number, at)
            .and_then(|()| state.client.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            // Only for those who watch.
            tracing::warn!("{}: {error}", self.describe());
        }
        Ok(())
    }

    fn skip_bad_records(&mut self, skip: bool) {
        self.bad = if skip { BadRecords::Skip } else { BadRecords::Fail };
    }
}
