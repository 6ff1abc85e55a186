//! Graphs as tables of edges: components, distances, ranks, triangles, updated as edges come and go.
//!
//! A table of edges has the node where an edge begins as its key, and the node where it ends as its row. Several copies of an edge
//! count as one, unless a function says otherwise. A node is there as long as one of its edges is.
//!
//! ```
//! use tidemill::prelude::*;
//! use tidemill::graph::connected_components;
//!
//! let graph = Graph::new("components");
//! let edges = graph.source(memory([(1u32, 2u32), (2, 3), (7, 8)]));
//! let edges = edges.key_by(|edge| edge.0).into_append_table().map(|_, edge| edge.1);
//! let (sink, rows) = memory_sink();
//! connected_components(&edges).rekey(|_, component| (component, ())).count().complete().map(|row| row.1).sink(sink);
//! graph.run(Options::default())?;
//! let mut sizes = rows.snapshot();
//! sizes.sort();
//! assert_eq!(sizes, [2, 3]);
//! # Ok::<(), RunError>(())
//! ```

use std::hash::Hash;

use tidemill_operators::hash_key;

use super::handle::{Table, TableKey, TableRow};

/// What names a node: a key that can also be a row.
pub trait GraphNode: TableKey + TableRow + Hash {}
#[diagnostic::do_not_recommend]
impl<N: TableKey + TableRow + Hash> GraphNode for N {}

/// Each edge in both directions.
#[track_caller]
fn both_ways<N: GraphNode>(edges: &Table<N, N>) -> Table<N, N> {
    edges.union(&edges.rekey(|from, to| (to, from)))
}

/// Each node once.
#[track_caller]
fn nodes<N: GraphNode>(edges: &Table<N, N>) -> Table<N, ()> {
    both_ways(edges).map(|_, _| ()).distinct()
}

/// Returns the number of ends of edges at each node; copies of an edge count.
#[track_caller]
pub fn degrees<N: GraphNode>(edges: &Table<N, N>) -> Table<N, u64> {
    both_ways(edges).count()
}

/// Returns a node of its component for each node, the same one for all nodes that edges connect, in whichever direction.
///
/// The node that stands for a component is the one with the least hash, the same in every run. Labels spread from node to node,
/// those first that are likely to win, so that most nodes get one label only: the idea is from differential dataflow's `propagate_core`.
#[track_caller]
pub fn connected_components<N: GraphNode>(edges: &Table<N, N>) -> Table<N, N> {
    let edges = both_ways(edges);
    let labels = edges.map(|node, _| (hash_key(node), node.clone())).distinct();
    // Labels that are sent: none at the beginning.
    let sent = labels.filter(|_, _| false);
    let components = sent.iterate_into(u64::MAX, |sent, scope| {
        let edges = scope.enter(&edges);
        let labels = scope.enter_at(&labels, |_, label| {
            // A group of labels half as large as the next one, with time to spread.
            256 * u64::from(u64::BITS - label.0.leading_zeros())
        });
        let labels = sent.union(&labels).min();
        let sent = labels.join(&edges, |_, label, to| (to.clone(), label.clone()));
        (sent.rekey(|_, (to, label)| (to, label)), labels)
    });
    components.map(|_, label| label.1)
}

/// Returns how many edges it takes at least to each node that can be reached from one of `roots`.
#[track_caller]
pub fn distances<N: GraphNode, R: TableRow>(edges: &Table<N, N>, roots: &Table<N, R>) -> Table<N, u64> {
    let edges = edges.map(|_, to| (to, 1u64));
    weighted_distances(&edges, roots)
}

/// Returns the least sum of weights on a path to each node that can be reached from one of `roots`.
///
/// The rows of `edges` are where an edge ends, and its weight. Sums end at `u64::MAX`. The rounds are those of the algorithm of Bellman and Ford: one for each
/// edge on the longest of the shortest paths.
#[track_caller]
pub fn weighted_distances<N, R>(edges: &Table<N, (N, u64)>, roots: &Table<N, R>) -> Table<N, u64>
where
    N: GraphNode,
    R: TableRow,
{
    let roots = roots.map(|_, _| 0u64).distinct();
    roots.iterate(u64::MAX, |distances, scope| {
        let (edges, roots) = (scope.enter(edges), scope.enter(&roots));
        let next = distances
            .join(&edges, |_, distance, (to, weight)| (to.clone(), distance.saturating_add(*weight)));
        next.rekey(|_, next| next).union(&roots).min()
    })
}

