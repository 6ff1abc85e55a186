//! The sinks: what each writes to, in its own file; and what they have in common.

mod at_commit;
mod cells;
mod channel;
mod claim;
mod console;
#[cfg(test)]
mod crash;
mod dir;
mod discard;
mod disk;
mod encode;
mod file;
mod file_sink;
mod for_each;
#[cfg(feature = "latency")]
mod latency;
mod memory;
mod non_finite;

use std::collections::VecDeque;

use tidemill_operators::{Epoch, RowKind, SinkContext};

pub use at_commit::{AtCommit, at_commit};
pub use channel::{ChannelSink, channel_sink};
pub use console::{ConsoleSink, console};
pub use dir::{DirSink, csv_dir, json_lines_dir};
pub use discard::{Discard, DiscardCount, discard};
pub use file_sink::{FileSink, csv_sink, json_lines_sink};
pub use for_each::{EpochRows, ForEach, ForEachEpoch, ForEachRow, for_each, for_each_epoch, try_for_each};
#[cfg(feature = "latency")]
pub use latency::{Latency, LatencySummary, Measured};
pub use memory::{MemorySink, MemoryTable, memory_sink};
pub use non_finite::NonFinite;

/// Rows that wait for the commit of their epoch, unless they may be shown at once.
///
/// A sink adds what it is given and shows what it gets back: from [`Pending::add`] where rows are shown at once, from
/// [`Pending::commit`] where they are shown with their epoch.
#[derive(Debug)]
struct Pending<R> {
    epochs: VecDeque<(Epoch, Vec<R>)>,
    immediate: bool,
    mode: RowKind,
}

impl<R> Pending<R> {
    fn new() -> Self {
        Pending { epochs: VecDeque::new(), immediate: false, mode: RowKind::Insert }
    }

    fn open(&mut self, context: &SinkContext) {
        self.immediate = context.immediate;
        self.mode = context.row_kind;
        self.epochs.clear();
    }

    /// Whether the rows of an epoch replace those of the one before.
    fn replaces(&self) -> bool {
        self.mode == RowKind::Snapshot
    }

    /// Takes rows of an epoch; returns those that are to be shown now.
    fn add(&mut self, epoch: Epoch, rows: &mut Vec<R>) -> Option<Vec<R>> {
        if self.immediate {
            return Some(std::mem::take(rows));
        }
        match self.epochs.back_mut() {
            Some((last, waiting)) if *last == epoch => waiting.append(rows),
            _ => self.epochs.push_back((epoch, std::mem::take(rows))),
        }
        None
    }

    /// The rows of the epochs up to `epoch`, which are to be shown now.
    fn commit(&mut self, epoch: Epoch) -> Vec<(Epoch, Vec<R>)> {
        let mut committed = Vec::new();
        while self.epochs.front().is_some_and(|(waiting, _)| *waiting <= epoch) {
            committed.extend(self.epochs.pop_front());
        }
        committed
    }

    fn abort(&mut self) {
        self.epochs.clear();
    }
}

#[cfg(test)]
mod testing {
    use tidemill_operators::{Epoch, RowKind, Sink, SinkContext};

    /// Opens a sink as micro-batch does (`immediate` false) or continuous mode.
    pub(super) fn open<T>(sink: &mut impl Sink<T>, mode: RowKind, immediate: bool) {
        sink.open(&SinkContext::new("test", mode, immediate)).unwrap();
    }

    /// Writes an epoch, up to the moment before its commit.
    pub(super) fn write<T>(sink: &mut impl Sink<T>, epoch: u64, rows: Vec<T>) {
        for row in rows {
            sink.write(Epoch::new(epoch), &mut vec![row]).unwrap();
        }
        sink.prepare(Epoch::new(epoch)).unwrap();
    }
}
