//! Running a graph: to its end, or under a handle.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use tidemill_operators::graph::NodeId;
use tidemill_operators::{Clock, DynSource, EventTime, Graph, Mode, SourceError};

use crate::checkpoint::{self, LocalDirectory, Storage};
use crate::clock::system_clock;
use crate::control::{Control, ControlSpec, Event, SavepointTarget};
use crate::driver::{Driver, Keeper, Next};
use crate::engine::{Crew, Layout, origin};
use crate::error::{RunError, Site};
use crate::interrupt::Interrupt;
use crate::journal;
use crate::ledger::{Ledger, PartitionMark};
use crate::options::Options;
use crate::progress::{Progress, Summary};
use crate::recovery::{DomainStart, Opened, Resume, keep_nothing, warn_of_ended};
use crate::saver::Saver;
use crate::spill;
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
    if let Some(savepoint) = &options.from_savepoint
        && !checkpoint::is_begun(&storage)?
    {
        checkpoint::copy_savepoint(&LocalDirectory::existing(savepoint)?, &storage)?;
    }
    Ok(Some(Arc::new(storage)))
}

/// A graph that has been checked and laid out, and its checkpoint taken.
pub(crate) struct Prepared {
    pub(crate) layout: Arc<Layout>,
    pub(crate) control: Arc<Control>,
    pub(crate) driver: Driver,
    pub(crate) events: Receiver<Event>,
    pub(crate) options: Options,
}

impl Prepared {
    /// As [`new`](Self::new), by the clock of the machine. A panic of a source that is asked where it begins is an error.
    fn caught(
        graph: &Graph,
        options: &Options,
        storage: Option<&Arc<dyn Storage>>,
    ) -> Result<Prepared, RunError> {
        let new = || Prepared::new(graph, options.clone(), system_clock(), storage.cloned(), false);
        caught(&graph.nodes(), None, "the start of the query", new)
    }

