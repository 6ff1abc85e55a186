//! Query 0, pass through: every event as it came.
//!
//! What the engine costs when there is nothing to do. The suite passes the bids on; here it is all three kinds of
//! event, as they arrive.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed};

pub(super) struct Q0;

impl Row for Event {
    fn digest(&self) -> u64 {
        let digest = Digest::new().number(self.timestamp());
        match self {
            Event::Person(person) => digest.number(person.id as u64).number(person.extra.len() as u64),
            Event::Auction(auction) => digest.number(auction.id as u64).number(auction.extra.len() as u64),
            Event::Bid(bid) => digest
                .number(bid.auction as u64)
                .number(bid.bidder as u64)
                .number(bid.price as u64)
                .number(bid.extra.len() as u64),
        }
        .finish()
    }
}

impl Query for Q0 {
    type Row = Event;
    const NUMBER: u32 = 0;
    const TITLE: &'static str = "pass through";
    const WHAT: &'static str = "every event as it came; what the engine costs when there is nothing to do";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Event>) {
        graph.source(events.source()).sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Event> {
        events.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q0>();
    }
}
