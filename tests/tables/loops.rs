//! Loops and graphs, against plain loops that compute them again from all edges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill::Graph;
use tidemill::aggregate::Min;
use tidemill::connectors::memory;
use tidemill::graph::{
    RANK, connected_components, degrees, distances, pagerank, reachable, triangle_count, triangles,
    weighted_distances,
};
use tidemill::table::{IntoTable, Table, TableKey, TableRow};
use tidemill::testing::collecting_sink;
use tidemill::{RowChange, RunError, Stream};

use crate::common::{MODES, options, run, run_well};
use crate::graphs::{Change, Outputs, log, newest};
use crate::model::{Command, Inputs, Rows, add};

/// Edges by the node where they begin, with copies: nodes are small numbers, so that there are cycles.
fn edges(commands: &Stream<Command>) -> Table<u32, u32> {
    log(commands).map(|key, value| (key * 7 + value) % 24)
}

fn words<K: TableKey, V: TableRow>(name: &'static str, table: &Table<K, V>) -> Stream<Change> {
    let words = move |change: RowChange<(K, V)>| (name.to_owned(), format!("{:?}", change.row), change.diff);
    table.clone().uid(name).changes().as_inserts().map(words).boxed()
}

/// The least node of each node's component.
fn least_nodes(components: &Table<u32, u32>) -> Table<u32, u32> {
    let members = components.rekey(|node, component| (component, node));
    let least = members.group(Min::of(|node: &u32| *node));
    members.join(&least, |_, node, least| (*node, *least)).rekey(|_, row| row)
}

/// What can be reached in loops of each kind of operator.
pub(crate) fn loops(commands: &Stream<Command>) -> Stream<Change> {
    let edges = edges(commands);
    let roots = newest(commands, 0).filter(|key, _| *key < 3);
    let values = newest(commands, 1);
    let blocked = values.filter(|_, value| value % 3 == 0);
    // Steps along edges, not into nodes that are blocked, numbered by the least and the greatest value that comes along.
    let start = roots.map(|_, value| (value, value));
    let spread = start.iterate(40, |spread, scope| {
        let (edges, start, blocked) = (scope.enter(&edges), scope.enter(&start), scope.enter(&blocked));
        let next = spread.join(&edges, |_, range, to| (*to, *range)).rekey(|_, next| next);
        let next = next.anti_join(&blocked).union(&start);
        let (least, most) = (next.map(|_, row| row.0).min(), next.map(|_, row| row.1).max());
        least.join(&most, |_, least, most| (*least, *most)).distinct()
    });
    let halved = values.iterate_exactly(2, |rows, _| {
        rows.filter(|_, value| *value > 1).rekey(|key, value| (key / 2, value)).group(|_, rows| {
            Some(rows.iter().map(|(value, copies)| **value * u32::try_from(*copies).unwrap()).sum::<u32>())
        })
    });
    let all = [
        words("spread", &spread),
        words("halved", &halved),
        words("components", &least_nodes(&connected_components(&edges))),
        words("reached", &reachable(&edges, &roots)),
        words("distances", &distances(&edges, &roots)),
        words("weighted", &weighted_distances(&edges.map(|from, to| (to, u64::from(from % 5))), &roots)),
        words("ranks", &pagerank(&edges, 6)),
        words("triangles", &triangles(&edges)),
        words("all triangles", &triangle_count(&edges)),
        words("degrees", &degrees(&edges)),
    ];
    all.into_iter().reduce(|all, next| all.union(next)).unwrap()
}

fn edges_of(inputs: &Inputs) -> Rows<u32, u32> {
    let mut edges = Rows::new();
    for ((key, value), copies) in &inputs.log {
        add(&mut edges, (*key, (key * 7 + value) % 24), *copies);
    }
    edges
}

fn least_sums(edges: &[(u32, u32)], roots: &[u32], weight: impl Fn(u32) -> u64) -> BTreeMap<u32, u64> {
    let mut found: BTreeMap<u32, u64> = roots.iter().map(|root| (*root, 0)).collect();
    let mut queue: VecDeque<u32> = roots.iter().copied().collect();
    while let Some(node) = queue.pop_front() {
        for (_, to) in edges.iter().filter(|edge| edge.0 == node) {
            let sum = found[&node] + weight(node);
            if found.get(to).is_none_or(|known| sum < *known) {
                found.insert(*to, sum);
                queue.push_back(*to);
            }
        }
    }
    found
}

fn spread_of(
    edges: &[(u32, u32)],
    start: &BTreeMap<u32, (u32, u32)>,
    blocked: &BTreeSet<u32>,
) -> BTreeMap<u32, (u32, u32)> {
    let mut spread = start.clone();
    loop {
        let mut next = start.clone();
        for (from, to) in edges.iter().filter(|edge| !blocked.contains(&edge.1)) {
            if let Some(range) = spread.get(from) {
                let of = next.entry(*to).or_insert(*range);
                *of = (of.0.min(range.0), of.1.max(range.1));
            }
        }
        if next == spread {
            return spread;
        }
        spread = next;
    }
}

fn components_of(edges: &[(u32, u32)]) -> BTreeMap<u32, u32> {
    let nodes: BTreeSet<u32> = edges.iter().flat_map(|edge| [edge.0, edge.1]).collect();
    let mut label: BTreeMap<u32, u32> = nodes.iter().map(|node| (*node, *node)).collect();
    loop {
        let before = label.clone();
        for (from, to) in edges {
            let least = label[from].min(label[to]);
            label.insert(*from, least);
            label.insert(*to, least);
        }
        if before == label {
            return label;
        }
    }
}

