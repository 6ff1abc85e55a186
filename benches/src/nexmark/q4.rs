//! Query 4, average price for a category: of each category the mean of the prices at which its auctions have closed.
//!
//! The suite's SQL has a running maximum of each auction inside a running mean; an auction counts here once it has closed.
//! The last value of each category is the same. The mean is a whole number, rounded down, as SQL's of whole numbers.

use std::collections::BTreeMap;

use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed};
use super::lots::{winners, winning_bids};

pub(super) struct Q4;

/// The mean of a category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Category {
    pub(super) category: usize,
    pub(super) mean: u64,
}

impl Row for Category {
    fn digest(&self) -> u64 {
        Digest::new().number(self.category as u64).number(self.mean).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(self.category as u64)
    }
}

impl Query for Q4 {
    type Row = Category;
    const NUMBER: u32 = 4;
    const TITLE: &'static str = "average price for a category";
    const WHAT: &'static str = "of each category the mean of the prices at which its auctions have closed";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Category>) {
        winning_bids(graph, events, |auction| auction.category, |_| ())
            .map(|(lot, offer)| (lot.about, offer.price))
            .key_by(|(category, _)| *category)
            .aggregate((Count::new(), Sum::of(|(_, price): &(usize, u64)| *price)))
            .update()
            .map(|(category, (auctions, total))| Category { category, mean: total / auctions })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Category> {
        let mut prices: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for (auction, bid) in winners(events) {
            prices.entry(auction.category).or_default().push(bid.price as u64);
        }
        let mean = |prices: Vec<u64>| prices.iter().sum::<u64>() / prices.len() as u64;
        prices.into_iter().map(|(category, prices)| Category { category, mean: mean(prices) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q4>();
    }
}
