//! Parts: nodes that are lowered into one nested dataflow, which all parts of a graph share.
//!
//! A part is a [fragment](super::fragment) without an entry and an exit of its own. What feeds the parts is an operator that is
//! aligned by epoch; its outputs are held at the least watermark, so that they may enter a scope whose timestamp has none. The scope
//! is open while the whole graph is lowered, so rows that leave it may come back into it by operators outside of it.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_operators::graph::{Node, NodeId, NodeKind};

use super::fragment::{FragmentHost, Inside};
use super::stateless::Edge;
use crate::error::RunError;
#[cfg(feature = "tables")]
use crate::published::PublishedTable;

/// How a part is lowered: what its node in the graph holds.
pub(crate) struct PartLowering {
    /// Opens the nested dataflow; the same for all parts.
    pub(crate) region: &'static dyn OpenRegion,
    /// What the region knows.
    pub(crate) part: Box<dyn Any + Send + Sync>,
    /// The table that it publishes.
    #[cfg(feature = "tables")]
    pub(crate) publishes: Option<PublishedTable>,
}

impl PartLowering {
    /// As the graph holds it.
    pub(crate) fn shared(self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(self)
    }

    /// That of a node, if it is a part.
    pub(crate) fn of(node: &Node) -> Option<&PartLowering> {
        match &node.kind {
            NodeKind::Fragment(fragment) if fragment.is_part => fragment.lowering.downcast_ref(),
            _ => None,
        }
    }
}

/// Lowers all nodes of a graph, its parts by that which it is called with.
pub(crate) type LowerAll<'a, 'scope> = dyn FnMut(&mut dyn LowerPart<'scope>) -> Result<(), RunError> + 'a;

/// Opens the nested dataflow of the parts. Called once on each worker, and again at each restart.
pub(crate) trait OpenRegion: Send + Sync + 'static {
    /// Opens the scope, calls `lower`, and closes it. `has_state` has the nodes of which there was state for this worker.
    fn open<'scope>(
        &self,
        inside: &Inside<'scope>,
        nodes: &[Node],
        has_state: &BTreeSet<NodeId>,
        lower: &mut LowerAll<'_, 'scope>,
    ) -> Result<(), RunError>;
}

/// A part that is to be lowered.
pub(crate) struct PartSpec<'a, 'scope> {
    pub(crate) node: &'a Node,
    pub(crate) host: FragmentHost,
    /// An edge for each input from outside; none for those from parts.
    pub(crate) inputs: Vec<Option<Edge<'scope>>>,
    pub(crate) part: &'a (dyn Any + Send + Sync),
}

/// Lowers parts, in the order of the graph. All workers build the same operators in the same order.
pub(crate) trait LowerPart<'scope> {
    /// Returns an edge for each output if these lead out of the nested dataflow, none otherwise.
    fn part(&mut self, spec: PartSpec<'_, 'scope>) -> Result<Vec<Edge<'scope>>, RunError>;
}
