//! Query 9, winning bids: each auction with the bid that has won it, when it closes.
//!
//! The suite orders the bids by price and then by time; where both are equal the bidder with the least number wins here.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Auction, Bid, Event, Feed};
use super::lots::{winners, winning_bids};

pub(super) struct Q9;

/// An auction and its winning bid.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Won {
    auction: Auction,
    bidder: usize,
    price: usize,
    bid_time: u64,
    bid_extra: String,
}

impl Won {
    fn of(auction: Auction, bid: Bid) -> Won {
        let Bid { bidder, price, date_time, extra, .. } = bid;
        Won { auction, bidder, price, bid_time: date_time, bid_extra: extra }
    }
}

impl Row for Won {
    fn digest(&self) -> u64 {
        auction_digest(Digest::new(), &self.auction)
            .number(self.bidder as u64)
            .number(self.price as u64)
            .number(self.bid_time)
            .number(self.bid_extra.len() as u64)
            .finish()
    }
}

/// Adds an auction: its numbers, and the lengths of its texts.
pub(super) fn auction_digest(digest: Digest, auction: &Auction) -> Digest {
    let numbers = [auction.id, auction.seller, auction.category, auction.initial_bid, auction.reserve];
    let lengths = [auction.item_name.len(), auction.description.len(), auction.extra.len()];
    let digest = digest.number(auction.date_time).number(auction.expires);
    numbers.iter().chain(&lengths).fold(digest, |digest, number| digest.number(*number as u64))
}

impl Query for Q9 {
    type Row = Won;
    const NUMBER: u32 = 9;
    const TITLE: &'static str = "winning bids";
    const WHAT: &'static str = "each auction with the bid that has won it";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Won>) {
        winning_bids(graph, events, |auction| auction, |bid| bid)
            .map(|(lot, offer)| Won::of(lot.about, offer.about))
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Won> {
        winners(events).into_iter().map(|(auction, bid)| Won::of(auction.clone(), bid.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q9>();
    }
}
