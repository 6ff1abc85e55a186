//! Journals: what a source cannot emit twice is written before it enters the graph.
//!
//! A socket, a channel, and many a source of your own say a record once. If the query dies before the record's epoch is
//! committed, the record is lost. [`Journal::journaled`] puts a journal in between: a thread for each partition takes
//! what has come, appends it to a file in the query's checkpoint, and hands it over when the file is durable. After a
//! crash the query reads the journal from where it was committed. So each record that was received counts exactly once.
//!
//! What has been sent and was not yet received when the process died, only the sender can send again.

mod check;
mod load;
mod pump;
mod queue;
mod reader;
mod source;
pub(crate) mod store;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use tidemill_operators::graph::{Node, NodeKind};
use tidemill_operators::{Clock, Data, JournalSlot, Source};

pub(crate) use self::check::refuse_loss;
pub use self::reader::JournalReader;
pub use self::source::Journaled;
pub(crate) use self::verify::{NeededRecord, verify};
use crate::checkpoint::Storage;

/// Adds a journal to sources that cannot be read again. Import it to call [`journaled`](Journal::journaled).
pub trait Journal: Source + Sized
where
    Self::Item: Data,
{
    /// Returns the source with a journal, which makes it exactly once.
    ///
    /// Each record is durable in the query's checkpoint before the graph sees it, and is read again from there after a
    /// crash.
    ///
    /// The offset of a record is its number in the journal of its partition, from 0. No number is used twice. The end
    /// of the source is written to the journal, too, and has a number.
    ///
    /// Costs: each record is written once more, and waits for one sync of the disk; records that arrive during a sync
    /// share the next one. The journal contains the records that are not committed (epochs in flight, kept epochs, and
    /// the [buffer](Journaled::with_buffer)), and of the committed records at most one
    /// [file](Journaled::with_segment_size) per partition. When the buffer is full, the source stops receiving: a slow
    /// query slows its source.
    ///
    /// Without a checkpoint there is no journal: records pass through, and a crash loses them.
    ///
    /// A source of your own can acknowledge records in [`Source::committed`]: it is called as soon as a record is
    /// durable in the journal, on the journal's thread. After a restart the source is opened at the end of the journal.
    ///
    /// ```no_run
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("lines");
    /// graph.source(socket("localhost:9999").journaled()).sink(discard().0);
    /// graph.run(Options::default())?;
    /// # Ok::<(), tidemill::RunError>(())
    /// ```
    fn journaled(self) -> Journaled<Self> {
        Journaled::new(self)
    }
}

impl<S: Source> Journal for S where S::Item: Data {}

/// What a source is told before its query starts.
pub(crate) struct Attachment {
    storage: Option<Arc<dyn Storage>>,
    uid: String,
    clock: Clock,
}

/// Tells a journaled source where its journal is, before each run of its query: in `storage`, if the query has a
/// checkpoint; under the source's `uid`; and which clock the query goes by. The engine does it; you do where you drive a
/// source by hand.
pub fn attach(slot: &JournalSlot, storage: Option<Arc<dyn Storage>>, uid: &str, clock: Clock) {
    slot.set(Some(Arc::new(Attachment { storage, uid: uid.to_owned(), clock })));
}

/// [Attaches](attach) all sources of a graph that keep journals.
pub(crate) fn attach_all(nodes: &[Node], storage: Option<&Arc<dyn Storage>>, clock: &Clock) {
    for node in nodes {
        if let NodeKind::Source(source) = &node.kind
            && let Some(slot) = source.journal()
        {
            attach(slot, storage.cloned(), node.uid(), clock.clone());
        }
    }
}
