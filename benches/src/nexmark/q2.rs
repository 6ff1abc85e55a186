//! Query 2, selection: auction and price of the bids on every auction whose number 123 divides.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q2;

/// A bid on one of the chosen auctions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selected {
    auction: usize,
    price: usize,
}

impl Row for Selected {
    fn digest(&self) -> u64 {
        Digest::new().number(self.auction as u64).number(self.price as u64).finish()
    }
}

/// Whether a bid is on one of the chosen auctions.
#[inline]
pub(super) fn chosen(bid: &Bid) -> bool {
    bid.auction.is_multiple_of(123)
}

/// Its result.
#[inline]
pub(super) fn select(bid: Bid) -> Selected {
    Selected { auction: bid.auction, price: bid.price }
}

impl Query for Q2 {
    type Row = Selected;
    const NUMBER: u32 = 2;
    const TITLE: &'static str = "selection";
    const WHAT: &'static str = "auction and price of the bids on every auction whose number 123 divides";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Selected>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .filter(chosen)
            .map(select)
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Selected> {
        bids(events).filter(|bid| chosen(bid)).cloned().map(select).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q2>();
    }
}
