//! What records become.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::message::{KafkaMessage, KafkaRecord};
use crate::BadRecord;

/// Makes rows of records. Named in types; use the methods of [`KafkaSource`](super::KafkaSource).
pub trait Decode: Clone + Send + Sync + 'static {
    /// The row.
    type Row: Send + 'static;

    /// The row of a record, or what is wrong with the record.
    fn decode(&self, message: &KafkaMessage<'_>) -> Result<Self::Row, String>;
}

/// Records with all that belongs to them.
#[derive(Clone, Debug)]
pub struct Bytes;

impl Decode for Bytes {
    type Row = KafkaRecord;

    fn decode(&self, message: &KafkaMessage<'_>) -> Result<KafkaRecord, String> {
        Ok(message.to_record())
    }
}

/// Values that are JSON.
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    pub(super) fn new() -> Self {
        Json(PhantomData)
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Json::new()
    }
}

impl<T: DeserializeOwned + Send + 'static> Decode for Json<T> {
    type Row = T;

    fn decode(&self, message: &KafkaMessage<'_>) -> Result<T, String> {
        serde_json::from_slice(value(message)?).map_err(|error| error.to_string())
    }
}

/// Values that are UTF-8.
#[derive(Clone, Debug)]
pub struct Text;

impl Decode for Text {
    type Row = String;

    fn decode(&self, message: &KafkaMessage<'_>) -> Result<String, String> {
        String::from_utf8(value(message)?.to_vec()).map_err(|error| error.utf8_error().to_string())
    }
}

fn value<'m>(message: &'m KafkaMessage<'_>) -> Result<&'m [u8], String> {
    message.value().ok_or_else(|| "the record has no value (a tombstone)".to_owned())
}

/// Rows by a function of the user.
#[derive(Clone, Debug)]
pub struct Mapped<F>(pub(super) F);

impl<T, E, F> Decode for Mapped<F>
where
    T: Send + 'static,
    E: std::fmt::Display,
    F: Fn(&KafkaMessage<'_>) -> Result<T, E> + Clone + Send + Sync + 'static,
{
    type Row = T;

    fn decode(&self, message: &KafkaMessage<'_>) -> Result<T, String> {
        (self.0)(message).map_err(|error| error.to_string())
    }
}

/// All records: `Ok` the good ones, `Err` the bad ones.
#[derive(Clone, Debug)]
pub struct WithBad<D>(pub(super) D);

impl<D: Decode> Decode for WithBad<D> {
    type Row = Result<D::Row, BadRecord>;

    fn decode(&self, message: &KafkaMessage<'_>) -> Result<Self::Row, String> {
        Ok(self.0.decode(message).map_err(|reason| BadRecord {
            file: format!("{}[{}]", message.topic(), message.partition()),
            line: message.offset(),
            text: String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned(),
            reason,
        }))
    }
}
