//! Running a graph: to its end, or under a handle.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use tidemill_operators::graph::NodeId;
use tidemill_operators::{Clock, DynSource, Graph, Mode, SourceError};

use crate::checkpoint::watched::Watched;
use crate::checkpoint::{self, LocalDirectory, Storage};
use crate::clock::{engine_clock, not_before};
use crate::control::{Control, ControlSpec};
use crate::driver::{Driver, Keeper};
use crate::engine::Layout;
use crate::error::RunError;
use crate::events::{Event, EventQueue, EventSender, event_queue};
use crate::journal;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::progress::{Progress, Summary};
use crate::recovery::{DomainStart, Opened, Resume, keep_nothing, refuse_types, warn_of_ended};
use crate::saver::Saver;
use crate::sim;
use crate::spill;
use crate::supervisor::{Notice, Supervisor};
use crate::user_code::{caught, code_of};

/// Runs graphs. Bring it into scope to call [`run`](Run::run) and [`start`](Run::start) on a [`Graph`].
pub trait Run {
    /// Runs the graph and waits for its end: until all sources have ended, the trigger has nothing more to do, or
    /// something fails.
    ///
    /// # Errors
    ///
    /// [`RunError`] says what went wrong, in which operator, on which line of your program.
    fn run(&self, options: Options) -> Result<Summary, RunError>;

    /// Starts the graph and returns a handle on it. The graph is checked before this returns.
    ///
    /// # Errors
    ///
    /// [`RunError::Graph`] and [`RunError::Options`] if it cannot be run as it is, [`RunError::Engine`] if threads
    /// cannot be had, [`RunError::Source`] if a source cannot be set up.
    fn start(&self, options: Options) -> Result<QueryHandle, RunError>;

    /// As [`start`](Run::start), with the checkpoint in a storage of your own instead of a directory.
    ///
    /// # Errors
    ///
    /// As [`start`](Run::start); [`RunError::Checkpoint`] and [`RunError::Restore`] if the checkpoint cannot be used.
    fn start_in(&self, storage: Arc<dyn Storage>, options: Options) -> Result<QueryHandle, RunError>;
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
                "the checkpoint has begun, so the savepoint is not used"
            );
        } else {
            checkpoint::copy_savepoint(&LocalDirectory::existing(savepoint)?, &storage)?;
        }
    }
    Ok(Some(Arc::new(storage)))
}

/// A graph that has been checked and laid out, and its checkpoint taken.
pub(crate) struct Prepared {
    pub(crate) layout: Arc<Layout>,
    pub(crate) control: Arc<Control>,
    pub(crate) driver: Driver,
    pub(crate) events: EventQueue,
    pub(crate) options: Options,
}

impl Prepared {
    /// As [`new`](Self::new), by the clock of the machine. A panic of a source that is asked where it begins is an error.
    pub(crate) fn caught(
        graph: &Graph,
        options: &Options,
        storage: Option<&Arc<dyn Storage>>,
    ) -> Result<Prepared, RunError> {
        let new = || Prepared::new(graph, options.clone(), engine_clock(), storage.cloned(), false);
        caught(&graph.nodes(), None, "the start of the query", new)
    }

    /// `here`: a test steps the query and moves its clock; states are written by the thread that hands them over.
    pub(crate) fn new(
        graph: &Graph,
        options: Options,
        mut clock: Clock,
        storage: Option<Arc<dyn Storage>>,
        here: bool,
    ) -> Result<Prepared, RunError> {
        graph.validate()?;
        options.check()?;
        for what in options.without_effect() {
            tracing::warn!(query = %graph.name(), "{what}");
        }
        let nodes = graph.nodes();
        if storage.is_none() {
            options.check_without_checkpoint()?;
        }
        let layout = Arc::new(Layout::of(graph.name(), nodes.clone()));
        refuse_too_many(&layout)?;
        refuse_types(&nodes, storage.is_some(), options.state_memory.is_some())?;
        let (sender, events) = event_queue();
        let (mut resume, mut keeper) = (Resume::default(), None);
        match storage {
            None => {
                journal::attach_all(&nodes, None, &clock);
                keep_nothing(&layout)?;
            }
            Some(storage) => {
                let opened = Opened::open(Arc::clone(&storage), &layout, &options)?;
                if let Some(last) = opened.last_clock().filter(|_| !here) {
                    clock = not_before(clock, last);
                }
                journal::attach_all(&nodes, Some(&storage), &clock);
                journal::refuse_loss(&nodes, options.allow_loss)?;
                resume = opened.resume(&layout);
                warn_of_ended(&resume, &layout);
                let (writer, operators) = (opened.writer.clone(), layout.stateful());
                resume.saver = Some(match here {
                    true => Saver::here(writer, sender.clone(), operators),
                    false => Saver::start(writer, sender.clone(), operators)?,
                });
                keeper = Some(Keeper::new(opened, &layout, graph.fingerprint(), &options));
            }
        }
        let sources = layout.sources();
        let partitions = |(node, source): &(NodeId, Arc<dyn DynSource>)| {
            (*node, code_of(*node, || source.partitions()) as usize)
        };
        let partitions: Vec<_> = sources.iter().map(partitions).collect();
        let specs = layout.specs(options.mode, options.workers, &resume);
        resume.join_watermarks(&specs);
        let start = |start: &DomainStart| (start.watermark, start.partitions.clone());
        let starts: Vec<_> = resume.watermarks.iter().map(|it| it.as_ref().map(start)).collect();
        let born = (options.mode == Mode::Continuous).then(|| clock.now());
        let ledger = Ledger::new(specs, &partitions, options.workers, born).resume(resume.first(), &starts);
        let memory = spill::memories(&options)?;
        let control = Arc::new(Control::new(ControlSpec {
            mode: options.mode,
            workers: options.workers,
            clock,
            ledger,
            max_queued: options.max_queued,
            latency_budget: options.latency_budget,
            hops: layout.hops(),
            feeds_from: options.feeds_from,
            events: sender,
            nodes: layout.nodes.len(),
            resume,
            memory,
            stepped: here,
        }));
        let driver = Driver::new(Arc::clone(&layout), Arc::clone(&control), options.clone(), keeper)?;
        Ok(Prepared { layout, control, driver, events, options })
    }
}

