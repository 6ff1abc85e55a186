//! The ten most ordered products of the last quarter of an hour, every minute.
//!
//! ```sh
//! cargo run --release --example top_n_orders
//! cargo run --release --example top_n_orders -- --minutes 60 --mode continuous --workers 2
//! ```
//!
//! Two aggregations in a row. The first counts the orders of each product in sliding windows. Its results are a stream
//! like any other, whose event time is the last instant of the window: so a second window of one minute gathers all
//! results of one sliding window, and an aggregate of our own keeps the ten greatest of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use clap::Parser;
use tidemill::Aggregate;
use tidemill::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Noon of 2026-03-01: before the first order.
const FIRST: EventTime = EventTime::from_secs(1_772_366_400);
const TOP: usize = 10;

/// Ranks products by how often they are ordered.
#[derive(Parser)]
struct Args {
    /// Over how many minutes.
    #[arg(long, value_name = "N", default_value_t = 15)]
    minutes: u32,

    #[command(flatten)]
    options: Options,
}

#[derive(Clone)]
struct Order {
    at: EventTime,
    product: u32,
}

/// How often a product was ordered in a window.
type Ordered = WindowResult<u32, u64>;

/// Products with their counts, the greatest first; of equal counts, the lower product first.
type Ranking = Vec<(u32, u64)>;

/// The `n` products that were ordered most.
#[derive(Clone)]
struct TopN {
    n: usize,
}

impl Aggregate for TopN {
    type In = Ordered;
    type Acc = BTreeSet<(Reverse<u64>, u32)>;
    type Out = Ranking;

    fn create(&self, row: &Ordered) -> Self::Acc {
        BTreeSet::from([(Reverse(row.value), row.key)])
    }

    fn add(&self, ranked: &mut Self::Acc, row: &Ordered) {
        self.merge(ranked, self.create(row));
    }

    fn merge(&self, ranked: &mut Self::Acc, others: Self::Acc) {
        ranked.extend(others);
        while ranked.len() > self.n {
            ranked.pop_last();
        }
    }

    fn finish(&self, ranked: &Self::Acc) -> Ranking {
        ranked.iter().map(|(Reverse(count), product)| (*product, *count)).collect()
    }
}

/// The ranking of every window that has closed.
fn top_products(orders: Stream<Order>, minutes: u32) -> EventStream<WindowResult<Window, Ranking>> {
    orders
        .with_watermark(|order| order.at, MINUTE)
        .key_by(|order| order.product)
        .window(sliding(minutes * MINUTE, MINUTE))
        .count()
        .append()
        .key_by(|ordered| ordered.window)
        .window(tumbling(MINUTE))
        .aggregate(TopN { n: TOP })
        .append()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let orders = two_hours_of_orders();

    let graph = Graph::new("top_n_orders");
    let (sink, table) = memory_sink();
    top_products(graph.source(memory(orders.clone())).boxed(), args.minutes).sink(sink);
    let summary = graph.run(args.options)?;
    let rankings: BTreeMap<_, _> = table.snapshot().into_iter().map(|row| (row.key, row.value)).collect();

    println!("{} orders, {} windows, {:.2} s", summary.input_rows, rankings.len(), summary.seconds);
    // The very last windows reach beyond the last order.
    let full = rankings.iter().rev().find(|(window, _)| window.end <= FIRST + 2 * HOUR);
    if let Some((window, ranking)) = full {
        println!("\nfrom {} to {}:", window.start, window.end);
        for (place, (product, count)) in (1..).zip(ranking) {
            println!("{place:>4}.  product {product:<4}{count:>6} orders");
        }
    }

    if rankings != by_plain_loop(&orders, args.minutes) || summary.output_rows != rankings.len() as u64 {
        return Err("the rankings are not those of the plain loop".into());
    }
    println!("\nEvery ranking is that of a plain loop.");
    Ok(())
}

/// What the graph should yield, computed the slow way.
fn by_plain_loop(orders: &[Order], minutes: u32) -> BTreeMap<Window, Ranking> {
    let mut counts = BTreeMap::<Window, BTreeMap<u32, u64>>::new();
    for order in orders {
        for window in sliding(minutes * MINUTE, MINUTE).windows_of(order.at) {
            *counts.entry(window).or_default().entry(order.product).or_default() += 1;
        }
    }
    let rank = |counts: BTreeMap<u32, u64>| {
        let mut ranking: Ranking = counts.into_iter().collect();
        ranking.sort_by_key(|(product, count)| (Reverse(*count), *product));
        ranking.truncate(TOP);
        ranking
    };
    counts.into_iter().map(|(window, counts)| (window, rank(counts))).collect()
}

/// Ten orders a second, each up to a minute late; the products that are in favour change slowly.
fn two_hours_of_orders() -> Vec<Order> {
    let mut random = 12_u64;
    let mut below = |limit: u64| {
        // Xorshift (Marsaglia, 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let order = |tenth: u64| {
        let late = Duration::from_millis(below(60_000));
        let popular = 1 + below(100);
        let product = tenth / 6_000 + below(popular);
        Order { at: FIRST + MINUTE + Duration::from_millis(100 * tenth) - late, product: product as u32 }
    };
    (0..72_000).map(order).collect()
}
