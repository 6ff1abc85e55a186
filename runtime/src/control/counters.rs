//! Rows in, out, late, skipped and kept, by node and worker.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use tidemill_operators::graph::NodeId;

/// A number that only one worker changes, and any thread may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// For its own worker: no other may write meanwhile, so it takes no atomic addition.
    pub(crate) fn add(&self, number: u64) {
        self.set(self.get().wrapping_add(number));
    }

    /// For its own worker.
    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of a node on a worker.
#[derive(Debug, Default)]
pub(crate) struct NodeCounters {
    pub(crate) rows_in: Counter,
    pub(crate) rows_out: Counter,
    pub(crate) late_rows: Counter,
    pub(crate) skipped_rows: Counter,
    pub(crate) state_rows: Counter,
}

/// Counters of a node, summed over the workers.
#[derive(Debug, Default)]
pub(crate) struct NodeTotals {
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) late_rows: u64,
    pub(crate) skipped_rows: u64,
    pub(crate) state_rows: u64,
}

/// The counters of all nodes on all workers.
#[derive(Debug)]
pub(crate) struct Counters {
    nodes: usize,
    /// By worker and node: those of a worker are never on a line of memory that another writes to.
    workers: Vec<Vec<CachePadded<NodeCounters>>>,
    /// How often a nested scope has run, where that is noted.
    scopes: AtomicU64,
}

impl Counters {
    pub(super) fn new(nodes: usize, workers: usize) -> Counters {
        let of_worker = |_| (0..nodes).map(|_| CachePadded::default()).collect();
        Counters { nodes, workers: (0..workers).map(of_worker).collect(), scopes: AtomicU64::new(0) }
    }

    /// Returns those that a worker writes for a node.
    pub(crate) fn of(&self, node: NodeId, worker: usize) -> Option<&NodeCounters> {
        Some(self.workers.get(worker)?.get(node.0)?)
    }

    /// Returns the sums of a node. A worker may be counting on meanwhile.
    pub(crate) fn total(&self, node: NodeId) -> NodeTotals {
        let mut total = NodeTotals::default();
        for counters in self.workers.iter().filter_map(|nodes| nodes.get(node.0)) {
            total.rows_in += counters.rows_in.get();
            total.rows_out += counters.rows_out.get();
            total.late_rows += counters.late_rows.get();
            total.skipped_rows += counters.skipped_rows.get();
            total.state_rows += counters.state_rows.get();
        }
        total
    }

    /// Returns the sums of all nodes, by number.
    pub(crate) fn totals(&self) -> impl Iterator<Item = NodeTotals> + '_ {
        (0..self.nodes).map(|node| self.total(NodeId(node)))
    }

    /// Notes that a nested scope runs, in which rows may move without entering or leaving a node.
    pub(crate) fn note_scope(&self) {
        self.scopes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a number that changes when rows move.
    pub(crate) fn activity(&self) -> u64 {
        let of = |total: NodeTotals| total.rows_in + total.rows_out;
        self.totals().map(of).sum::<u64>() + self.scopes.load(Ordering::Relaxed)
    }
}
