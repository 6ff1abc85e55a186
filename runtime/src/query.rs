//! Running a graph until it ends, or starting it and returning a handle.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, unbounded};
use tidemill_operators::Graph;

use crate::checkpoint::{self, LocalDirectory, Storage};
use crate::error::RunError;
use crate::events::Event;
use crate::options::Options;
use crate::peers::Peers;
use crate::plan::{Layout, PhysicalPlan, Plan};
use crate::prepare::PreparedRun;
use crate::progress::{Progress, Summary};
#[cfg(feature = "tables")]
use crate::published::CurrentBoard;
use crate::recovery::known_sources;
use crate::sim;
use crate::supervisor::{Notice, Shared, Supervisor};
use crate::user_code::caught;
use crate::watched::Watched;

/// Runs a [`Graph`]. Import it to call [`run`](Run::run) and [`start`](Run::start).
pub trait Run {
    /// Runs the graph and blocks until it ends.
    ///
    /// It ends when all sources have ended, when the trigger is done, or with an error.
    ///
    /// # Errors
    ///
    /// [`RunError`] names the operator, the line of your program, the cause and the fix.
    fn run(&self, options: Options) -> Result<Summary, RunError>;

    /// Starts the graph on threads of its own and returns a handle.
    ///
    /// The graph is checked before this returns.
    ///
    /// # Errors
    ///
    /// [`RunError::Graph`] and [`RunError::Options`] if it cannot be run as it is, [`RunError::Engine`] if threads
    /// cannot be started, [`RunError::Source`] if a source cannot be set up.
    fn start(&self, options: Options) -> Result<QueryHandle, RunError>;

    /// Starts the graph with the checkpoint in a storage of your own instead of a directory.
    ///
    /// # Errors
    ///
    /// As [`start`](Run::start); [`RunError::Checkpoint`] and [`RunError::Restore`] if the checkpoint cannot be used.
    fn start_in(&self, storage: Arc<dyn Storage>, options: Options) -> Result<QueryHandle, RunError>;

    /// Returns the plan with which the graph would run.
    ///
    /// It shows the operators of each node, the sinks and steps that run inside an operator, their workers, and the
    /// streams that share a watermark. [`Graph::explain`] shows the graph itself, with your source lines.
    ///
    /// Nothing runs, and no checkpoint is read; a run that resumes has the same operators. Sources that have not been
    /// prepared yet are prepared.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("digits");
    /// graph.source(memory(0..1_000u64)).key_by(|n| n % 10).count().update().sink(discard().0);
    /// let one = graph.explain_run(&Options::default())?.to_string();
    /// let two = graph.explain_run(&Options::default().with_workers(2))?.to_string();
    /// assert!(one.contains("aggregation in one operator; runs #2 inside it, on worker 0"));
    /// assert!(two.contains("pre-aggregate, exchange by key, merge, on all 2 workers"));
    /// # Ok::<(), tidemill::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Graph`] and [`RunError::Options`] if the graph cannot run so; [`RunError::Source`] if a source cannot be read.
    fn explain_run(&self, options: &Options) -> Result<PhysicalPlan, RunError>;
}

impl Run for Graph {
    fn run(&self, options: Options) -> Result<Summary, RunError> {
        self.start(options)?.wait()
    }

    fn start(&self, options: Options) -> Result<QueryHandle, RunError> {
        let storage = checkpoint_of(&options)?;
        QueryHandle::start(self.clone(), options, storage)
    }

    fn start_in(&self, storage: Arc<dyn Storage>, options: Options) -> Result<QueryHandle, RunError> {
        QueryHandle::start(self.clone(), options, Some(storage))
    }

    fn explain_run(&self, options: &Options) -> Result<PhysicalPlan, RunError> {
        self.validate()?;
        options.check()?;
        let nodes = self.nodes();
        caught(&nodes, None, "the plan of the query", || {
            let mut layout = Layout::of(self.name(), nodes.clone());
            layout.learn(known_sources(&layout)?);
            let layout = Arc::new(layout);
            let peers = Peers::in_one_process(options.workers);
            let plan = Plan::new(&layout, options.mode, peers.total(), &BTreeSet::new());
            Ok(PhysicalPlan::of(&plan, options.mode, &peers))
        })
    }
}

/// The directory of the checkpoint, if there is to be one; begun with a savepoint if it is new.
fn checkpoint_of(options: &Options) -> Result<Option<Arc<dyn Storage>>, RunError> {
    options.check()?;
    let Some(directory) = &options.checkpoint else { return Ok(None) };
    let storage = LocalDirectory::open(directory)?;
    if let Some(savepoint) = &options.from_savepoint {
        if checkpoint::is_begun(&storage)? {
            tracing::warn!(
                checkpoint = %directory.display(),
                savepoint = %savepoint.display(),
                "the checkpoint already has a run, so the savepoint is not used"
            );
        } else {
            checkpoint::copy_savepoint(&LocalDirectory::existing(savepoint)?, &storage)?;
        }
    }
    Ok(Some(Arc::new(storage)))
}

