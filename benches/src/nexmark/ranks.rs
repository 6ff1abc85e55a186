//! Ranks of prices, and the aggregates by rank that the queries with statistics share.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use tidemill::Aggregate;

use super::events::Bid;

/// A number for all prices, then one for each rank.
pub(super) type ByRank = [u64; 4];

/// The rank of a price, from 1: below 10,000, below 1,000,000, and the rest.
#[inline]
pub(super) fn rank(price: usize) -> usize {
    match price {
        ..10_000 => 1,
        10_000..1_000_000 => 2,
        _ => 3,
    }
}

/// The day of a millisecond since 1970, in days since 1970.
#[inline]
pub(super) fn day(date_time: u64) -> u64 {
    date_time / 86_400_000
}

/// How many bids, in all and by rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bids;

impl Aggregate for Bids {
    type In = Bid;
    type Acc = ByRank;
    type Out = ByRank;

    #[inline]
    fn create(&self, bid: &Bid) -> ByRank {
        let mut counts = [0; 4];
        self.add(&mut counts, bid);
        counts
    }

    #[inline]
    fn add(&self, counts: &mut ByRank, bid: &Bid) {
        counts[0] += 1;
        counts[rank(bid.price)] += 1;
    }

    fn merge(&self, counts: &mut ByRank, other: ByRank) {
        counts.iter_mut().zip(other).for_each(|(count, more)| *count += more);
    }

    fn finish(&self, counts: &ByRank) -> ByRank {
        *counts
    }
}

/// How many different ids, in all and by rank of the bids that they appear in.
#[derive(Debug)]
pub(super) struct Distinct<F>(Arc<F>);

impl<F: Fn(&Bid) -> usize> Distinct<F> {
    /// Counts what `of` takes from each bid.
    pub(super) fn of(of: F) -> Distinct<F> {
        Distinct(Arc::new(of))
    }
}

impl<F> Clone for Distinct<F> {
    fn clone(&self) -> Self {
        Distinct(Arc::clone(&self.0))
    }
}

/// Ids, each with a bit for every rank that it was seen in, and their numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    ranks: HashMap<usize, u8, FixedState>,
    counts: ByRank,
}

impl Seen {
    #[inline]
    fn see(&mut self, id: usize, ranks: u8) {
        let seen = self.ranks.entry(id).or_default();
        let new = ranks & !*seen;
        if new == 0 {
            return;
        }
        self.counts[0] += u64::from(*seen == 0);
        for rank in 1..4 {
            self.counts[rank] += u64::from(new >> rank & 1);
        }
        *seen |= new;
    }
}

impl<F: Fn(&Bid) -> usize + Send + Sync + 'static> Aggregate for Distinct<F> {
    type In = Bid;
    type Acc = Seen;
    type Out = ByRank;

    #[inline]
    fn create(&self, bid: &Bid) -> Seen {
        let mut seen = Seen::default();
        self.add(&mut seen, bid);
        seen
    }

    #[inline]
    fn add(&self, seen: &mut Seen, bid: &Bid) {
        seen.see((self.0)(bid), 1 << rank(bid.price));
    }

    fn merge(&self, seen: &mut Seen, mut other: Seen) {
        if seen.ranks.len() < other.ranks.len() {
            std::mem::swap(seen, &mut other);
        }
        other.ranks.into_iter().for_each(|(id, ranks)| seen.see(id, ranks));
    }

    fn finish(&self, seen: &Seen) -> ByRank {
        seen.counts
    }
}

/// The same numbers by a plain loop, for the references.
pub(super) fn distinct<'a>(bids: &[&'a Bid], of: impl Fn(&'a Bid) -> usize) -> ByRank {
    let mut ids: [std::collections::HashSet<usize>; 4] = Default::default();
    for bid in bids {
        ids[0].insert(of(bid));
        ids[rank(bid.price)].insert(of(bid));
    }
    ids.map(|ids| ids.len() as u64)
}

/// How many bids in all and by rank, by a plain loop.
pub(super) fn count(bids: &[&Bid]) -> ByRank {
    let of = |wanted: usize| bids.iter().filter(|bid| rank(bid.price) == wanted).count() as u64;
    [bids.len() as u64, of(1), of(2), of(3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_begins_at_its_bound() {
        assert_eq!([0, 9_999, 10_000, 999_999, 1_000_000].map(rank), [1, 1, 2, 2, 3]);
    }

    #[test]
    fn an_id_counts_once_however_it_was_divided() {
        let mut one = Seen::default();
        one.see(7, 1 << 1);
        one.see(7, 1 << 1);
        one.see(8, 1 << 3);
        let mut other = Seen::default();
        other.see(7, 1 << 2);
        Distinct::of(|bid: &Bid| bid.auction).merge(&mut other, one);
        assert_eq!(other.counts, [2, 1, 1, 1]);
    }
}
