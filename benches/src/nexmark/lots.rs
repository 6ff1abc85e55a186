//! The winning bid of each auction, which queries 4, 6 and 9 begin with: a process function over auctions and bids.
//!
//! A bid is valid if its auction was open at its time: not before the auction's own, and no later than its expiry. Of the
//! valid bids the one with the greatest price wins; of several the earliest, and of these the one with the least bidder. An
//! auction closes when the watermark has passed its expiry. One without a valid bid has no winner.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::operator::{Events, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{CloseContext, ProcessContext, ProcessFunction, ProcessResult};
use tidemill::{Data, EventStream};

use super::events::{self, Auction, Bid, Event, Feed, time};

/// An auction, and what a query wants to know about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lot<A> {
    /// When it was opened, in milliseconds since 1970.
    opens: u64,
    /// When it closes: the last millisecond at which a bid is valid.
    pub(super) expires: u64,
    pub(super) about: A,
}

/// A bid, and what a query wants to know about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Offer<B> {
    pub(super) price: u64,
    pub(super) at: u64,
    bidder: usize,
    pub(super) about: B,
}

impl<A> Lot<A> {
    /// Whether the bid was made while the auction was open.
    pub(super) fn takes<B>(&self, offer: &Offer<B>) -> bool {
        (self.opens..=self.expires).contains(&offer.at)
    }
}

impl<B> Offer<B> {
    /// The greater one wins.
    pub(super) fn rank(&self) -> (u64, Reverse<(u64, usize)>) {
        (self.price, Reverse((self.at, self.bidder)))
    }
}

/// An auction or a bid, with the auction's number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Move<A, B> {
    Lot(usize, Lot<A>),
    Offer(usize, Offer<B>),
}

impl<A, B> Move<A, B> {
    pub(super) fn of(event: Event, lot: fn(Auction) -> A, offer: fn(Bid) -> B) -> Option<Move<A, B>> {
        match event {
            Event::Person(_) => None,
            Event::Auction(auction) => {
                let (id, opens, expires) = (auction.id, auction.date_time, auction.expires);
                Some(Move::Lot(id, Lot { opens, expires, about: lot(auction) }))
            }
            Event::Bid(bid) => {
                let (price, at, bidder) = (bid.price as u64, bid.date_time, bid.bidder);
                Some(Move::Offer(bid.auction, Offer { price, at, bidder, about: offer(bid) }))
            }
        }
    }

    pub(super) fn auction(&self) -> usize {
        match self {
            Move::Lot(id, _) | Move::Offer(id, _) => *id,
        }
    }

    /// When it happened, in milliseconds since 1970.
    pub(super) fn at(&self) -> u64 {
        match self {
            Move::Lot(_, lot) => lot.opens,
            Move::Offer(_, offer) => offer.at,
        }
    }
}

/// What is known of an auction.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Known<A, B> {
    /// Bids that have come before their auction, from another partition.
    Bids(Vec<Offer<B>>),
    /// The auction, and its best bid so far.
    Open(Lot<A>, Option<Offer<B>>),
}

/// A moment later: when the watermark has reached it, everything up to the moment itself has come.
const MOMENT: Duration = Duration::from_micros(1);

/// Emits each auction that has a valid bid with the best one, when it closes.
struct WinningBids<A, B> {
    known: ValueState<usize, Known<A, B>>,
}

impl<A: Data, B: Data> ProcessFunction for WinningBids<A, B> {
    type Key = usize;
    type Row = Move<A, B>;
    type Outputs = (Events<(Lot<A>, Offer<B>)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("auctions", &mut self.known);
    }

