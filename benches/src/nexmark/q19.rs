//! Query 19, auction top ten: of each auction the ten highest bids, with their rank.
//!
//! Whenever the ten have changed they are emitted again, and replace those of the same auction and rank. Of bids with the same price
//! the earlier one comes first here, and then the one whose bidder has the least number; the suite leaves it open.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q19;

const TOP: usize = 10;

/// A bid and its rank among those of its auction, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranked {
    rank: u64,
    bid: Bid,
}

impl Row for Ranked {
    fn digest(&self) -> u64 {
        Digest::new().number(self.rank).number(self.bid.digest()).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(Digest::new().number(self.bid.auction as u64).number(self.rank).finish())
    }
}

/// Greater is better.
fn order(a: &Bid, b: &Bid) -> Ordering {
    let rank = |bid: &Bid| (bid.price, Reverse(bid.date_time), Reverse(bid.bidder));
    rank(a).cmp(&rank(b))
}

fn ranked(bids: impl IntoIterator<Item = Bid>) -> impl Iterator<Item = Ranked> {
    (1..).zip(bids).map(|(rank, bid)| Ranked { rank, bid })
}

impl Query for Q19 {
    type Row = Ranked;
    const NUMBER: u32 = 19;
    const TITLE: &'static str = "auction top ten";
    const WHAT: &'static str = "of each auction the ten highest bids, with their rank";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Ranked>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .key_by(|bid| bid.auction)
            .top_n_by(TOP, order)
            .update()
            .flat_map(|(_, bids)| ranked(bids))
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Ranked> {
        let mut auctions: BTreeMap<usize, Vec<&Bid>> = BTreeMap::new();
        for bid in bids(events) {
            auctions.entry(bid.auction).or_default().push(bid);
        }
        let top = |mut bids: Vec<&Bid>| {
            bids.sort_by(|a, b| order(b, a));
            ranked(bids.into_iter().take(TOP).cloned().collect::<Vec<_>>())
        };
        auctions.into_values().flat_map(top).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q19>();
    }
}