    /// `here`: a test steps the query and moves its clock; states are written by the thread that hands them over.
    pub(crate) fn new(
        graph: &Graph,
        options: Options,
        clock: Clock,
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
        if options.mode == Mode::Continuous && options.workers > 1 {
            refuse_scattered(&layout)?;
        }
        refuse_too_many(&layout)?;
        let (sender, events) = unbounded();
        let (mut resume, mut keeper) = (Resume::default(), None);
        match storage {
            None => {
                journal::attach_all(&nodes, None, &clock);
                keep_nothing(&layout)?;
            }
            Some(storage) => {
                let opened = Opened::open(Arc::clone(&storage), &layout, &options)?;
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
        let starts: Vec<_> = resume.watermarks.iter().map(|start| start.as_ref().map(marks)).collect();
        let ledger = Ledger::new(layout.sources_of.clone(), &partitions, options.workers)
            .resume(resume.first, &starts);
        let memory = spill::memories(&options)?;
        let control = Arc::new(Control::new(ControlSpec {
            mode: options.mode,
            workers: options.workers,
            clock,
            ledger,
            max_queued: options.max_queued,
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

/// A watermark that would call records late only because workers read the slices of a file side by side.
fn refuse_scattered(layout: &Layout) -> Result<(), RunError> {
    let Some((assigner, source)) = layout.scattered() else { return Ok(()) };
    Err(RunError::Options {
        option: "--mode continuous",
        problem: format!(
            "{} takes event times after a rebalance or broadcast of {}, whose partitions are slices of one sequence: \
             between workers their order is lost, and records in order would be late. Put with_watermark before \
             the rebalance, give the source one partition, or run with one worker or in micro-batch",
            Site::of(assigner),
            Site::of(source)
        ),
    })
}

/// The most nodes of a graph, and the most partitions of a source: their numbers share 32 bits.
const MOST: usize = 1 << 16;

/// A graph with more nodes or partitions than there are numbers for.
fn refuse_too_many(layout: &Layout) -> Result<(), RunError> {
    if layout.nodes.len() > MOST {
        return Err(RunError::Engine(format!(
            "the graph has {} nodes, at most {MOST} can run",
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

/// Where a domain stood, with partitions by the numbers that their rows carry.
fn marks(start: &DomainStart) -> (EventTime, Vec<PartitionMark>) {
    let marks = start.partitions.iter();
    let marks = marks.map(|((source, partition), shown, idle)| (origin(*source, *partition), *shown, *idle));
    (start.watermark, marks.collect())
}

/// A running query.
///
/// Dropping the handle leaves the query running.
#[derive(Debug)]
pub struct QueryHandle {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Summary, RunError>>,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    stop: AtomicBool,
    cancel: AtomicBool,
    wake: Mutex<Option<crossbeam_channel::Sender<Event>>>,
}

impl Shared {
    fn begin(&self, prepared: &Prepared) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = prepared.driver.progress().clone();
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared.control.events.clone());
    }

    fn wake(&self) {
        if let Some(sender) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            // A query that is over needs no waking.
            let _ = sender.send(Event::Wake);
        }
    }
}

impl QueryHandle {
    fn start(
        graph: Graph,
        options: Options,
        storage: Option<Arc<dyn Storage>>,
    ) -> Result<QueryHandle, RunError> {
        let prepared = Prepared::caught(&graph, &options, storage.as_ref())?;
        let shared = Arc::new(Shared::default());
        shared.begin(&prepared);
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tidemill-driver".to_owned())
            .spawn(move || {
                let outcome = supervise(prepared, &graph, &options, storage.as_ref(), &for_thread);
                // What the user's values do when they are dropped is the user's code too.
                let dropped = caught(&[], None, "a value that the graph owns", move || {
                    drop(graph);
                    Ok(())
                });
                outcome.and_then(|summary| dropped.map(|()| summary))
            })
            .map_err(|e| RunError::Engine(format!("the driver thread cannot be started: {e}")))?;
        Ok(QueryHandle { shared, thread })
    }

    /// Copies the last commit into a directory, which must be empty. A query can be
    /// [started from it](Options::from_savepoint), or run with it as its checkpoint. Returns the epoch.
    ///
    /// # Errors
    ///
    /// [`RunError::Checkpoint`] if nothing has been committed yet or the copy fails, [`RunError::Options`] if the query
    /// has no checkpoint, [`RunError::Engine`] if it has ended.
    pub fn savepoint(&self, directory: impl Into<PathBuf>) -> Result<u64, RunError> {
        let storage = Arc::new(LocalDirectory::open(directory)?);
        loop {
            let (reply, answer) = crossbeam_channel::bounded(1);
            let event = Event::Savepoint { storage: SavepointTarget(storage.clone()), reply };
            let sender = self.shared.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let sent = sender.is_some_and(|sender| sender.send(event).is_ok());
            match answer.recv() {
                Ok(epoch) if sent => return epoch.map(|epoch| epoch.0),
                _ if self.is_finished() => return Err(RunError::Engine("the query has ended".to_owned())),
                // It has failed, and is about to start again or to end.
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Stops in order: sources read no more, what has been read is processed and committed, then the query ends.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
    }

    /// Ends the query where it stands. Epochs that are not committed are lost; [`wait`](Self::wait) returns
    /// [`RunError::Cancelled`].
    pub fn cancel(&self) {
        self.shared.cancel.store(true, Ordering::SeqCst);
        self.shared.wake();
    }

    /// Whether the query is over.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
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
        self.thread
            .join()
            .unwrap_or_else(|_| Err(RunError::Engine("the driver has panicked: please report it".to_owned())))
    }
}

/// The driver's thread: runs the query, and runs it again after a failure if that is wanted.
fn supervise(
    prepared: Prepared,
    graph: &Graph,
    options: &Options,
    storage: Option<&Arc<dyn Storage>>,
    shared: &Shared,
) -> Result<Summary, RunError> {
    let interrupt = if options.handle_ctrl_c { Interrupt::watch()? } else { Interrupt::none() };
    let begun = Instant::now();
    let (mut attempt, mut options, mut restarts) = (Ok(prepared), options.clone(), 0);
    loop {
        let mut committed = false;
        let error = match attempt.and_then(|it| drive(it, &interrupt, shared, &mut committed)) {
            Ok(summary) => return Ok(Summary { restarts: u64::from(restarts), ..summary }),
            Err(RunError::Interrupted(mut summary)) => {
                summary.restarts = u64::from(restarts);
                return Err(RunError::Interrupted(summary));
            }
            Err(error) => error,
        };
        if committed {
            // It has been given up. What is there under that uid now is this query's own.
            options.drop_state.clear();
        }
        if !error.may_pass() {
            return Err(error.given_up(
                restarts,
                begun.elapsed(),
                "an error of this kind is not tried again",
            ));
        }
        let Some(wait) = options.restart.wait(restarts) else {
            return Err(error.given_up(restarts, begun.elapsed(), "--restart allows no more"));
        };
        tracing::warn!(
            query = %graph.name(), %error, restarts = restarts + 1, ?wait, "the query failed and starts again"
        );
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if shared.stop.load(Ordering::SeqCst) || shared.cancel.load(Ordering::SeqCst) || interrupt.came()
            {
                return Err(error.given_up(
                    restarts,
                    begun.elapsed(),
                    "it was stopped before the next start",
                ));
            }
            std::thread::park_timeout(
                until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)),
            );
        }
        restarts += 1;
        // A source that cannot be set up now may be there at the next attempt.
        attempt = Prepared::caught(graph, &options, storage).inspect(|prepared| shared.begin(prepared));
    }
}

/// Runs the query to its end, and notes whether its checkpoint has gone on.
fn drive(
    prepared: Prepared,
    interrupt: &Interrupt,
    shared: &Shared,
    committed: &mut bool,
) -> Result<Summary, RunError> {
    let Prepared { layout, control, mut driver, events, options } = prepared;
    let started = control.clock.now();
    tracing::info!(query = %layout.query, mode = ?options.mode, workers = options.workers, "query starts");
    let crew = Crew::start(&layout, &control, options.idle, options.pin)?;
    let mut interrupted = false;
    let steps = || loop {
        if shared.cancel.load(Ordering::SeqCst) {
            return Err(RunError::Cancelled { after: control.clock.now().since(started) });
        }
        interrupted |= interrupt.came();
        if shared.stop.load(Ordering::SeqCst) || interrupted {
            driver.stop();
        }
        match driver.tick() {
            Ok(Next::Over) => return Ok(()),
            Ok(Next::Wait(wait)) => match events.recv_timeout(wait.min(Duration::from_millis(100))) {
                Ok(event) => {
                    let mut news = driver.hear(event);
                    while let Ok(event) = events.try_recv() {
                        news |= driver.hear(event);
                    }
                    if news {
                        let progress = driver.progress().clone();
                        *shared.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            },
            Err(error) => return Err(error),
        }
    };
    let outcome = caught(&layout.nodes, None, "the driver", steps);
    if outcome.is_err() {
        control.end();
    }
    crew.join();
    let failure = control.take_failure();
    let summary = driver.summary();
    *committed = driver.has_committed();
    tracing::info!(query = %layout.query, epochs = summary.epochs, rows = summary.input_rows, "query ends");
    match (failure, outcome) {
        (Some(error), _) | (None, Err(error)) => Err(error),
        (None, Ok(())) if interrupted => Err(RunError::Interrupted(Box::new(summary))),
        (None, Ok(())) => Ok(summary),
    }
}
