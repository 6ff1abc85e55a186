//! Query 13, bounded side input join: each bid with the text that a table has for its auction.
//!
//! The table has a row for each number below 10,000, and an auction the row of its number modulo 10,000. Every worker has
//! the whole table, so bids are not exchanged.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

/// How many rows the table has.
const SIDE: usize = 10_000;

pub(super) struct Q13;

/// A bid and the text of its auction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enriched {
    auction: usize,
    bidder: usize,
    price: usize,
    date_time: u64,
    value: String,
}

impl Enriched {
    fn of(bid: &Bid, value: String) -> Enriched {
        let Bid { auction, bidder, price, date_time, .. } = *bid;
        Enriched { auction, bidder, price, date_time, value }
    }
}

impl Row for Enriched {
    fn digest(&self) -> u64 {
        let numbers = [self.auction, self.bidder, self.price];
        let start = Digest::new().number(self.date_time).text(&self.value);
        numbers.iter().fold(start, |digest, number| digest.number(*number as u64)).finish()
    }
}

/// The table.
fn side() -> impl Iterator<Item = (usize, String)> {
    (0..SIDE).map(|key| (key, key.to_string()))
}

impl Query for Q13 {
    type Row = Enriched;
    const NUMBER: u32 = 13;
    const TITLE: &'static str = "bounded side input join";
    const WHAT: &'static str = "each bid with the text that a table has for its auction";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Enriched>) {
        let table = StaticSide::read(memory(side()), |row: &(usize, String)| row.0).broadcast();
        graph
            .source(events.source())
            .filter_map(bid)
            .key_by(|bid| bid.auction % SIDE)
            .join_static(table)
            .inner()
            .map(|(_, bid, (_, value))| Enriched::of(&bid, value))
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Enriched> {
        let table: Vec<(usize, String)> = side().collect();
        bids(events).map(|bid| Enriched::of(bid, table[bid.auction % SIDE].1.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q13>();
    }
}
