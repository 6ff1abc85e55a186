//! Query 6, average selling price by seller: of each seller the mean price of the last ten auctions that have closed, emitted
//! whenever one closes.
//!
//! Auctions of a seller count in the order of their expiry, and of their numbers where that is equal, as the suite's text
//! says; its SQL, which Flink does not run, orders by the time of the winning bid and takes eleven. An auction without a
//! valid bid does not count. The mean is a whole number, rounded down.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::operator::{Events, MapState, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{ProcessContext, ProcessFunction, ProcessResult};

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed};
use super::lots::{winners, winning_bids};

/// How many auctions a mean is of.
const LAST: usize = 10;
/// When the watermark is this far behind a row, all rows of its time have come.
const MOMENT: Duration = Duration::from_micros(1);

pub(super) struct Q6;

/// The mean of a seller, after one of their auctions has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seller {
    seller: usize,
    mean: u64,
}

impl Row for Seller {
    fn digest(&self) -> u64 {
        Digest::new().number(self.seller as u64).number(self.mean).finish()
    }
}

/// An auction that has closed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Closed {
    auction: usize,
    seller: usize,
    expires: u64,
    price: u64,
}

/// The last prices of each seller.
struct LastPrices {
    /// Auctions that others may come before, by expiry and number.
    waiting: MapState<usize, (u64, usize), u64>,
    last: ValueState<usize, VecDeque<u64>>,
}

impl ProcessFunction for LastPrices {
    type Key = usize;
    type Row = Closed;
    type Outputs = (Events<Seller>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("waiting", &mut self.waiting);
        states.add("last", &mut self.last);
    }

    fn on_record(&mut self, row: Closed, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        self.waiting.insert(cx.key, (row.expires, row.auction), row.price);
        // The rows of auctions that expire together have one event time.
        cx.set_event_timer(cx.time() + MOMENT);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let expired = cx.time().as_micros() as u64 / 1_000;
        for (_, price) in self.waiting.drain_range(cx.key, ..=(expired, usize::MAX)) {
            let last = self.last.get_or_insert_with(cx.key, VecDeque::new);
            last.push_back(price);
            if last.len() > LAST {
                last.pop_front();
            }
            let mean = last.iter().sum::<u64>() / last.len() as u64;
            cx.out.0.push(cx.time(), Seller { seller: *cx.key, mean });
        }
        Ok(())
    }
}

impl Query for Q6 {
    type Row = Seller;
    const NUMBER: u32 = 6;
    const TITLE: &'static str = "average selling price by seller";
    const WHAT: &'static str = "of each seller the mean price of the last ten auctions that have closed";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Seller>) {
        winning_bids(graph, events, |auction| (auction.id, auction.seller), |_| ())
            .map(|(lot, offer)| {
                let (auction, seller) = lot.about;
                Closed { auction, seller, expires: lot.expires, price: offer.price }
            })
            .key_by(|closed| closed.seller)
            .process(|| LastPrices { waiting: MapState::new(), last: ValueState::new() })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Seller> {
        let mut closed = winners(events);
        closed.sort_by_key(|(auction, _)| (auction.expires, auction.id));
        let mut prices: HashMap<usize, Vec<u64>> = HashMap::new();
        let mut rows = Vec::new();
        for (auction, bid) in closed {
            let prices = prices.entry(auction.seller).or_default();
            prices.push(bid.price as u64);
            let last: Vec<u64> = prices.iter().rev().take(10).copied().collect();
            let mean = last.iter().sum::<u64>() / last.len() as u64;
            rows.push(Seller { seller: auction.seller, mean });
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{SMALL, agrees_with_its_reference};
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q6>();
    }

    #[test]
    fn some_seller_closes_more_than_ten_auctions() {
        let mut auctions: HashMap<usize, usize> = HashMap::new();
        for (auction, _) in winners(&SMALL.all()) {
            *auctions.entry(auction.seller).or_default() += 1;
        }
        assert!(auctions.into_values().max().is_some_and(|most| most > 2 * LAST));
    }
}
