//! A sink at its place: writes epoch by epoch, prepares each when all of it has come, commits it when the driver says so.
//!
//! With it may be the steps before it. Rows of the epoch that is being written go through both in one loop; those of a
//! later one go through the steps alone, as if these were an operator of their own, so that neither they nor the source
//! wait for an epoch that is held up elsewhere.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::{Batch, Committed, DynSink, Epoch, Prepared, SinkContext, SinkError, Whose, turn};

use super::epoch_buffer::EpochBuffer;
use super::host::{Hosted, enter};
use crate::control::Control;
use crate::error::{RunError, Site};
use crate::events::Report;

/// A sink as the worker holds it.
pub(crate) enum HeldSink {
    /// The graph's own, for as long as the query runs.
    Shared(Arc<Mutex<Box<dyn DynSink>>>),
    /// This worker's.
    Own(Box<dyn DynSink>),
    /// Another worker writes.
    Elsewhere,
}

impl HeldSink {
    fn with<R>(&mut self, use_it: impl FnOnce(&mut dyn DynSink) -> R) -> Option<R> {
        Some(match self {
            HeldSink::Shared(shared) => use_it(&mut **turn::lock(shared)),
            HeldSink::Own(own) => use_it(&mut **own),
            HeldSink::Elsewhere => return None,
        })
    }
}

/// A sink, with all that it has taken and not committed.
pub(crate) struct HostedSink {
    node: NodeId,
    site: Site,
    worker: usize,
    /// How many instances of the sink there are.
    instances: usize,
    held: HeldSink,
    /// The steps that it runs itself.
    steps: Option<Hosted>,
    epoch: Epoch,
    rows: u64,
    /// Results of the steps that belong to later epochs.
    buffer: EpochBuffer<Batch>,
    prepared: VecDeque<Epoch>,
    /// Whether the sink has been opened; one that has refused may be in use by another run of the graph.
    opened: bool,
    closed: bool,
    clean: bool,
    control: Arc<Control>,
    /// Until it is open: what it is told then, and under which uid it was saved.
    to_open: Option<(SinkContext, String)>,
}

impl HostedSink {
    pub(crate) fn new(
        node: &Node,
        held: HeldSink,
        steps: Option<Hosted>,
        context: SinkContext,
        control: Arc<Control>,
    ) -> HostedSink {
        HostedSink {
            node: node.id,
            site: Site::of(node),
            worker: context.worker,
            instances: if matches!(held, HeldSink::Own(_)) { context.workers } else { 1 },
            held,
            steps,
            epoch: control.resume.first(),
            rows: 0,
            buffer: EpochBuffer::new(&control, context.worker),
            prepared: VecDeque::new(),
            opened: false,
            closed: false,
            clean: false,
            control,
            to_open: Some((context, node.uid().to_owned())),
        }
    }

    /// Calls the sink; an error ends the query. False once it has ended.
    fn attempt(&mut self, call: impl FnOnce(&mut dyn DynSink) -> Result<(), SinkError>) -> bool {
        if self.control.has_ended() {
            return false;
        }
        match self.held.with(call) {
            None | Some(Ok(())) => true,
            Some(Err(error)) => {
                self.control.fail(RunError::Sink { site: self.site.clone(), error });
                false
            }
        }
    }

    /// Before anything else: opens the sink; with a checkpoint it then finishes what the last run left undone.
    pub(crate) fn begin(&mut self) {
        let Some((context, uid)) = self.to_open.take() else { return };
        enter(self.node);
        let control = Arc::clone(&self.control);
        self.opened = self.attempt(|sink| sink.open(&context));
        if !self.opened || !control.resume.durable {
            return;
        }
        let committed = control.resume.committed.and_then(|epoch| {
            let all = control.resume.sinks.get(&uid)?;
            Some(Committed::of_instances(epoch, all, context.worker, self.instances))
        });
        self.attempt(|sink| sink.recover(committed));
    }

    /// Takes rows of an epoch.
    pub(crate) fn take(&mut self, epoch: Epoch, batch: Batch) {
        enter(self.node);
        if epoch == self.epoch {
            self.write_through(batch);
            return;
        }
        let Some(steps) = &mut self.steps else {
            self.buffer.put(epoch, i64::MAX, batch.len(), batch);
            return;
        };
        enter(steps.node);
        steps.batch(0, batch);
        for (_, edge_batch) in steps.sent() {
            self.buffer.put(epoch, i64::MAX, edge_batch.batch.len(), edge_batch.batch);
        }
        enter(self.node);
    }

    /// Writes what the steps make of a batch.
    fn write_through(&mut self, batch: Batch) {
        let Some(steps) = &self.steps else { return self.write(batch) };
        let (epoch, sink, before) = (self.epoch, self.node, steps.node);
        steps.count_in(&batch);
        let mut rows = 0;
        let mut next = |whose| enter(if whose == Whose::Sink { sink } else { before });
        self.attempt(|sink| sink.write_through(epoch, batch, &mut next).map(|written| rows = written));
        enter(sink);
        self.rows += rows;
        if let Some(counters) = self.control.counters(before, self.worker) {
            counters.rows_out.add(rows);
        }
        if let Some(counters) = self.control.counters(sink, self.worker) {
            counters.rows_in.add(rows);
        }
    }

    fn write(&mut self, batch: Batch) {
        // The source counts pulled rows, once they have been read.
        let (epoch, counts) = (self.epoch, !batch.is_pulled());
        let mut rows = 0;
        self.attempt(|sink| sink.write(epoch, batch).map(|written| rows = written));
        self.rows += rows;
        if counts && let Some(counters) = self.control.counters(self.node, self.worker) {
            counters.rows_in.add(rows);
        }
    }

    /// Prepares what is complete, commits what may be committed; true while there is more to come. Rows can still come of
    /// the epoch `least` and later ones, or none at all.
    pub(crate) fn settle(&mut self, least: Option<u64>) -> bool {
        enter(self.node);
        while match least {
            Some(least) => least > self.epoch.number(),
            None => self.epoch.number() < self.control.reports.epochs(),
        } {
            let epoch = self.epoch;
            let mut prepared = Prepared::nothing();
            if !self.attempt(|sink| sink.prepare(epoch).map(|to_know| prepared = to_know)) {
                return false;
            }
            if !matches!(self.held, HeldSink::Elsewhere) {
                self.prepared.push_back(epoch);
                let (rows, sink, worker) = (std::mem::take(&mut self.rows), self.node, self.worker);
                self.control.tell_after_step(Report::Prepared { epoch, rows, sink, worker, prepared });
            }
            self.epoch = self.control.after(epoch);
            for batch in self.buffer.take(self.epoch) {
                self.write(batch);
            }
        }
        while let Some(epoch) = self.prepared.front().copied() {
            if epoch.number() >= self.control.schedule.committed() {
                break;
            }
            if !self.attempt(|sink| sink.commit(epoch)) {
                return false;
            }
            self.prepared.pop_front();
            self.control.tell_after_step(Report::Committed { epoch });
        }
        if least.is_none() && self.prepared.is_empty() && self.control.schedule.is_closed() && !self.closed {
            self.closed = true;
            self.clean = self.attempt(|sink| sink.close());
        }
        !self.closed
    }
}

/// A sink whose query has not ended in order forgets what it was not told to commit.
impl Drop for HostedSink {
    fn drop(&mut self) {
        if self.opened && !self.clean {
            self.held.with(|sink| sink.abort());
        }
    }
}
