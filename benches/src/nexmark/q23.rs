//! Query 23, expand bid with person and auction: the bids of people who have also listed auctions, with the person and each of
//! these auctions.
//!
//! As in the newest version of the suite for Flink: a join of three streams, for ever, by the bidder's number, which is the
//! person's and the seller's.

use std::collections::HashMap;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Auction, Bid, Event, Feed, Person, bids};
use super::q9::auction_digest;
use super::q20::bid_digest;

pub(super) struct Q23;

/// A bid, who made it, and an auction of theirs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expanded {
    bid: Bid,
    person: Person,
    auction: Auction,
}

impl Row for Expanded {
    fn digest(&self) -> u64 {
        let Person { name, email_address, credit_card, city, state, extra, .. } = &self.person;
        let texts = [name, email_address, credit_card, city, state, extra];
        let start = Digest::new().number(self.person.id as u64).number(self.person.date_time);
        let person = texts.iter().fold(start, |digest, text| digest.number(text.len() as u64));
        auction_digest(bid_digest(person, &self.bid), &self.auction).finish()
    }
}

impl Query for Q23 {
    type Row = Expanded;
    const NUMBER: u32 = 23;
    const TITLE: &'static str = "expand bid with person and auction";
    const WHAT: &'static str = "the bids of people who have also listed auctions, with both";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Expanded>) {
        let (bids, others) = graph.source(events.source()).split(|event| match event {
            Event::Bid(bid) => Either::Left(bid),
            Event::Person(person) => Either::Right(Either::Left(person)),
            Event::Auction(auction) => Either::Right(Either::Right(auction)),
        });
        let (persons, auctions) = others.split(|other| other);
        bids.key_by(|bid: &Bid| bid.bidder)
            .join(persons.key_by(|person: &Person| person.id))
            .unbounded()
            .inner()
            .key_by(|(bidder, _, _)| *bidder)
            .join(auctions.key_by(|auction: &Auction| auction.seller))
            .unbounded()
            .inner()
            .map(|(_, (_, bid, person), auction)| Expanded { bid, person, auction })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Expanded> {
        let mut persons: HashMap<usize, &Person> = HashMap::new();
        let mut auctions: HashMap<usize, Vec<&Auction>> = HashMap::new();
        for event in events {
            match event {
                Event::Person(person) => drop(persons.insert(person.id, person)),
                Event::Auction(auction) => auctions.entry(auction.seller).or_default().push(auction),
                Event::Bid(_) => {}
            }
        }
        let mut rows = Vec::new();
        for bid in bids(events) {
            let Some(person) = persons.get(&bid.bidder) else { continue };
            for auction in auctions.get(&bid.bidder).into_iter().flatten() {
                let (person, auction) = (Person::clone(person), Auction::clone(auction));
                rows.push(Expanded { bid: bid.clone(), person, auction });
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q23>();
    }
}
