//! Running a graph: to its end, or under a handle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use tidemill_operators::{Clock, Graph};

use crate::clock::system_clock;
use crate::control::{Control, ControlSpec, Event};
use crate::driver::{Driver, Next};
use crate::engine::{Crew, Layout};
use crate::error::RunError;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::progress::{Progress, Summary};
use crate::spill;

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
}

impl Run for Graph {
    fn run(&self, options: Options) -> Result<Summary, RunError> {
        self.start(options)?.wait()
    }

    fn start(&self, options: Options) -> Result<QueryHandle, RunError> {
        let prepared = Prepared::new(self, options, system_clock())?;
        QueryHandle::start(prepared)
    }
}

/// A graph that has been checked and laid out.
pub(crate) struct Prepared {
    pub(crate) layout: Arc<Layout>,
    pub(crate) control: Arc<Control>,
    pub(crate) driver: Driver,
    pub(crate) events: Receiver<Event>,
    pub(crate) options: Options,
}

impl Prepared {
    pub(crate) fn new(graph: &Graph, options: Options, clock: Clock) -> Result<Prepared, RunError> {
        graph.validate()?;
        options.check()?;
        let layout = Arc::new(Layout::of(graph.name(), graph.nodes()));
        let partitions: Vec<_> =
            layout.sources().iter().map(|(node, source)| (*node, source.partitions() as usize)).collect();
        let ledger = Ledger::new(layout.sources_of.clone(), &partitions, options.workers);
        let memory = spill::memories(&options)?;
        let (sender, events) = unbounded();
        let control = Arc::new(Control::new(ControlSpec {
            mode: options.mode,
            workers: options.workers,
            clock,
            ledger,
            max_queued: options.max_queued,
            events: sender,
            nodes: layout.nodes.len(),
            memory,
        }));
        let driver = Driver::new(Arc::clone(&layout), Arc::clone(&control), options.clone())?;
        Ok(Prepared { layout, control, driver, events, options })
    }
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
    fn wake(&self) {
        if let Some(sender) = &*self.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            // A query that is over needs no waking.
            let _ = sender.send(Event::Wake);
        }
    }
}

impl QueryHandle {
    fn start(prepared: Prepared) -> Result<QueryHandle, RunError> {
        let shared = Arc::new(Shared::default());
        *shared.progress.lock().unwrap_or_else(PoisonError::into_inner) = prepared.driver.progress().clone();
        *shared.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared.control.events.clone());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tidemill-driver".to_owned())
            .spawn(move || drive(prepared, &for_thread))
            .map_err(|e| RunError::Engine(format!("the driver thread cannot be started: {e}")))?;
        Ok(QueryHandle { shared, thread })
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

/// The driver's thread.
fn drive(prepared: Prepared, shared: &Shared) -> Result<Summary, RunError> {
    let Prepared { layout, control, mut driver, events, options } = prepared;
    let interrupt = if options.handle_ctrl_c { Interrupt::watch()? } else { Interrupt::none() };
    let started = control.clock.now();
    tracing::info!(query = %layout.query, mode = ?options.mode, workers = options.workers, "query starts");
    let crew = Crew::start(&layout, &control, options.idle)?;
    let mut interrupted = false;
    let outcome = loop {
        if shared.cancel.load(Ordering::SeqCst) {
            break Err(RunError::Cancelled { after: control.clock.now().since(started) });
        }
        interrupted |= interrupt.came();
        if shared.stop.load(Ordering::SeqCst) || interrupted {
            driver.stop();
        }
        match driver.tick() {
            Ok(Next::Over) => break Ok(()),
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
            Err(error) => break Err(error),
        }
    };
    if outcome.is_err() {
        control.end();
    }
    crew.join();
    let failure = control.take_failure();
    let summary = driver.summary();
    tracing::info!(query = %layout.query, epochs = summary.epochs, rows = summary.input_rows, "query ends");
    match (failure, outcome) {
        (Some(error), _) | (None, Err(error)) => Err(error),
        (None, Ok(())) if interrupted => Err(RunError::Interrupted),
        (None, Ok(())) => Ok(summary),
    }
}

/// Ctrl-C, while a query runs: the first one stops it in order, the second one ends the process.
struct Interrupt {
    flag: Arc<AtomicBool>,
    ids: Vec<signal_hook::SigId>,
}

impl Interrupt {
    fn none() -> Interrupt {
        Interrupt { flag: Arc::default(), ids: Vec::new() }
    }

    fn watch() -> Result<Interrupt, RunError> {
        use signal_hook::consts::SIGINT;
        let flag = Arc::new(AtomicBool::new(false));
        let engine = |e: std::io::Error| RunError::Engine(format!("Ctrl-C cannot be watched: {e}"));
        // In this order: a signal that finds the flag set ends the process, then the flag is set.
        let second = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&flag))
            .map_err(engine)?;
        let first = signal_hook::flag::register(SIGINT, Arc::clone(&flag)).map_err(engine)?;
        Ok(Interrupt { flag, ids: vec![first, second] })
    }

    fn came(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
