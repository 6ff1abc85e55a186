//! A sink that distinguishes committed rows from written ones.

use std::sync::{Arc, Mutex};

use tidemill_operators::{Epoch, Prepared, RowKind, Sink, SinkContext, SinkError, turn};

/// Collects rows by epoch; see [`collecting_sink`].
#[derive(Debug)]
pub struct CollectingSink<T> {
    shared: Arc<Mutex<Rows<T>>>,
}

/// The rows of a [`CollectingSink`], readable while the query runs.
#[derive(Debug)]
pub struct Collected<T> {
    shared: Arc<Mutex<Rows<T>>>,
}

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Collected { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Rows<T> {
    written: Vec<(Epoch, T)>,
    prepared: Vec<Epoch>,
    committed: Vec<Epoch>,
    aborted: bool,
}

/// Returns a sink that collects rows by epoch, and a view of them.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::testing::collecting_sink;
///
/// let graph = Graph::new("numbers");
/// let (sink, rows) = collecting_sink();
/// graph.source(memory(0..3u64)).sink(sink);
/// graph.run(Options::default())?;
/// assert_eq!(rows.committed(), [0, 1, 2]);
/// # Ok::<(), tidemill::RunError>(())
/// ```
pub fn collecting_sink<T: Clone + Send + 'static>() -> (CollectingSink<T>, Collected<T>) {
    let rows = Rows { written: Vec::new(), prepared: Vec::new(), committed: Vec::new(), aborted: false };
    let shared = Arc::new(Mutex::new(rows));
    (CollectingSink { shared: Arc::clone(&shared) }, Collected { shared })
}

impl<T: Clone + Send + 'static> Sink<T> for CollectingSink<T> {
    fn describe(&self) -> String {
        "collected".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }
    fn open(&mut self, _context: &SinkContext) -> Result<(), SinkError> {
        turn::lock(&self.shared).aborted = false;
        Ok(())
    }
    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        turn::lock(&self.shared).written.extend(rows.drain(..).map(|row| (epoch, row)));
        Ok(())
    }
    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        turn::lock(&self.shared).prepared.push(epoch);
        Ok(Prepared::nothing())
    }
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        turn::lock(&self.shared).committed.push(epoch);
        Ok(())
    }
    fn abort(&mut self) {
        turn::lock(&self.shared).aborted = true;
    }
}

impl<T: Clone> Collected<T> {
    /// Returns the rows of all committed epochs, in the order in which they were written.
    pub fn committed(&self) -> Vec<T> {
        let rows = turn::lock(&self.shared);
        rows.written
            .iter()
            .filter(|(epoch, _)| rows.committed.contains(epoch))
            .map(|(_, row)| row.clone())
            .collect()
    }

    /// Returns all rows, committed or not.
    pub fn written(&self) -> Vec<T> {
        turn::lock(&self.shared).written.iter().map(|(_, row)| row.clone()).collect()
    }

    /// Returns the rows of one epoch, committed or not.
    pub fn of_epoch(&self, epoch: Epoch) -> Vec<T> {
        let rows = turn::lock(&self.shared);
        rows.written.iter().filter(|(of, _)| *of == epoch).map(|(_, row)| row.clone()).collect()
    }

    /// Returns the committed epochs, in order.
    pub fn committed_epochs(&self) -> Vec<Epoch> {
        turn::lock(&self.shared).committed.clone()
    }

    /// Returns whether the query failed or was cancelled.
    pub fn was_aborted(&self) -> bool {
        turn::lock(&self.shared).aborted
    }
}
