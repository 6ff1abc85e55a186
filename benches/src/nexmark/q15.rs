//! Query 15, bidding statistics: of each day how many bids, bidders and auctions, in all and by rank of the price.
//!
//! A running aggregate: whenever a day's numbers have changed they are emitted again, and replace the earlier ones.
//! Bidders and auctions are counted once each, exactly, so the ids of a day are kept. A day is a whole number of days
//! since 1970, in UTC.

use std::collections::BTreeMap;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};
use super::ranks::{Bids, ByRank, Distinct, count, day, distinct};

pub(super) struct Q15;

/// A day's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Day {
    day: u64,
    bids: ByRank,
    bidders: ByRank,
    auctions: ByRank,
}

impl Row for Day {
    fn digest(&self) -> u64 {
        let numbers = self.bids.iter().chain(&self.bidders).chain(&self.auctions);
        numbers.fold(Digest::new().number(self.day), |digest, number| digest.number(*number)).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(self.day)
    }
}

impl Query for Q15 {
    type Row = Day;
    const NUMBER: u32 = 15;
    const TITLE: &'static str = "bidding statistics";
    const WHAT: &'static str =
        "of each day how many bids, bidders and auctions, in all and by rank of the price";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Day>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .key_by(|bid| day(bid.date_time))
            .aggregate((Bids, Distinct::of(|bid| bid.bidder), Distinct::of(|bid| bid.auction)))
            .update()
            .map(|(day, (bids, bidders, auctions))| Day { day, bids, bidders, auctions })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Day> {
        let mut days: BTreeMap<u64, Vec<&Bid>> = BTreeMap::new();
        for bid in bids(events) {
            days.entry(day(bid.date_time)).or_default().push(bid);
        }
        let numbers = |(day, bids): (u64, Vec<&Bid>)| Day {
            day,
            bids: count(&bids),
            bidders: distinct(&bids, |bid| bid.bidder),
            auctions: distinct(&bids, |bid| bid.auction),
        };
        days.into_iter().map(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q15>();
    }
}
