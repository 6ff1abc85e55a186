//! What is bought together: for each item, the three items that the baskets of the last ten minutes most often share with it.
//!
//! ```sh
//! cargo run --example recommendations
//! ```
//!
//! Each basket becomes pairs of its items, and sliding windows count each pair. The results of the windows are a stream whose event
//! time is the last instant of the window, so windows of a minute over them gather the counts of one item, and `top_n` keeps the first
//! three. A recommendation is never older than a minute and what the watermark is behind.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
/// How many minutes count.
const MINUTES: i64 = 10;
const TOP: usize = 3;
const ITEMS: u64 = 30;

#[derive(Clone, Serialize, Deserialize)]
struct Basket {
    at: EventTime,
    items: Vec<u32>,
}

impl Basket {
    /// Each item with each other one.
    fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        let others = |item: u32| self.items.iter().filter(move |other| **other != item);
        self.items.iter().flat_map(move |item| others(*item).map(|other| (*item, *other)))
    }
}

/// Half an hour of baskets, five each second. What goes with an item changes in the middle.
fn baskets() -> impl Iterator<Item = Basket> + Clone {
    (0..9_000u64).map(|number| {
        let scrambled = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
        let first = scrambled % ITEMS;
        let step = if number < 4_500 { 1 } else { 7 };
        let others =
            (0..1 + scrambled / ITEMS % 3).map(|n| first + step * (1 + (scrambled >> (3 * n + 12)) % 5));
        let mut items: Vec<u32> =
            [first].into_iter().chain(others).map(|item| (item % ITEMS) as u32).collect();
        items.sort_unstable();
        items.dedup();
        Basket { at: EventTime::from_millis(200 * number as i64), items }
    })
}

/// An item with another one, and in how many baskets both are.
type Together = (u32, u32, u64);
/// The minute that has ended, an item, and what goes with it, the most frequent first.
type Recommendation = (i64, u32, Vec<(u32, u64)>);

fn recommendations(baskets: EventStream<Basket>) -> EventStream<Recommendation> {
    let counts: EventStream<Together> = baskets
        .flat_map(|basket| basket.pairs().collect::<Vec<_>>())
        .key_by(|pair| *pair)
        .window(sliding(MINUTES as u32 * MINUTE, MINUTE))
        .count()
        .append()
        .map(|window| (window.key.0, window.key.1, window.value))
        .boxed();
    counts
        .key_by(|(item, ..)| *item)
        .window(tumbling(MINUTE))
        .top_n(TOP, |(.., count)| *count)
        .append()
        .map(|window| {
            let others = window.value.into_iter().map(|(_, other, count)| (other, count)).collect();
            (window.window.end.as_secs() / 60, window.key, others)
        })
        .boxed()
}

/// The same by plain loops.
fn expected() -> Vec<Recommendation> {
    let mut counts = BTreeMap::<(i64, u32), BTreeMap<u32, u64>>::new();
    for basket in baskets() {
        let minute = basket.at.as_secs().div_euclid(60);
        for (item, other) in basket.pairs() {
            for end in minute + 1..=minute + MINUTES {
                *counts.entry((end, item)).or_default().entry(other).or_default() += 1;
            }
        }
    }
    let first = |counts: BTreeMap<u32, u64>| {
        let mut ranked: Vec<(u32, u64)> = counts.into_iter().collect();
        // The sort is stable: of equal counts, the lower item comes first.
        ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ranked.truncate(TOP);
        ranked
    };
    counts.into_iter().map(|((end, item), counts)| (end, item, first(counts))).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let expected = expected();
    assert!(expected.len() > 1_000 && expected.iter().all(|(.., others)| !others.is_empty()));
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2] {
            let graph = Graph::new("recommendations");
            let (sink, found) = memory_sink();
            let baskets =
                graph.source(memory(baskets())).with_watermark(|basket: &Basket| basket.at, Duration::ZERO);
            recommendations(baskets.boxed()).sink(sink);
            let summary = graph.run(Options::default().with_mode(mode).with_workers(workers))?;

            let mut found = found.snapshot();
            found.sort();
            println!("{mode}, {workers} workers: {} recommendations", found.len());
            for (minute, item, others) in
                found.iter().filter(|(minute, item, _)| *item == 4 && minute % 10 == 0)
            {
                println!("  minute {minute}: with item {item} go {others:?}");
            }
            assert_eq!(summary.late_rows, 0);
            assert!(found == expected, "{mode}, {workers} workers: the plain loops differ");
        }
    }
    Ok(())
}
