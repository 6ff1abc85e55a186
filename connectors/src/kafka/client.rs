//! The client of a source: one for all its partitions, with a thread that serves its events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tidemill_operators::SourceError;

use super::settings::KafkaSettings;
use crate::lock;

/// How long a question to the brokers may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What the client tells besides records.
#[derive(Clone, Default)]
pub(super) struct Events(Arc<Mutex<Option<String>>>);

impl Events {
    /// What ends the query: an error after which the client does not work any more.
    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.0).clone()
    }

    fn fail(&self, reason: String) {
        lock(&self.0).get_or_insert(reason);
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "Kafka: {message}");
            }
            _ => tracing::debug!(facility, "Kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(
                code @ (RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::SSL),
            ) => {
                self.fail(format!("{code}: {reason}"));
            }
            // The client reconnects by itself.
            _ => tracing::warn!("Kafka: {reason}"),
        }
    }
}

impl ConsumerContext for Events {}

pub(super) type Consuming = BaseConsumer<Events>;

/// A client, and the thread that serves its events. Dropped, it ends the thread.
pub(super) struct Client {
    pub(super) consumer: Arc<Consuming>,
    pub(super) settings: KafkaSettings,
    pub(super) events: Events,
    ends: Arc<AtomicBool>,
}

/// How the records of a source are read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The group to which positions are committed, for monitoring only.
    pub(super) group: Option<String>,
    /// Whether records of transactions that are open or have been aborted are read.
    pub(super) uncommitted: bool,
    /// Whether the query continues behind records that the brokers have deleted.
    pub(super) allow_loss: bool,
}

impl Client {
    pub(super) fn new(settings: &KafkaSettings, reading: &Reading) -> Result<Client, SourceError> {
        let mut config = settings.config()?;
        config
            .set("group.id", reading.group.as_deref().unwrap_or("tidemill"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", if reading.uncommitted { "read_uncommitted" } else { "read_committed" })
            .set("auto.offset.reset", if reading.allow_loss { "earliest" } else { "error" });
        let events = Events::default();
        let consumer: Consuming = config
            .create_with_context(events.clone())
            .map_err(|error| SourceError::Setup(settings.without_secrets(format!("Kafka: {error}"))))?;
        let (consumer, ends) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        let served = (Arc::downgrade(&consumer), Arc::clone(&ends), events.clone());
        thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(move || {
                let (consumer, ends, seen) = served;
                // All records are in the queues of partitions: here come errors and the answers to commits.
                while !ends.load(Ordering::Relaxed) {
                    let Some(consumer) = consumer.upgrade() else { return };
                    match consumer.poll(Duration::from_millis(100)) {
                        None => {}
                        Some(Err(error)) => tracing::warn!("Kafka: {error}"),
                        // Better an end than a record that is lost.
                        Some(Ok(message)) => seen.fail(format!(
                            "a record of {}[{}] came by the wrong queue: a defect of Tidemill, please report it",
                            message.topic(),
                            message.partition()
                        )),
                    }
                }
            })
            .map_err(|error| SourceError::io("cannot start the thread of Kafka", error))?;
        Ok(Client { consumer, settings: settings.clone(), events, ends })
    }

    /// An error of the client, by what was being done.
    pub(super) fn failed(&self, what: &str, error: &KafkaError) -> SourceError {
        let reason = self.events.failure().unwrap_or_else(|| error.to_string());
        let text = format!("cannot {what} at {}: {reason}", self.settings.brokers());
        SourceError::Other(self.settings.without_secrets(text).into())
    }

    /// What ends the query, if something does.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        match self.events.failure() {
            Some(reason) => {
                let text = format!("the client of {} has failed: {reason}", self.settings.brokers());
                Err(SourceError::Other(self.settings.without_secrets(text).into()))
            }
            None => Ok(()),
        }
    }

    /// Asks for an offset of each partition: of its beginning, its end, or the first record from a time on, which may not exist.
    /// A broker may have no answer for a partition that was created just now: the question is repeated for some seconds.
    pub(super) fn offsets(
        &self,
        partitions: &[(Arc<str>, i32)],
        at: Offset,
    ) -> Result<Vec<Option<u64>>, SourceError> {
        let begun = Instant::now();
        loop {
            let answers = self.ask(partitions, at).map_err(|error| self.failed("find offsets", &error))?;
            match answers.iter().zip(partitions).find(|(answer, _)| answer.is_err()) {
                None => return Ok(answers.into_iter().map(Result::unwrap_or_default).collect()),
                Some((_, (topic, partition))) if begun.elapsed() >= PATIENCE => {
                    return Err(SourceError::Setup(format!(
                        "{} has no answer for the offsets of {topic}[{partition}]: is its leader there?",
                        self.settings.brokers()
                    )));
                }
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Asks once. `Err`: there is no answer for the partition.
    pub(super) fn ask(
        &self,
        partitions: &[(Arc<str>, i32)],
        at: Offset,
    ) -> Result<Vec<Result<Option<u64>, ()>>, KafkaError> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            asked.add_partition_offset(topic, *partition, at)?;
        }
        let found = self.consumer.offsets_for_times(asked, PATIENCE)?;
        let may_lack = matches!(at, Offset::Offset(_));
        let offset = |(topic, partition): &(Arc<str>, i32)| {
            let element = found.find_partition(topic, *partition).filter(|element| element.error().is_ok());
            match element.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Ok(u64::try_from(offset).ok()),
                Some(_) if may_lack => Ok(None),
                _ => Err(()),
            }
        };
        Ok(partitions.iter().map(offset).collect())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}
