//! A thread that takes part in a simulation.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tidemill_operators::{files, turn};

use super::lock;
use super::scheduler::Scheduler;

/// Whether a blocked task can run again.
pub(super) type Ready = Box<dyn FnMut() -> bool + Send>;

/// So long in real time a task waits for its turn before it looks whether the others are still there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

thread_local! {
    static HERE: RefCell<Option<(Arc<Scheduler>, usize)>> = const { RefCell::new(None) };
}

/// The scheduler of this thread, and which task it is.
pub(super) fn here() -> Option<(Arc<Scheduler>, usize)> {
    if turn::is_simulated() { HERE.with_borrow(Clone::clone) } else { None }
}

/// Makes this thread a task.
pub(super) fn enter(scheduler: &Arc<Scheduler>, task: usize) {
    HERE.set(Some((Arc::clone(scheduler), task)));
    turn::set_hook(Some(|name| {
        if let Some((scheduler, task)) = here() {
            scheduler.pass(task, name);
        }
    }));
    files::set_hook(Some(|call, perform| match here().and_then(|(scheduler, _)| scheduler.disk()) {
        Some(disk) => disk.call(call, perform),
        None => perform(call),
    }));
}

/// Makes this thread an ordinary one again.
pub(super) fn leave() {
    turn::set_hook(None);
    files::set_hook(None);
    HERE.set(None);
}

/// Gives a thread its turn.
#[derive(Default)]
pub(super) struct Baton {
    is_here: Mutex<bool>,
    comes: Condvar,
}

impl Baton {
    pub(super) fn give(&self) {
        *lock(&self.is_here) = true;
        self.comes.notify_one();
    }

    /// Waits for the turn; `looks` is called now and then.
    pub(super) fn wait(&self, looks: impl Fn()) {
        let mut is_here = lock(&self.is_here);
        while !*is_here {
            let waited = self.comes.wait_timeout(is_here, LOOK_AGAIN);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            is_here = guard;
            if timeout.timed_out() && !*is_here {
                looks();
            }
        }
        *is_here = false;
    }
}

/// A task before its thread has begun, and for those who wait for its end.
#[derive(Clone)]
pub(crate) struct TaskHandle {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) task: usize,
    pub(super) over: Arc<AtomicBool>,
}

impl std::fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TaskHandle({})", self.task)
    }
}

impl TaskHandle {
    /// Makes this thread the task, and waits for its first turn. The task is over when what is returned is dropped.
    pub(crate) fn take(self) -> Taken {
        enter(&self.scheduler, self.task);
        self.scheduler.wait_for_turn(self.task);
        Taken(self)
    }

    /// The thread could not be started.
    pub(super) fn give_up(&self) {
        self.scheduler.forget(self.task);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits, as a task, until the task is over.
    pub(crate) fn wait(&self) {
        let over = Arc::clone(&self.over);
        super::wait("join", None, move || over.load(Ordering::SeqCst));
    }
}

/// A task that runs on this thread.
pub(crate) struct Taken(TaskHandle);

impl Drop for Taken {
    fn drop(&mut self) {
        leave();
        self.0.scheduler.end(self.0.task);
    }
}
