//! The plan of a graph, for people and for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::node::{Node, NodeKind, at};
use crate::RowKind;

/// The plan of a graph: prints as text, and as [Mermaid](Plan::mermaid), [DOT](Plan::dot) and [JSON](Plan::json).
///
/// ```
/// use tidemill::prelude::*;
///
/// let graph = Graph::new("even");
/// graph.source(memory(0..9u64)).filter(|n| n % 2 == 0).name("only even").sink(discard().0);
/// let plan = graph.explain();
/// assert!(plan.to_string().contains("only even"));
/// assert!(plan.mermaid().starts_with("flowchart TD"));
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    query: String,
    nodes: Vec<PlanNode>,
}

#[derive(Clone, Debug, Serialize)]
struct PlanNode {
    id: usize,
    label: String,
    op: &'static str,
    uid: String,
    detail: String,
    stateful: bool,
    assigns_watermark: bool,
    row_kind: RowKind,
    at: String,
    steps: Vec<PlanStep>,
    inputs: Vec<PlanEdge>,
}

#[derive(Clone, Debug, Serialize)]
struct PlanStep {
    op: &'static str,
    name: Option<String>,
    at: String,
}

#[derive(Clone, Debug, Serialize)]
struct PlanEdge {
    from: usize,
    output: usize,
    route: &'static str,
}

impl Plan {
    pub(super) fn of(query: &str, nodes: &[Node]) -> Plan {
        let plan = |node: &Node| PlanNode {
            id: node.id.0,
            label: node.label(),
            op: node.op,
            uid: node.uid().to_owned(),
            detail: node.detail.clone(),
            stateful: node.is_stateful(),
            assigns_watermark: node.watermark().is_some(),
            row_kind: node.row_kind(),
            at: at(node.location),
            steps: node
                .steps
                .iter()
                .map(|s| PlanStep { op: s.op, name: s.name.clone(), at: at(s.location) })
                .collect(),
            inputs: node
                .inputs
                .iter()
                .map(|i| PlanEdge {
                    from: i.from.0,
                    output: i.port,
                    // What an aggregation takes is exchanged inside it, after each worker has aggregated its own.
                    route: if matches!(node.kind, NodeKind::Grouped(_)) {
                        "by key"
                    } else {
                        i.route.describe()
                    },
                })
                .collect(),
        };
        Plan { query: query.to_owned(), nodes: nodes.iter().map(plan).collect() }
    }

    /// The plan as a Mermaid flow chart.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        for node in &self.nodes {
            let label = format!("{}<br/>{}", in_mermaid(&node.title()), in_mermaid(&node.at));
            let (open, close) = if node.stateful { ("[(", ")]") } else { ("[", "]") };
            let _ = writeln!(text, "    n{}{open}\"{label}\"{close}", node.id);
        }
        for (to, edge) in self.edges() {
            let _ = writeln!(text, "    n{} -->|{}| n{to}", edge.from, edge.route);
        }
        text
    }

    /// The plan as a Graphviz graph.
    pub fn dot(&self) -> String {
        let mut text = format!("digraph \"{}\" {{\n    node [shape=box];\n", in_dot(&self.query));
        for node in &self.nodes {
            let label = format!("{}\\n{}", in_dot(&node.title()), in_dot(&node.at));
            let shape = if node.stateful { ", shape=cylinder" } else { "" };
            let _ = writeln!(text, "    n{} [label=\"{label}\"{shape}];", node.id);
        }
        for (to, edge) in self.edges() {
            let _ = writeln!(text, "    n{} -> n{to} [label=\"{}\"];", edge.from, edge.route);
        }
        text.push_str("}\n");
        text
    }

    /// The plan as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }

    fn edges(&self) -> impl Iterator<Item = (usize, &PlanEdge)> {
        self.nodes.iter().flat_map(|n| n.inputs.iter().map(move |e| (n.id, e)))
    }
}

/// A text inside a quoted string of DOT, where a backslash begins an escape.
fn in_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A text inside a quoted label of Mermaid, which has entities instead of escapes.
fn in_mermaid(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('\n', " ")
}

impl PlanNode {
    fn title(&self) -> String {
        if self.detail.is_empty() { self.label.clone() } else { format!("{}: {}", self.label, self.detail) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "query {}", self.query)?;
        for node in &self.nodes {
            writeln!(f, "  #{} {}", node.id, node.title())?;
            writeln!(f, "       at {}   uid {}", node.at, node.uid)?;
            for step in &node.steps {
                writeln!(f, "       step {} at {}", step.name.as_deref().unwrap_or(step.op), step.at)?;
            }
            for edge in &node.inputs {
                let output =
                    if edge.output == 0 { String::new() } else { format!(" output {}", edge.output) };
                writeln!(f, "       from #{}{output}, {}", edge.from, edge.route)?;
            }
            let mut traits = Vec::new();
            if node.stateful {
                traits.push("keeps state".to_owned());
            }
            if node.assigns_watermark {
                traits.push("assigns the watermark".to_owned());
            }
            if node.row_kind != RowKind::Insert {
                traits.push(format!("rows are {}", node.row_kind));
            }
            if !traits.is_empty() {
                writeln!(f, "       {}", traits.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_with_backslashes_and_quotes_is_valid_dot() {
        let node = PlanNode {
            id: 0,
            label: "split \"\\d+\"".to_owned(),
            op: "map",
            uid: "split".to_owned(),
            detail: String::new(),
            stateful: false,
            assigns_watermark: false,
            row_kind: RowKind::Insert,
            at: "src\\main.rs:3".to_owned(),
            steps: Vec::new(),
            inputs: Vec::new(),
        };
        let plan = Plan { query: "a\\".to_owned(), nodes: vec![node] };
        let dot = plan.dot();
        assert!(dot.starts_with("digraph \"a\\\\\" {"), "{dot}");
        assert!(dot.contains(r#"n0 [label="split \"\\d+\"\nsrc\\main.rs:3"];"#), "{dot}");
        assert!(
            plan.mermaid().contains(r#"n0["split #quot;\d+#quot;<br/>src\main.rs:3"]"#),
            "{}",
            plan.mermaid()
        );
    }
}