fn ranks_of(edges: &BTreeSet<(u32, u32)>, rounds: usize) -> BTreeMap<u32, u64> {
    let nodes: BTreeSet<u32> = edges.iter().flat_map(|edge| [edge.0, edge.1]).collect();
    let mut ranks: BTreeMap<u32, u64> = nodes.iter().map(|node| (*node, RANK)).collect();
    for _ in 0..rounds {
        let mut next: BTreeMap<u32, u64> = nodes.iter().map(|node| (*node, RANK * 15 / 100)).collect();
        for (from, to) in edges {
            let degree = edges.iter().filter(|edge| edge.0 == *from).count() as u64;
            *next.get_mut(to).unwrap() += ranks[from] * 85 / (100 * degree);
        }
        ranks = next;
    }
    ranks
}

fn put<K: std::fmt::Debug, V: std::fmt::Debug>(
    outputs: &mut Outputs,
    name: &str,
    rows: impl IntoIterator<Item = (K, V)>,
) {
    for row in rows {
        add(outputs, (name.to_owned(), format!("{row:?}")), 1);
    }
}

/// The same in plain loops.
pub(crate) fn loops_of(inputs: &Inputs) -> Outputs {
    let copies = edges_of(inputs);
    let edges: Vec<(u32, u32)> = copies.keys().copied().collect();
    let set: BTreeSet<(u32, u32)> = edges.iter().copied().collect();
    let mut outputs = Outputs::new();
    let roots: BTreeMap<u32, u32> = inputs.newest[0].range(..3).map(|(key, value)| (*key, *value)).collect();
    let start = roots.iter().map(|(key, value)| (*key, (*value, *value))).collect();
    let blocked = inputs.newest[1].iter().filter(|row| row.1 % 3 == 0).map(|row| *row.0).collect();
    put(&mut outputs, "spread", spread_of(&edges, &start, &blocked));
    let mut halved = inputs.newest[1].clone();
    for _ in 0..2 {
        let mut next = BTreeMap::new();
        for (key, value) in halved.iter().filter(|row| *row.1 > 1) {
            *next.entry(key / 2).or_insert(0) += value;
        }
        halved = next;
    }
    put(&mut outputs, "halved", halved);
    put(&mut outputs, "components", components_of(&edges));
    let roots: Vec<u32> = roots.into_keys().collect();
    let distances = least_sums(&edges, &roots, |_| 1);
    put(&mut outputs, "reached", distances.keys().map(|node| (node, ())));
    put(&mut outputs, "distances", distances);
    put(&mut outputs, "weighted", least_sums(&edges, &roots, |from| u64::from(from % 5)));
    put(&mut outputs, "ranks", ranks_of(&set, 6));
    let near = |a, b| set.contains(&(a, b)) || set.contains(&(b, a));
    let (mut at, mut all) = (BTreeMap::<u32, u64>::new(), 0u64);
    for a in 0..40 {
        for b in a + 1..40 {
            for c in b + 1..40 {
                if near(a, b) && near(b, c) && near(a, c) {
                    all += 1;
                    [a, b, c].into_iter().for_each(|node| *at.entry(node).or_default() += 1);
                }
            }
        }
    }
    put(&mut outputs, "triangles", at);
    put(&mut outputs, "all triangles", (all > 0).then_some(((), all)));
    let mut degrees = BTreeMap::<u32, u64>::new();
    for ((from, to), copies) in copies {
        *degrees.entry(from).or_default() += copies as u64;
        *degrees.entry(to).or_default() += copies as u64;
    }
    put(&mut outputs, "degrees", degrees);
    outputs
}

/// A loop that counts up without an end.
fn counting(graph: &Graph) -> Table<u32, u64> {
    graph.source(memory([(1u32, 0u64)])).key_by(|row| row.0).into_table().map(|_, row| row.1)
}

#[test]
fn loop_that_does_not_come_to_rest_ends_the_query() {
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("loop");
            let counts = counting(&graph).iterate(20, |rows, _| rows.map(|_, count| count + 1).distinct());
            counts.name("counts").changes().sink(collecting_sink().0);
            let error = run(&graph, options(mode, workers)).unwrap_err();
            let RunError::Operator { site, error } = &error else { panic!("{error}") };
            assert_eq!(site.operator, "counts");
            assert!(site.location.contains("loops.rs:"), "{}", site.location);
            assert!(error.to_string().contains("not at rest after 20 rounds"), "{error}");
        }
    }
}

#[test]
fn loop_at_rest_at_its_bound_is_no_error() {
    for mode in MODES {
        let graph = Graph::new("loop");
        let counts =
            counting(&graph).iterate(20, |rows, _| rows.map(|_, count| (count + 1).min(20)).distinct());
        let (sink, rows) = collecting_sink();
        counts.changes().sink(sink);
        run_well(&graph, options(mode, 2));
        assert_eq!(rows.committed(), [RowChange::insert((1, 20))]);
    }
}

#[test]
fn loop_of_exactly_n_rounds_stops_there() {
    for mode in MODES {
        for rounds in [1, 2, 7] {
            let graph = Graph::new("loop");
            let counts = counting(&graph).iterate_exactly(rounds, |rows, _| rows.map(|_, count| count + 1));
            let (sink, rows) = collecting_sink();
            counts.changes().sink(sink);
            run_well(&graph, options(mode, 2));
            assert_eq!(rows.committed(), [RowChange::insert((1, rounds))]);
        }
    }
}

#[test]
fn loop_without_rounds_is_refused() {
    let graph = Graph::new("loop");
    counting(&graph).iterate_exactly(0, |rows, _| rows).changes().sink(collecting_sink().0);
    let error = run(&graph, options(MODES[0], 1)).unwrap_err().to_string();
    assert!(error.contains("at least one round") && error.contains("loops.rs:"), "{error}");
}
