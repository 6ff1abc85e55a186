//! Aggregates: functions from many records to one value.
//!
//! An accumulator is created from a first record. Records are added to it one by one, accumulators are merged, and the
//! result is computed from one. No accumulator is ever empty, so a minimum is a plain value and not an `Option`. The
//! result must not depend on how records are divided among accumulators before they are merged, since each worker
//! aggregates its own records first (Gray et al., 1997: distributive and algebraic functions).

mod average;
mod bins;
mod collect;
mod count;
mod count_min;
mod exact;
mod extremes;
mod fold;
mod hyper_log_log;
mod in_order;
pub(crate) mod kept;
mod number;
mod order;
mod part;
mod projection;
mod quantiles;
mod reduce;
mod sample;
mod sorted;
mod sum;
mod top;
mod top_keys;
mod total;
mod tuple;
mod value_hash;
mod variance;

pub use self::average::Average;
pub use self::collect::{Collect, Collected};
pub use self::count::Count;
pub use self::count_min::{CountMin, ValueCounts};
pub use self::exact::Exact;
pub use self::extremes::{Max, Min};
pub use self::fold::Fold;
#[doc(hidden)]
pub use self::hyper_log_log::DistinctValues;
pub use self::hyper_log_log::HyperLogLog;
pub use self::in_order::{InOrder, Runs};
pub use self::number::Number;
pub use self::order::{Greatest, GreatestBy, HasOrder, Least, LeastBy, RankOrder};
pub use self::part::{Borrowed, Part};
pub use self::projection::Projection;
#[doc(hidden)]
pub use self::quantiles::Buckets;
pub use self::quantiles::Quantiles;
pub use self::reduce::Reduce;
pub use self::sample::Sample;
pub use self::sorted::{Ranked, Sorted};
pub use self::sum::Sum;
#[doc(hidden)]
pub use self::top::Candidates;
pub use self::top::TopN;
pub use self::top_keys::{FrequentKey, TopKeys};
pub use self::total::{Total, Wide, Widest};
pub use self::variance::{Spread, Variance};

use crate::Data;

