//! Aggregates: how many records become one value.
//!
//! An aggregate is created, takes records one by one, merges with others of its kind and is finished to a result. It
//! must not matter how records are divided among accumulators before they are merged: that is what lets every worker
//! aggregate its own records first (Gray et al., 1997: distributive and algebraic functions).

use crate::Data;

/// A function from many records to one value. Write your own, or combine the ones here as a tuple:
/// `(Count, Sum::of(|o: &Order| o.amount))` is computed in one pass.
pub trait Aggregate: Clone + Send + Sync + 'static {
    /// The records.
    type In: 'static;
    /// What is kept between records; part of the state.
    type Acc: Data + Clone;
    /// The result.
    type Out: Data + Clone;

    /// Whether aggregating on each worker before the exchange makes the data smaller. Say `false` where an accumulator
    /// is as large as the records in it.
    const SHRINKS: bool = true;

    /// An accumulator that has seen nothing.
    fn create(&self) -> Self::Acc;
    /// Takes a record.
    fn add(&self, acc: &mut Self::Acc, value: &Self::In);
    /// Takes all that another accumulator has seen.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
    /// The result so far.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;
}