/// A running query.
///
/// Dropping the handle leaves the query running.
#[derive(Debug)]
#[must_use = "the query ends with the process: call `.wait()` on its handle, or keep it"]
pub struct QueryHandle {
    shared: Arc<Shared>,
    thread: sim::JoinHandle<Result<Summary, RunError>>,
}

impl QueryHandle {
    fn start(
        graph: Graph,
        options: Options,
        storage: Option<Arc<dyn Storage>>,
    ) -> Result<QueryHandle, RunError> {
        let storage = storage.map(|storage| Arc::new(Watched(storage)) as Arc<dyn Storage>);
        let prepared = PreparedRun::caught(&graph, &options, storage.as_ref())?;
        let (sender, notices) = unbounded();
        let shared = Arc::new(Shared::new(sender));
        shared.begin(&prepared);
        let supervisor = Supervisor { graph, options, storage, shared: Arc::clone(&shared), notices };
        let thread = sim::spawn("tidemill-query", move || supervisor.run(prepared))
            .map_err(|e| RunError::Engine(format!("the thread of the query cannot be started: {e}")))?;
        Ok(QueryHandle { shared, thread })
    }

    /// Copies the last commit into a directory, and returns its epoch.
    ///
    /// The directory must not contain a checkpoint. A query can be [started from the copy](Options::from_savepoint), or
    /// use it as its checkpoint.
    ///
    /// # Errors
    ///
    /// [`RunError::Checkpoint`] if nothing has been committed yet or the copy fails, [`RunError::Options`] if the query
    /// has no checkpoint, [`RunError::Ended`] if it has ended.
    pub fn savepoint(&self, directory: impl Into<PathBuf>) -> Result<u64, RunError> {
        let directory = directory.into();
        loop {
            let (reply, answer) = crossbeam_channel::bounded(1);
            let event = Event::Savepoint { directory: directory.clone(), reply };
            if self.shared.tell(event) {
                loop {
                    match sim::recv_timeout(&answer, Duration::from_millis(100)) {
                        Ok(epoch) => return epoch.map(|epoch| epoch.number()),
                        // The driver may be in a function of the user that does not return.
                        Err(RecvTimeoutError::Timeout) if !self.is_finished() => {}
                        Err(_) => break,
                    }
                }
            }
            if self.is_finished() {
                return Err(RunError::Ended { wanted: "savepoint" });
            }
            // It has failed, and is about to start again or to end.
            sim::sleep(Duration::from_millis(2));
        }
    }

    /// Stops the query in order.
    ///
    /// Sources stop reading, all records that were read are processed and committed, then the query ends. If that takes
    /// longer than [`Options::stop_timeout`], the query is [cancelled](Self::cancel). The records in flight take some
    /// tens of milliseconds at most, so a stop takes little longer than that and a commit.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.notify(Notice::Look);
    }

    /// Ends the query within a second.
    ///
    /// Epochs that are not committed are lost; [`wait`](Self::wait) returns [`RunError::Cancelled`].
    ///
    /// If a function of yours is running, the query waits for it for 5 s; then [`wait`](Self::wait) returns
    /// [`RunError::Stuck`]. A sink or reader of yours that waits for something must check the
    /// [`Cancellation`](tidemill_operators::Cancellation) of its context.
    pub fn cancel(&self) {
        self.shared.cancel.store(true, Ordering::SeqCst);
        self.shared.notify(Notice::Look);
    }

    /// Returns whether the query has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether the query is over, for others to ask.
    pub(crate) fn over(&self) -> impl Fn() -> bool + Clone + Send + 'static {
        let task = self.thread.task();
        move || task.as_ref().is_none_or(sim::TaskHandle::is_over)
    }

    /// The tables that other threads read.
    #[cfg(feature = "tables")]
    pub(crate) fn published(&self) -> &Arc<CurrentBoard> {
        &self.shared.published
    }

    /// Returns the progress as of the last committed epoch.
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// Blocks until the query ends.
    ///
    /// # Errors
    ///
    /// The error that ended the query, if it did not end in order.
    pub fn wait(self) -> Result<Summary, RunError> {
        self.thread.join().unwrap_or_else(|_| {
            Err(RunError::Engine("the query's thread has panicked: please report it".to_owned()))
        })
    }
}