/// A function from one or more records to one value.
///
/// Implement your own, or combine the ones of this module as a tuple: `(Count::new(), Sum::of(|o: &Order| o.amount))`
/// is computed in one pass.
///
/// ```
/// use tidemill::prelude::*;
///
/// /// Whether every order was paid.
/// #[derive(Clone)]
/// struct AllPaid;
///
/// impl Aggregate for AllPaid {
///     type In = (u64, bool);
///     type Acc = bool;
///     type Out = bool;
///
///     fn create(&self, order: &Self::In) -> bool {
///         order.1
///     }
///     fn add(&self, paid: &mut bool, order: &Self::In) {
///         *paid &= order.1;
///     }
///     fn merge(&self, paid: &mut bool, other: bool) {
///         *paid &= other;
///     }
///     fn finish(&self, paid: &bool) -> bool {
///         *paid
///     }
/// }
///
/// let mut paid = AllPaid.create(&(1, true));
/// AllPaid.add(&mut paid, &(2, false));
/// assert!(!AllPaid.finish(&paid));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    note = "for closures use `.reduce(…)` or `.fold(…)`; `tidemill::aggregate` has ready ones; `impl Aggregate` for \
            your own"
)]
pub trait Aggregate: Clone + Send + Sync + 'static {
    /// The records.
    type In: 'static;
    /// The accumulator; part of the state.
    type Acc: Data + Clone;
    /// The result.
    type Out: Data + Clone;

    /// Whether aggregating on each worker before the exchange makes the data smaller. Set it to `false` if an
    /// accumulator is as large as its records.
    const SHRINKS: bool = true;

    /// Whether [`relieve`](Self::relieve) does anything.
    const RELIEVES: bool = false;

    /// Whether a merge can be undone by [`retract`](Self::retract). Sliding windows of many panes then keep a running
    /// total per key, and closing a window costs only the panes that it gains and loses.
    ///
    /// Set it to `true` only if merging and retracting an accumulator restores exactly the accumulator before. This
    /// holds for a count. It does not hold for plain addition of floating-point numbers, which rounds, nor for a
    /// maximum. It has no effect if [`RELIEVES`](Self::RELIEVES) is true.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// /// Whether an odd number of orders was paid.
    /// #[derive(Clone)]
    /// struct Odd;
    ///
    /// impl Aggregate for Odd {
    ///     type In = (u64, bool);
    ///     type Acc = bool;
    ///     type Out = bool;
    ///
    ///     const RETRACTS: bool = true;
    ///
    ///     fn create(&self, order: &Self::In) -> bool {
    ///         order.1
    ///     }
    ///     fn add(&self, odd: &mut bool, order: &Self::In) {
    ///         *odd ^= order.1;
    ///     }
    ///     fn merge(&self, odd: &mut bool, other: bool) {
    ///         *odd ^= other;
    ///     }
    ///     fn finish(&self, odd: &bool) -> bool {
    ///         *odd
    ///     }
    ///     fn retract(&self, odd: &mut bool, of: &bool) {
    ///         *odd ^= of;
    ///     }
    /// }
    /// ```
    const RETRACTS: bool = false;

    /// Whether the result depends on the order of records. Do not set it in an aggregate of your own: wrap it in
    /// [`InOrder`].
    #[doc(hidden)]
    const ORDERED: bool = false;

    /// Whether `create` and `add` see to it themselves that the accumulator shares no memory with records. Otherwise whatever
    /// they clone is a copy.
    #[doc(hidden)]
    const OWNS: bool = false;

    /// Whether [`fetch`](Self::fetch) and [`fetch_next`](Self::fetch_next) do anything.
    #[doc(hidden)]
    const FETCHES: bool = false;

    /// Has the memory fetched that the accumulator owns elsewhere, before its result is asked for.
    #[doc(hidden)]
    fn fetch(&self, _acc: &Self::Acc) {}

    /// Has that part of it fetched which the next record changes.
    #[doc(hidden)]
    fn fetch_next(&self, _acc: &Self::Acc) {}

    /// Returns an accumulator of one record.
    fn create(&self, value: &Self::In) -> Self::Acc;
    /// Adds a record to the accumulator.
    fn add(&self, acc: &mut Self::Acc, value: &Self::In);
    /// Merges another accumulator into this one.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
    /// Returns the result of the records so far.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;

    /// The result of an accumulator that is not needed any more.
    #[doc(hidden)]
    fn finish_owned(&self, acc: Self::Acc) -> Self::Out {
        self.finish(&acc)
    }

    /// Returns the name of the aggregate in plans and checkpoints.
    ///
    /// A checkpoint records it, and a restart with another name is refused, since the state was computed by another
    /// function. The default is the type's name in lower case, without path and type arguments. If the accumulators
    /// depend on parameters of the aggregate, include these in the name.
    ///
    /// ```
    /// use tidemill::aggregate::{Count, Max};
    /// use tidemill::prelude::*;
    ///
    /// assert_eq!((Count::new(), Max::of(|n: &u64| *n)).describe(), "count, max");
    /// ```
    fn describe(&self) -> String {
        short_name::<Self>()
    }

    /// Returns what is wrong with the settings of the aggregate, if anything is. A graph with such an aggregate is refused.
    ///
    /// ```
    /// use tidemill::aggregate::HyperLogLog;
    /// use tidemill::prelude::*;
    ///
    /// let users = HyperLogLog::of(40, |user: &u64| *user);
    /// assert!(users.problem().is_some_and(|problem| problem.contains("must be from 4 to 18 (got 40)")));
    /// ```
    fn problem(&self) -> Option<String> {
        None
    }

    /// A later record of the same key has gone to another accumulator.
    #[doc(hidden)]
    fn seal(&self, _acc: &mut Self::Acc) {}

    /// No other accumulator has records of this key, and all that was aggregated before the epoch is in this one.
    #[doc(hidden)]
    fn settle(&self, _acc: &mut Self::Acc, _epoch: u64) {}

    /// Called when memory is short: moves the content of the accumulator out of memory if possible. The result must not
    /// change.
    fn relieve(&self, _acc: &mut Self::Acc) {}

    /// Returns whether this accumulator can be merged with others and [retracted](Self::retract) again exactly.
    ///
    /// At most `among` accumulators are merged at a time, and all of them have returned `true`. A sum returns `false`
    /// if that many sums of its size could overflow. A key with an accumulator that returned `false` is merged without
    /// [`retract`](Self::retract) as long as the accumulator is in the window.
    fn can_retract(&self, _acc: &Self::Acc, _among: u64) -> bool {
        Self::RETRACTS
    }

    /// Undoes [`merge`](Self::merge) with the accumulator `of`.
    ///
    /// It is called only if [`RETRACTS`](Self::RETRACTS), and only if other accumulators remain merged.
    fn retract(&self, _acc: &mut Self::Acc, _of: &Self::Acc) {}
}

/// The name of a type in lower case, without paths and type arguments: `count`, or `count, sum` for a tuple.
pub(crate) fn short_name<T: ?Sized>() -> String {
    without_types(std::any::type_name::<T>())
}

fn without_types(name: &str) -> String {
    let mut depth = 0usize;
    let plain: String = name
        .chars()
        .filter(|c| {
            depth = depth + usize::from(*c == '<') - usize::from(*c == '>').min(depth);
            depth == 0 && !matches!(c, '<' | '>' | '(' | ')')
        })
        .collect();
    let names: Vec<&str> =
        plain.split(',').map(|part| part.rsplit("::").next().unwrap_or(part).trim()).collect();
    names.join(", ").to_lowercase()
}

/// The result over some records, and the same result again with the records divided in two and merged.
#[cfg(test)]
fn over<A: Aggregate>(aggregate: &A, records: &[A::In]) -> (A::Out, A::Out) {
    let acc = |records: &[A::In]| {
        let mut acc = aggregate.create(&records[0]);
        records[1..].iter().for_each(|record| aggregate.add(&mut acc, record));
        acc
    };
    let (left, right) = records.split_at(records.len() / 2);
    let mut merged = acc(left);
    aggregate.merge(&mut merged, acc(right));
    (aggregate.finish(&acc(records)), aggregate.finish_owned(merged))
}

#[cfg(test)]
mod tests {
    use super::{Count, short_name};

    #[test]
    fn an_aggregate_is_named_without_its_types() {
        assert_eq!(short_name::<Count<Vec<u8>>>(), "count");
        assert_eq!(short_name::<(Count<u8>, Count<(u8, u8)>)>(), "count, count");
    }
}