/// Returns the nodes to which a path leads from one of `roots`, with these.
#[track_caller]
pub fn reachable<N: GraphNode, R: TableRow>(edges: &Table<N, N>, roots: &Table<N, R>) -> Table<N, ()> {
    let roots = roots.map(|_, _| ()).distinct();
    roots.iterate(u64::MAX, |reached, scope| {
        let (edges, roots) = (scope.enter(edges), scope.enter(&roots));
        let next = reached.join(&edges, |_, (), to| to.clone()).rekey(|_, to| (to, ()));
        next.union(&roots).distinct()
    })
}

/// The mean rank of a node in [`pagerank`], if each has an edge that leads from it.
pub const RANK: u64 = 1_000_000;

/// Returns the rank of each node by PageRank (Page and Brin, 1998) with a damping of 0.85, after `rounds` rounds, in units of
/// 1 / [`RANK`].
///
/// In each round a node gets `0.15 * RANK`, and 0.85 of its rank goes in equal parts along its edges, each rounded
/// down: integers, so that the result does not depend on the order of rows. What a node without an edge from it has goes nowhere.
/// Ranks that no longer change are not computed again.
#[track_caller]
pub fn pagerank<N: GraphNode>(edges: &Table<N, N>, rounds: u64) -> Table<N, u64> {
    let edges = edges.distinct();
    let edges = edges.join(&edges.count(), |_, to, degree| (to.clone(), *degree));
    let nodes = nodes(&edges.map(|_, edge| edge.0));
    let start = nodes.map(|_, ()| RANK);
    let base = nodes.map(|_, ()| RANK * 15 / 100);
    start.iterate_exactly(rounds, |ranks, scope| {
        let (edges, base) = (scope.enter(&edges), scope.enter(&base));
        let parts = ranks.join(&edges, |_, rank, (to, degree)| {
            let part = u128::from(*rank) * 85 / (100 * u128::from(*degree).max(1));
            (to.clone(), u64::try_from(part).unwrap_or(u64::MAX))
        });
        let parts = parts.rekey(|_, part| part).union(&base);
        parts.group(|_, parts| {
            let sum = |sum: u64, (part, copies): &(&u64, i64)| {
                sum.saturating_add(part.saturating_mul(copies.unsigned_abs()))
            };
            Some(parts.iter().fold(0, sum))
        })
    })
}

/// Returns the number of triangles at each node that is in one. Directions do not count.
#[track_caller]
pub fn triangles<N: GraphNode>(edges: &Table<N, N>) -> Table<N, u64> {
    let found = each_triangle(edges);
    let first = found.map(|_, _| ());
    let second = found.rekey(|_, (second, _)| (second, ()));
    let third = found.rekey(|_, (_, third)| (third, ()));
    first.union(&second).union(&third).count()
}

/// Returns the number of triangles, under one key; no row if there is none.
#[track_caller]
pub fn triangle_count<N: GraphNode>(edges: &Table<N, N>) -> Table<(), u64> {
    each_triangle(edges).rekey(|_, _| ((), ())).count()
}

/// Each triangle once, its nodes in their order.
#[track_caller]
fn each_triangle<N: GraphNode>(edges: &Table<N, N>) -> Table<N, (N, N)> {
    let edges = edges.filter(|from, to| from != to);
    let edges = edges.rekey(|from, to| if from < to { (from, to) } else { (to, from) }).distinct();
    let open = edges.join(&edges, |_, second, third| (second.clone(), third.clone()));
    let open = open.filter(|_, (second, third)| second < third).rekey(|first, ends| (ends, first));
    let closed = open.semi_join(&edges.rekey(|from, to| ((from, to), ())));
    closed.rekey(|(second, third), first| (first, (second, third)))
}
