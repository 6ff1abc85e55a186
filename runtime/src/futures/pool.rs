//! The pool of threads that runs the futures of a query: a runtime of tokio.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::turn::lock;
use tidemill_operators::{Spawner, Task};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::RunError;

/// How long the end of a query waits for a future that blocks its thread.
const RETURN_WITHIN: Duration = Duration::from_millis(200);

/// A runtime of tokio, until the query ends.
#[derive(Debug)]
pub(super) struct Pool {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl Pool {
    /// Starts a pool of that many threads.
    pub(super) fn start(threads: usize) -> Result<Arc<Pool>, RunError> {
        let mut builder = Builder::new_multi_thread();
        // All drivers that the program's own features of tokio bring: with `net` its futures may use sockets.
        let runtime = builder.worker_threads(threads).thread_name("tidemill-async").enable_all().build();
        let runtime = runtime.map_err(|error| {
            RunError::Engine(format!(
                "the runtime for futures cannot start {threads} threads: {error}: use fewer with --async-threads"
            ))
        })?;
        Ok(Arc::new(Pool { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) }))
    }

    /// Drops the futures that are left. A thread that one of them blocks is left alone.
    pub(super) fn shut_down(&self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_timeout(RETURN_WITHIN);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            // Does not wait, since it may run on one of its own threads.
            runtime.shutdown_background();
        }
    }
}

impl Spawner for Pool {
    fn spawn(&self, task: Task) {
        drop(self.handle.spawn(task));
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(tokio::time::sleep(time))
    }
}
