//! Query 22, URL directories: bids with the first three directories of their URL.
//!
//! The URL is cut at every `/`; the directories are the parts with the numbers 3, 4 and 5, from 0. A part that is not
//! there is none.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q22;

/// A bid with the directories of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directories {
    auction: usize,
    bidder: usize,
    price: usize,
    channel: String,
    directories: [Option<String>; 3],
}

impl Row for Directories {
    fn digest(&self) -> u64 {
        let start = Digest::new()
            .number(self.auction as u64)
            .number(self.bidder as u64)
            .number(self.price as u64)
            .number(self.channel.len() as u64);
        let text = |digest: Digest, name: &Option<String>| digest.text(name.as_deref().unwrap_or("/"));
        self.directories.iter().fold(start, text).finish()
    }
}

fn directories(bid: Bid) -> Directories {
    let mut parts = bid.url.split('/').skip(3).map(str::to_owned);
    Directories {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        directories: [parts.next(), parts.next(), parts.next()],
        channel: bid.channel,
    }
}

impl Query for Q22 {
    type Row = Directories;
    const NUMBER: u32 = 22;
    const TITLE: &'static str = "URL directories";
    const WHAT: &'static str = "bids with the first three directories of their URL";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Directories>) {
        graph.source(events.source()).filter_map(bid).map(directories).sink_per_worker(rows.sinks());
    }

    /// In another way than the query's own: the places of the slashes are found first.
    fn reference(events: &[Event]) -> Vec<Directories> {
        let row = |bid: &Bid| {
            let slashes: Vec<usize> = bid.url.match_indices('/').map(|(at, _)| at).collect();
            let part = |number: usize| {
                let start = slashes.get(number - 1)? + 1;
                Some(bid.url[start..slashes.get(number).copied().unwrap_or(bid.url.len())].to_owned())
            };
            Directories {
                auction: bid.auction,
                bidder: bid.bidder,
                price: bid.price,
                channel: bid.channel.clone(),
                directories: [part(3), part(4), part(5)],
            }
        };
        bids(events).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q22>();
    }
}
