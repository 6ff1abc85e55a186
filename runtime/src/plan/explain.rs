//! The plan of a run, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use tidemill_operators::Mode;
use tidemill_operators::graph::{Input, Node, NodeId, NodeKind, Route, SinkSpec};

use super::{Plan, Runs, Watermarks};
use crate::peers::Peers;

/// What each node of a graph runs as, in a mode and with a number of workers: see
/// [`Run::explain_run`](crate::Run::explain_run). Prints as text, and as [JSON](PhysicalPlan::json).
///
/// The lines of a node are: what it runs as and on which workers, the sinks and steps that run inside it, its watermark
/// domain, and how each input reaches it. Streams in one domain have one watermark.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PhysicalPlan {
    query: String,
    mode: String,
    workers: usize,
    nodes: Vec<PhysicalNode>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct PhysicalNode {
    id: usize,
    label: String,
    at: String,
    runs: String,
    /// The node inside which it runs; none if it has an operator of its own.
    inside: Option<usize>,
    /// The workers on which it runs.
    workers: Vec<usize>,
    watermark: Option<String>,
    inputs: Vec<String>,
}

impl PhysicalPlan {
    /// The plan as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }

    /// Describes the plan of a run.
    pub(crate) fn of(plan: &Plan, mode: Mode, peers: &Peers) -> PhysicalPlan {
        let explainer = Explainer { plan, peers, inside: hosts(plan) };
        PhysicalPlan {
            query: plan.layout.query.clone(),
            mode: mode.to_string(),
            workers: peers.total(),
            nodes: plan.layout.nodes.iter().map(|node| explainer.node(node)).collect(),
        }
    }
}

/// The node inside which each node runs that has no operator of its own.
fn hosts(plan: &Plan) -> BTreeMap<NodeId, NodeId> {
    let mut inside = BTreeMap::new();
    for node in plan.layout.nodes.iter().map(|node| node.id) {
        match plan.runs(node) {
            Some(Runs::Aligned(it) | Runs::OnePhase(it) | Runs::TwoPhases(it)) => {
                for sink in &it.sinks {
                    inside.insert(sink.sink, node);
                    inside.extend(sink.steps.map(|steps| (steps, sink.sink)));
                }
            }
            Some(Runs::Sink { steps: Some(steps) }) => {
                inside.insert(*steps, node);
            }
            _ => {}
        }
    }
    inside
}

struct Explainer<'a> {
    plan: &'a Plan,
    peers: &'a Peers,
    inside: BTreeMap<NodeId, NodeId>,
}

