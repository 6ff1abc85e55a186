//! All records in order, and all records with their rank.

use std::cmp::Ordering;

use super::order::{Greatest, Least, LeastBy, RankOrder};
use super::{Aggregate, Collect, Collected, Projection};
use crate::Data;
use crate::codec::Postcard;

/// The records in order.
///
/// All of them are kept as by [`Collect`], also in files if there is no memory for them; the result is sorted in memory.
///
/// ```
/// use tidemill::aggregate::Sorted;
/// use tidemill::prelude::*;
///
/// let by_points = Sorted::of(|player: &(char, u32)| player.1);
/// let mut acc = by_points.create(&('c', 3));
/// [('a', 3), ('b', 1)].iter().for_each(|player| by_points.add(&mut acc, player));
/// assert_eq!(by_points.finish(&acc), [('b', 1), ('a', 3), ('c', 3)]);
/// ```
#[derive(Clone)]
pub struct Sorted<T, O> {
    order: O,
    all: Collect<T>,
}

impl<T, R, F: Fn(&T) -> R> Sorted<T, Least<Projection<T, R, F>>> {
    /// By what the function takes from each record, the least first; where that is equal, by the order of the records.
    pub fn of(key: F) -> Self {
        Sorted { order: Least::of(key), all: Collect::new() }
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> Sorted<T, LeastBy<F>> {
    /// By comparison, the least first. Records that are equal by it are in the order in which they came: see [`Collect`].
    pub fn by(compare: F) -> Self {
        Sorted { order: LeastBy::of(compare), all: Collect::new() }
    }
}

/// The records with their ranks, from 1: the number of records with a greater rank, plus one.
///
/// Records with the same rank have the same number, and the next number is left out for each of them: 1, 2, 2, 4, as by SQL's `RANK`.
/// They are in order; those with the same rank by their own order. All records are kept as by [`Collect`].
///
/// ```
/// use tidemill::aggregate::Ranked;
/// use tidemill::prelude::*;
///
/// let by_points = Ranked::greatest(|player: &(char, u32)| player.1);
/// let mut acc = by_points.create(&('c', 3));
/// [('a', 3), ('b', 7), ('d', 1)].iter().for_each(|player| by_points.add(&mut acc, player));
/// assert_eq!(by_points.finish(&acc), [(1, ('b', 7)), (2, ('a', 3)), (2, ('c', 3)), (4, ('d', 1))]);
/// ```
#[derive(Clone)]
pub struct Ranked<T, O> {
    order: O,
    all: Collect<T>,
}

impl<T, R, F: Fn(&T) -> R> Ranked<T, Greatest<Projection<T, R, F>>> {
    /// The record with the greatest rank has the number 1.
    pub fn greatest(rank: F) -> Self {
        Ranked { order: Greatest::of(rank), all: Collect::new() }
    }
}

macro_rules! over_all_records {
    ($name:ident, $out:ty, $what:literal, |$order:ident, $rows:ident| $finish:expr) => {
        impl<T: Data + Clone, O: RankOrder<T>> Aggregate for $name<T, O> {
            type In = T;
            type Acc = Collected<T, Postcard>;
            type Out = $out;

            const SHRINKS: bool = Collect::<T>::SHRINKS;
            const RELIEVES: bool = Collect::<T>::RELIEVES;
            const ORDERED: bool = Collect::<T>::ORDERED;

            #[inline]
            fn create(&self, value: &T) -> Self::Acc {
                self.all.create(value)
            }

            #[inline]
            fn add(&self, acc: &mut Self::Acc, value: &T) {
                self.all.add(acc, value);
            }

            fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
                self.all.merge(acc, other);
            }

            fn finish(&self, acc: &Self::Acc) -> Self::Out {
                let ($order, mut $rows) = (&self.order, self.all.finish(acc));
                $rows.sort_by(|a, b| $order.compare(a, b));
                $finish
            }

            fn describe(&self) -> String {
                $what.to_owned()
            }

            fn relieve(&self, acc: &mut Self::Acc) {
                self.all.relieve(acc);
            }

            fn seal(&self, acc: &mut Self::Acc) {
                self.all.seal(acc);
            }

            fn settle(&self, acc: &mut Self::Acc, epoch: u64) {
                self.all.settle(acc, epoch);
            }
        }
    };
}

over_all_records!(Sorted, Vec<T>, "sorted", |_order, rows| rows);
over_all_records!(Ranked, Vec<(u64, T)>, "ranked", |order, rows| numbered(order, rows));

/// Records in order with their numbers.
fn numbered<T, O: RankOrder<T>>(order: &O, rows: Vec<T>) -> Vec<(u64, T)> {
    let mut numbered = Vec::<(u64, T)>::with_capacity(rows.len());
    for (place, row) in (1..).zip(rows) {
        let number = match numbered.last() {
            Some((number, before)) if order.is_tie(before, &row) => *number,
            _ => place,
        };
        numbered.push((number, row));
    }
    numbered
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    proptest! {
        #[test]
        fn records_are_sorted_however_they_were_divided(rows in vec((0..6u8, 0..9u32), 2..60)) {
            let mut sorted = rows.clone();
            sorted.sort();
            prop_assert_eq!(over(&Sorted::of(|row: &(u8, u32)| row.0), &rows), (sorted.clone(), sorted));
        }

        #[test]
        fn number_of_a_rank_counts_the_records_before_it(rows in vec((0..6u8, 0..9u32), 2..60)) {
            let mut expected: Vec<(u64, (u8, u32))> = rows
                .iter()
                .map(|row| (1 + rows.iter().filter(|other| other.0 > row.0).count() as u64, *row))
                .collect();
            expected.sort();
            prop_assert_eq!(over(&Ranked::greatest(|row: &(u8, u32)| row.0), &rows), (expected.clone(), expected));
        }
    }

    #[test]
    fn records_that_compare_equal_stay_in_the_order_of_arrival() {
        let rows = [(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd')];
        let sorted = vec![(1, 'b'), (1, 'd'), (2, 'a'), (2, 'c')];
        assert_eq!(over(&Sorted::by(|a: &(u8, char), b| a.0.cmp(&b.0)), &rows), (sorted.clone(), sorted));
    }
}
