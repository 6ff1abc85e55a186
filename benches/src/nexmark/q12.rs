//! Query 12, processing-time windows: how many bids each bidder made in windows of ten seconds of the engine's clock.
//!
//! Which window a bid is in depends on when it is processed, so that two runs have other windows. What they have in common, and
//! what is compared, is the sum of the windows of each bidder.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed, bid, bids};

/// How long a window is.
const SIZE: Duration = Duration::from_secs(10);

pub(super) struct Q12;

/// The bids of a bidder in all windows so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bids {
    bidder: usize,
    bids: u64,
}

impl Row for Bids {
    fn digest(&self) -> u64 {
        Digest::new().number(self.bidder as u64).number(self.bids).finish()
    }

    fn replaces(&self) -> Option<u64> {
        Some(self.bidder as u64)
    }
}

impl Query for Q12 {
    type Row = Bids;
    const NUMBER: u32 = 12;
    const TITLE: &'static str = "processing time windows";
    const WHAT: &'static str = "how many bids each bidder made in windows of the clock, summed over these";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Bids>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .map(|bid| bid.bidder)
            .key_by(|bidder| *bidder)
            .processing_time_window(tumbling(SIZE))
            .count()
            .append()
            .key_by(|window| window.key)
            .sum(|window| window.value)
            .update()
            .map(|(bidder, bids)| Bids { bidder, bids })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Bids> {
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        for bid in bids(events) {
            *counts.entry(bid.bidder).or_default() += 1;
        }
        counts.into_iter().map(|(bidder, bids)| Bids { bidder, bids }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q12>();
    }
}