/// The most nodes of a graph, and the most partitions of a source: their numbers share 32 bits.
const MOST: usize = 1 << 16;

/// A graph with more nodes or partitions than there are numbers for.
fn refuse_too_many(layout: &Layout) -> Result<(), RunError> {
    if layout.nodes.len() >= MOST {
        return Err(RunError::Engine(format!(
            "the graph has {} nodes, fewer than {MOST} can run",
            layout.nodes.len()
        )));
    }
    match layout.sources().iter().find(|(_, source)| source.partitions() as usize > MOST) {
        None => Ok(()),
        Some((node, source)) => Err(RunError::Source {
            site: layout.site(*node),
            error: SourceError::Setup(format!(
                "a source can have at most {MOST} partitions (got {}): give it fewer",
                source.partitions()
            )),
        }),
    }
}

/// A running query.
///
/// Dropping the handle leaves the query running.
#[derive(Debug)]
pub struct QueryHandle {
    shared: Arc<Shared>,
    thread: sim::JoinHandle<Result<Summary, RunError>>,
}

/// What the handle of a query, its driver and its supervisor share.
#[derive(Debug)]
pub(crate) struct Shared {
    progress: Mutex<Progress>,
    pub(crate) stop: AtomicBool,
    pub(crate) cancel: AtomicBool,
    /// To the driver of the present attempt.
    events: Mutex<Option<EventSender>>,
    notices: Sender<Notice>,
}

impl Shared {
    pub(crate) fn new(notices: Sender<Notice>) -> Shared {
        let (stop, cancel) = (AtomicBool::new(false), AtomicBool::new(false));
        Shared { progress: Mutex::default(), stop, cancel, events: Mutex::default(), notices }
    }

    pub(crate) fn begin(&self, prepared: &Prepared) {
        self.set_progress(prepared.driver.progress().clone());
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared.control.events.clone());
    }

    pub(crate) fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Whether somebody wants the query to end.
    pub(crate) fn is_to_end(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.cancel.load(Ordering::SeqCst)
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // A query that is over has no supervisor.
        let _ = self.notices.send(notice);
    }

    pub(crate) fn wake_driver(&self) {
        if let Some(events) = &*self.events.lock().unwrap_or_else(PoisonError::into_inner) {
            // A query that is over needs no waking.
            events.send(Event::Wake);
        }
    }
}

impl QueryHandle {
    fn start(
        graph: Graph,
        options: Options,
        storage: Option<Arc<dyn Storage>>,
    ) -> Result<QueryHandle, RunError> {
        let storage = storage.map(|storage| Arc::new(Watched(storage)) as Arc<dyn Storage>);
        let prepared = Prepared::caught(&graph, &options, storage.as_ref())?;
        let (sender, notices) = unbounded();
        let shared = Arc::new(Shared::new(sender));
        shared.begin(&prepared);
        let supervisor = Supervisor { graph, options, storage, shared: Arc::clone(&shared), notices };
        let thread = sim::spawn("tidemill-query", move || supervisor.run(prepared))
            .map_err(|e| RunError::Engine(format!("the thread of the query cannot be started: {e}")))?;
        Ok(QueryHandle { shared, thread })
    }

    /// Copies the last commit into a directory, which must hold no checkpoint. A query can be
    /// [started from it](Options::from_savepoint), or run with it as its checkpoint. Returns the epoch.
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
            let sender = self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if sender.is_some_and(|sender| sender.send(event)) {
                loop {
                    match sim::recv_timeout(&answer, Duration::from_millis(100)) {
                        Ok(epoch) => return epoch.map(|epoch| epoch.0),
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

    /// Stops in order: sources read no more, what has been read is processed and committed, then the query ends. If that
    /// takes longer than [`Options::stop_timeout`], it is [cancelled](Self::cancel). No more is in flight than workers process
    /// in some tens of milliseconds, so a stop takes little longer than that and a commit.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.notify(Notice::Look);
    }

    /// Ends the query where it stands, within a second. Epochs that are not committed are lost; [`wait`](Self::wait)
    /// returns [`RunError::Cancelled`].
    ///
    /// A function of yours that is running is waited for, for 5 s; then [`wait`](Self::wait) returns [`RunError::Stuck`]. A
    /// sink or reader of yours that waits for something looks at the [`Cancellation`](tidemill_operators::Cancellation) of
    /// its context.
    pub fn cancel(&self) {
        self.shared.cancel.store(true, Ordering::SeqCst);
        self.shared.notify(Notice::Look);
    }

    /// Whether the query is over.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether the query is over, for others to ask.
    pub(crate) fn over(&self) -> impl Fn() -> bool + Clone + Send + 'static {
        let ticket = self.thread.ticket();
        move || ticket.as_ref().is_none_or(sim::Ticket::is_over)
    }

    /// The progress as of the last committed epoch.
    pub fn progress(&self) -> Progress {
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of the query.
    ///
    /// # Errors
    ///
    /// Whatever ended it, if it did not end in order.
    pub fn wait(self) -> Result<Summary, RunError> {
        self.thread.join().unwrap_or_else(|_| {
            Err(RunError::Engine("the query's thread has panicked: please report it".to_owned()))
        })
    }
}