impl Explainer<'_> {
    fn node(&self, node: &Node) -> PhysicalNode {
        let label = node.label();
        PhysicalNode {
            id: node.id.0,
            label: if node.detail.is_empty() { label } else { format!("{label}: {}", node.detail) },
            at: format!("{}:{}", node.location.file(), node.location.line()),
            runs: self.runs(node),
            inside: self.inside.get(&node.id).map(|host| host.0),
            workers: self.workers_of(node),
            watermark: self.watermark(node),
            inputs: node.inputs.iter().map(|input| self.input(input)).collect(),
        }
    }

    fn runs(&self, node: &Node) -> String {
        let what = match (self.plan.runs(node.id), &node.kind) {
            (Some(Runs::Source(planned)), _) => {
                let info = self.plan.layout.source_info(node.id);
                let partitions = count(info.partitions() as usize, "partition");
                let looks = info
                    .discovery_interval()
                    .map_or_else(String::new, |every| format!("; looks for new ones every {every:?}"));
                let pulled =
                    planned.pulled_by.map_or_else(String::new, |by| format!("; #{} may pull its rows", by.0));
                let announces = if planned.announces.is_some() { "; announces its batches" } else { "" };
                let moves = if planned.moves { "; idle workers take over partitions of others" } else { "" };
                format!("source of {partitions}{looks}{moves}{pulled}{announces}")
            }
            (Some(Runs::Aligned(_)), _) if node.is_stateful() => {
                "operator with state, aligned by epoch".to_owned()
            }
            (Some(Runs::Aligned(_)), _) => "operator, aligned by epoch".to_owned(),
            (Some(Runs::OnePhase(_)), _) => "aggregation in one operator".to_owned(),
            (Some(Runs::TwoPhases(_)), _) => {
                "aggregation in two operators: pre-aggregate, exchange by key, merge".to_owned()
            }
            (Some(Runs::Fragment(_)), _) => "fragment".to_owned(),
            (Some(Runs::Part), _) => "part of the nested dataflow of tables".to_owned(),
            (_, NodeKind::Sink { .. }) => "sink".to_owned(),
            (Some(Runs::Inside), _) => "steps".to_owned(),
            _ => "operator".to_owned(),
        };
        let hosted: Vec<String> = self
            .inside
            .iter()
            .filter(|(_, host)| **host == node.id)
            .map(|(id, _)| format!("#{}", id.0))
            .collect();
        if hosted.is_empty() { what } else { format!("{what}; runs {} inside it", hosted.join(", ")) }
    }

    fn workers_of(&self, node: &Node) -> Vec<usize> {
        match &node.kind {
            NodeKind::Source(_) => {
                let info = self.plan.layout.source_info(node.id);
                let moves = matches!(self.plan.runs(node.id), Some(Runs::Source(planned)) if planned.moves);
                if info.discovery_interval().is_some() || moves {
                    return (0..self.peers.total()).collect();
                }
                let partitions = 0..info.partitions();
                let readers: BTreeSet<usize> =
                    partitions.map(|partition| self.peers.placement(partition)).collect();
                readers.into_iter().collect()
            }
            NodeKind::Sink { sink: SinkSpec::One(_), .. } => vec![0],
            _ => (0..self.peers.total()).collect(),
        }
    }

    fn watermark(&self, node: &Node) -> Option<String> {
        let domain = match &node.kind {
            // A sink has no outputs: the domain of what it writes.
            NodeKind::Sink { .. } => {
                node.inputs.first().and_then(|input| self.plan.layout.domain(input.from))
            }
            _ => self.plan.layout.domain(node.id),
        }?;
        let role = match self.plan.runs(node.id) {
            Some(Runs::Aligned(it) | Runs::OnePhase(it) | Runs::TwoPhases(it) | Runs::Fragment(it)) => {
                match &it.watermarks {
                    Watermarks::Assigns(_) => ", assigned here".to_owned(),
                    of @ (Watermarks::Joins(_) | Watermarks::Derives(_)) => {
                        let joined: BTreeSet<_> =
                            it.domains.iter().flatten().map(ToString::to_string).collect();
                        let how = if matches!(of, Watermarks::Joins(_)) { "joins" } else { "derived from" };
                        format!(", {how} {}", joined.into_iter().collect::<Vec<_>>().join(", "))
                    }
                    Watermarks::Passes => String::new(),
                }
            }
            _ => String::new(),
        };
        Some(format!("domain {domain}{role}"))
    }

    fn input(&self, input: &Input) -> String {
        let output = if input.port == 0 { String::new() } else { format!(" output {}", input.port) };
        let way = match &input.route {
            _ if !self.plan.crosses(input) => "stays on its worker",
            Route::Local => "stays on its worker",
            Route::ByKey => "exchanged by key",
            Route::Rebalance => "exchanged round-robin",
            Route::Broadcast(_) => "copied to every worker",
            Route::Single => "exchanged to worker 0",
        };
        format!("#{}{output} {way}", input.from.0)
    }
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

impl PhysicalNode {
    /// On which workers it runs.
    fn place(&self, of: usize) -> String {
        match self.workers.as_slice() {
            [] => "on no worker".to_owned(),
            [one] => format!("on worker {one}"),
            all if all.len() == of => format!("on all {of} workers"),
            some => format!("on {} of {of} workers", some.len()),
        }
    }
}

