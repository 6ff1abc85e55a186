//! Aggregates: how many records become one value.
//!
//! An accumulator starts with a first record, takes more one by one, merges with others of its kind and is finished to
//! a result. None is ever empty, so a minimum is a plain value and not an option. It must not matter how records
//! are divided among accumulators before they are merged: that is what lets every worker aggregate its own records
//! first (Gray et al., 1997: distributive and algebraic functions).

mod average;
mod bins;
mod collect;
mod count;
mod exact;
mod extremes;
mod fold;
mod in_order;
pub(crate) mod kept;
mod number;
mod projection;
mod reduce;
mod sum;
mod total;
mod tuple;

pub use self::average::Average;
pub use self::collect::{Collect, Collected};
pub use self::count::Count;
pub use self::exact::Exact;
pub use self::extremes::{Max, Min};
pub use self::fold::Fold;
pub use self::in_order::{InOrder, Runs};
pub use self::number::Number;
pub use self::projection::Projection;
pub use self::reduce::Reduce;
pub use self::sum::Sum;
pub use self::total::{Total, Wide, Widest};

use crate::Data;

/// A function from one or more records to one value. Write your own, or combine the ones here as a tuple:
/// `(Count::new(), Sum::of(|o: &Order| o.amount))` is computed in one pass.
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
    /// What is kept between records; part of the state.
    type Acc: Data + Clone;
    /// The result.
    type Out: Data + Clone;

    /// Whether aggregating on each worker before the exchange makes the data smaller. Say `false` where an accumulator
    /// is as large as the records in it.
    const SHRINKS: bool = true;

    /// Whether [`relieve`](Self::relieve) does anything.
    const RELIEVES: bool = false;

    /// Whether what was merged can be taken out again, by [`retract`](Self::retract). Sliding windows of many panes then
    /// keep a running total of each key, and a window costs what comes in and what goes out instead of all it has.
    ///
    /// Say `true` only where merging and retracting give the very same accumulator as merging the rest alone: a count
    /// can do that, plain addition of floating-point numbers cannot (it rounds), nor can a maximum. It is not used where
    /// [`RELIEVES`](Self::RELIEVES) is true too.
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

    /// Whether the result depends on the order of records, and the accumulators keep it. Not for aggregates of your own:
    /// [`InOrder`] makes them so.
    #[doc(hidden)]
    const ORDERED: bool = false;

    /// Whether `create` and `add` see to it themselves that the accumulator shares no memory with records. Otherwise whatever
    /// they clone is a copy.
    #[doc(hidden)]
    const OWNS: bool = false;

    /// An accumulator that has seen one record.
    fn create(&self, value: &Self::In) -> Self::Acc;
    /// Takes another record.
    fn add(&self, acc: &mut Self::Acc, value: &Self::In);
    /// Takes all that another accumulator has seen.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
    /// The result so far.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;

    /// Names the aggregate, in plans and in checkpoints.
    ///
    /// A checkpoint records it, and a restart with another name is refused: the state was made by another function. The
    /// default is the type's name in lower case, without path and type arguments. An aggregate with parameters that its
    /// accumulators depend on names them too.
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

    /// A later record of the same key has gone to another accumulator.
    #[doc(hidden)]
    fn seal(&self, _acc: &mut Self::Acc) {}

    /// No other accumulator has records of this key, and all that was aggregated before the epoch is in this one.
    #[doc(hidden)]
    fn settle(&self, _acc: &mut Self::Acc, _epoch: u64) {}

    /// Memory is short: an accumulator that can keep what it holds elsewhere does so now. The result stays the same.
    fn relieve(&self, _acc: &mut Self::Acc) {}

    /// Whether this accumulator may be merged with others and [retracted](Self::retract) again, in any order, without
    /// a trace, as long as there are never more than `among` together and all of them may. A sum returns `false` where that
    /// many like this one could reach the end of its range. Keys for which the answer was no are merged as if there were
    /// no [`RETRACTS`](Self::RETRACTS), for as long as the accumulator is in the window.
    fn can_retract(&self, _acc: &Self::Acc, _among: u64) -> bool {
        Self::RETRACTS
    }

    /// Takes out what [`merge`](Self::merge) has put in. Something else is always left. Called only if
    /// [`RETRACTS`](Self::RETRACTS).
    fn retract(&self, _acc: &mut Self::Acc, _of: &Self::Acc) {}
}

/// The name of a type in lower case, without paths and type arguments: `count`, or `count, sum` for a tuple.
fn short_name<T: ?Sized>() -> String {
    let mut depth = 0usize;
    let plain: String = std::any::type_name::<T>()
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
    (aggregate.finish(&acc(records)), aggregate.finish(&merged))
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
