//! PageRank of pages whose links come and go, against a computation over all links.
//!
//! ```sh
//! cargo run --features tables --example streaming_pagerank
//! ```
//!
//! Ranks are integers, so both have the same, to the last digit.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use tidemill::RowChange;
use tidemill::graph::{RANK, pagerank};
use tidemill::prelude::*;
use tidemill::testing::collecting_sink;

const PAGES: u64 = 300;
const ROUNDS: u64 = 10;

/// Links as they are added, and some as they are removed later. Low numbers are linked to most.
fn log() -> Vec<RowChange<(u32, u32)>> {
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % PAGES
    };
    let links: Vec<(u32, u32)> =
        (0..2_000).map(|_| (random() as u32, (random() * random() / PAGES) as u32)).collect();
    let added = links.iter().copied().map(RowChange::insert);
    added.chain(links.iter().copied().step_by(9).map(RowChange::delete)).collect()
}

/// The ranks, computed as a whole.
fn whole(log: &[RowChange<(u32, u32)>]) -> BTreeMap<u32, u64> {
    let mut copies: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    log.iter().for_each(|change| *copies.entry(change.row).or_default() += change.diff);
    let links: Vec<(u32, u32)> =
        copies.into_iter().filter(|(_, copies)| *copies > 0).map(|it| it.0).collect();
    let pages: BTreeSet<u32> = links.iter().flat_map(|link| [link.0, link.1]).collect();
    let mut degrees: BTreeMap<u32, u64> = BTreeMap::new();
    links.iter().for_each(|link| *degrees.entry(link.0).or_default() += 1);
    let mut ranks: BTreeMap<u32, u64> = pages.iter().map(|page| (*page, RANK)).collect();
    for _ in 0..ROUNDS {
        let mut next: BTreeMap<u32, u64> = pages.iter().map(|page| (*page, RANK * 15 / 100)).collect();
        for (from, to) in &links {
            if let (Some(rank), Some(degree)) = (ranks.get(from), degrees.get(from)) {
                *next.entry(*to).or_default() += rank * 85 / (100 * degree);
            }
        }
        ranks = next;
    }
    ranks
}

fn main() -> Result<(), Box<dyn Error>> {
    let log = log();
    let graph = Graph::new("ranks");
    let links = graph.source(memory(log.clone())).uid("log").as_changes();
    let links = links.key_by(|change| change.row.0).into_changelog_table().uid("links").map(|_, link| link.1);
    let (sink, changes) = collecting_sink();
    pagerank(&links, ROUNDS).uid("ranks").changes().as_inserts().sink(sink);
    graph.run(Options::default().with_workers(1).with_max_records_per_epoch(500))?;

    let mut rows: BTreeMap<(u32, u64), i64> = BTreeMap::new();
    changes.committed().iter().for_each(|change| *rows.entry(change.row).or_default() += change.diff);
    rows.retain(|_, copies| *copies != 0);
    let ranks: Vec<(u32, u64)> = rows.into_keys().collect();
    assert_eq!(ranks, whole(&log).into_iter().collect::<Vec<_>>());
    let mut best = ranks;
    best.sort_by_key(|row| std::cmp::Reverse(row.1));
    for (page, rank) in best.iter().take(5) {
        println!("page {page:>3}: {:.3}", *rank as f64 / RANK as f64);
    }
    Ok(())
}
