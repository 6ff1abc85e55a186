//! What a deduplication keeps for an id: memory of the process for ten million ids of eight bytes, by operator.
//!
//! `cargo run --release -p tidemill-benches --bin ids -- --help`
//!
//! The exit code is not zero if an operator takes more than the limit for an id, now or while its table grows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::testing::{Harness, operator_of};
use tidemill::{Chain, Operator};
use tidemill_benches::generator::splitmix64;
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::measure::{peak_rss, reset_peak_rss, rss};

/// Fills the state of each deduplication and prints what it takes.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many ids.
    #[arg(long, default_value_t = 10_000_000)]
    ids: u64,
    /// The most bytes for an id.
    #[arg(long, default_value_t = 64.0)]
    limit: f64,
    /// Also append the results to this file, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Ids in a batch.
const BATCH: u64 = 4_096;

/// An id and its time.
type Row = (u64, i64);

#[derive(Serialize)]
struct Taken {
    operator: &'static str,
    ids: u64,
    /// Bytes of the process for an id: at the end, and at most.
    bytes: f64,
    most: f64,
    is_within: bool,
}

fn run<K, T, P>(
    operator: &'static str,
    arguments: &Arguments,
    rows: Stream<T, P>,
    key: impl Fn(&Row) -> K,
) -> Taken
where
    K: tidemill::Key,
    T: Send + 'static,
    P: Chain<Out = T>,
{
    let make = operator_of(rows);
    let make = move || -> Box<dyn Operator> { make(Place::new(0, 1, Mode::MicroBatch)) };
    let mut instance = Harness::new(Mode::MicroBatch, make);
    reset_peak_rss();
    let before = rss().unwrap_or_default();
    for first in (0..arguments.ids).step_by(BATCH as usize) {
        let row = |n: u64| {
            let row = (splitmix64(n), n as i64);
            Dealt::new(key(&row), EventTime::from_micros(row.1), row)
        };
        let rows: Vec<_> = (first..arguments.ids.min(first + BATCH)).map(row).collect();
        let came = rows.len();
        instance.batch(0, rows).unwrap();
        assert_eq!(instance.take::<(EventTime, Row)>(0).len(), came, "each id is new");
    }
    let of_each = |bytes: u64| bytes.saturating_sub(before) as f64 / arguments.ids as f64;
    let (bytes, most) = (of_each(rss().unwrap_or_default()), of_each(peak_rss().unwrap_or_default()));
    // The state is counted at the end of an epoch.
    instance.end_epoch(EventTime::MIN).unwrap();
    assert_eq!(instance.state_rows() as u64, arguments.ids);
    let is_within = bytes > 0.0 && bytes.max(most) <= arguments.limit;
    println!("{operator:<28} {bytes:>10.1} {most:>10.1} {}", if is_within { "" } else { "TOO MUCH" });
    Taken { operator, ids: arguments.ids, bytes, most, is_within }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut json = JsonLines::append(arguments.json.as_deref()).expect("the file can be opened");
    println!("{}", json.provenance().headline());
    println!("{:<28} {:>10} {:>10}", "bytes for an id", "at the end", "at most");
    let graph = Graph::new("ids");
    let day = Duration::from_secs(86_400);
    let keyed = || {
        let rows = graph.source(memory(Vec::<Row>::new()));
        rows.with_watermark(|row: &Row| EventTime::from_micros(row.1), day).key_by(|row| row.0)
    };
    let taken = [
        run("distinct", &arguments, keyed().distinct(), |row| (row.0, EventTime::from_micros(row.1))),
        run("distinct_within_watermark", &arguments, keyed().distinct_within_watermark(), |row| row.0),
        run("distinct_for", &arguments, keyed().distinct_for(day), |row| row.0),
    ];
    let mut are_within = true;
    for taken in taken {
        are_within &= taken.is_within;
        json.write(&taken).expect("the results can be written");
    }
    if are_within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
