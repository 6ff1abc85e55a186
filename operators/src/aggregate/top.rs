//! The first records of a ranking.

use std::cmp::Ordering;
use std::marker::PhantomData;

use smallvec::{SmallVec, smallvec};

use super::order::{Greatest, GreatestBy, Least, RankOrder};
use super::{Aggregate, Projection};
use crate::Data;

/// Room for that many records is reserved at once.
const SOME: usize = 16;

/// The `n` records with the greatest rank, or with the least.
///
/// The result has at most `n` records, the first of the ranking first. Of records with the same rank the least by their own order
/// comes first, and is kept if not all of them are: so the result does not depend on the order in which records come. State is `n`
/// records.
///
/// ```
/// use tidemill::aggregate::TopN;
/// use tidemill::prelude::*;
///
/// let best = TopN::greatest(2, |player: &(char, u32)| player.1);
/// let mut acc = best.create(&('c', 3));
/// [('a', 3), ('b', 7)].iter().for_each(|player| best.add(&mut acc, player));
/// assert_eq!(best.finish(&acc), [('b', 7), ('a', 3)]);
/// ```
pub struct TopN<T, O> {
    n: usize,
    order: O,
    records: PhantomData<fn(&T)>,
}

impl<T, R, F> TopN<T, Greatest<Projection<T, R, F>>>
where
    F: Fn(&T) -> R,
{
    /// The `n` records with the greatest rank.
    pub fn greatest(n: usize, rank: F) -> Self {
        TopN { n, order: Greatest::of(rank), records: PhantomData }
    }
}

impl<T, R, F> TopN<T, Least<Projection<T, R, F>>>
where
    F: Fn(&T) -> R,
{
    /// The `n` records with the least rank.
    pub fn least(n: usize, rank: F) -> Self {
        TopN { n, order: Least::of(rank), records: PhantomData }
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> TopN<T, GreatestBy<F>> {
    /// The `n` records that are the greatest by comparison, for records that have no order of their own.
    ///
    /// Of records that are equal by it any may be kept: compare everything that matters.
    pub fn greatest_by(n: usize, compare: F) -> Self {
        TopN { n, order: GreatestBy::of(compare), records: PhantomData }
    }
}

impl<T, O: Clone> Clone for TopN<T, O> {
    fn clone(&self) -> Self {
        TopN { n: self.n, order: self.order.clone(), records: PhantomData }
    }
}

impl<T, O: RankOrder<T>> TopN<T, O> {
    /// Where a record belongs; `None` if `n` others come before it.
    #[inline]
    fn place(&self, acc: &[T], value: &T) -> Option<usize> {
        match acc.last() {
            // Most records come after all that are kept.
            Some(last) if self.order.compare(value, last).is_ge() => {
                (acc.len() < self.n).then_some(acc.len())
            }
            _ if self.n == 0 => None,
            _ => Some(acc.partition_point(|other| self.order.compare(other, value).is_le())),
        }
    }

    #[inline]
    fn insert(&self, acc: &mut SmallVec<[T; 1]>, place: usize, value: T) {
        if acc.len() == self.n {
            acc.pop();
        } else if acc.len() == acc.capacity() {
            // All at once if they are few: most keys get them.
            acc.reserve_exact(self.n.min(SOME).saturating_sub(acc.len()));
        }
        acc.insert(place, value);
    }
}

impl<T: Data + Clone, O: RankOrder<T>> Aggregate for TopN<T, O> {
    type In = T;
    /// In order, at most `n`. One record is kept in place: so is each that is sent to the worker of its key.
    type Acc = SmallVec<[T; 1]>;
    type Out = Vec<T>;

    #[inline]
    fn create(&self, value: &T) -> Self::Acc {
        if self.n == 0 { SmallVec::new() } else { smallvec![value.clone()] }
    }

    #[inline]
    fn add(&self, acc: &mut Self::Acc, value: &T) {
        if let Some(place) = self.place(acc, value) {
            self.insert(acc, place, value.clone());
        }
    }

    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        for value in other {
            // Those behind a record that has no place have none.
            let Some(place) = self.place(acc, &value) else { return };
            self.insert(acc, place, value);
        }
    }

    fn finish(&self, acc: &Self::Acc) -> Vec<T> {
        acc.to_vec()
    }

    fn describe(&self) -> String {
        format!("{} {}", O::NAME, self.n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    proptest! {
        #[test]
        fn top_and_bottom_are_the_ends_of_a_sorted_list(rows in vec((0..6u8, 0..9u32), 2..60), n in 0..12usize) {
            let mut sorted = rows.clone();
            sorted.sort_by_key(|row| (std::cmp::Reverse(row.0), row.1));
            sorted.truncate(n);
            let rank = |row: &(u8, u32)| row.0;
            prop_assert_eq!(over(&TopN::greatest(n, rank), &rows), (sorted.clone(), sorted));
            let mut sorted = rows.clone();
            sorted.sort();
            sorted.truncate(n);
            prop_assert_eq!(over(&TopN::least(n, rank), &rows), (sorted.clone(), sorted));
        }

        #[test]
        fn top_by_comparison_takes_any_of_equal_records(rows in vec((0..6u8, 0..9u32), 2..60), n in 0..12usize) {
            let mut ranks: Vec<u8> = rows.iter().map(|row| row.0).collect();
            ranks.sort_by(|a, b| b.cmp(a));
            ranks.truncate(n);
            let (one, merged) = over(&TopN::greatest_by(n, |a: &(u8, u32), b| a.0.cmp(&b.0)), &rows);
            for top in [one, merged] {
                prop_assert!(top.iter().all(|row| rows.contains(row)));
                prop_assert_eq!(top.iter().map(|row| row.0).collect::<Vec<_>>(), ranks.clone());
            }
        }
    }

    #[test]
    fn name_has_the_number_that_state_depends_on() {
        assert_eq!(TopN::greatest(3, |n: &u8| *n).describe(), "top 3");
        assert_eq!(TopN::least(3, |n: &u8| *n).describe(), "bottom 3");
    }
}
