//! The aggregates that everyone needs, as methods, for windows of this module.

use std::cmp::Ordering;
use std::hash::Hash;

use super::TriggeredStream;
use super::aggregate::TriggeredAggregate;
use super::count::{CountedAggregate, CountedStream};
use crate::aggregate::{
    Average, Collect, Count, CountMin, Fold, Greatest, GreatestBy, HasOrder, HyperLogLog, InOrder, Least,
    Max, Min, Number, Projection, Quantiles, Ranked, Reduce, Sample, Sum, TopKeys, TopN,
};
use crate::codec::Codec;
use crate::group::shortcuts;
use crate::{Data, Key};

impl<K, V: Data, P, Y, W, Clock> TriggeredStream<K, V, P, Y, W, Clock> {
    shortcuts!(V, TriggeredAggregate<K, V, P, Y, W, Clock>);
}

impl<K, V: Data, P, Y> CountedStream<K, V, P, Y> {
    shortcuts!(V, CountedAggregate<K, V, P, Y>);
}