impl fmt::Display for PhysicalPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "query {}: {}, {}", self.query, self.mode, count(self.workers, "worker"))?;
        for node in &self.nodes {
            writeln!(f, "  #{} {}", node.id, node.label)?;
            let inside = node.inside.map_or_else(String::new, |host| format!(", inside #{host}"));
            writeln!(f, "       {}{inside}, {}", node.runs, node.place(self.workers))?;
            if let Some(watermark) = &node.watermark {
                writeln!(f, "       watermark {watermark}")?;
            }
            for input in &node.inputs {
                writeln!(f, "       input {input}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tidemill_operators::testing::{nowhere, numbers};
    use tidemill_operators::{EventTime, Graph, tumbling};

    use super::*;
    use crate::plan::Layout;
    use crate::{Options, Run, RunError};

    fn explained(mode: Mode, workers: usize) -> String {
        let graph = Graph::new("windows");
        numbers(&graph, 3)
            .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO)
            .key_by(|n| n % 2)
            .window(tumbling(Duration::from_secs(1)))
            .count()
            .append()
            .sink_per_worker(|_| Ok(nowhere()));
        numbers(&graph, 3).map(|n| n + 1).sink(nowhere());
        let layout = Arc::new(Layout::of(graph.name(), graph.nodes()).learned());
        let plan = Plan::new(&layout, mode, workers, &BTreeSet::new());
        PhysicalPlan::of(&plan, mode, &Peers::in_one_process(workers)).to_string()
    }

    #[test]
    fn plan_for_one_worker_has_one_phase_and_inner_sinks() {
        let expected = "\
query windows: micro-batch, 1 worker
  #0 source: 3 items
       source of 1 partition, on worker 0
  #1 with_watermark → key_by → window: tumbling 1s, count
       aggregation in one operator; runs #2 inside it, on worker 0
       watermark domain 0, assigned here
       input #0 stays on its worker
  #2 sink: Nowhere
       sink, inside #1, on worker 0
       watermark domain 0
       input #1 stays on its worker
  #3 source: 3 items
       source of 1 partition, on worker 0
  #4 map
       steps, inside #5, on worker 0
       input #3 stays on its worker
  #5 sink: Nowhere
       sink; runs #4 inside it, on worker 0
       input #4 stays on its worker
";
        assert_eq!(explained(Mode::MicroBatch, 1), expected);
        assert_eq!(explained(Mode::Continuous, 1), expected.replace("micro-batch", "continuous"));
    }

    #[test]
    fn plan_for_two_workers_has_two_phases_and_exchanges() {
        let expected = "\
query windows: micro-batch, 2 workers
  #0 source: 3 items
       source of 1 partition, on worker 0
  #1 with_watermark → key_by → window: tumbling 1s, count
       aggregation in two operators: pre-aggregate, exchange by key, merge; runs #2 inside it, on all 2 workers
       watermark domain 0, assigned here
       input #0 stays on its worker
  #2 sink: Nowhere
       sink, inside #1, on all 2 workers
       watermark domain 0
       input #1 stays on its worker
  #3 source: 3 items
       source of 1 partition, on worker 0
  #4 map
       operator, on all 2 workers
       input #3 stays on its worker
  #5 sink: Nowhere
       sink, on worker 0
       input #4 exchanged to worker 0
";
        assert_eq!(explained(Mode::MicroBatch, 2), expected);
        // Two workers share the watermark, so its source announces its batches to the ledger.
        let continuous = expected.replace("micro-batch", "continuous");
        let announces = continuous.replacen("1 partition,", "1 partition; announces its batches,", 1);
        assert_eq!(explained(Mode::Continuous, 2), announces);
    }

    #[test]
    fn plan_of_a_union_shows_which_domains_it_joins() {
        let graph = Graph::new("union");
        let timed = || {
            numbers(&graph, 3).with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO).boxed()
        };
        let joined = timed().union(timed());
        joined.rebalance().sink_per_worker(|_| Ok(nowhere()));
        let plan = graph.explain_run(&Options::default().with_workers(2)).unwrap();
        let text = plan.to_string();
        assert!(text.contains("watermark domain 2, joins 0, 1\n"), "{text}");
        assert!(text.contains(" exchanged round-robin\n"), "{text}");
        assert_eq!(plan.json()["nodes"][0]["workers"], serde_json::json!([0]));
    }

    #[test]
    fn plan_of_an_invalid_graph_is_refused() {
        let graph = Graph::new("invalid");
        assert!(matches!(graph.explain_run(&Options::default()), Err(RunError::Graph(_))));
        numbers(&graph, 3).sink(nowhere());
        let without_workers = Options { workers: 0, ..Options::default() };
        assert!(matches!(graph.explain_run(&without_workers), Err(RunError::Options { .. })));
    }
}
