//! The one container type of all edges: a batch, and where it goes.

use std::sync::Arc;

use tidemill_operators::{Batch, Cloner};
use timely::Accountable;
use timely::dataflow::channels::ContainerBytes;

use super::announcement::Announcement;

/// A batch on a timely edge, labelled with its receiver where the sender decides.
#[derive(Clone, Default)]
pub(crate) struct EdgeBatch {
    pub(crate) batch: Batch,
    /// Whether it has come from another worker, and so counts as queued until it is received.
    pub(crate) crossed: bool,
    /// Where the batch has been announced to the ledger.
    pub(crate) announcement: Option<Arc<Announcement>>,
}

impl EdgeBatch {
    pub(crate) fn new(batch: Batch) -> EdgeBatch {
        EdgeBatch { batch, crossed: false, announcement: None }
    }

    pub(crate) fn with_announcement(mut self, announcement: Option<Arc<Announcement>>) -> EdgeBatch {
        self.announcement = announcement;
        self
    }

    pub(crate) fn copyable(mut self, cloner: Option<Cloner>) -> EdgeBatch {
        self.batch.set_cloner(cloner);
        self
    }
}

impl Accountable for EdgeBatch {
    fn record_count(&self) -> i64 {
        self.batch.len() as i64
    }
}

/// Workers are threads of one process and hand batches over as they are, so nothing is ever turned into bytes.
#[allow(clippy::unreachable, reason = "timely asks for these even where it never calls them")]
impl ContainerBytes for EdgeBatch {
    fn from_bytes(_bytes: timely::bytes::arc::Bytes) -> Self {
        unreachable!("workers of one process exchange batches, not bytes")
    }
    fn length_in_bytes(&self) -> usize {
        unreachable!("workers of one process exchange batches, not bytes")
    }
    fn into_bytes<W: std::io::Write>(&self, _writer: &mut W) {
        unreachable!("workers of one process exchange batches, not bytes")
    }
}
