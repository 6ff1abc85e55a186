//! The first records of a ranking.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::order::{Greatest, GreatestBy, Least, RankOrder};
use super::{Aggregate, Projection};
use crate::Data;
use crate::prefetch::{fetch_all, fetch_at};

/// Room for that many records is reserved at once.
const SOME: usize = 32;

/// For up to that many records there are candidates for half as many more, which are sorted to find the first `n`. For more records
/// there are twice as many, of which the first `n` are selected.
///
/// A selection among so few is slower than sorting them, after which the result is nearly in order. Shorter lists take fewer lines
/// of memory, each of which is waited for: the ten greatest of each of 100,000 keys take 7 % less processor time than with twice as
/// many candidates and a selection.
const FEW: usize = 32;

/// The `n` records with the greatest rank, or with the least.
///
/// The result has at most `n` records, the first of the ranking first. Of records with the same rank the least by their own order
/// comes first, and is kept if not all of them are: so the result does not depend on the order in which records come. State is up to
/// twice `n` records.
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

/// The records that may be among the first `n`: at most twice as many, or half as many more if they are few.
///
/// A record that comes is compared with one of them, which lies beside the key, and not with those behind the pointer: in a large
/// state each of these would be waited for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidates<T> {
    /// The last of the first `n` that came, or of the first `n` of all when that was last found out. All others come before it, or
    /// are equal to it.
    last: T,
    /// In no order.
    others: Vec<T>,
}

impl<T, O: RankOrder<T>> TopN<T, O> {
    /// Whether `n` candidates come before a record that comes after `last`.
    #[inline]
    fn is_full(&self, acc: &Candidates<T>) -> bool {
        acc.others.len() + 1 >= self.n
    }

    /// Adds a record; `is_last` if it comes after all others: then there are fewer than `n`.
    #[inline]
    fn insert(&self, acc: &mut Candidates<T>, is_last: bool, value: T) {
        if self.n <= 1 {
            acc.last = value;
            return;
        }
        let other = if is_last { std::mem::replace(&mut acc.last, value) } else { value };
        if acc.others.len() == acc.others.capacity() {
            return self.insert_full(acc, other);
        }
        acc.others.push(other);
    }

    #[inline]
    fn add_owned(&self, acc: &mut Candidates<T>, value: T) {
        let is_last = self.order.compare(&value, &acc.last).is_ge();
        if !(is_last && self.is_full(acc)) {
            self.insert(acc, is_last, value);
        }
    }

    /// How many candidates there are at most, beside the last.
    #[inline]
    fn most(&self) -> usize {
        let more = if self.n <= FEW { self.n / 2 } else { self.n };
        self.n.saturating_add(more) - 1
    }

    /// Makes room and adds a candidate that comes before `last`. Once there are the most, those go that `n` others come before.
    #[inline(never)]
    fn insert_full(&self, acc: &mut Candidates<T>, other: T) {
        let Candidates { last, others } = acc;
        let (count, most) = (others.len(), self.most());
        if count < most {
            // All at once if they are few: most keys get them.
            let room = if count == 0 { SOME } else { count.saturating_mul(2) };
            others.reserve_exact(room.min(most) - count);
            others.push(other);
            return;
        }
        if self.n <= FEW {
            others.sort_unstable_by(|a, b| self.order.compare(a, b));
        } else {
            others.select_nth_unstable_by(self.n - 1, |a, b| self.order.compare(a, b));
        }
        others.truncate(self.n);
        if let Some(nth) = others.pop() {
            *last = nth;
        }
        if self.order.compare(&other, last).is_lt() {
            others.push(other);
        }
    }

    /// Leaves the first `n`, in order.
    fn arrange<R: Borrow<T>>(&self, rows: &mut Vec<R>) {
        let compare = |a: &R, b: &R| self.order.compare(a.borrow(), b.borrow());
        if rows.len() > self.n.max(SOME) {
            rows.select_nth_unstable_by(self.n, compare);
            rows.truncate(self.n);
        }
        rows.sort_unstable_by(compare);
        rows.truncate(self.n);
    }
}

impl<T: Data + Clone, O: RankOrder<T>> Aggregate for TopN<T, O> {
    type In = T;
    type Acc = Candidates<T>;
    type Out = Vec<T>;

    /// A record that owns nothing shares no memory.
    const OWNS: bool = !std::mem::needs_drop::<T>();

    /// The lists of the keys lie far apart.
    const FETCHES: bool = true;

    #[inline]
    fn fetch(&self, acc: &Self::Acc) {
        fetch_all(&acc.others);
    }

    #[inline(always)]
    fn fetch_next(&self, acc: &Self::Acc) {
        let others = &acc.others;
        if others.len() < others.capacity() {
            fetch_at(others.as_ptr().wrapping_add(others.len()));
        } else {
            fetch_all(others);
        }
    }

    #[inline]
    fn create(&self, value: &T) -> Self::Acc {
        Candidates { last: value.clone(), others: Vec::new() }
    }

    #[inline]
    fn add(&self, acc: &mut Self::Acc, value: &T) {
        let is_last = self.order.compare(value, &acc.last).is_ge();
        if !(is_last && self.is_full(acc)) {
            self.insert(acc, is_last, value.clone());
        }
    }

    #[inline]
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        self.add_owned(acc, other.last);
        if other.others.capacity() > 0 {
            other.others.into_iter().for_each(|value| self.add_owned(acc, value));
        }
    }

    fn finish(&self, acc: &Self::Acc) -> Vec<T> {
        let mut rows: Vec<&T> = Vec::with_capacity(acc.others.len() + 1);
        rows.extend(&acc.others);
        rows.push(&acc.last);
        self.arrange(&mut rows);
        rows.into_iter().cloned().collect()
    }

    fn finish_owned(&self, acc: Self::Acc) -> Vec<T> {
        let Candidates { last, others: mut rows } = acc;
        if rows.len() < self.n {
            rows.reserve_exact(1);
            rows.push(last);
        }
        self.arrange(&mut rows);
        rows
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
    fn state_is_at_most_twice_the_records_asked_for() {
        for n in [0, 1, 2, 3, 10, 100] {
            let top = TopN::greatest(n, |value: &u64| *value);
            // Each comes before all others, and displaces one.
            let mut acc = top.create(&0);
            for value in 1..1_000 {
                top.add(&mut acc, &value);
                assert!(acc.others.capacity() < n.max(1) * 2, "{n}");
                assert!(acc.others.iter().all(|other| *other > acc.last), "{n}");
            }
            let best: Vec<u64> = (0..1_000).rev().take(n).collect();
            assert_eq!(top.finish(&acc), best);
            assert_eq!(top.finish_owned(acc), best);
        }
    }

    #[test]
    fn state_of_first_record_alone_has_no_memory_elsewhere() {
        for n in [0, 1] {
            let top = TopN::greatest(n, |value: &u64| *value);
            let mut acc = top.create(&0);
            (1..1_000).for_each(|value| top.add(&mut acc, &value));
            assert_eq!(acc.others.capacity(), 0);
        }
    }

    #[test]
    fn name_has_the_number_that_state_depends_on() {
        assert_eq!(TopN::greatest(3, |n: &u8| *n).describe(), "top 3");
        assert_eq!(TopN::least(3, |n: &u8| *n).describe(), "bottom 3");
    }
}
