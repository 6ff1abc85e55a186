//! Refuses a checkpoint that could not keep what it promises.

use tidemill_operators::GraphError;
use tidemill_operators::graph::{Node, NodeKind, Problem};

use crate::error::RunError;
use crate::user_code::code_of;

/// Checks that a query with a checkpoint can read all of its input again. Journals must be attached by then.
///
/// # Errors
///
/// [`RunError::Graph`] names every source that cannot, with the user's line, and what to do.
pub(crate) fn refuse_loss(nodes: &[Node], allow_loss: bool) -> Result<(), RunError> {
    if allow_loss {
        return Ok(());
    }
    let problem = |node: &Node| {
        let NodeKind::Source(source) = &node.kind else { return None };
        let message = format!(
            "the records of `{}` cannot be read again after a crash, so the query would not be exactly once: call \
             `.journaled()` on the source; or, if records may be lost, run with `--allow-loss` \
             (`Options::with_allow_loss`)",
            source.describe()
        );
        let location = format!("{}:{}", node.location.file(), node.location.line());
        (!source.is_replayable()).then(|| Problem { operator: node.label(), location, message })
    };
    let problems: Vec<Problem> = nodes.iter().filter_map(|node| code_of(node.id, || problem(node))).collect();
    if problems.is_empty() { Ok(()) } else { Err(GraphError { problems }.into()) }
}
