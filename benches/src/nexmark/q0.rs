//! Query 0, pass through: every event as it came.
//!
//! What the engine costs when there is nothing to do. The suite passes the bids on; here it is all three kinds of
//! event, as they are handed over.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed};

pub(super) struct Q0;

/// An event, ordered by its digest for the comparison with the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed(pub(super) Event);

impl Row for Passed {
    fn digest(&self) -> u64 {
        let digest = Digest::new().number(self.0.timestamp());
        match &self.0 {
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

impl PartialOrd for Passed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Passed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.digest().cmp(&other.digest())
    }
}

impl Query for Q0 {
    type Row = Passed;
    const NUMBER: u32 = 0;
    const TITLE: &'static str = "pass through";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Passed>) {
        graph.source(events.source()).map(Passed).sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Passed> {
        events.iter().cloned().map(Passed).collect()
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
