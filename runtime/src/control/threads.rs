//! The worker threads that run, and whose code they are in.

use std::sync::Mutex;
use std::thread::Thread;

use tidemill_operators::graph::Node;
use tidemill_operators::turn::lock;

use crate::error::Site;
use crate::user_code::Running;

/// The worker threads that have begun and not ended.
#[derive(Default)]
pub(crate) struct Threads {
    running: Mutex<Vec<(Thread, Running)>>,
}

impl Threads {
    /// A worker begins, on this thread.
    pub(crate) fn enlist(&self) {
        lock(&self.running).push((std::thread::current(), Running::here()));
    }

    /// The worker of this thread has ended.
    pub(crate) fn discharge(&self) {
        let own = std::thread::current().id();
        lock(&self.running).retain(|(thread, _)| thread.id() != own);
    }

    /// Returns whose code the workers run that have not ended.
    pub(crate) fn still_running(&self, nodes: &[Node]) -> Vec<Site> {
        let threads = lock(&self.running);
        let site =
            |(thread, running): &(Thread, Running)| running.site(nodes, thread.name().unwrap_or("a worker"));
        threads.iter().map(site).collect()
    }

    pub(super) fn unpark(&self) {
        for (thread, _) in lock(&self.running).iter() {
            thread.unpark();
        }
    }
}
