//! What the compiler tells those who put a step in a wrong place, as `group/explain.rs` does for aggregates.

use std::time::Duration;

use super::{DStream, KeyedDStream};
use crate::{KeyedStream, Stream};

/// What batches lack: steps on single records. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "a stream of batches has no steps on single records",
    label = "put `map`, `filter` and others before `.batches(…)`, and one of its operations, such as `.each_batch()`, before a sink",
    note = "`transform` calls a function with the rows of each batch; `tidemill::dstream` lists all operations"
)]
pub trait HasRows {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What keyed batches lack until they have an operation. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "keyed batches have no rows before they have an operation",
    label = "put `.reduce_by_key(…)`, `.group_by_key()`, `.reduce_by_key_and_window(…)`, or `.each_batch()` and an aggregate, before this"
)]
pub trait HasOperation {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

/// What is divided into batches: a stream without keys. Nothing else implements it.
#[diagnostic::on_unimplemented(
    message = "`batches` comes before `key_by`",
    label = "write `.batches(interval).key_by(…)`"
)]
pub trait TakesBatches {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

#[doc(hidden)]
impl<K, V, P, Y> KeyedStream<K, V, P, Y> {
    pub fn batches(self, _interval: Duration) -> KeyedDStream<K, V, P, Y>
    where
        Self: TakesBatches,
    {
        self.never()
    }
}

#[doc(hidden)]
impl<T, P> DStream<T, P> {
    pub fn sink<S>(self, _sink: S)
    where
        Self: HasRows,
    {
        self.never()
    }
    pub fn map<U, F: Fn(T) -> U>(self, _function: F) -> Stream<U>
    where
        Self: HasRows,
    {
        self.never()
    }
    pub fn filter<F: Fn(&T) -> bool>(self, _predicate: F) -> Stream<T>
    where
        Self: HasRows,
    {
        self.never()
    }
    pub fn flat_map<I: IntoIterator, F: Fn(T) -> I>(self, _function: F) -> Stream<I::Item>
    where
        Self: HasRows,
    {
        self.never()
    }
}

#[doc(hidden)]
impl<K, V, P, Y> KeyedDStream<K, V, P, Y> {
    pub fn sink<S>(self, _sink: S)
    where
        Self: HasOperation,
    {
        self.never()
    }
    pub fn count(self) -> Stream<crate::WindowResult<K, u64>>
    where
        Self: HasOperation,
    {
        self.never()
    }
    pub fn map<U, F: Fn((K, V)) -> U>(self, _function: F) -> Stream<U>
    where
        Self: HasOperation,
    {
        self.never()
    }
}
