//! The threads that run a dataflow: each builds its copy and steps it until the query ends.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use timely::communication::allocator::thread::Thread;
use timely::communication::{Allocator, WorkerGuards, initialize_from};
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

use super::Time;
use super::host::{count_step, ring_alarms};
use super::lower::lower;
use crate::control::Control;
use crate::error::RunError;
use crate::events::Report;
use crate::ledger::EpochEnds;
use crate::options::Idle;
use crate::pinning::{self, Core};
use crate::plan::Plan;
use crate::sim;
use crate::user_code::{DROP, NOBODY, caught, enter, running, within};

/// The worker threads of a query.
pub(crate) struct WorkerThreads {
    guards: WorkerGuards<()>,
    /// In a simulation: the tasks of the threads.
    tasks: Vec<sim::TaskHandle>,
}

impl WorkerThreads {
    /// Starts a thread for each worker; with `pin` each stays on a core. `after_step` is called after each step of each worker.
    pub(crate) fn start(
        plan: &Arc<Plan>,
        control: &Arc<Control>,
        idle: Idle,
        pin: bool,
        after_step: impl Fn() + Send + Sync + 'static,
    ) -> Result<WorkerThreads, RunError> {
        let threads = control.peers.local().len();
        let cores = if pin { pinning::cores(threads)? } else { Vec::new() };
        let (builders, others) =
            CommunicationConfig::Process(threads).try_build().map_err(RunError::Engine)?;
        check_threads(threads)?;
        let (plan, control) = (Arc::clone(plan), Arc::clone(control));
        let tasks = sim::tasks("tidemill-worker", threads);
        let for_workers = tasks.clone();
        let guards = initialize_from(builders, others, move |allocator| {
            let task = control.peers.local_index(allocator.index()).and_then(|local| for_workers.get(local));
            let _turn = task.cloned().map(sim::TaskHandle::take);
            control.threads.enlist();
            run(allocator, &plan, &control, idle, &cores, &after_step);
            control.threads.discharge();
            control.tell(Report::WorkerDone);
        })
        .map_err(|error| cannot_start(threads, &error))?;
        Ok(WorkerThreads { guards, tasks })
    }

    /// Waits until all threads have ended.
    pub(crate) fn join(self) {
        self.tasks.iter().for_each(sim::TaskHandle::wait);
        // A worker catches what panics in it, so there is nothing left to report.
        drop(self.guards.join());
    }
}

/// Returns an error if the system refuses to start a thread for each worker.
///
/// Where it refuses one, timely would leave the threads before it behind: they panic, as they miss the others.
fn check_threads(workers: usize) -> Result<(), RunError> {
    let (release, released) = bounded::<()>(0);
    let start = |worker| {
        let released = released.clone();
        let wait = move || {
            // Fails once all have been started, or one has been refused.
            let _ = released.recv();
        };
        std::thread::Builder::new().name(format!("tidemill-check-{worker}")).spawn(wait)
    };
    let mut refused = None;
    let mut threads = Vec::new();
    for worker in 0..workers {
        match start(worker) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                refused = Some(cannot_start(workers, &error));
                break;
            }
        }
    }
    drop(release);
    for thread in threads {
        drop(thread.join());
    }
    refused.map_or(Ok(()), Err)
}

fn cannot_start(workers: usize, error: &dyn Display) -> RunError {
    RunError::Engine(format!(
        "not all threads of {workers} workers can be started: {error}: use fewer workers, or raise the limits of the process \
         (`ulimit -u` for threads, `ulimit -v` for addresses)"
    ))
}

fn config(idle: Idle) -> WorkerConfig {
    let config = WorkerConfig::default().idle_spin(idle.polls_for());
    #[cfg(feature = "tables")]
    let config = super::merging::merging(config);
    config
}

