//! Query 17, auction statistics: of each auction and day how many bids, in all and by rank of the price, and the least,
//! greatest, mean and total price.
//!
//! A running aggregate; see query 15. The mean is a whole number, rounded down.

use std::collections::BTreeMap;

use tidemill::aggregate::{Max, Min, Sum};
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};
use super::ranks::{Bids, ByRank, count, day};

pub(super) struct Q17;

/// The numbers of an auction and day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auction {
    auction: usize,
    day: u64,
    bids: ByRank,
    least: u64,
    greatest: u64,
    mean: u64,
    total: u64,
}

impl Row for Auction {
    fn digest(&self) -> u64 {
        let numbers = [self.day, self.least, self.greatest, self.mean, self.total];
        let start = Digest::new().number(self.auction as u64);
        self.bids.iter().chain(&numbers).fold(start, |digest, number| digest.number(*number)).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(Digest::new().number(self.auction as u64).number(self.day).finish())
    }
}

fn price(bid: &Bid) -> u64 {
    bid.price as u64
}

impl Query for Q17 {
    type Row = Auction;
    const NUMBER: u32 = 17;
    const TITLE: &'static str = "auction statistics";
    const WHAT: &'static str =
        "of each auction and day how many bids, and the least, greatest, mean and total price";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Auction>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .key_by(|bid| (bid.auction, day(bid.date_time)))
            .aggregate((Bids, Min::of(price), Max::of(price), Sum::of(price)))
            .update()
            .map(|((auction, day), (bids, least, greatest, total))| Auction {
                auction,
                day,
                bids,
                least,
                greatest,
                mean: total / bids[0],
                total,
            })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Auction> {
        let mut auctions: BTreeMap<(usize, u64), Vec<&Bid>> = BTreeMap::new();
        for bid in bids(events) {
            auctions.entry((bid.auction, day(bid.date_time))).or_default().push(bid);
        }
        let numbers = |((auction, day), bids): ((usize, u64), Vec<&Bid>)| {
            let prices = || bids.iter().map(|bid| price(bid));
            let total: u64 = prices().sum();
            Auction {
                auction,
                day,
                bids: count(&bids),
                least: prices().min().unwrap_or_default(),
                greatest: prices().max().unwrap_or_default(),
                mean: total / bids.len() as u64,
                total,
            }
        };
        auctions.into_iter().map(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q17>();
    }
}
