//! Query 14, calculation: bids of a middle price, with the time of day in a word and a count by a user's function.
//!
//! The price is times 0.908, as in query 1, and between 1,000,000 and 50,000,000 then, both excluded. From the hour of 8
//! to that of 18 it is day, until that of 6 and from that of 20 on night, and other time between. The function counts
//! the letter `c` in the bid's extra text.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q14;

/// When on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeOfDay {
    Day,
    Night,
    Other,
}

impl TimeOfDay {
    /// Of a time in milliseconds since 1970.
    fn of(date_time: u64) -> TimeOfDay {
        match date_time / 3_600_000 % 24 {
            8..=18 => TimeOfDay::Day,
            ..=6 | 20.. => TimeOfDay::Night,
            _ => TimeOfDay::Other,
        }
    }
}

/// A bid of a middle price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calculated {
    auction: usize,
    bidder: usize,
    /// In thousandths of a cent.
    price: u64,
    time_of_day: TimeOfDay,
    date_time: u64,
    extra: String,
    letters: u64,
}

impl Row for Calculated {
    fn digest(&self) -> u64 {
        Digest::new()
            .number(self.auction as u64)
            .number(self.bidder as u64)
            .number(self.price)
            .number(self.time_of_day as u64)
            .number(self.date_time)
            .number(self.extra.len() as u64)
            .number(self.letters)
            .finish()
    }
}

/// The user's function: how often a letter is in a text.
fn count_letter(text: &str, letter: u8) -> u64 {
    text.bytes().filter(|byte| *byte == letter).count() as u64
}

fn is_middle(bid: &Bid) -> bool {
    let price = bid.price as u64 * 908;
    price > 1_000_000_000 && price < 50_000_000_000
}

fn calculate(bid: Bid) -> Calculated {
    Calculated {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price as u64 * 908,
        time_of_day: TimeOfDay::of(bid.date_time),
        date_time: bid.date_time,
        letters: count_letter(&bid.extra, b'c'),
        extra: bid.extra,
    }
}

impl Query for Q14 {
    type Row = Calculated;
    const NUMBER: u32 = 14;
    const TITLE: &'static str = "calculation";
    const WHAT: &'static str =
        "bids of a middle price, with the time of day in a word and a count of letters";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Calculated>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .filter(is_middle)
            .map(calculate)
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Calculated> {
        bids(events).filter(|bid| is_middle(bid)).cloned().map(calculate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q14>();
    }

    #[test]
    fn hours_have_names() {
        let of = |hour: u64| TimeOfDay::of(86_400_000 * 3 + hour * 3_600_000 + 3_599_999);
        assert_eq!([0, 6, 20, 23].map(of), [TimeOfDay::Night; 4]);
        assert_eq!([8, 18].map(of), [TimeOfDay::Day; 2]);
        assert_eq!([7, 19].map(of), [TimeOfDay::Other; 2]);
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!(count_letter("cactus", b'c'), 2);
    }
}
