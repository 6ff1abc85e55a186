//! The partitions of a source, in the order in which it has found them, which the checkpoint keeps.

use std::collections::BTreeSet;
use std::sync::Arc;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Serialize};
use tidemill_operators::{SourceError, SourceLog};
use wildmatch::WildMatch;

use super::client::{Client, PATIENCE};
use super::settings::{Start, Topics};

/// A partition of a topic.
pub(super) type Place = (Arc<str>, i32);

/// A partition, and where it begins in a query without a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) place: Place,
    pub(super) start: u64,
}

/// What the log of the source has of a partition.
#[derive(Serialize, Deserialize)]
enum Entry {
    /// `later`: it was found after the query had begun, and is read from its beginning.
    V1 { topic: String, partition: i32, later: bool },
}

/// The partitions in the order of their numbers.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) list: Vec<Partition>,
    log: Option<Arc<dyn SourceLog>>,
}

impl Partitions {
    /// The partitions that the log has, and then those that are new.
    pub(super) fn prepare(
        client: &Client,
        topics: &Topics,
        start: &Start,
        log: Option<Arc<dyn SourceLog>>,
    ) -> Result<Partitions, SourceError> {
        let found = find(client, topics)?;
        let mut known: Vec<(Place, bool)> = Vec::new();
        for entry in log.iter().map(|log| log.entries()).collect::<Result<Vec<_>, _>>()?.concat() {
            let Entry::V1 { topic, partition, later } = postcard::from_bytes(&entry).map_err(|error| {
                SourceError::Setup(format!("the checkpoint's list of partitions cannot be read: {error}"))
            })?;
            known.push(((Arc::from(topic), partition), later));
        }
        let gone = known.iter().find(|(place, _)| !found.contains(place));
        if let Some(((topic, partition), _)) = gone {
            return Err(SourceError::Setup(format!(
                "the checkpoint has positions in {topic}[{partition}], but this partition is not among those of {topics} at {}: add \
                 its topic to the source, or begin the source again with --drop-state and its uid",
                client.settings.brokers()
            )));
        }
        let begins = known.is_empty();
        let new: Vec<Place> = {
            let known: BTreeSet<&Place> = known.iter().map(|(place, _)| place).collect();
            found.iter().filter(|place| !known.contains(place)).cloned().collect()
        };
        let mut partitions = Partitions { list: Vec::new(), log };
        new.iter().try_for_each(|place| partitions.note(place, !begins))?;
        known.extend(new.into_iter().map(|place| (place, !begins)));
        partitions.list = starts(client, known, start)?;
        Ok(partitions)
    }

    /// Adds partitions that were found while the query runs.
    pub(super) fn add(&mut self, found: &[Partition]) -> Result<(), SourceError> {
        for partition in found {
            if self.list.iter().all(|known| known.place != partition.place) {
                self.note(&partition.place, true)?;
                self.list.push(partition.clone());
            }
        }
        Ok(())
    }

    fn note(&self, (topic, partition): &Place, later: bool) -> Result<(), SourceError> {
        let Some(log) = &self.log else { return Ok(()) };
        let entry = Entry::V1 { topic: topic.to_string(), partition: *partition, later };
        let entry = postcard::to_allocvec(&entry).map_err(|error| SourceError::Other(error.into()))?;
        log.append(&entry)
    }
}

/// All partitions of the topics, sorted.
pub(super) fn find(client: &Client, topics: &Topics) -> Result<BTreeSet<Place>, SourceError> {
    let failed = |error: KafkaError| client.failed(&format!("find the partitions of {topics}"), &error);
    let mut found = BTreeSet::new();
    match topics {
        Topics::Named(names) => {
            for name in names {
                let metadata = client.consumer.fetch_metadata(Some(name), PATIENCE).map_err(failed)?;
                let topic = metadata.topics().iter().find(|topic| topic.name() == name);
                let problem = topic
                    .and_then(|topic| topic.error())
                    .map(|error| format!(": {:?}", rdkafka::types::RDKafkaErrorCode::from(error)));
                match topic {
                    Some(topic) if problem.is_none() && !topic.partitions().is_empty() => {
                        found.extend(topic.partitions().iter().map(|p| (Arc::from(name.as_str()), p.id())));
                    }
                    _ => {
                        return Err(SourceError::Setup(format!(
                            "there is no topic `{name}` at {}{}: create it first, or correct its name",
                            client.settings.brokers(),
                            problem.unwrap_or_default()
                        )));
                    }
                }
            }
        }
        Topics::Matching(pattern) => {
            let metadata = client.consumer.fetch_metadata(None, PATIENCE).map_err(failed)?;
            let pattern = WildMatch::new(pattern);
            for topic in metadata.topics() {
                if !topic.name().starts_with("__") && pattern.matches(topic.name()) {
                    found.extend(topic.partitions().iter().map(|p| (Arc::from(topic.name()), p.id())));
                }
            }
        }
    }
    Ok(found)
}

/// Partitions of which these are not known, with their beginnings.
pub(super) fn find_new(
    client: &Client,
    topics: &Topics,
    known: &[Place],
) -> Result<Vec<Partition>, SourceError> {
    let mut found = find(client, topics)?;
    known.iter().for_each(|place| {
        found.remove(place);
    });
    starts(client, found.into_iter().map(|place| (place, true)).collect(), &Start::Earliest)
}

/// Where partitions begin; at their beginning if they were found later.
fn starts(client: &Client, places: Vec<(Place, bool)>, start: &Start) -> Result<Vec<Partition>, SourceError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<Place> = places.iter().map(|(place, _)| place.clone()).collect();
    let ask = |at| client.offsets(&all, at);
    let earliest = ask(Offset::Beginning)?;
    let chosen = match start {
        Start::Earliest => earliest.clone(),
        Start::Latest => ask(Offset::End)?,
        Start::Timestamp(time) => {
            let (from, end) = (ask(Offset::Offset(time.as_millis()))?, ask(Offset::End)?);
            from.into_iter().zip(end).map(|(from, end)| from.or(end)).collect()
        }
        Start::Offsets(offsets) => {
            let of = |(topic, partition): &Place| offsets.get(&(topic.to_string(), *partition)).copied();
            all.iter().zip(&earliest).map(|(place, earliest)| of(place).or(*earliest)).collect()
        }
    };
    let starts = chosen.into_iter().zip(earliest);
    let begin = |((place, later), (chosen, earliest)): ((Place, bool), (Option<u64>, Option<u64>))| {
        let start = if later { earliest } else { chosen };
        match start {
            Some(start) => Ok(Partition { place, start }),
            None => Err(SourceError::Setup(format!(
                "{} has no answer for the offsets of {}[{}]: is its leader there?",
                client.settings.brokers(),
                place.0,
                place.1
            ))),
        }
    };
    places.into_iter().zip(starts).map(begin).collect()
}
