//! Query 5, hot items: the auctions with the most bids of the last ten seconds, said every two seconds.
//!
//! Sliding windows of 10 s by 2 s count the bids of each auction; of each window the auctions that have the greatest
//! count remain, all of them where there is a tie.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed, bid, bids, time};

/// How long a window is, in milliseconds.
pub(super) const SIZE_MS: u64 = 10_000;
/// How far apart windows begin, in milliseconds.
pub(super) const SLIDE_MS: u64 = 2_000;

pub(super) struct Q5;

/// One of the most wanted auctions of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HotItem {
    /// The window's end, in milliseconds since 1970.
    pub(super) end: u64,
    pub(super) auction: usize,
    pub(super) bids: u64,
}

impl Row for HotItem {
    fn digest(&self) -> u64 {
        Digest::new().number(self.end).number(self.auction as u64).number(self.bids).finish()
    }
}

/// The auctions that have the greatest count so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Hottest {
    pub(super) bids: u64,
    pub(super) auctions: Vec<usize>,
}

impl Hottest {
    /// Takes an auction into account.
    pub(super) fn add(&mut self, auction: usize, bids: u64) {
        if bids > self.bids {
            self.bids = bids;
            self.auctions.clear();
        }
        if bids == self.bids {
            self.auctions.push(auction);
        }
    }

    /// Takes into account what another has found.
    pub(super) fn merge(&mut self, other: Hottest) {
        for auction in other.auctions {
            self.add(auction, other.bids);
        }
    }
}

impl Query for Q5 {
    type Row = HotItem;
    const NUMBER: u32 = 5;
    const TITLE: &'static str = "hot items";
    const WHAT: &'static str = "the auctions with the most bids of the last ten seconds, every two seconds";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<HotItem>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .map(|bid| (bid.auction, bid.date_time))
            .with_watermark(|bid| time(bid.1), Duration::ZERO)
            .key_by(|bid| bid.0)
            .window(sliding(Duration::from_millis(SIZE_MS), Duration::from_millis(SLIDE_MS)))
            .count()
            .append()
            // A result has the time of its window's last instant, so windows of one slide hold one window's results.
            .window(tumbling(Duration::from_millis(SLIDE_MS)))
            .fold(Hottest::default(), |hottest, item| hottest.add(item.key, item.value), Hottest::merge)
            .append()
            .flat_map(|window| {
                let (end, bids) = (window.window.end.as_micros() as u64 / 1_000, window.value.bids);
                window.value.auctions.into_iter().map(move |auction| HotItem { end, auction, bids })
            })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<HotItem> {
        let mut windows: BTreeMap<u64, HashMap<usize, u64>> = BTreeMap::new();
        for bid in bids(events) {
            // The first window that ends after the bid, and those that begin no later than it.
            let first = bid.date_time / SLIDE_MS * SLIDE_MS + SLIDE_MS;
            for end in (first..=bid.date_time + SIZE_MS).step_by(SLIDE_MS as usize) {
                *windows.entry(end).or_default().entry(bid.auction).or_default() += 1;
            }
        }
        let hottest = |(end, counts): (u64, HashMap<usize, u64>)| {
            let most = counts.values().copied().max().unwrap_or(0);
            let ties = counts.into_iter().filter(move |(_, bids)| *bids == most);
            ties.map(move |(auction, bids)| HotItem { end, auction, bids })
        };
        windows.into_iter().flat_map(hottest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q5>();
    }

    #[test]
    fn ties_are_kept() {
        let mut hottest = Hottest::default();
        for (auction, bids) in [(1, 2), (2, 3), (3, 3), (4, 1)] {
            hottest.add(auction, bids);
        }
        hottest.merge(Hottest { bids: 3, auctions: vec![5] });
        assert_eq!((hottest.bids, hottest.auctions), (3, vec![2, 3, 5]));
    }
}
