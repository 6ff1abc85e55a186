//! Reads one partition of a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use tidemill_operators::{Poll, Reader, ReaderContext, SourceError};

use super::client::{Client, Events, PATIENCE};
use super::decode::Decode;
use super::gap::{Gap, Next};
use super::message::{KafkaMessage, Lent};
use super::partitions::Place;
use crate::BadRecords;

/// No end is known.
pub(super) const NO_END: u64 = u64::MAX;

/// Reads one partition of a [`KafkaSource`](super::KafkaSource).
pub struct KafkaReader<D> {
    client: Arc<Client>,
    place: Place,
    decode: D,
    bad: BadRecords,
    context: ReaderContext,
    /// The partition's records; none before the first poll.
    queue: Option<PartitionQueue<Events>>,
    at: u64,
    /// A record behind the end of a range.
    held: Option<OwnedMessage>,
    gap: Gap,
    /// The end of the input, or [`NO_END`].
    end: Arc<AtomicU64>,
    skipped: u64,
}

impl<D: Decode> KafkaReader<D> {
    pub(super) fn open(
        client: Arc<Client>,
        place: Place,
        at: u64,
        (decode, bad): (D, BadRecords),
        context: ReaderContext,
        end: Arc<AtomicU64>,
    ) -> Result<Self, SourceError> {
        let gap = Gap::default();
        Ok(KafkaReader {
            client,
            place,
            decode,
            bad,
            context,
            queue: None,
            at,
            held: None,
            gap,
            end,
            skipped: 0,
        })
    }

    fn list(&self, at: Offset) -> Result<TopicPartitionList, SourceError> {
        let (topic, partition) = &self.place;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, *partition, at).map_err(|error| self.failed(&error))?;
        Ok(list)
    }

    /// Starts the client at the position, at the first poll.
    fn assign(&self) -> Result<PartitionQueue<Events>, SourceError> {
        let (topic, partition) = &self.place;
        // Before the partition is assigned: otherwise its first records would go to the queue of the client.
        let queue = self.client.consumer.split_partition_queue(topic, *partition);
        let mut queue =
            queue.ok_or_else(|| SourceError::Setup(format!("there is no partition {}", self.name())))?;
        let waker = self.context.waker.clone();
        queue.set_nonempty_callback(move || waker.wake());
        let at = self.list(Offset::Offset(i64::try_from(self.at).unwrap_or(i64::MAX)))?;
        self.client.consumer.incremental_assign(&at).map_err(|error| self.failed(&error))?;
        Ok(queue)
    }

    /// Starts the client again at the position. What it has fetched is dropped; the partition stays assigned, since one that is
    /// assigned again delivers to the queue of the client.
    fn again(&self) -> Result<(), SourceError> {
        let (topic, partition) = &self.place;
        let at = Offset::Offset(i64::try_from(self.at).unwrap_or(i64::MAX));
        self.client.consumer.seek(topic, *partition, at, PATIENCE).map_err(|error| self.failed(&error))
    }

    fn name(&self) -> String {
        format!("{}[{}]", self.place.0, self.place.1)
    }

    fn failed(&self, error: &KafkaError) -> SourceError {
        let name = self.name();
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            return SourceError::Setup(format!(
                "{name} has no record at offset {}: the broker has deleted it, or the topic was created again. \
                 `.allow_loss()` on the source continues at the oldest record; --drop-state with its uid begins the source again",
                self.at
            ));
        }
        self.client.failed(&format!("read {name} from offset {}", self.at), error)
    }

    /// The row of a record at the position; `None` if it is bad and skipped.
    fn row(&mut self, message: &KafkaMessage<'_>) -> Result<Option<D::Row>, SourceError> {
        match (self.decode.decode(message), self.bad) {
            (Ok(row), _) => Ok(Some(row)),
            (Err(_), BadRecords::Skip) => {
                self.skipped += 1;
                Ok(None)
            }
            (Err(reason), BadRecords::Fail) => Err(SourceError::BadRecord {
                place: format!("{}, offset {}", self.name(), message.offset()),
                reason: crate::source::skippable(reason),
            }),
        }
    }

    /// What to do where the queue is empty. `is_planned`: the range ends with an epoch, not with the input.
    fn none(&mut self, until: Option<u64>, is_planned: bool, has_read: bool) -> Result<Poll, SourceError> {
        self.client.check()?;
        let Some(until) = until else {
            return Ok(if has_read { Poll::Soon } else { Poll::Idle });
        };
        let next = self.gap.none(until, self.context.clock.now());
        if next == Next::Ask {
            self.again()?;
        }
        Ok(match next {
            // A query that ends with the available input ends when its readers are idle; this one is not at the end yet.
            _ if !is_planned => Poll::Soon,
            Next::WaitUntil(time) => Poll::IdleUntil(time),
            Next::Wait | Next::Ask => Poll::Idle,
        })
    }
}

