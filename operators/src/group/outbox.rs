//! Batches of what an operator emits: for an output, or for the workers that hold the keys.

use crate::buffers::{batch_capacity, grow, with_room};
use crate::{Batch, Context, KeyGroups};

/// Routes rows to the workers that hold their keys, as they are made: the one keyed exchange that there is.
pub(crate) struct KeyRouter<R> {
    parts: Vec<Outbox<R>>,
    groups: KeyGroups,
}

impl<R: Send + 'static> KeyRouter<R> {
    pub(crate) fn new(output: usize, context: &Context) -> Self {
        let mut parts = Vec::with_capacity(context.workers());
        for worker in 0..context.workers() {
            parts.push(Outbox { worker, ..Outbox::new(output) });
        }
        KeyRouter { parts, groups: context.key_groups() }
    }

    /// As [`new`](Self::new), for rows that stay on their worker.
    pub(crate) fn local(output: usize, context: &Context) -> Self {
        let part = Outbox { worker: context.worker(), ..Outbox::new(output) };
        KeyRouter { parts: vec![part], groups: context.key_groups() }
    }

    /// Sends a row to the worker that holds the key of that hash.
    #[inline]
    pub(crate) fn push(&mut self, hash: u64, row: R, context: &mut Context) {
        let worker = self.groups.of(hash).worker(self.parts.len());
        if let Some(part) = self.parts.get_mut(worker) {
            part.push(row, context);
        }
    }

    pub(crate) fn send(&mut self, context: &mut Context) {
        for part in &mut self.parts {
            part.send(context);
        }
    }
}

/// Rows for an output, sent a batch at a time.
pub(crate) struct Outbox<R> {
    rows: Vec<R>,
    output: usize,
    worker: usize,
}

impl<R: Send + 'static> Outbox<R> {
    pub(crate) fn new(output: usize) -> Self {
        Outbox { rows: Vec::new(), output, worker: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, row: R, context: &mut Context) {
        if self.rows.len() == self.rows.capacity() {
            self.make_room(context);
        }
        self.rows.push(row);
    }

    /// Sends a full batch. The first one begins small: most of the time only few rows come.
    #[inline(never)]
    fn make_room(&mut self, context: &mut Context) {
        let capacity = const { batch_capacity::<R>() };
        if self.rows.len() >= capacity {
            let full = std::mem::replace(&mut self.rows, with_room(capacity));
            context.send(self.output, Batch::from_vec(full).for_worker(self.worker));
        } else {
            let rows = (self.rows.len() * 4).clamp(4, capacity);
            grow(&mut self.rows, rows);
        }
    }

    #[inline(never)]
    pub(crate) fn send(&mut self, context: &mut Context) {
        if !self.rows.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            context.send(self.output, Batch::from_vec(rows).for_worker(self.worker));
        }
    }
}
