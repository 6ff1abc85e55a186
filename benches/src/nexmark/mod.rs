//! The Nexmark suite: queries over a simulated auction site, as first described by Tucker, Tufte, Papadimos and Maier
//! and extended by those who ran it on Beam and Flink.
//!
//! One file is one query, all alike: what it computes, its graph as a user writes it, a naive reference over a slice of
//! events, and a test that both agree, in both modes, with one, two and four workers. [`events`] are made before the clock
//! starts; the rows go to a sink that counts them and adds up a checksum ([`answer`]).
//!
//! Event time is known: events of a partition are in order, so watermarks have no delay, and windows close while the
//! query runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails loudly"
)]

pub mod alone;
pub mod answer;
pub mod events;
pub mod line;
mod lots;
mod q0;
mod q1;
mod q11;
mod q12;
mod q13;
mod q14;
mod q15;
mod q16;
mod q17;
mod q18;
mod q19;
mod q2;
mod q20;
mod q21;
mod q22;
mod q23;
mod q3;
mod q4;
mod q5;
mod q6;
mod q7;
mod q8;
mod q9;
mod ranks;
#[cfg(feature = "peers")]
pub mod renoir;

use std::time::{Duration, Instant};

use tidemill::prelude::*;

use self::answer::{Answer, Row, Rows};
use self::events::{Event, Feed};

/// A query of the suite.
trait Query {
    /// What it gives.
    type Row: Row;
    /// Its number in the suite.
    const NUMBER: u32;
    /// Its name in the suite.
    const TITLE: &'static str;
    /// What it computes, in a line.
    const WHAT: &'static str;

    /// The query as a user writes it.
    fn graph(graph: &Graph, events: &Feed, rows: &Rows<Self::Row>);

    /// The result by plain loops.
    fn reference(events: &[Event]) -> Vec<Self::Row>;
}

/// A query that can be run.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number in the suite.
    pub number: u32,
    /// Its name in the suite.
    pub title: &'static str,
    /// What it computes, in a line.
    pub what: &'static str,
    run: fn(&Feed, &Options) -> Outcome,
    reference: fn(&[Event]) -> Answer,
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From building the graph until all threads have ended.
    pub elapsed: Duration,
    /// The answer.
    pub answer: Answer,
}

impl Entry {
    const fn of<Q: Query>() -> Entry {
        Entry {
            number: Q::NUMBER,
            title: Q::TITLE,
            what: Q::WHAT,
            run: run::<Q>,
            reference: |events| Answer::of(&Q::reference(events)),
        }
    }

    /// Runs the query over the events.
    ///
    /// # Panics
    /// If the query fails.
    #[must_use]
    pub fn run(&self, feed: &Feed, options: &Options) -> Outcome {
        (self.run)(feed, options)
    }

    /// The answer by plain loops.
    #[must_use]
    pub fn reference(&self, events: &[Event]) -> Answer {
        (self.reference)(events)
    }
}

/// The queries that are there.
pub const QUERIES: [Entry; 23] = [
    Entry::of::<q0::Q0>(),
    Entry::of::<q1::Q1>(),
    Entry::of::<q2::Q2>(),
    Entry::of::<q3::Q3>(),
    Entry::of::<q4::Q4>(),
    Entry::of::<q5::Q5>(),
    Entry::of::<q6::Q6>(),
    Entry::of::<q7::Q7>(),
    Entry::of::<q8::Q8>(),
    Entry::of::<q9::Q9>(),
    Entry::of::<q11::Q11>(),
    Entry::of::<q12::Q12>(),
    Entry::of::<q13::Q13>(),
    Entry::of::<q14::Q14>(),
    Entry::of::<q15::Q15>(),
    Entry::of::<q16::Q16>(),
    Entry::of::<q17::Q17>(),
    Entry::of::<q18::Q18>(),
    Entry::of::<q19::Q19>(),
    Entry::of::<q20::Q20>(),
    Entry::of::<q21::Q21>(),
    Entry::of::<q22::Q22>(),
    Entry::of::<q23::Q23>(),
];

/// The queries that are not there, and what each would need.
pub const ABSENT: [(u32, &str); 1] = [(10, "needs a sink that divides its files by time")];

fn run<Q: Query>(feed: &Feed, options: &Options) -> Outcome {
    let rows = Rows::counted();
    let start = Instant::now();
    let graph = Graph::new(Q::TITLE);
    Q::graph(&graph, feed, &rows);
    graph.run(options.clone()).expect("the query runs to its end");
    Outcome { elapsed: start.elapsed(), answer: rows.answer() }
}

/// Query 0 without an engine: a thread for each partition copies the events and frees the copies. What is left of a query's
/// time when this is taken off is the engine's and the query's own.
#[must_use]
pub fn plain_loop(feed: &Feed) -> Outcome {
    let rows = Rows::<Event>::counted();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for partition in 0..feed.partitions() {
            let mut taker = rows.taker();
            scope.spawn(move || feed.read(partition).for_each(|event| taker.take(event)));
        }
    });
    Outcome { elapsed: start.elapsed(), answer: rows.answer() }
}

#[cfg(test)]
mod check {
    use super::events::Settings;
    use super::*;

    /// Forty seconds of event time, with midnight after ten.
    pub(super) const SMALL: Settings = Settings { events: 12_000, rate: 300 };

    /// Runs a query in both modes with one, two and four workers, and holds its rows against the reference's.
    pub(super) fn agrees_with_its_reference<Q: Query>() {
        let mut expected = Q::reference(&SMALL.all());
        expected.sort_by_key(Row::digest);
        assert!(expected.len() > 1, "a reference without rows proves nothing");
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            for workers in [1, 2, 4] {
                let rows = Rows::kept();
                let graph = Graph::new(Q::TITLE);
                Q::graph(&graph, &SMALL.feed(workers), &rows);
                // Epochs of some seconds of event time, so that windows close in many of them.
                let options = Options::default().with_mode(mode).with_workers(workers as usize);
                graph.run(options.with_max_records_per_epoch(1_500)).unwrap();
                assert!(rows.sorted() == expected, "{mode:?}, {workers} workers");
                assert!(rows.answer().agrees(&Answer::of(&expected)), "{mode:?}, {workers} workers");
            }
        }
    }

    #[test]
    fn every_query_of_the_suite_is_there_or_said_to_be_absent() {
        let mut numbers: Vec<u32> =
            QUERIES.iter().map(|query| query.number).chain(ABSENT.map(|(number, _)| number)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..=23).collect::<Vec<_>>());
    }
}