/// What came from the queue.
enum Came<R> {
    Row(Option<R>),
    /// A record behind the end of the range, or an end.
    Over,
    Nothing,
    /// Something of which the next is to be read.
    Other,
}

impl<D: Decode> Reader for KafkaReader<D> {
    type Item = D::Row;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<D::Row>) -> Result<Poll, SourceError> {
        let end = self.end.load(Ordering::Relaxed);
        let is_planned = until.is_some();
        let until = until.copied().or((end != NO_END).then_some(end));
        let before = out.len();
        while out.len() - before < max {
            if until.is_some_and(|until| self.at >= until) {
                break;
            }
            let came = match self.held.take() {
                Some(message) => {
                    let offset = u64::try_from(message.offset()).unwrap_or(0);
                    if until.is_some_and(|until| offset >= until) {
                        self.held = Some(message);
                        Came::Over
                    } else {
                        self.at = offset;
                        let row = self.row(&KafkaMessage(Lent::Held(&message)))?;
                        self.at = offset + 1;
                        Came::Row(row)
                    }
                }
                None => self.take_next(until)?,
            };
            match came {
                Came::Row(row) => out.extend(row),
                Came::Over => self.at = until.unwrap_or(self.at),
                Came::Other => {}
                Came::Nothing => return self.none(until, is_planned, out.len() > before),
            }
        }
        Ok(if self.at >= end { Poll::End } else { Poll::Ready })
    }

    fn offset(&self) -> u64 {
        self.at
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        if *offset != self.at {
            self.at = *offset;
            self.held = None;
            self.gap.record();
            if self.queue.is_some() {
                self.again()?;
            }
        }
        Ok(())
    }

    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

impl<D: Decode> KafkaReader<D> {
    fn take_next(&mut self, until: Option<u64>) -> Result<Came<D::Row>, SourceError> {
        let queue = match self.queue.take() {
            Some(queue) => queue,
            None => self.assign()?,
        };
        let came = self.take_from(&queue, until);
        self.queue = Some(queue);
        came
    }

    fn take_from(
        &mut self,
        queue: &PartitionQueue<Events>,
        until: Option<u64>,
    ) -> Result<Came<D::Row>, SourceError> {
        match queue.poll(std::time::Duration::ZERO) {
            None => Ok(Came::Nothing),
            Some(Ok(message)) => {
                let offset = u64::try_from(message.offset()).unwrap_or(0);
                if offset < self.at {
                    return Ok(Came::Other);
                }
                self.gap.record();
                if until.is_some_and(|until| offset >= until) {
                    self.held = Some(message.detach());
                    return Ok(Came::Over);
                }
                self.at = offset;
                let row = self.row(&KafkaMessage(Lent::Queue(&message)))?;
                self.at = offset + 1;
                Ok(Came::Row(row))
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                Ok(if self.gap.end(until) { Came::Over } else { Came::Other })
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                // The client reconnects by itself.
                Some(
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::MessageTimedOut
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::NotLeaderForPartition,
                ) => {
                    tracing::warn!("Kafka: {}: {error}", self.name());
                    Ok(Came::Other)
                }
                _ => Err(self.failed(&error)),
            },
        }
    }
}

impl<D> Drop for KafkaReader<D> {
    fn drop(&mut self) {
        let (topic, partition) = &self.place;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, *partition);
        self.queue = None;
        // The query has ended: what fails here has no consequence.
        drop(self.client.consumer.incremental_unassign(&list));
    }
}
