//! Which sources have partitions that idle workers take over.
//!
//! Which worker reads a partition is not part of an epoch's plan, so a replay may read it on another one. The results must not
//! show that. They do not behind an exchange by key or to one worker: what arrives there in an epoch does not depend on the
//! worker that has read it. Before such an exchange they would: a sink on each worker is promised the same rows of a repeated
//! epoch, and an operator may keep state of the rows of its worker.

use std::collections::BTreeSet;

use tidemill_operators::graph::{Node, NodeId, NodeKind, Route, SinkSpec};

use super::Layout;

/// Whether nothing that keeps or writes rows is reached by those of a source on the worker that has read them.
pub(super) fn leaves_no_trace(layout: &Layout, source: NodeId) -> bool {
    // The outputs whose rows are on a worker that depends on which one has read them. A node comes after those that it reads.
    let mut traced = BTreeSet::from([(source, 0)]);
    layout.nodes.iter().all(|node| {
        let is_traced = node.inputs.iter().any(|input| {
            // A rebalance goes round from the worker on which the rows are.
            let stays = matches!(input.route, Route::Local | Route::Rebalance);
            stays && traced.contains(&(input.from, input.port))
        });
        !is_traced || outputs_of(node).map(|outputs| traced.extend(outputs)).is_some()
    })
}

/// The outputs of a node whose rows stay on the worker of the rows that it takes; none if it must always take the same ones.
fn outputs_of(node: &Node) -> Option<Vec<(NodeId, usize)>> {
    let outputs = match &node.kind {
        NodeKind::Source(_) => 0..0,
        NodeKind::Forward => 0..node.outputs.len(),
        NodeKind::Operator(spec) if !spec.stateful => 0..node.outputs.len(),
        // Its results are on the workers of their keys, what came late is not.
        NodeKind::Grouped(spec) if !spec.is_ordered => 1..node.outputs.len(),
        NodeKind::Sink { sink: SinkSpec::One(_), .. } => 0..0,
        NodeKind::Operator(_) | NodeKind::Grouped(_) | NodeKind::Fragment(_) | NodeKind::Sink { .. } => {
            return None;
        }
    };
    Some(outputs.map(|output| (node.id, output)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill_operators::testing::{nowhere, numbers};
    use tidemill_operators::{EventTime, Graph, Stream, sliding, tumbling};

    use super::*;

    /// Whether the partitions of the source of a graph may move.
    fn moves(build: impl FnOnce(Stream<u64>)) -> bool {
        let graph = Graph::new("moves");
        build(numbers(&graph, 3).boxed());
        let layout = Layout::of(graph.name(), graph.nodes()).learned();
        leaves_no_trace(&layout, NodeId(0))
    }

    #[test]
    fn partitions_move_before_exchange_by_key_or_to_one_worker() {
        assert!(moves(|rows| rows.map(|n| n + 1).sink(nowhere())));
        assert!(moves(|rows| rows.key_by(|n| n % 2).count().update().sink_per_worker(|_| Ok(nowhere()))));
        assert!(moves(|rows| {
            let timed = rows.with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO);
            timed.key_by(|n| n % 2).window(tumbling(Duration::from_secs(1))).count().append().sink(nowhere());
        }));
    }

    #[test]
    fn partitions_stay_where_results_show_who_read_them() {
        assert!(!moves(|rows| rows.sink_per_worker(|_| Ok(nowhere()))));
        assert!(!moves(|rows| rows.rebalance().map(|n| n + 1).sink_per_worker(|_| Ok(nowhere()))));
        assert!(!moves(|rows| rows.limit(2).sink(nowhere())));
    }

    #[test]
    fn partitions_stay_before_sliding_windows_in_order() {
        let windows = |slide| {
            moves(move |rows| {
                let timed = rows.with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO);
                let windows = sliding(Duration::from_secs(10), Duration::from_secs(slide));
                timed.key_by(|n| n % 2).window(windows).collect().append().sink(nowhere());
            })
        };
        assert!(!windows(5));
        assert!(windows(10), "each window is one pane");
    }

    #[test]
    fn late_rows_stay_on_the_worker_that_has_read_them() {
        let late = |per_worker: bool| {
            moves(move |rows| {
                let timed = rows.with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO);
                let windows = timed.key_by(|n| n % 2).window(tumbling(Duration::from_secs(1)));
                let (results, late) = windows.count().append_with_late();
                results.sink(nowhere());
                match per_worker {
                    true => late.sink_per_worker(|_| Ok(nowhere())),
                    false => late.sink(nowhere()),
                }
            })
        };
        assert!(!late(true));
        assert!(late(false));
    }
}
