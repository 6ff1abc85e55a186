//! Buffers batches of later epochs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidemill_operators::Epoch;

use crate::control::Control;

/// Batches of later epochs, in the order in which they came. Their rows count as buffered at the worker, which pauses its
/// sources.
pub(super) struct EpochBuffer<T> {
    control: Arc<Control>,
    worker: usize,
    epochs: BTreeMap<Epoch, Waiting<T>>,
}

struct Waiting<T> {
    /// The least watermark under which one of them was sent.
    watermark: i64,
    /// Each with the number of its rows.
    batches: VecDeque<(i64, T)>,
}

impl<T> EpochBuffer<T> {
    pub(super) fn new(control: &Arc<Control>, worker: usize) -> EpochBuffer<T> {
        EpochBuffer { control: Arc::clone(control), worker, epochs: BTreeMap::new() }
    }

    /// Keeps a batch with that number of rows until its epoch begins. A sink has no watermark and passes `i64::MAX`.
    pub(super) fn put(&mut self, epoch: Epoch, watermark: i64, rows: usize, batch: T) {
        let rows = rows as i64;
        self.control.buffered(self.worker, rows);
        let empty = || Waiting { watermark: i64::MAX, batches: VecDeque::new() };
        let waiting = self.epochs.entry(epoch).or_insert_with(empty);
        waiting.watermark = waiting.watermark.min(watermark);
        waiting.batches.push_back((rows, batch));
    }

    /// Takes the batches of an epoch whose time has come. The rows of each are counted until it is taken.
    pub(super) fn take(&mut self, epoch: Epoch) -> impl Iterator<Item = T> + use<T> {
        let (control, worker) = (Arc::clone(&self.control), self.worker);
        let batches = self.epochs.remove(&epoch).map(|waiting| waiting.batches).unwrap_or_default();
        batches.into_iter().map(move |(rows, batch)| {
            control.buffered(worker, -rows);
            batch
        })
    }

    /// The least watermark of the batches of an epoch.
    pub(super) fn watermark(&self, epoch: Epoch) -> i64 {
        self.epochs.get(&epoch).map_or(i64::MAX, |waiting| waiting.watermark)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// The least watermark of the batches of each epoch.
    pub(super) fn watermarks(&self) -> impl Iterator<Item = i64> {
        self.epochs.values().map(|waiting| waiting.watermark)
    }
}
