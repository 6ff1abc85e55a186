//! Query 1, currency conversion: every bid with its price times 0.908.
//!
//! The price becomes a decimal with three places; here it is a whole number of thousandths of a cent, which is exact.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q1;

/// A bid in another currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Converted {
    auction: usize,
    bidder: usize,
    /// In thousandths of a cent.
    price: u64,
    date_time: u64,
    extra: String,
}

impl Row for Converted {
    fn digest(&self) -> u64 {
        Digest::new()
            .number(self.auction as u64)
            .number(self.bidder as u64)
            .number(self.price)
            .number(self.date_time)
            .number(self.extra.len() as u64)
            .finish()
    }
}

/// Converts a bid.
#[inline]
pub(super) fn convert(bid: Bid) -> Converted {
    Converted {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price as u64 * 908,
        date_time: bid.date_time,
        extra: bid.extra,
    }
}

impl Query for Q1 {
    type Row = Converted;
    const NUMBER: u32 = 1;
    const TITLE: &'static str = "currency conversion";
    const WHAT: &'static str = "every bid with its price in another currency";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Converted>) {
        graph.source(events.source()).filter_map(bid).map(convert).sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Converted> {
        bids(events).cloned().map(convert).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q1>();
    }
}
