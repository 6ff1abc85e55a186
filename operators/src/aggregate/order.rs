//! In which order rankings have records.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Projection;

/// Keeps [`RankOrder`] for the types of this module.
mod sealed {
    pub trait Sealed {}
}

/// What a rank must be, and a record that is ranked: of records with the same rank the least comes first.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no order by which records could be ranked",
    note = "a ranking needs the order of the rank and, between equal ranks, that of the records: `#[derive(PartialEq, Eq, PartialOrd, \
            Ord)]` on the type, if it has no floats",
    note = "with floats in it, use `top_n_by` or `sort_within_window_by` with a comparison: \
            `|a, b| a.celsius.total_cmp(&b.celsius)`"
)]
pub trait HasOrder: Ord {}
#[diagnostic::do_not_recommend]
impl<T: Ord> HasOrder for T {}

/// An order of records, and which of them have the same rank. Named in types, implemented only here.
pub trait RankOrder<T>: sealed::Sealed + Clone + Send + Sync + 'static {
    /// What a ranking is called in plans and checkpoints.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Less if the first record comes before the second.
    fn compare(&self, a: &T, b: &T) -> Ordering;

    /// Whether both have the same rank.
    fn is_tie(&self, a: &T, b: &T) -> bool;
}

/// The records with the greatest rank first; of those with the same rank the least by their own order.
#[derive(Clone)]
pub struct Greatest<P>(P);

/// The records with the least rank first; of those with the same rank the least by their own order.
#[derive(Clone)]
pub struct Least<P>(P);

/// The records that are greatest by comparison first; those that are equal by it in any order.
pub struct GreatestBy<F>(Arc<F>);

/// The records that are least by comparison first; those that are equal by it in the order in which they came.
pub struct LeastBy<F>(Arc<F>);

impl<T, R, F: Fn(&T) -> R> Greatest<Projection<T, R, F>> {
    pub(super) fn of(rank: F) -> Self {
        Greatest(Projection::new(rank))
    }
}

impl<T, R, F: Fn(&T) -> R> Least<Projection<T, R, F>> {
    pub(super) fn of(rank: F) -> Self {
        Least(Projection::new(rank))
    }
}

impl<F> GreatestBy<F> {
    pub(super) fn of(compare: F) -> Self {
        GreatestBy(Arc::new(compare))
    }
}

impl<F> LeastBy<F> {
    pub(super) fn of(compare: F) -> Self {
        LeastBy(Arc::new(compare))
    }
}

impl<F> Clone for GreatestBy<F> {
    fn clone(&self) -> Self {
        GreatestBy(Arc::clone(&self.0))
    }
}

impl<F> Clone for LeastBy<F> {
    fn clone(&self) -> Self {
        LeastBy(Arc::clone(&self.0))
    }
}

impl<P> sealed::Sealed for Greatest<P> {}
impl<P> sealed::Sealed for Least<P> {}
impl<F> sealed::Sealed for GreatestBy<F> {}
impl<F> sealed::Sealed for LeastBy<F> {}

impl<T, R, F> RankOrder<T> for Greatest<Projection<T, R, F>>
where
    T: Ord + 'static,
    R: Ord + 'static,
    F: Fn(&T) -> R + Send + Sync + 'static,
{
    const NAME: &'static str = "top";

    #[inline]
    fn compare(&self, a: &T, b: &T) -> Ordering {
        self.0.of(b).cmp(&self.0.of(a)).then_with(|| a.cmp(b))
    }

    #[inline]
    fn is_tie(&self, a: &T, b: &T) -> bool {
        self.0.of(a) == self.0.of(b)
    }
}

impl<T, R, F> RankOrder<T> for Least<Projection<T, R, F>>
where
    T: Ord + 'static,
    R: Ord + 'static,
    F: Fn(&T) -> R + Send + Sync + 'static,
{
    const NAME: &'static str = "bottom";

    #[inline]
    fn compare(&self, a: &T, b: &T) -> Ordering {
        self.0.of(a).cmp(&self.0.of(b)).then_with(|| a.cmp(b))
    }

    #[inline]
    fn is_tie(&self, a: &T, b: &T) -> bool {
        self.0.of(a) == self.0.of(b)
    }
}

impl<T, F: Fn(&T, &T) -> Ordering + Send + Sync + 'static> RankOrder<T> for GreatestBy<F> {
    const NAME: &'static str = "top by comparison";

    #[inline]
    fn compare(&self, a: &T, b: &T) -> Ordering {
        (self.0)(b, a)
    }

    #[inline]
    fn is_tie(&self, a: &T, b: &T) -> bool {
        (self.0)(a, b).is_eq()
    }
}

impl<T, F: Fn(&T, &T) -> Ordering + Send + Sync + 'static> RankOrder<T> for LeastBy<F> {
    const NAME: &'static str = "bottom by comparison";

    #[inline]
    fn compare(&self, a: &T, b: &T) -> Ordering {
        (self.0)(a, b)
    }

    #[inline]
    fn is_tie(&self, a: &T, b: &T) -> bool {
        (self.0)(a, b).is_eq()
    }
}