/// Sets the timer slack of this thread to a nanosecond. The default of Linux is 50 us: so much later a thread may wake up.
fn wake_on_time() {
    // Where the system refuses it, the worker wakes up later.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

fn run(
    allocator: Allocator,
    plan: &Plan,
    control: &Arc<Control>,
    idle: Idle,
    cores: &[Core],
    after_step: &dyn Fn(),
) {
    wake_on_time();
    let mut worker = Worker::new(config(idle), allocator, Some(Instant::now()));
    let index = worker.index();
    guard(index, plan, control, || {
        let ends: Arc<dyn EpochEnds> = Arc::<Control>::clone(control);
        build(&mut worker, index, plan, control, &ends);
        // Not before: a thread that a source has started in `build` would have to stay here too.
        let core = control.peers.local_index(index).and_then(|local| cores.get(local));
        if let Some(Err(error)) = core.map(|core| pinning::stay_on(*core)) {
            control.fail(error);
        }
        let mut turn = sim::WorkerTurn::here();
        while worker.has_dataflows() && !control.has_ended() {
            count_step();
            let worked = match &mut turn {
                None => step(&mut worker),
                Some(turn) => simulated_step(&mut worker, turn, control),
            };
            after_step();
            control.sources.flow.ends_step(index, worked, || control.clock.now());
        }
    });
    // What a user's values do when they are dropped is the user's code too.
    guard(index, plan, control, move || within(DROP, || drop(worker)));
}

/// Steps, or parks if there is nothing to do; returns whether an operator ran.
fn step(worker: &mut Worker) -> bool {
    let before = running();
    enter(NOBODY);
    worker.step_or_park(None);
    let has_worked = running() != NOBODY;
    if !has_worked {
        enter(before);
    }
    has_worked
}

/// A step in a simulation: timers are the simulation's, and whether an operator ran decides whether the worker parks.
fn simulated_step(worker: &mut Worker, turn: &mut sim::WorkerTurn, control: &Control) -> bool {
    let has_polled = control.futures.step(worker.index());
    let alarms = [ring_alarms(turn.now()), control.futures.next(worker.index())];
    let next = alarms.into_iter().flatten().min();
    enter(NOBODY);
    worker.step();
    let has_worked = has_polled
        || running() != NOBODY
        || worker.activations().borrow().empty_for() == Some(Duration::ZERO);
    if has_worked && let Err(problem) = control.ledger.check_invariant() {
        turn.violated(&problem);
    }
    turn.stepped(has_worked, next);
    has_worked
}

fn build(worker: &mut Worker, index: usize, plan: &Plan, control: &Arc<Control>, ends: &Arc<dyn EpochEnds>) {
    let built = worker.dataflow::<Time, _, _>(|scope| lower(plan, scope, index, control, ends));
    if let Err(error) = built {
        control.fail(error);
    }
}

/// Runs users' code: a panic in it ends the query with one error, on every worker.
fn guard(index: usize, plan: &Plan, control: &Control, body: impl FnOnce()) {
    let body = || {
        body();
        Ok(())
    };
    if let Err(error) = caught(&plan.layout.nodes, Some(index), "engine", body) {
        control.fail(error);
    }
}

/// A single worker on the caller's own thread, stepped by hand.
pub(crate) struct LocalWorker {
    worker: Worker,
    plan: Arc<Plan>,
    control: Arc<Control>,
}

impl LocalWorker {
    pub(crate) fn new(plan: &Arc<Plan>, control: &Arc<Control>) -> LocalWorker {
        let ends: Arc<dyn EpochEnds> = Arc::<Control>::clone(control);
        LocalWorker::with_ends(plan, control, &ends)
    }

    /// The same, with another one that answers how epochs end.
    pub(super) fn with_ends(
        plan: &Arc<Plan>,
        control: &Arc<Control>,
        ends: &Arc<dyn EpochEnds>,
    ) -> LocalWorker {
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(config(Idle::Park), allocator, Some(Instant::now()));
        build(&mut worker, 0, plan, control, ends);
        LocalWorker { worker, plan: Arc::clone(plan), control: Arc::clone(control) }
    }

    /// Lets every operator that has something to do do it; false when the dataflow is complete.
    pub(crate) fn step(&mut self) -> bool {
        let (plan, control) = (Arc::clone(&self.plan), Arc::clone(&self.control));
        let worker = &mut self.worker;
        guard(0, &plan, &control, || {
            count_step();
            control.futures.step(0);
            worker.step();
        });
        worker.has_dataflows()
    }
}
