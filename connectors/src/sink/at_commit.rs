//! A sink that waits for the commit in both modes.

use std::path::PathBuf;

use tidemill_operators::{Committed, Epoch, Prepared, RowKind, Sink, SinkContext, SinkError};

/// A sink that publishes rows at their commit; see [`at_commit`].
#[derive(Debug)]
pub struct AtCommit<S>(S);

/// Delays the rows of `sink` until their epoch commits, in continuous mode too.
///
/// Rows are published at most one checkpoint interval later, and no uncommitted row is ever published.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::{RowKind, Sink, SinkContext};
///
/// let (sink, table) = memory_sink();
/// let mut sink = at_commit(sink);
/// sink.open(&SinkContext::new("patient", RowKind::Insert, true))?;
/// sink.write(Epoch::new(0), &mut vec![1, 2])?;
/// assert!(table.snapshot().is_empty());
/// sink.commit(Epoch::new(0))?;
/// assert_eq!(table.snapshot(), [1, 2]);
/// # Ok::<(), tidemill::SinkError>(())
/// ```
pub fn at_commit<S>(sink: S) -> AtCommit<S> {
    AtCommit(sink)
}

impl<T, S: Sink<T>> Sink<T> for AtCommit<S> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn place(&self) -> Option<PathBuf> {
        self.0.place()
    }

    fn takes(&self, kind: RowKind) -> bool {
        self.0.takes(kind)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        let mut context = context.clone();
        context.immediate = false;
        self.0.open(&context)
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.0.recover(committed)
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        self.0.write(epoch, rows)
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        self.0.prepare(epoch)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.0.commit(epoch)
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.0.close()
    }

    fn abort(&mut self) {
        self.0.abort();
    }
}
