//! Alerts on trades: count windows, and windows that fire early.
//!
//! ```sh
//! cargo run --example stock_alerts
//! ```
//!
//! - A *jump*: the price of a trade is 3 % away from the average of the last twenty trades of the stock, however long these took. That
//!   is a count window of twenty trades that ends with every trade.
//! - A *rush*: more than 15,000 shares of a stock are traded in a minute. That is a window of event time; to wait for its end would
//!   be too late, so it fires early, after every five trades and at the latest a tenth of a second after a trade.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::aggregate::{Collect, Sum};
use tidemill::prelude::*;
use tidemill::{Early, FiringKind};

const MINUTE: Duration = Duration::from_secs(60);
const LAST: usize = 20;
const RUSH: u64 = 15_000;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Trade {
    number: u32,
    stock: u32,
    at: EventTime,
    cents: u64,
    shares: u64,
}

/// The stock, and the number of the trade.
type Jump = (u32, u32);
/// The stock, and the minute.
type Rush = (u32, EventTime);

/// Whether the last of some prices is 3 % away from their average.
fn is_jump(prices: impl ExactSizeIterator<Item = u64> + Clone, last: u64) -> bool {
    let (count, sum) = (prices.len() as u64, prices.sum::<u64>());
    (last * count).abs_diff(sum) * 100 > 3 * sum
}

/// An hour of trades in ten stocks.
fn trades() -> impl Iterator<Item = Trade> + Clone {
    (0..20_000u32).map(|number| {
        let scrambled = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
        let stock = (scrambled % 10) as u32;
        let drift = u64::from(number / 100) * 7;
        let jump = if scrambled.is_multiple_of(997) { 700 } else { 0 };
        let shares = if number / 1_500 % 3 == 1 { 500 } else { 100 } + scrambled / 10 % 400;
        let cents = 10_000 + 100 * u64::from(stock) + drift + jump + scrambled / 100 % 60;
        Trade { number, stock, at: EventTime::from_millis(i64::from(number) * 180), cents, shares }
    })
}

fn jumps(trades: EventStream<Trade>) -> EventStream<Jump> {
    let last_trades = trades.key_by(|trade| trade.stock).count_window(LAST as u64).every(1);
    let jump = |trades: &[Trade]| {
        let last = trades.last()?;
        is_jump(trades.iter().map(|trade| trade.cents), last.cents).then_some((last.stock, last.number))
    };
    last_trades.aggregate(Collect::new()).append().filter_map(move |window| jump(&window.value)).boxed()
}

/// Each rush as soon as a firing shows it, with the kind of that firing. A later firing of the minute shows it again.
fn rushes(trades: EventStream<Trade>) -> EventStream<(Rush, FiringKind)> {
    trades
        .key_by(|trade| trade.stock)
        .window(tumbling(MINUTE))
        .early(Early::every_records(5).or_every(Duration::from_millis(100)))
        .aggregate(Sum::of(|trade: &Trade| trade.shares))
        .firings()
        .filter(|firing| firing.value.is_some_and(|shares| shares > RUSH))
        .map(|firing| ((firing.key, firing.window.start), firing.kind))
        .boxed()
}

/// The same by plain loops.
fn expected() -> (BTreeSet<Jump>, BTreeSet<Rush>) {
    let mut last = BTreeMap::<u32, VecDeque<u64>>::new();
    let mut shares = BTreeMap::<Rush, u64>::new();
    let mut jumps = BTreeSet::new();
    for trade in trades() {
        let prices = last.entry(trade.stock).or_default();
        prices.push_back(trade.cents);
        if prices.len() > LAST {
            prices.pop_front();
        }
        if is_jump(prices.iter().copied(), trade.cents) {
            jumps.insert((trade.stock, trade.number));
        }
        let minute = EventTime::from_secs(trade.at.as_secs().div_euclid(60) * 60);
        *shares.entry((trade.stock, minute)).or_default() += trade.shares;
    }
    (jumps, shares.into_iter().filter(|(_, shares)| *shares > RUSH).map(|(rush, _)| rush).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (expected_jumps, expected_rushes) = expected();
    assert!(expected_jumps.len() > 10 && expected_rushes.len() > 10);
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2] {
            let graph = Graph::new("stock_alerts");
            let trades =
                graph.source(memory(trades())).with_watermark(|trade: &Trade| trade.at, Duration::ZERO);
            let trades = trades.boxed();
            let ((jump_sink, jumps_found), (rush_sink, rushes_found)) = (memory_sink(), memory_sink());
            jumps(trades.clone()).sink(jump_sink);
            rushes(trades).sink(rush_sink);
            let options = Options::default().with_mode(mode).with_workers(workers);
            graph.run(options.with_max_records_per_epoch(50))?;

            let jumps = jumps_found.snapshot();
            let mut first = BTreeMap::new();
            for (rush, kind) in rushes_found.snapshot() {
                first.entry(rush).or_insert(kind);
            }
            let early = first.values().filter(|kind| **kind == FiringKind::Early).count();
            println!(
                "{mode}, {workers} workers: {} jumps; {} rushes, {early} of them before the minute was over",
                jumps.len(),
                first.len()
            );
            assert_eq!(jumps.len(), expected_jumps.len());
            assert_eq!(jumps.into_iter().collect::<BTreeSet<_>>(), expected_jumps);
            assert_eq!(first.keys().copied().collect::<BTreeSet<_>>(), expected_rushes);
            if mode == Mode::MicroBatch {
                assert!(early > 0, "epochs of 50 trades are shorter than a minute");
            }
        }
    }
    Ok(())
}
