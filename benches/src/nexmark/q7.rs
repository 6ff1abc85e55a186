//! Query 7, highest bid: the bids that have the greatest price of their ten seconds.
//!
//! In the suite a join of the bids with the greatest price of each tumbling window; here the bids of that price are kept
//! while the window is open. Where several bids have it, all remain.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids, time};

/// How long a window is, in milliseconds.
pub(super) const SIZE_MS: u64 = 10_000;

pub(super) struct Q7;

/// A bid that no other of its window exceeds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct HighBid {
    auction: usize,
    bidder: usize,
    price: usize,
    date_time: u64,
    extra: String,
}

impl HighBid {
    fn of(bid: &Bid) -> HighBid {
        let Bid { auction, bidder, price, date_time, .. } = *bid;
        HighBid { auction, bidder, price, date_time, extra: bid.extra.clone() }
    }
}

impl Row for HighBid {
    fn digest(&self) -> u64 {
        Digest::new()
            .number(self.auction as u64)
            .number(self.bidder as u64)
            .number(self.price as u64)
            .number(self.date_time)
            .number(self.extra.len() as u64)
            .finish()
    }
}

/// The bids of the greatest price so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Highest {
    price: usize,
    pub(super) bids: Vec<HighBid>,
}

impl Highest {
    /// Takes a bid into account.
    #[inline]
    pub(super) fn add(&mut self, bid: &Bid) {
        if bid.price >= self.price {
            self.keep(HighBid::of(bid));
        }
    }

    fn keep(&mut self, bid: HighBid) {
        if bid.price > self.price {
            self.price = bid.price;
            self.bids.clear();
        }
        self.bids.push(bid);
    }

    /// Takes into account what another has found.
    pub(super) fn merge(&mut self, other: Highest) {
        if other.price >= self.price {
            other.bids.into_iter().for_each(|bid| self.keep(bid));
        }
    }
}

impl Query for Q7 {
    type Row = HighBid;
    const NUMBER: u32 = 7;
    const TITLE: &'static str = "highest bid";
    const WHAT: &'static str = "the bids that have the greatest price of their ten seconds";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<HighBid>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .with_watermark(|bid| time(bid.date_time), Duration::ZERO)
            .window(tumbling(Duration::from_millis(SIZE_MS)))
            .fold(Highest::default(), Highest::add, Highest::merge)
            .append()
            .flat_map(|window| window.value.bids)
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<HighBid> {
        let mut windows: BTreeMap<u64, Vec<&Bid>> = BTreeMap::new();
        for bid in bids(events) {
            windows.entry(bid.date_time / SIZE_MS).or_default().push(bid);
        }
        let highest = |bids: Vec<&Bid>| {
            let price = bids.iter().map(|bid| bid.price).max();
            bids.into_iter().filter(|bid| Some(bid.price) == price).map(HighBid::of).collect::<Vec<_>>()
        };
        windows.into_values().flat_map(highest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q7>();
    }

    #[test]
    fn ties_are_kept() {
        let bid = |auction, price| HighBid { auction, bidder: 0, price, date_time: 0, extra: String::new() };
        let mut highest = Highest::default();
        for (auction, price) in [(1, 5), (2, 9), (3, 9)] {
            highest.keep(bid(auction, price));
        }
        highest.merge(Highest { price: 9, bids: vec![bid(4, 9)] });
        highest.merge(Highest { price: 8, bids: vec![bid(5, 8)] });
        assert_eq!(highest.bids.iter().map(|bid| bid.auction).collect::<Vec<_>>(), [2, 3, 4]);
    }
}
