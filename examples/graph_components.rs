//! Connected components of a graph whose edges come and go, against union-find over all edges.
//!
//! ```sh
//! cargo run --release --features tables --example graph_components -- --edges 1000000
//! ```
//!
//! The edges come as a log of changes: first all of them, then edges one by one, removed and added. Each change of an edge
//! changes the labels of those nodes whose component is another one afterwards, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Instant;

use tidemill::RowChange;
use tidemill::graph::connected_components;
use tidemill::prelude::*;
use tidemill::table::IntoChangelogTable;
use tidemill::testing::collecting_sink;

/// An edge between two nodes.
type Link = (u32, u32);

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// The edges at the beginning, between as many nodes, and changes: an edge is removed, another one is added.
fn links(count: u64) -> Vec<RowChange<Link>> {
    let mut state = 42;
    let mut link = || (random(&mut state, count) as u32, random(&mut state, count) as u32);
    let mut links: Vec<Link> = (0..count).map(|_| link()).collect();
    let mut log: Vec<RowChange<Link>> = links.iter().copied().map(RowChange::insert).collect();
    for number in 0..(count / 100).min(2_000) as usize {
        if let Some(old) = links.get_mut(number * 7) {
            log.push(RowChange::delete(*old));
            *old = link();
            log.push(RowChange::insert(*old));
        }
    }
    log
}

/// The components by union-find, as sets of nodes.
fn by_union_find(log: &[RowChange<Link>]) -> BTreeSet<Vec<u32>> {
    let mut copies: BTreeMap<Link, i64> = BTreeMap::new();
    log.iter().for_each(|change| *copies.entry(change.row).or_default() += change.diff);
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    fn root(parents: &mut BTreeMap<u32, u32>, mut node: u32) -> u32 {
        loop {
            let parent = *parents.entry(node).or_insert(node);
            if parent == node {
                return node;
            }
            let above = parents.get(&parent).copied().unwrap_or(parent);
            parents.insert(node, above);
            node = above;
        }
    }
    for (from, to) in copies.into_iter().filter(|(_, copies)| *copies > 0).map(|(link, _)| link) {
        let (from, to) = (root(&mut parents, from), root(&mut parents, to));
        parents.insert(from.max(to), from.min(to));
    }
    let nodes: Vec<u32> = parents.keys().copied().collect();
    sets(nodes.into_iter().map(|node| (node, root(&mut parents, node))))
}

fn sets(labels: impl Iterator<Item = (u32, u32)>) -> BTreeSet<Vec<u32>> {
    let mut sets: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    labels.for_each(|(node, label)| sets.entry(label).or_default().push(node));
    sets.into_values()
        .map(|mut nodes| {
            nodes.sort_unstable();
            nodes
        })
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().skip_while(|arg| arg != "--edges").nth(1);
    let count = given.map_or(Ok(20_000), |given| given.parse::<u64>())?;
    let log = links(count);

    let graph = Graph::new("components");
    let edges = graph.source(memory(log.clone())).uid("links").as_changes();
    let edges = edges.key_by(|change| change.row.0).into_changelog_table().uid("edges").map(|_, link| link.1);
    let (sink, changes) = collecting_sink();
    connected_components(&edges).uid("components").changes().as_inserts().sink(sink);

    let began = Instant::now();
    // All edges of the beginning in one epoch, then changes in further ones.
    graph.run(Options::default().with_workers(1).with_max_records_per_epoch(count))?;
    let took = began.elapsed();

    let mut labels: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    let changes = changes.committed();
    changes.iter().for_each(|change| *labels.entry(change.row).or_default() += change.diff);
    labels.retain(|_, copies| *copies != 0);
    assert!(labels.values().all(|copies| *copies == 1), "a node has one label");
    let found = sets(labels.into_keys());
    let expected = by_union_find(&log);
    assert!(found == expected, "{} components instead of {}", found.len(), expected.len());
    println!(
        "{} components of {count} edges, as union-find has them; {} changes of edges",
        found.len(),
        log.len() as u64 - count
    );
    println!("{} changes of labels in {took:?}", changes.len());
    Ok(())
}
