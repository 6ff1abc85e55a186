//! Watches over a query: ends it when that is asked for, and starts it again after a failure.
//!
//! The driver and the workers call functions of the user, which may block. The supervisor's thread calls none, so `cancel`,
//! `stop_timeout` and Ctrl-C always work. A thread that is still in a function of the user [`RETURN_WITHIN`] after the end
//! is named and left alone; the driver that waits for it keeps the checkpoint locked.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tidemill_operators::{Graph, turn};

use crate::checkpoint::Storage;
use crate::control::Control;
use crate::driver::{CommitCoordinator, Driver, SharedDriver};
use crate::engine::WorkerThreads;
use crate::error::{RunError, Site};
use crate::events::{Event, EventSender};
use crate::interrupt::Interrupt;
use crate::options::Options;
use crate::prepare::PreparedRun;
use crate::progress::{Progress, Summary};
#[cfg(feature = "tables")]
use crate::published::CurrentBoard;
use crate::sim::{self, Instant};
use crate::user_code::{Running, caught};

/// How often the supervisor looks for a signal, and whether the query has failed.
const LOOK: Duration = Duration::from_millis(100);

/// How long a function of the user may take to return after its query has ended.
const RETURN_WITHIN: Duration = Duration::from_secs(5);

/// What the supervisor is woken for.
pub(crate) enum Notice {
    /// Somebody wants the query to end.
    Look,
    /// The attempt is over.
    Over(Box<Outcome>),
}

/// How an attempt has ended.
pub(crate) struct Outcome {
    result: Result<Summary, RunError>,
    /// Whether its checkpoint has advanced.
    committed: bool,
    /// What holds the checkpoint locked.
    lock: Option<CommitCoordinator>,
}

/// What the handle of a query, its driver and its supervisor share.
#[derive(Debug)]
pub(crate) struct Shared {
    progress: Arc<Mutex<Arc<Progress>>>,
    pub(crate) stop: AtomicBool,
    pub(crate) cancel: AtomicBool,
    /// To the driver of the present attempt.
    events: Mutex<Option<EventSender>>,
    notices: Sender<Notice>,
    /// The tables of the present attempt that other threads read.
    #[cfg(feature = "tables")]
    pub(crate) published: Arc<CurrentBoard>,
}

impl Shared {
    pub(crate) fn new(notices: Sender<Notice>) -> Shared {
        let (stop, cancel) = (AtomicBool::new(false), AtomicBool::new(false));
        Shared {
            progress: Arc::default(),
            stop,
            cancel,
            events: Mutex::default(),
            notices,
            #[cfg(feature = "tables")]
            published: Arc::default(),
        }
    }

    /// An attempt begins.
    pub(crate) fn begin(&self, prepared: &PreparedRun) {
        turn::lock(&self.progress).clone_from(prepared.driver.progress());
        *turn::lock(&self.events) = Some(prepared.control.reports.events.clone());
        #[cfg(feature = "tables")]
        self.published.replace(prepared.control.published.clone());
    }

    /// The progress as of the last committed epoch.
    pub(crate) fn progress(&self) -> Progress {
        Progress::clone(&turn::lock(&self.progress))
    }

    /// Whether somebody wants the query to end.
    fn is_to_end(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.cancel.load(Ordering::SeqCst)
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // A query that is over has no supervisor.
        let _ = self.notices.send(notice);
    }

    /// Sends an event to the driver of the present attempt; false if there is none.
    pub(crate) fn tell(&self, event: Event) -> bool {
        turn::lock(&self.events).as_ref().is_some_and(|events| events.send(event))
    }
}

/// A query whose threads are watched.
pub(crate) struct Supervisor {
    pub(crate) graph: Graph,
    pub(crate) options: Options,
    pub(crate) storage: Option<Arc<dyn Storage>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) notices: Receiver<Notice>,
}

/// One attempt, as its driver and the supervisor see it.
#[derive(Default)]
struct Attempt {
    control: OnceLock<Arc<Control>>,
    driver: OnceLock<Running>,
    state: AtomicU8,
}

/// The states of an attempt: it leaves the first one once.
const RUNS: u8 = 0;
const OVER: u8 = 1;
const LEFT_ALONE: u8 = 2;

