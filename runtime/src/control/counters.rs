//! Rows in, out, late, skipped and kept, by node.

use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_operators::graph::NodeId;

/// Counters of a node, summed over workers.
#[derive(Debug, Default)]
pub(crate) struct NodeMetrics {
    pub(crate) rows_in: AtomicU64,
    pub(crate) rows_out: AtomicU64,
    pub(crate) late_rows: AtomicU64,
    pub(crate) skipped_rows: AtomicU64,
    /// By worker.
    pub(crate) state_rows: Vec<AtomicU64>,
}

/// The counters of all nodes.
#[derive(Debug)]
pub(crate) struct Counters {
    nodes: Vec<NodeMetrics>,
    /// How often a nested scope has run, where that is noted.
    scopes: AtomicU64,
}

impl Counters {
    pub(super) fn new(nodes: usize, workers: usize) -> Counters {
        let metrics = |_| NodeMetrics {
            state_rows: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            ..NodeMetrics::default()
        };
        Counters { nodes: (0..nodes).map(metrics).collect(), scopes: AtomicU64::new(0) }
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<&NodeMetrics> {
        self.nodes.get(node.0)
    }

    pub(crate) fn nodes(&self) -> &[NodeMetrics] {
        &self.nodes
    }

    /// Notes that a nested scope runs, in which rows may move without entering or leaving a node.
    pub(crate) fn note_scope(&self) {
        self.scopes.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a number that changes when rows move.
    pub(crate) fn activity(&self) -> u64 {
        let of = |m: &NodeMetrics| m.rows_in.load(Ordering::Relaxed) + m.rows_out.load(Ordering::Relaxed);
        self.nodes.iter().map(of).sum::<u64>() + self.scopes.load(Ordering::Relaxed)
    }
}
