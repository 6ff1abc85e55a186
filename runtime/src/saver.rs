//! Takes what the operators save of an epoch, and has it written without holding up the workers.
//!
//! An operator passes its changes, encoded, when it has come to the end of an epoch. When all operators of a worker
//! have, they make one file, which a thread of its own writes; the driver is told when it is durable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tidemill_operators::{Epoch, KeyGroup, ProcessingTime, turn};

use crate::RunError;
use crate::checkpoint::state_file::{About, Section, StateWriter};
use crate::events::{Event, EventSender, Report, Saved};
use crate::sim;
use crate::user_code::caught;

/// What an operator saves of an epoch.
pub(crate) struct Changes {
    pub(crate) uid: Arc<str>,
    /// By the uid under which it is kept: the operator's, or that of a state with a name.
    pub(crate) groups: Vec<(Arc<str>, KeyGroup, Vec<u8>)>,
    pub(crate) timer: Option<ProcessingTime>,
}

/// All that a worker saves of an epoch, on its way to a file.
struct Job {
    about: About,
    sections: Vec<Section>,
    timers: Vec<(Arc<str>, u32, ProcessingTime)>,
}

pub(crate) struct Saver {
    /// How many operators save on each worker.
    operators: usize,
    gathered: Mutex<BTreeMap<(Epoch, usize), Vec<Changes>>>,
    desk: Desk,
}

/// Who writes.
enum Desk {
    Thread {
        /// None once the query has ended.
        to: Mutex<Option<(Sender<Job>, sim::JoinHandle<()>)>>,
        /// Whether what is not being written yet need not be.
        closing: Arc<AtomicBool>,
    },
    /// The worker itself: where a test steps everything on one thread.
    Here(StateWriter, EventSender),
}

impl Saver {
    /// A saver with a thread of its own, which ends with it.
    pub(crate) fn start(
        writer: StateWriter,
        events: EventSender,
        operators: usize,
    ) -> Result<Saver, RunError> {
        let (sender, jobs) = unbounded();
        let closing = Arc::new(AtomicBool::new(false));
        let is_closing = Arc::clone(&closing);
        let write = move || write_all(&jobs, &writer, &events, &is_closing);
        let thread = sim::spawn("tidemill-saver", write)
            .map_err(|e| RunError::Engine(format!("the thread that saves states cannot be started: {e}")))?;
        let desk = Desk::Thread { to: Mutex::new(Some((sender, thread))), closing };
        Ok(Saver { operators, gathered: Mutex::default(), desk })
    }

    /// The query has ended: returns when nothing is being written any more.
    pub(crate) fn close(&self) {
        if let Desk::Thread { to, closing } = &self.desk {
            closing.store(true, Ordering::SeqCst);
            let to = turn::lock(to).take();
            if let Some((sender, thread)) = to {
                drop(sender);
                // The thread catches what panics in it.
                drop(thread.join());
            }
        }
    }

    /// A saver that writes on the thread that hands it something.
    pub(crate) fn here(writer: StateWriter, events: EventSender, operators: usize) -> Saver {
        Saver { operators, gathered: Mutex::default(), desk: Desk::Here(writer, events) }
    }

    /// An operator has come to the end of an epoch.
    pub(crate) fn save(&self, epoch: Epoch, worker: usize, changes: Changes) {
        let complete = {
            let mut gathered = turn::lock(&self.gathered);
            let of_worker = gathered.entry((epoch, worker)).or_default();
            of_worker.push(changes);
            if of_worker.len() < self.operators {
                return;
            }
            gathered.remove(&(epoch, worker)).unwrap_or_default()
        };
        let mut job = Job {
            about: About { epoch, worker: worker as u32, base: false },
            sections: Vec::new(),
            timers: Vec::new(),
        };
        for Changes { uid, groups, timer } in complete {
            job.timers.extend(timer.map(|at| (Arc::clone(&uid), worker as u32, at)));
            let changed = groups.into_iter().filter(|(_, _, bytes)| !bytes.is_empty());
            job.sections.extend(changed.map(|(uid, group, bytes)| Section { uid, group, bytes }));
        }
        match &self.desk {
            Desk::Thread { to, .. } => {
                if let Some((jobs, _)) = &*turn::lock(to) {
                    drop(jobs.send(job));
                }
            }
            Desk::Here(writer, events) => tell(job, writer, events),
        }
    }
}

fn write_all(jobs: &Receiver<Job>, writer: &StateWriter, events: &EventSender, is_closing: &AtomicBool) {
    let all = || {
        while let Some(job) = sim::recv(jobs)
            && !is_closing.load(Ordering::SeqCst)
        {
            tell(job, writer, events);
        }
        Ok(())
    };
    if let Err(error) = caught(&[], None, "the storage of the checkpoint", all) {
        // The query may be over by then.
        events.send(Event::Failed(error));
    }
}

/// Writes a job's file and reports it. The driver outlives all who save.
fn tell(job: Job, writer: &StateWriter, events: &EventSender) {
    let Job { about, sections, timers } = job;
    let timers = timers.into_iter().map(|(uid, worker, at)| (uid.to_string(), worker, at)).collect();
    let saved = writer.write(about, &sections).map(|file| Saved { epoch: about.epoch, file, timers });
    events.send(match saved {
        Ok(saved) => Report::Saved(saved).into(),
        Err(error) => Event::Failed(error.into()),
    });
}
