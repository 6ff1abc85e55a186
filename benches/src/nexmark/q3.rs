//! Query 3, local item suggestion: who sells in Oregon, Idaho or California in category 10, and which auctions.
//!
//! Persons and auctions are joined by the seller for ever: a seller may open an auction at any time. The generator writes
//! the states in small letters, and lets some sellers come after their first auction.

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Auction, Event, Feed, Person};

/// The category.
const CATEGORY: usize = 10;

pub(super) struct Q3;

/// A seller and one of their auctions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    name: String,
    city: String,
    state: String,
    auction: usize,
}

impl Row for Suggestion {
    fn digest(&self) -> u64 {
        let lengths = [self.name.len(), self.city.len(), self.state.len()];
        let start = Digest::new().number(self.auction as u64);
        lengths.iter().fold(start, |digest, length| digest.number(*length as u64)).finish()
    }
}

/// What the query wants to know about a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seller {
    pub(super) id: usize,
    name: String,
    city: String,
    state: String,
}

impl Seller {
    fn of(person: Person) -> Option<Seller> {
        let Person { id, name, city, state, .. } = person;
        matches!(state.as_str(), "or" | "id" | "ca").then_some(Seller { id, name, city, state })
    }
}

/// What the query wants to know about an auction: its seller and its number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Sale {
    pub(super) seller: usize,
    auction: usize,
}

impl Sale {
    fn of(auction: &Auction) -> Option<Sale> {
        (auction.category == CATEGORY).then_some(Sale { seller: auction.seller, auction: auction.id })
    }
}

/// The sellers and the auctions that the query is about.
pub(super) fn wanted(event: Event) -> Option<Either<Seller, Sale>> {
    match event {
        Event::Person(person) => Seller::of(person).map(Either::Left),
        Event::Auction(auction) => Sale::of(&auction).map(Either::Right),
        Event::Bid(_) => None,
    }
}

/// A row of the result.
pub(super) fn suggest(seller: Seller, sale: Sale) -> Suggestion {
    let Seller { name, city, state, .. } = seller;
    Suggestion { name, city, state, auction: sale.auction }
}

impl Query for Q3 {
    type Row = Suggestion;
    const NUMBER: u32 = 3;
    const TITLE: &'static str = "local item suggestion";
    const WHAT: &'static str = "who sells in three states in category 10, and which auctions";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Suggestion>) {
        let (sellers, sales) = graph.source(events.source()).filter_map(wanted).split(|row| row);
        sellers
            .key_by(|seller| seller.id)
            .join(sales.key_by(|sale| sale.seller))
            .unbounded()
            .inner()
            .map(|(_, seller, sale)| suggest(seller, sale))
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Suggestion> {
        let mut rows = Vec::new();
        for event in events {
            let Event::Auction(auction) = event else { continue };
            for other in events {
                let Event::Person(person) = other else { continue };
                if person.id == auction.seller
                    && auction.category == 10
                    && ["or", "id", "ca"].contains(&person.state.as_str())
                {
                    rows.push(Suggestion {
                        name: person.name.clone(),
                        city: person.city.clone(),
                        state: person.state.clone(),
                        auction: auction.id,
                    });
                }
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
        agrees_with_its_reference::<Q3>();
    }
}
