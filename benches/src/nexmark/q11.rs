//! Query 11, user sessions: how many bids each bidder made in each session of activity.
//!
//! A session ends when its bidder has been silent for ten seconds of event time; its end is ten seconds after its last
//! bid. Bids that are exactly ten seconds apart are one session.

use std::collections::HashMap;
use std::time::Duration;

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Event, Feed, bid, bids, time};

/// How long a bidder is silent when its session ends, in milliseconds.
const GAP_MS: u64 = 10_000;

pub(super) struct Q11;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    bidder: usize,
    bids: u64,
    start: u64,
    end: u64,
}

impl Row for Session {
    fn digest(&self) -> u64 {
        Digest::new()
            .number(self.bidder as u64)
            .number(self.bids)
            .number(self.start)
            .number(self.end)
            .finish()
    }
}

impl Query for Q11 {
    type Row = Session;
    const NUMBER: u32 = 11;
    const TITLE: &'static str = "user sessions";
    const WHAT: &'static str = "how many bids each bidder made in each session of activity";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Session>) {
        graph
            .source(events.source())
            .filter_map(bid)
            .map(|bid| (bid.bidder, bid.date_time))
            .with_watermark(|bid| time(bid.1), Duration::ZERO)
            .key_by(|bid| bid.0)
            .window(session(Duration::from_millis(GAP_MS)))
            .count()
            .append()
            .map(|session| Session {
                bidder: session.key,
                bids: session.value,
                start: session.window.start.as_micros() as u64 / 1_000,
                end: session.window.end.as_micros() as u64 / 1_000,
            })
            .sink_per_worker(rows.sinks());
    }

    fn reference(events: &[Event]) -> Vec<Session> {
        let mut open: HashMap<usize, Session> = HashMap::new();
        let mut closed = Vec::new();
        // Events are in the order of their time.
        for bid in bids(events) {
            let (bidder, start, end) = (bid.bidder, bid.date_time, bid.date_time + GAP_MS);
            match open.get_mut(&bidder) {
                Some(session) if start <= session.end => {
                    session.bids += 1;
                    session.end = end;
                }
                _ => closed.extend(open.insert(bidder, Session { bidder, bids: 1, start, end })),
            }
        }
        closed.extend(open.into_values());
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q11>();
    }
}