impl Attempt {
    /// Leaves the first state; false if the other side has done so.
    fn becomes(&self, state: u8) -> bool {
        self.state.compare_exchange(RUNS, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Supervisor {
    /// Runs the query to its end.
    pub(crate) fn run(mut self, first: PreparedRun) -> Result<Summary, RunError> {
        let mut lock = None;
        let result = self.run_again_and_again(first, &mut lock);
        // What the user's values do when they are dropped is the user's code too, and may not return.
        let Supervisor { graph, storage, shared, notices, .. } = self;
        let dropping = move || {
            let dropped = caught(&[], None, "the drop of a value of the query", move || {
                drop((graph, storage));
                Ok(Summary::default())
            });
            shared.notify(Notice::Over(Box::new(Outcome { result: dropped, committed: false, lock: None })));
        };
        if let Err(error) = sim::spawn("tidemill-drop", dropping) {
            return result.and(Err(RunError::Engine(format!("a thread cannot be started: {error}"))));
        }
        let until = Instant::now() + RETURN_WITHIN;
        loop {
            match sim::recv_timeout(&notices, until.since(Instant::now())) {
                Ok(Notice::Look) => {}
                Ok(Notice::Over(dropped)) => {
                    return result.and_then(|summary| dropped.result.map(|_| summary));
                }
                Err(_) => {
                    std::mem::forget(lock);
                    let operator = "the drop of a value of the query".to_owned();
                    let site = Site { operator, location: String::new() };
                    return Err(RunError::Stuck {
                        site,
                        within: RETURN_WITHIN,
                        error: result.err().map(Box::new),
                    });
                }
            }
        }
    }

    /// Runs the query until no attempt follows; `lock` is then what holds its checkpoint.
    fn run_again_and_again(
        &mut self,
        first: PreparedRun,
        lock: &mut Option<CommitCoordinator>,
    ) -> Result<Summary, RunError> {
        let interrupt = if self.options.ctrl_c { Interrupt::watch()? } else { Interrupt::none() };
        let begun = Instant::now();
        let (mut first, mut restarts) = (Some(first), 0);
        loop {
            // The checkpoint of the attempt before is free.
            drop(lock.take());
            let Outcome { result, committed, lock: held } = self.attempt(first.take(), &interrupt)?;
            *lock = held;
            let error = match result {
                Ok(mut summary) => {
                    summary.restarts = u64::from(restarts);
                    let interrupted = interrupt.came();
                    return if interrupted {
                        Err(RunError::Interrupted(Box::new(summary)))
                    } else {
                        Ok(summary)
                    };
                }
                Err(error) => error,
            };
            if committed {
                // It has been given up. What is there under that uid now is this query's own.
                self.options.drop_state.clear();
            }
            if !error.is_retryable() {
                let why = "an error of this kind is not retried";
                return Err(error.given_up(restarts, begun.elapsed(), why));
            }
            let Some(wait) = self.options.restart.wait(restarts) else {
                return Err(error.given_up(restarts, begun.elapsed(), "--restart allows no more attempts"));
            };
            tracing::warn!(
                query = %self.graph.name(), %error, restarts = restarts + 1, ?wait,
                "the query failed and starts again"
            );
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if self.shared.is_to_end() || interrupt.came() {
                    let why = "it was stopped before the next start";
                    return Err(error.given_up(restarts, begun.elapsed(), why));
                }
                let left = until.since(Instant::now());
                // Wakes when the query is stopped.
                let _ = sim::recv_timeout(&self.notices, left.min(LOOK));
            }
            restarts += 1;
        }
    }

    /// Runs the query once: on a thread of its own, since a source that is asked where it begins may block too. The outer
    /// error is one after which nothing can be started again.
    fn attempt(&self, first: Option<PreparedRun>, interrupt: &Interrupt) -> Result<Outcome, RunError> {
        let attempt = Arc::new(Attempt::default());
        if let Some(prepared) = &first {
            attempt.control.get_or_init(|| Arc::clone(&prepared.control));
        }
        let own = Arc::clone(&attempt);
        let (graph, options) = (self.graph.clone(), self.options.clone());
        let (storage, shared) = (self.storage.clone(), Arc::clone(&self.shared));
        let driving = move || {
            own.driver.get_or_init(Running::here);
            let prepared = match first {
                Some(prepared) => Ok(prepared),
                None => PreparedRun::caught(&graph, &options, storage.as_ref()).inspect(|prepared| {
                    own.control.get_or_init(|| Arc::clone(&prepared.control));
                    shared.begin(prepared);
                }),
            };
            // The supervisor holds the graph as well, and is the last to drop it.
            drop((graph, storage));
            let (result, driver) = match prepared {
                Ok(prepared) => drive(prepared, &shared),
                Err(error) => (Err(error), None),
            };
            let committed = driver.as_ref().is_some_and(Driver::has_committed);
            let lock = driver.and_then(Driver::end);
            if own.becomes(OVER) {
                drop(own);
                shared.notify(Notice::Over(Box::new(Outcome { result, committed, lock })));
            } else {
                // A thread that was left alone may still write.
                std::mem::forget(lock);
            }
        };
        sim::spawn("tidemill-driver", driving)
            .map_err(|e| RunError::Engine(format!("the driver thread cannot be started: {e}")))?;
        self.watch(&attempt, interrupt)
    }

    /// Waits for the end of an attempt, and sees to it that it ends when it is to.
    fn watch(&self, attempt: &Attempt, interrupt: &Interrupt) -> Result<Outcome, RunError> {
        let begun = Instant::now();
        let (mut stopping, mut ended, mut closing) = (None::<Instant>, None::<Instant>, None::<Instant>);
        loop {
            match sim::recv_timeout(&self.notices, LOOK) {
                Ok(Notice::Over(outcome)) => return Ok(*outcome),
                Ok(Notice::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RunError::Engine("the driver thread has ended: please report it".to_owned()));
                }
            }
            if interrupt.came() {
                self.shared.stop.store(true, Ordering::SeqCst);
            }
            let cancelled = self.shared.cancel.load(Ordering::SeqCst);
            let control = attempt.control.get();
            if self.shared.stop.load(Ordering::SeqCst) && stopping.is_none() {
                stopping = Some(Instant::now());
                self.shared.tell(Event::Wake);
            }
            let too_long = stopping.is_some_and(|since| since.elapsed() >= self.options.stop_timeout);
            if let Some(control) = control
                && (cancelled || (too_long && !control.schedule.is_closed()))
                && !control.has_ended()
            {
                let stop_timeout = (!cancelled).then_some(self.options.stop_timeout);
                control.fail(RunError::Cancelled { after: begun.elapsed(), stop_timeout });
            }
            let drains_too_long = too_long && !control.is_some_and(|control| control.schedule.is_closed());
            if cancelled || drains_too_long || control.is_some_and(|control| control.has_ended()) {
                let since = ended.get_or_insert_with(Instant::now);
                if since.elapsed() >= RETURN_WITHIN && attempt.becomes(LEFT_ALONE) {
                    return Err(self.left_alone(attempt, begun, RETURN_WITHIN));
                }
            }
            if control.is_some_and(|control| control.schedule.is_closed()) {
                let within = self.options.stop_timeout.saturating_add(RETURN_WITHIN);
                let since = closing.get_or_insert_with(Instant::now);
                if since.elapsed() >= within && attempt.becomes(LEFT_ALONE) {
                    return Err(self.left_alone(attempt, begun, within));
                }
            }
        }
    }

    /// The error of a query with threads that do not return.
    fn left_alone(&self, attempt: &Attempt, begun: Instant, within: Duration) -> RunError {
        let nodes = self.graph.nodes();
        let mut sites: Vec<Site> = Vec::new();
        let cancelled = || RunError::Cancelled { after: begun.elapsed(), stop_timeout: None };
        let mut error = None;
        if let Some(control) = attempt.control.get() {
            sites.extend(control.threads.still_running(&nodes));
            error = control.reports.take_failure();
        }
        let is_closed = attempt.control.get().is_some_and(|control| control.schedule.is_closed());
        let error = if is_closed { error } else { Some(error.unwrap_or_else(cancelled)) };
        if sites.is_empty() {
            sites.extend(attempt.driver.get().map(|driver| driver.site(&nodes, "the driver")));
        }
        for site in sites.iter().skip(1) {
            tracing::error!(query = %self.graph.name(), %site, "has not returned either");
        }
        let nowhere = Site { operator: "a thread of the engine".to_owned(), location: String::new() };
        let site = sites.into_iter().next().unwrap_or(nowhere);
        RunError::Stuck { site, within, error: error.map(Box::new) }
    }
}

/// Runs a prepared query to its end. The driver comes back with the lock on its checkpoint.
fn drive(prepared: PreparedRun, shared: &Arc<Shared>) -> (Result<Summary, RunError>, Option<Driver>) {
    let PreparedRun { plan, control, driver, events, options } = prepared;
    let layout = &plan.layout;
    let begun = Instant::now();
    let committed = control.resume.committed.map(|epoch| epoch.number());
    tracing::info!(query = %layout.query, mode = ?options.mode, workers = options.workers, committed, "query starts");
    let driver = Arc::new(SharedDriver::new(driver, events, Arc::clone(&shared.progress)));
    let ticked = Arc::clone(&driver);
    let threads =
        match WorkerThreads::start(&plan, &control, options.idle, options.pin, move || ticked.after_step()) {
            Ok(threads) => threads,
            Err(error) => return (Err(error), driver.take()),
        };
    let steps = || loop {
        if shared.cancel.load(Ordering::SeqCst) {
            return Err(RunError::Cancelled { after: begun.elapsed(), stop_timeout: None });
        }
        if shared.stop.load(Ordering::SeqCst) {
            driver.with(Driver::stop);
        }
        if driver.tick_and_wait(LOOK)? {
            return Ok(());
        }
    };
    if let Err(error) = caught(&layout.nodes, None, "the driver", steps) {
        control.fail(error);
    }
    threads.join();
    control.futures.shut_down();
    let failure = control.reports.take_failure();
    let driver = driver.take();
    let summary = driver.as_ref().map(Driver::summary).unwrap_or_default();
    tracing::info!(query = %layout.query, epochs = summary.epochs, rows = summary.input_rows, "query ends");
    (failure.map_or(Ok(summary), Err), driver)
}
