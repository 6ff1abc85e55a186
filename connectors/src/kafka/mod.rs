//! Apache Kafka, behind the feature `kafka`: a source of the partitions of topics.
//!
//! The client is librdkafka, by the crate `rdkafka`. Partitions are assigned to workers by Tidemill, not by a consumer group, and
//! the positions are those of the checkpoint. So a query reads each record once, whatever other consumers of the topic do.

mod client;
mod decode;
mod gap;
mod message;
mod partitions;
mod reader;
mod settings;
mod source;

pub use self::decode::{Bytes, Decode, Json, Mapped, Text, WithBad};
pub use self::message::{KafkaMessage, KafkaRecord};
pub use self::reader::KafkaReader;
pub use self::settings::{KafkaSettings, Start, Topics};
pub use self::source::{KafkaSource, kafka};
