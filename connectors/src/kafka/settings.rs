//! What a user sets: brokers, options of the client, topics, and where to begin.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use tidemill_operators::{EventTime, SourceError};

/// The brokers, and options of the client.
///
/// ```
/// use tidemill::connectors::kafka::KafkaSettings;
///
/// let settings = KafkaSettings::new("broker-1:9093,broker-2:9093")
///     .option("security.protocol", "sasl_ssl")
///     .option("sasl.mechanism", "PLAIN")
///     .option("sasl.username", "orders")
///     .secret("sasl.password", "hunter2");
/// assert!(!format!("{settings:?}").contains("hunter2"));
/// ```
///
/// TLS needs the feature `kafka-tls`.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    brokers: String,
    options: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

/// Options that the source sets itself: with others it would lose records, or read them twice.
const OWN: [&str; 8] = [
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "isolation.level",
];

impl KafkaSettings {
    /// Returns settings for these brokers, `host:port` separated by commas.
    pub fn new(brokers: impl Into<String>) -> Self {
        KafkaSettings { brokers: brokers.into(), options: BTreeMap::new(), secrets: BTreeMap::new() }
    }

    /// Sets an [option of librdkafka](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md).
    ///
    /// Options on which exactly-once results depend are refused when the query starts, as are unknown ones.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// As [`option`](Self::option), with a value that never appears in plans, errors, logs or checkpoints.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), value.into());
        self
    }

    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The configuration of a client.
    pub(super) fn config(&self) -> Result<ClientConfig, SourceError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "tidemill");
        // How long a broker without new records keeps a question: the end of a partition is reported after it.
        config.set("fetch.wait.max.ms", "50");
        for (name, value) in self.options.iter().chain(&self.secrets) {
            if OWN.contains(&name.as_str()) {
                return Err(SourceError::Setup(format!(
                    "the option {name} of Kafka is set by the source itself: leave it out"
                )));
            }
            config.set(name, value);
        }
        Ok(config)
    }

    /// A text of the client without the secrets that it may repeat.
    pub(super) fn without_secrets(&self, text: String) -> String {
        self.secrets
            .values()
            .filter(|secret| !secret.is_empty())
            .fold(text, |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets: Vec<_> = self.secrets.keys().collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("options", &self.options)
            .field("secrets", &secrets)
            .finish()
    }
}

impl From<&str> for KafkaSettings {
    fn from(brokers: &str) -> Self {
        KafkaSettings::new(brokers)
    }
}

impl From<String> for KafkaSettings {
    fn from(brokers: String) -> Self {
        KafkaSettings::new(brokers)
    }
}

/// The topics that a source reads: one, a list, or all that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    /// These topics, which must exist.
    Named(Vec<String>),
    /// The topics whose names match: `*` is any text, `?` a character. Topics that Kafka keeps for itself do not match.
    Matching(String),
}

impl Topics {
    /// Returns the topics whose names match a pattern, such as `orders-*`.
    pub fn matching(pattern: impl Into<String>) -> Self {
        Topics::Matching(pattern.into())
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topics::Named(names) => f.write_str(&names.join(", ")),
            Topics::Matching(pattern) => f.write_str(pattern),
        }
    }
}

impl From<&str> for Topics {
    fn from(topic: &str) -> Self {
        Topics::Named(vec![topic.to_owned()])
    }
}

impl From<String> for Topics {
    fn from(topic: String) -> Self {
        Topics::Named(vec![topic])
    }
}

impl<S: Into<String>> From<Vec<S>> for Topics {
    fn from(topics: Vec<S>) -> Self {
        Topics::Named(topics.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Topics {
    fn from(topics: [S; N]) -> Self {
        Topics::Named(topics.map(Into::into).into())
    }
}

/// Where a query without a checkpoint begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest records that the brokers have.
    #[default]
    Earliest,
    /// At the records that come after the query has started.
    Latest,
    /// In each partition at the first record whose timestamp is not earlier; at the end where there is none.
    Timestamp(EventTime),
    /// At these offsets; in other partitions at the oldest records.
    Offsets(BTreeMap<(String, i32), u64>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_the_source_sets_are_refused() {
        let error = KafkaSettings::new("x").option("group.id", "y").config().unwrap_err().to_string();
        assert!(error.contains("group.id") && error.contains("leave it out"), "{error}");
        assert!(KafkaSettings::new("x").option("fetch.wait.max.ms", "10").config().is_ok());
    }

    #[test]
    fn secrets_are_removed_from_texts() {
        let settings =
            KafkaSettings::new("x").option("sasl.username", "me").secret("sasl.password", "geheim");
        assert_eq!(settings.without_secrets("no geheim here".to_owned()), "no *** here");
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("sasl.password") && shown.contains("me") && !shown.contains("geheim"),
            "{shown}"
        );
    }
}
