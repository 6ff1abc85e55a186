//! All records, kept.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::Aggregate;
use crate::Data;
use crate::arrival::{self, Run};
use crate::codec::{Codec, Postcard};
use crate::spill::Rows;

/// The records themselves. Those of one partition are in the order in which they arrived, in every kind of window and with
/// any number of workers; those of several partitions interleave as they come. See [`InOrder`](super::InOrder).
///
/// Every record is kept in state until its window closes; prefer an aggregate that needs less where there is one. Beyond
/// the memory that the query may use for state, older records are kept in temporary files, in the form that the codec
/// gives them.
///
/// ```
/// use tidemill::aggregate::Collect;
/// use tidemill::prelude::*;
///
/// let all = Collect::new();
/// let mut acc = all.create(&'a');
/// all.add(&mut acc, &'b');
/// assert_eq!(all.finish(&acc), ['a', 'b']);
/// ```
pub struct Collect<T, C = Postcard> {
    types: PhantomData<fn(&T) -> C>,
}

impl<T> Collect<T> {
    /// Collects records of any type.
    pub fn new() -> Self {
        Collect { types: PhantomData }
    }
}

impl<T, C> Collect<T, C> {
    /// The same with another codec for records that leave memory.
    ///
    /// ```
    /// use tidemill::aggregate::Collect;
    /// use tidemill::codec::Postcard;
    ///
    /// let all = Collect::<u64>::new().with_codec(Postcard);
    /// # let _ = all;
    /// ```
    #[must_use]
    pub fn with_codec<D>(self, _codec: D) -> Collect<T, D> {
        Collect { types: PhantomData }
    }
}

impl<T> Default for Collect<T> {
    fn default() -> Self {
        Collect::new()
    }
}

impl<T, C> Clone for Collect<T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Collect<T, C> {}

/// Rows in the order in which they were merged, and the runs that they belong to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Collected<T: Data + Clone, C: Codec<T>> {
    rows: Rows<T, C>,
    /// Of consecutive rows: their run, and how many there are.
    runs: SmallVec<[(Run, u64); 1]>,
    /// Whether the next row begins a run.
    sealed: bool,
}

impl<T: Data + Clone, C: Codec<T>> Clone for Collected<T, C> {
    fn clone(&self) -> Self {
        Collected { rows: self.rows.clone(), runs: self.runs.clone(), sealed: self.sealed }
    }
}

impl<T: Data + Clone, C: Codec<T>> Collected<T, C> {
    #[inline]
    fn count(&mut self, run: Run, rows: u64) {
        match self.runs.last_mut() {
            Some((last, count)) if *last == run => *count += rows,
            _ => self.runs.push((run, rows)),
        }
    }
}

impl<T: Data + Clone, C: Codec<T>> Aggregate for Collect<T, C> {
    type In = T;
    type Acc = Collected<T, C>;
    type Out = Vec<T>;

    /// As large as the records: nothing is gained by gathering them twice.
    const SHRINKS: bool = false;
    const RELIEVES: bool = true;
    const ORDERED: bool = true;

    #[inline]
    fn create(&self, value: &T) -> Collected<T, C> {
        let run = arrival::run().unwrap_or_else(arrival::begin);
        Collected { rows: Rows::of(value.clone()), runs: smallvec![(run, 1)], sealed: false }
    }

    #[inline]
    fn add(&self, acc: &mut Collected<T, C>, value: &T) {
        acc.rows.push(value.clone());
        let run = match (arrival::run(), acc.runs.last()) {
            (Some(run), _) => run,
            (None, Some((last, _))) if !acc.sealed => *last,
            _ => {
                acc.sealed = false;
                arrival::begin()
            }
        };
        acc.count(run, 1);
    }

    fn merge(&self, acc: &mut Collected<T, C>, other: Collected<T, C>) {
        acc.rows.append(other.rows);
        other.runs.into_iter().for_each(|(run, rows)| acc.count(run, rows));
        acc.sealed = true;
    }

    fn finish(&self, acc: &Collected<T, C>) -> Vec<T> {
        let rows = acc.rows.to_vec();
        if acc.runs.is_sorted_by_key(|(run, _)| *run) {
            return rows;
        }
        let mut runs = Vec::with_capacity(acc.runs.len());
        let mut begin = 0;
        for (run, count) in &acc.runs {
            let end = begin + usize::try_from(*count).unwrap_or(usize::MAX);
            runs.push((*run, begin..end));
            begin = end;
        }
        runs.sort_by_key(|(run, _)| *run);
        let mut in_order = Vec::with_capacity(rows.len());
        let mut rows: Vec<Option<T>> = rows.into_iter().map(Some).collect();
        for (_, places) in runs {
            // None are missing, unless a block could not be read, and the query ends.
            in_order.extend(rows.get_mut(places).into_iter().flatten().filter_map(Option::take));
        }
        in_order
    }

    fn relieve(&self, acc: &mut Collected<T, C>) {
        acc.rows.relieve();
    }

    fn seal(&self, acc: &mut Collected<T, C>) {
        acc.sealed = true;
    }

    fn settle(&self, acc: &mut Collected<T, C>, epoch: u64) {
        // Rows are not moved for it: where runs are out of order, all stay apart.
        let settled = acc.runs.iter().take_while(|(run, _)| run.is_before(epoch)).count();
        if settled < 2 || !acc.runs.is_sorted_by_key(|(run, _)| *run) {
            return;
        }
        let rows = acc.runs.drain(1..settled).map(|(_, rows)| rows).sum::<u64>();
        if let Some((_, count)) = acc.runs.first_mut() {
            *count += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn every_record_is_there() {
        assert_eq!(over(&Collect::new(), &[3, 1, 3]), (vec![3, 1, 3], vec![3, 1, 3]));
    }
}
