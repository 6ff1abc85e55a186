//! Query 20, expand bid with auction: each bid on an auction of category 10, with that auction.
//!
//! A join for ever, without a condition on time: bids that come before their auction, or after it has closed, count as well.

use std::collections::HashMap;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Auction, Bid, Event, Feed, bids};
use super::q9::auction_digest;

/// The category.
const CATEGORY: usize = 10;

pub(super) struct Q20;

/// A bid and its auction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expanded {
    bid: Bid,
    auction: Auction,
}

/// Adds a bid: its numbers, and the lengths of its texts.
pub(super) fn bid_digest(digest: Digest, bid: &Bid) -> Digest {
    let numbers = [bid.auction, bid.bidder, bid.price, bid.channel.len(), bid.url.len(), bid.extra.len()];
    numbers.iter().fold(digest.number(bid.date_time), |digest, number| digest.number(*number as u64))
}

impl Row for Expanded {
    fn digest(&self) -> u64 {
        auction_digest(bid_digest(Digest::new(), &self.bid), &self.auction).finish()
    }
}

impl Query for Q20 {
    type Row = Expanded;
    const NUMBER: u32 = 20;
    const TITLE: &'static str = "expand bid with auction";
    const WHAT: &'static str = "each bid on an auction of category 10, with that auction";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Expanded>) {
        let wanted = |event| match event {
            Event::Bid(bid) => Some(Either::Left(bid)),
            Event::Auction(auction) if auction.category == CATEGORY => Some(Either::Right(auction)),
            Event::Auction(_) | Event::Person(_) => None,
        };
        let (bids, auctions) = graph.source(events.source()).filter_map(wanted).split(|row| row);
        bids.key_by(|bid: &Bid| bid.auction)
            .join(auctions.key_by(|auction: &Auction| auction.id))
            .unbounded()
            .inner()
            .map(|(_, bid, auction)| Expanded { bid, auction })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Expanded> {
        let mut auctions: HashMap<usize, &Auction> = HashMap::new();
        for event in events {
            if let Event::Auction(auction) = event
                && auction.category == CATEGORY
            {
                auctions.insert(auction.id, auction);
            }
        }
        let expanded = |bid: &Bid| {
            let auction = (*auctions.get(&bid.auction)?).clone();
            Some(Expanded { bid: bid.clone(), auction })
        };
        bids(events).filter_map(expanded).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q20>();
    }
}
