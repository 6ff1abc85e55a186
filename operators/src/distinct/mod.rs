//! Deduplication: of the rows that agree, the first that comes passes, and the others are dropped.
//!
//! | rows agree | a row is remembered | by | file |
//! |---|---|---|---|
//! | in key and event time | until the watermark has passed its time | [`KeyedStream::distinct`] | `by_time.rs` |
//! | in key | until the watermark is the delay after its time | [`KeyedStream::distinct_within_watermark`] | `within.rs` |
//! | in key | for a TTL, by the engine's clock | [`KeyedStream::distinct_for`] | `for_ttl.rs` |
//!
//! Those by event time are one operator, `remembered.rs`.

mod by_time;
mod explain;
mod for_ttl;
mod remembered;
mod within;

use std::panic::Location;

use crate::build::{ByKey, OperatorBuilder};
use crate::chain::Chain;
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream};

/// The setting that names which rows are duplicates.
const DUPLICATES: &str = "duplicates";

impl<K, T, P, Y> KeyedStream<K, T, P, Y>
where
    K: Key,
    T: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = T>,
{
    /// `duplicates` says which rows are some.
    fn into_distinct(
        self,
        name: &'static str,
        duplicates: String,
        location: &'static Location<'static>,
    ) -> OperatorBuilder<(ByKey<K, T>,)> {
        let graph = self.port.graph.clone();
        graph.operator(name).keyed_stream(self).at(location).setting(DUPLICATES, duplicates)
    }
}
