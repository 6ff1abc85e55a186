//! What types cannot rule out, said before anything runs.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::node::{Node, NodeId, NodeKind};
use super::row_kind;

/// One thing that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The operator.
    pub operator: String,
    /// The user's file and line; empty where the graph has none.
    pub location: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location.as_str() {
            "" => write!(f, "`{}`: {}", self.operator, self.message),
            location => write!(f, "`{}` at {location}: {}", self.operator, self.message),
        }
    }
}

/// The graph cannot run as it is.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("the graph cannot run:{}", .problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
pub struct GraphError {
    /// Everything that is wrong, in the order of the graph.
    pub problems: Vec<Problem>,
}

pub(super) fn validate(nodes: &[Node], found: &[(NodeId, String)]) -> Result<(), GraphError> {
    let mut problems: Vec<(NodeId, String)> = found.to_vec();
    if !nodes.iter().any(|n| matches!(n.kind, NodeKind::Sink { .. })) {
        let at = nodes.last().map_or(NodeId(0), |n| n.id);
        problems.push((at, "no stream ends in a sink: the graph would emit nothing; call `.sink(…)`".into()));
    } else {
        unconsumed(nodes, &mut problems);
    }
    duplicate_uids(nodes, &mut problems);
    shared_places(nodes, &mut problems);
    row_kind::check(nodes, &mut problems);
    problems.sort_by_key(|(node, _)| *node);
    if problems.is_empty() {
        return Ok(());
    }
    let describe = |(id, message): (NodeId, String)| {
        let node = nodes.get(id.0);
        Problem {
            operator: node.map_or_else(|| "graph".to_owned(), Node::label),
            location: node
                .map_or_else(String::new, |n| format!("{}:{}", n.location.file(), n.location.line())),
            message,
        }
    };
    Err(GraphError { problems: problems.into_iter().map(describe).collect() })
}

/// A main output that leads nowhere is a mistake; a side output (late rows, a branch) may be left alone.
fn unconsumed(nodes: &[Node], problems: &mut Vec<(NodeId, String)>) {
    for node in nodes.iter().filter(|n| !n.outputs.is_empty()) {
        if !nodes.iter().any(|other| other.inputs.iter().any(|i| i.from == node.id)) {
            problems.push((node.id, "nothing reads its output: end it in `.sink(…)` or remove it".into()));
        }
    }
}

fn duplicate_uids(nodes: &[Node], problems: &mut Vec<(NodeId, String)>) {
    let mut seen: HashMap<&str, &Node> = HashMap::new();
    for node in nodes {
        if let Some(first) = seen.get(node.uid()) {
            let (file, line) = (first.location.file(), first.location.line());
            problems.push((
                node.id,
                format!(
                    "the uid `{}` is taken by `{}` at {file}:{line}: each needs its own",
                    node.uid(),
                    first.label()
                ),
            ));
        } else {
            seen.insert(node.uid(), node);
        }
    }
}

/// Two sinks into one place would write over each other's rows, without a word.
fn shared_places(nodes: &[Node], problems: &mut Vec<(NodeId, String)>) {
    let mut seen: HashMap<&Path, &Node> = HashMap::new();
    for node in nodes {
        let NodeKind::Sink { place: Some(place), .. } = &node.kind else { continue };
        if let Some(first) = seen.get(place.as_path()) {
            let (file, line) = (first.location.file(), first.location.line());
            problems.push((
                node.id,
                format!(
                    "{} is written to by `{}` at {file}:{line}, and one would overwrite the rows of the other: give \
                     each its own, or merge the streams with `union` before one sink",
                    place.display(),
                    first.label()
                ),
            ));
        } else {
            seen.insert(place, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Graph;
    use crate::testing::{nowhere, numbers};

    #[test]
    fn a_graph_without_a_sink_names_the_last_line() {
        let graph = Graph::new("test");
        let _ = numbers(&graph, 3).map(|n| n + 1).boxed();
        let error = graph.validate().unwrap_err();
        assert_eq!(error.problems.len(), 1);
        assert!(error.problems[0].location.contains("validate.rs:"), "{error}");
        assert!(error.to_string().contains("no stream ends in a sink"), "{error}");
    }

    #[test]
    fn empty_graph_is_refused_without_a_line() {
        let said = Graph::new("test").validate().unwrap_err().to_string();
        assert!(said.contains("`graph`: no stream ends in a sink"), "{said}");
    }

    #[test]
    fn second_uid_of_an_operator_is_refused() {
        let graph = Graph::new("twice");
        let counts = numbers(&graph, 3).key_by(|n| *n).count().update().uid("counts").boxed();
        counts.clone().uid("counts").sink(nowhere());
        graph.validate().unwrap();
        counts.uid("before the sink").sink(nowhere());
        let error = graph.validate().unwrap_err().to_string();
        for part in ["the uid `counts` and gets a second one, `before the sink`", "`.map(|row| row)`"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn two_operators_with_one_uid_are_refused() {
        let graph = Graph::new("test");
        let stream = numbers(&graph, 3).uid("a");
        stream.map(|n| n + 1).uid("a").sink(nowhere());
        let error = graph.validate().unwrap_err();
        assert!(error.to_string().contains("the uid `a` is taken"), "{error}");
    }

    #[test]
    fn an_output_that_leads_nowhere_is_refused() {
        let graph = Graph::new("test");
        numbers(&graph, 3).sink(nowhere());
        let _forgotten = numbers(&graph, 3).map(|n| n + 1).boxed();
        assert!(graph.validate().unwrap_err().to_string().contains("nothing reads its output"));
    }

    #[test]
    fn a_sound_graph_passes() {
        let graph = Graph::new("test");
        numbers(&graph, 3).map(|n| n + 1).sink(nowhere());
        assert_eq!(graph.validate(), Ok(()));
    }
}