    fn on_record(&mut self, row: Move<A, B>, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        match row {
            Move::Lot(_, lot) => {
                let early = match self.known.remove(cx.key) {
                    Some(Known::Bids(bids)) => bids,
                    _ => Vec::new(),
                };
                let best = early.into_iter().filter(|offer| lot.takes(offer)).max_by_key(Offer::rank);
                cx.set_event_timer(time(lot.expires) + MOMENT);
                self.known.insert(cx.key, Known::Open(lot, best));
            }
            Move::Offer(_, offer) => match self.known.get(cx.key) {
                Some(Known::Open(lot, best)) => {
                    let is_better = best.as_ref().is_none_or(|best| offer.rank() > best.rank());
                    if is_better
                        && lot.takes(&offer)
                        && let Some(Known::Open(_, best)) = self.known.get_mut(cx.key)
                    {
                        *best = Some(offer);
                    }
                }
                // Its auction is not known: it has closed, or comes from another partition before the watermark passes the bid.
                _ => {
                    cx.set_event_timer(time(offer.at) + MOMENT);
                    let known = self.known.get_or_insert_with(cx.key, || Known::Bids(Vec::new()));
                    if let Known::Bids(bids) = known {
                        bids.push(offer);
                    }
                }
            },
        }
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let now = cx.time();
        let is_over = match self.known.get(cx.key) {
            Some(Known::Open(lot, _)) => time(lot.expires) < now,
            Some(Known::Bids(bids)) => bids.iter().all(|offer| time(offer.at) < now),
            None => false,
        };
        if is_over && let Some(Known::Open(lot, Some(best))) = self.known.remove(cx.key) {
            cx.out.0.push(now, (lot, best));
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        if self.known.is_empty() { Ok(()) } else { Err("auctions or bids are left at the end".into()) }
    }
}

/// The part of the graph that finds the winning bids. `lot` and `offer` keep what the query wants to know.
pub(super) fn winning_bids<A: Data, B: Data>(
    graph: &Graph,
    events: &Feed,
    lot: fn(Auction) -> A,
    offer: fn(Bid) -> B,
) -> EventStream<(Lot<A>, Offer<B>)> {
    graph
        .source(events.source())
        .filter_map(move |event| Move::of(event, lot, offer))
        .with_watermark(|row| time(row.at()), Duration::ZERO)
        .key_by(Move::auction)
        .process(|| WinningBids { known: ValueState::new() })
}

/// The auctions that have a valid bid, with their winners, by plain loops; in the order in which they were opened.
pub(super) fn winners(all: &[Event]) -> Vec<(&Auction, &Bid)> {
    let auctions = all.iter().filter_map(|event| match event {
        Event::Auction(auction) => Some(auction),
        Event::Person(_) | Event::Bid(_) => None,
    });
    let mut bids: HashMap<usize, Vec<&Bid>> = HashMap::new();
    for bid in events::bids(all) {
        bids.entry(bid.auction).or_default().push(bid);
    }
    let winner = |auction: &Auction| {
        let mut winner: Option<&Bid> = None;
        for bid in bids.get(&auction.id).into_iter().flatten() {
            let is_open = auction.date_time <= bid.date_time && bid.date_time <= auction.expires;
            let beats = |other: &Bid| {
                bid.price > other.price
                    || bid.price == other.price
                        && (bid.date_time, bid.bidder) < (other.date_time, other.bidder)
            };
            if is_open && winner.is_none_or(beats) {
                winner = Some(bid);
            }
        }
        winner
    };
    auctions.filter_map(|auction| Some((auction, winner(auction)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::SMALL;
    use super::*;

    #[test]
    fn bid_at_expiry_is_valid_and_earliest_of_a_price_wins() {
        let lot = Lot { opens: 10, expires: 20, about: () };
        let offer = |price, at, bidder| Offer { price, at, bidder, about: () };
        let at = [9, 10, 20, 21];
        assert_eq!(at.map(|at| lot.takes(&offer(1, at, 1))), [false, true, true, false]);
        let offers = [offer(5, 11, 1), offer(7, 13, 2), offer(7, 12, 9), offer(7, 12, 4), offer(6, 10, 1)];
        let best = offers.into_iter().max_by_key(Offer::rank);
        assert_eq!(best, Some(offer(7, 12, 4)));
    }

    #[test]
    fn generator_makes_bids_before_and_after_their_auction() {
        let events = SMALL.all();
        let mut open = HashMap::new();
        let mut kinds = [0; 3];
        for event in &events {
            match event {
                Event::Person(_) => {}
                Event::Auction(auction) => drop(open.insert(auction.id, auction.expires)),
                Event::Bid(bid) => match open.get(&bid.auction) {
                    None => kinds[0] += 1,
                    Some(expires) if bid.date_time <= *expires => kinds[1] += 1,
                    Some(_) => kinds[2] += 1,
                },
            }
        }
        assert!(kinds.iter().all(|kind| *kind > 200), "{kinds:?}");
        assert!(winners(&events).len() > 300);
    }
}
