//! Query 16, channel statistics: the numbers of query 15 for each channel and day, and the last minute of the day that
//! had a bid.
//!
//! A running aggregate; see query 15. The minute is a number of minutes since midnight.

use std::collections::BTreeMap;

use tidemill::aggregate::Max;
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};
use super::ranks::{Bids, ByRank, Distinct, count, day, distinct};

pub(super) struct Q16;

/// The numbers of a channel and day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    channel: String,
    day: u64,
    minute: u64,
    bids: ByRank,
    bidders: ByRank,
    auctions: ByRank,
}

impl Row for Channel {
    fn digest(&self) -> u64 {
        let start = Digest::new().text(&self.channel).number(self.day).number(self.minute);
        let numbers = self.bids.iter().chain(&self.bidders).chain(&self.auctions);
        numbers.fold(start, |digest, number| digest.number(*number)).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(Digest::new().text(&self.channel).number(self.day).finish())
    }
}

fn minute(bid: &Bid) -> u64 {
    bid.date_time / 60_000 % 1_440
}

impl Query for Q16 {
    type Row = Channel;
    const NUMBER: u32 = 16;
    const TITLE: &'static str = "channel statistics";
    const WHAT: &'static str = "the same for each channel and day, and the last minute that had a bid";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Channel>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .key_by(|bid| (bid.channel.clone(), day(bid.date_time)))
            .aggregate((
                Max::of(minute),
                Bids,
                Distinct::of(|bid| bid.bidder),
                Distinct::of(|bid| bid.auction),
            ))
            .update()
            .map(|((channel, day), (minute, bids, bidders, auctions))| Channel {
                channel,
                day,
                minute,
                bids,
                bidders,
                auctions,
            })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Channel> {
        let mut channels: BTreeMap<(&str, u64), Vec<&Bid>> = BTreeMap::new();
        for bid in bids(events) {
            channels.entry((&bid.channel, day(bid.date_time))).or_default().push(bid);
        }
        let numbers = |((channel, day), bids): ((&str, u64), Vec<&Bid>)| Channel {
            channel: channel.to_owned(),
            day,
            minute: bids.iter().map(|bid| minute(bid)).max().unwrap_or_default(),
            bids: count(&bids),
            bidders: distinct(&bids, |bid| bid.bidder),
            auctions: distinct(&bids, |bid| bid.auction),
        };
        channels.into_iter().map(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q16>();
    }
}
