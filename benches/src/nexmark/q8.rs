//! Query 8, monitor new users: the people who have entered the system and opened auctions in the same ten seconds.
//!
//! Persons and auctions are joined in tumbling windows of ten seconds. As in the suite, a person is one row however many
//! auctions they have opened in the window.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed, time};

/// How long a window is, in milliseconds.
pub(super) const SIZE_MS: u64 = 10_000;

pub(super) struct Q8;

/// A new user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewUser {
    pub(super) id: usize,
    pub(super) name: String,
    /// The window's start, in milliseconds since 1970.
    pub(super) start: u64,
}

impl Row for NewUser {
    fn digest(&self) -> u64 {
        Digest::new().number(self.id as u64).number(self.name.len() as u64).number(self.start).finish()
    }
}

/// Someone who enters the system, or opens an auction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entrance {
    pub(super) id: usize,
    /// The name of a person; of a seller none.
    pub(super) name: Option<String>,
    pub(super) at: u64,
}

/// The persons and the sellers of auctions.
pub(super) fn entrance(event: Event) -> Option<Entrance> {
    match event {
        Event::Person(person) => {
            Some(Entrance { id: person.id, name: Some(person.name), at: person.date_time })
        }
        Event::Auction(auction) => Some(Entrance { id: auction.seller, name: None, at: auction.date_time }),
        Event::Bid(_) => None,
    }
}

impl Query for Q8 {
    type Row = NewUser;
    const NUMBER: u32 = 8;
    const TITLE: &'static str = "monitor new users";
    const WHAT: &'static str = "who has entered the system and opened auctions in the same ten seconds";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<NewUser>) {
        let (persons, sellers) = graph
            .source(events.source())
            .filter_map(entrance)
            .with_watermark(|row| time(row.at), Duration::ZERO)
            .split(|row| match row.name {
                Some(name) => Either::Left((row.id, name)),
                None => Either::Right(row.id),
            });
        persons
            .key_by(|person| person.0)
            .join(sellers.key_by(|seller| *seller))
            .window(tumbling(Duration::from_millis(SIZE_MS)))
            .co_group(|_, persons, sellers| match (persons, sellers) {
                ([person, ..], [_, ..]) => Some(person.1.clone()),
                _ => None,
            })
            .filter_map(|row| {
                let start = row.window.start.as_micros() as u64 / 1_000;
                Some(NewUser { id: row.key, name: row.value?, start })
            })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<NewUser> {
        let mut sellers = BTreeSet::new();
        for event in events {
            if let Event::Auction(auction) = event {
                sellers.insert((auction.seller, auction.date_time / SIZE_MS));
            }
        }
        let new_user = |event: &Event| match event {
            Event::Person(person) => {
                let window = person.date_time / SIZE_MS;
                let has_sold = sellers.contains(&(person.id, window));
                has_sold.then(|| NewUser {
                    id: person.id,
                    name: person.name.clone(),
                    start: window * SIZE_MS,
                })
            }
            Event::Auction(_) | Event::Bid(_) => None,
        };
        events.iter().filter_map(new_user).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q8>();
    }
}
