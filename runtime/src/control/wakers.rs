//! Wakes sources, sinks and operators when something that they look at has changed.

use std::sync::Mutex;

use tidemill_operators::Waker;
use tidemill_operators::turn::lock;

/// The wakers of all workers.
#[derive(Default)]
pub(crate) struct Wakers {
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    sources: Vec<Waker>,
    /// Sinks, and operators that wait for commits.
    sinks: Vec<Waker>,
    /// The operators that assign watermarks, by domain and worker.
    assigners: Vec<(usize, usize, Waker)>,
    /// The operators that may have timers, where a test moves the clock.
    timed: Vec<Waker>,
}

impl Wakers {
    pub(crate) fn add_source(&self, waker: Waker) {
        lock(&self.lists).sources.push(waker);
    }

    pub(crate) fn add_sink(&self, waker: Waker) {
        lock(&self.lists).sinks.push(waker);
    }

    /// Adds an operator that looks whether an epoch is committed whenever one is.
    pub(crate) fn add_committing(&self, waker: Waker) {
        lock(&self.lists).sinks.push(waker);
    }

    pub(crate) fn add_assigner(&self, domain: usize, worker: usize, waker: Waker) {
        lock(&self.lists).assigners.push((domain, worker, waker));
    }

    /// Adds an operator that looks at its timer whenever a test has moved the clock.
    pub(crate) fn add_timed(&self, waker: Waker) {
        lock(&self.lists).timed.push(waker);
    }

    pub(crate) fn wake_sources(&self) {
        for waker in &lock(&self.lists).sources {
            waker.wake();
        }
    }

    pub(super) fn wake_sinks(&self) {
        for waker in &lock(&self.lists).sinks {
            waker.wake();
        }
    }

    /// Wakes the other workers' instances when the watermark of a domain has moved.
    pub(crate) fn wake_assigners(&self, domain: usize, but: usize) {
        for (of, worker, waker) in &lock(&self.lists).assigners {
            if *of == domain && *worker != but {
                waker.wake();
            }
        }
    }

    /// Wakes the instances on one worker that assign watermarks when a source there has nothing to read.
    pub(crate) fn wake_assigners_on(&self, worker: usize) {
        for (_, of, waker) in &lock(&self.lists).assigners {
            if *of == worker {
                waker.wake();
            }
        }
    }

    /// Wakes all but the sinks.
    pub(crate) fn wake_all(&self) {
        self.wake_sources();
        let lists = lock(&self.lists);
        for waker in lists.assigners.iter().map(|(_, _, waker)| waker).chain(&lists.timed) {
            waker.wake();
        }
    }
}
