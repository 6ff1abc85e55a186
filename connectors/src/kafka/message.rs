//! A record of a topic.

use std::fmt;

use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedMessage, Timestamp};
use serde::{Deserialize, Serialize};
use tidemill_operators::EventTime;

/// A record of a topic with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KafkaRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition in the topic.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: u64,
    /// When it was created, or appended to the topic, as the topic is configured.
    pub timestamp: Option<EventTime>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` of a tombstone, which deletes its key in a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record as it lies in the memory of the client: for a [decoder](super::KafkaSource::decode).
pub struct KafkaMessage<'a>(pub(super) Lent<'a>);

/// Where the record lies.
pub(super) enum Lent<'a> {
    Queue(&'a BorrowedMessage<'a>),
    Held(&'a OwnedMessage),
}

/// Calls a method of the message, wherever it lies.
macro_rules! of {
    ($message:expr, $name:ident) => {
        match &$message.0 {
            Lent::Queue(message) => message.$name(),
            Lent::Held(message) => message.$name(),
        }
    };
}

impl KafkaMessage<'_> {
    /// Returns the topic.
    pub fn topic(&self) -> &str {
        of!(self, topic)
    }

    /// Returns the partition in the topic.
    pub fn partition(&self) -> i32 {
        of!(self, partition)
    }

    /// Returns the offset in the partition.
    pub fn offset(&self) -> u64 {
        u64::try_from(of!(self, offset)).unwrap_or(0)
    }

    /// Returns when the record was created, or appended to the topic, as the topic is configured.
    pub fn timestamp(&self) -> Option<EventTime> {
        match of!(self, timestamp) {
            Timestamp::NotAvailable => None,
            Timestamp::CreateTime(millis) | Timestamp::LogAppendTime(millis) => {
                Some(EventTime::from_millis(millis))
            }
        }
    }

    /// Returns the key.
    pub fn key(&self) -> Option<&[u8]> {
        of!(self, key)
    }

    /// Returns the value; `None` of a tombstone, which deletes its key in a compacted topic.
    pub fn value(&self) -> Option<&[u8]> {
        of!(self, payload)
    }

    /// Returns the last header of a name, if it has a value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        fn last<'m>(headers: &'m impl Headers, name: &str) -> Option<&'m [u8]> {
            let count = headers.count();
            let named = (0..count).rev().map(|at| headers.get(at)).find(|header| header.key == name);
            named.and_then(|header| header.value)
        }
        match &self.0 {
            Lent::Queue(message) => message.headers().and_then(|headers| last(headers, name)),
            Lent::Held(message) => message.headers().and_then(|headers| last(headers, name)),
        }
    }

    /// Copies the record.
    pub fn to_record(&self) -> KafkaRecord {
        fn all(headers: &impl Headers) -> Vec<(String, Option<Vec<u8>>)> {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        }
        let headers = match &self.0 {
            Lent::Queue(message) => message.headers().map(all),
            Lent::Held(message) => message.headers().map(all),
        };
        KafkaRecord {
            topic: self.topic().to_owned(),
            partition: self.partition(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

impl fmt::Debug for KafkaMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic(), self.partition(), self.offset())
    }
}
