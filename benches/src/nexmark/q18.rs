//! Query 18, last bids: of each bidder and auction the latest bid.
//!
//! A ranking of one bid that is kept up to date. Of bids at the same time the one with the highest price is the last here; the suite
//! leaves it open.

use std::collections::BTreeMap;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q18;

impl Row for Bid {
    fn digest(&self) -> u64 {
        let numbers =
            [self.auction, self.bidder, self.price, self.channel.len(), self.url.len(), self.extra.len()];
        let start = Digest::new().number(self.date_time);
        numbers.iter().fold(start, |digest, number| digest.number(*number as u64)).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(Digest::new().number(self.bidder as u64).number(self.auction as u64).finish())
    }
}

fn order(a: &Bid, b: &Bid) -> std::cmp::Ordering {
    let order = |bid: &Bid| (bid.date_time, bid.price);
    // Those that are equal by it differ in their texts only.
    order(a).cmp(&order(b)).then_with(|| (&a.channel, &a.url, &a.extra).cmp(&(&b.channel, &b.url, &b.extra)))
}

impl Query for Q18 {
    type Row = Bid;
    const NUMBER: u32 = 18;
    const TITLE: &'static str = "last bids";
    const WHAT: &'static str = "of each bidder and auction the latest bid";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Bid>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .key_by(|bid| (bid.bidder, bid.auction))
            .top_n_by(1, order)
            .update()
            .flat_map(|(_, last)| last)
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Bid> {
        let mut last: BTreeMap<(usize, usize), &Bid> = BTreeMap::new();
        for bid in bids(events) {
            let last = last.entry((bid.bidder, bid.auction)).or_insert(bid);
            if order(last, bid).is_lt() {
                *last = bid;
            }
        }
        last.into_values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q18>();
    }
}
