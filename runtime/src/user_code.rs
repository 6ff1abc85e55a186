//! Code of the user: every thread of the engine notes whose it runs, and a panic in it becomes a typed error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidemill_operators::graph::{Node, NodeId};

use crate::error::{RunError, Site};

/// The node whose code a thread runs, for other threads to read.
#[derive(Clone, Debug)]
pub(crate) struct Running(Arc<AtomicUsize>);

/// No node: the engine's own code.
const ENGINE: NodeId = NodeId(usize::MAX);
/// What a worker enters before a step: afterwards it sees whether an operator ran.
pub(crate) const NOBODY: NodeId = NodeId(usize::MAX - 1);

/// The storage of the checkpoint, which may be the user's.
pub(crate) const STORAGE: NodeId = NodeId(usize::MAX - 2);
/// The `Drop` of whatever the query owned.
pub(crate) const DROP: NodeId = NodeId(usize::MAX - 3);

thread_local! {
    static RUNNING: Running = Running(Arc::new(AtomicUsize::new(ENGINE.0)));
}

impl Running {
    /// That of this thread.
    pub(crate) fn here() -> Running {
        RUNNING.with(Running::clone)
    }

    /// Where the thread is in the user's program; `otherwise` if it runs the engine's own code.
    pub(crate) fn site(&self, nodes: &[Node], otherwise: &str) -> Site {
        let node = NodeId(self.0.load(Ordering::Relaxed));
        let otherwise = match node {
            STORAGE => "the storage of the checkpoint",
            DROP => "the drop of a value of the query",
            _ => otherwise,
        };
        let operator = || Site { operator: otherwise.to_owned(), location: String::new() };
        nodes.get(node.0).map_or_else(operator, Site::of)
    }
}

/// Notes that this thread runs the node's code from here on.
pub(crate) fn enter(node: NodeId) {
    RUNNING.with(|running| running.0.store(node.0, Ordering::Relaxed));
}

/// The node that was entered last.
pub(crate) fn running() -> NodeId {
    NodeId(RUNNING.with(|running| running.0.load(Ordering::Relaxed)))
}

/// Calls code of the node's, between two pieces of the engine's own.
pub(crate) fn code_of<R>(node: NodeId, call: impl FnOnce() -> R) -> R {
    enter(node);
    let result = call();
    enter(ENGINE);
    result
}

/// Calls code that is no node's, from within any other.
pub(crate) fn within<R>(code: NodeId, call: impl FnOnce() -> R) -> R {
    let before = running();
    enter(code);
    let result = call();
    enter(before);
    result
}

/// Calls `body`; a panic in it is an error that names the node whose code ran, or `otherwise`.
pub(crate) fn caught<R>(
    nodes: &[Node],
    worker: Option<usize>,
    otherwise: &str,
    body: impl FnOnce() -> Result<R, RunError>,
) -> Result<R, RunError> {
    let outcome = catch_unwind(AssertUnwindSafe(body));
    let site = || RUNNING.with(|running| running.site(nodes, otherwise));
    outcome.unwrap_or_else(|panic| {
        let error = RunError::Panic { worker, site: site(), message: message(&*panic) };
        enter(ENGINE);
        Err(error)
    })
}

/// The text of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not a text".to_owned())
}

#[cfg(test)]
mod tests {
    use tidemill_operators::Graph;
    use tidemill_operators::testing::{nowhere, numbers};

    use super::*;

    #[test]
    fn panic_names_node_that_was_entered_and_engine_after_it() {
        let graph = Graph::new("caught");
        numbers(&graph, 1).sink(nowhere());
        let nodes = graph.nodes();
        let panics = |node: Option<NodeId>| {
            let outcome = caught(&nodes, None, "the driver", || -> Result<(), RunError> {
                code_of(NodeId(0), || ());
                node.into_iter().for_each(enter);
                panic!("at {node:?}")
            });
            match outcome {
                Err(RunError::Panic { site, .. }) => site.operator,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(panics(Some(NodeId(0))), nodes[0].label());
        assert_eq!(panics(None), "the driver");
    }

    #[test]
    fn site_of_thread_is_read_from_another_thread() {
        let graph = Graph::new("read");
        numbers(&graph, 1).sink(nowhere());
        let running = std::thread::spawn(|| {
            enter(NodeId(1));
            Running::here()
        });
        let running = running.join().unwrap();
        assert_eq!(running.site(&graph.nodes(), "idle").operator, graph.nodes()[1].label());
    }
}
