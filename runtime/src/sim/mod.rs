//! Simulation: the threads of a query run one at a time, in the order of a seed, in simulated time.
//!
//! A thread that takes part is a *task*. Exactly one task has the turn. It gives the turn up at each
//! [point](tidemill_operators::turn::point), where it blocks and where it ends; the [`Scheduler`] then picks the next one.
//! Outside a simulation everything here is what the standard library or crossbeam does.

mod scheduler;
mod task;

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle as Thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use tidemill_operators::files::{Call, Perform};
use tidemill_operators::{Clock, ProcessingTime, turn};

#[cfg(test)]
use self::scheduler::Outcome;
pub(crate) use self::scheduler::{BEGIN, END, Random, Scheduler, Settings};
pub(crate) use self::task::TaskHandle;
use self::task::{Ready, here};

/// Answers the calls that tasks make of the file system.
pub(crate) trait Disk: Send + Sync {
    /// Makes a call, does a part of it, or fails.
    fn call(&self, call: Call<'_>, perform: Perform<'_>) -> io::Result<()>;
}

thread_local! {
    static TOLERATES: Cell<bool> = const { Cell::new(false) };
}

/// Does something whose failure is logged, and does not end the run.
pub(crate) fn tolerate<R>(call: impl FnOnce() -> R) -> R {
    TOLERATES.set(true);
    let result = call();
    TOLERATES.set(false);
    result
}

/// Whether the run continues if this thread's work fails.
pub(crate) fn is_tolerant() -> bool {
    TOLERATES.get()
}

/// Locks what is never held across points.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this thread is simulated.
pub(crate) fn is_active() -> bool {
    turn::is_simulated()
}

/// The clock of the simulation that this thread is part of.
pub(crate) fn clock() -> Option<Clock> {
    let (scheduler, _) = here()?;
    Some(Clock::new(move || scheduler.now()))
}

/// As [`std::time::Instant`]; in a simulation of the simulated time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        static BEGUN: OnceLock<std::time::Instant> = OnceLock::new();
        Instant(match here() {
            Some((scheduler, _)) => Duration::from_micros(scheduler.now().as_micros().unsigned_abs()),
            None => BEGUN.get_or_init(std::time::Instant::now).elapsed(),
        })
    }

    pub(crate) fn elapsed(self) -> Duration {
        Instant::now().since(self)
    }

    /// How much later it is than another; nothing if it is not.
    pub(crate) fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0.saturating_add(time))
    }
}

/// Notes that workers may have something to do: see [`Scheduler::wait_for_work`].
pub(crate) fn note_work() {
    if is_active()
        && let Some((scheduler, _)) = here()
    {
        scheduler.note_work();
    }
}

/// Waits that long.
pub(crate) fn sleep(time: Duration) {
    match here() {
        Some((scheduler, task)) => drop(scheduler.block(task, "sleep", Some(time), None)),
        None => std::thread::sleep(time),
    }
}

/// A simulated thread waits until `ready` says so, or that long; returns whether it is ready. `ready` is called by the
/// thread that picks the next task.
pub(crate) fn wait(
    what: &'static str,
    most: Option<Duration>,
    ready: impl FnMut() -> bool + Send + 'static,
) -> bool {
    let Some((scheduler, task)) = here() else { return true };
    let ready: Ready = Box::new(ready);
    scheduler.block(task, what, most, Some(ready))
}

/// As [`Receiver::recv_timeout`].
pub(crate) fn recv_timeout<T: Send + 'static>(
    receiver: &Receiver<T>,
    most: Duration,
) -> Result<T, RecvTimeoutError> {
    if !is_active() {
        return receiver.recv_timeout(most);
    }
    receive(receiver, Some(most))
}

/// As [`Receiver::recv`]; none when all senders are gone.
pub(crate) fn recv<T: Send + 'static>(receiver: &Receiver<T>) -> Option<T> {
    if is_active() { receive(receiver, None).ok() } else { receiver.recv().ok() }
}

fn receive<T: Send + 'static>(receiver: &Receiver<T>, most: Option<Duration>) -> Result<T, RecvTimeoutError> {
    let slot = Arc::new(Mutex::new(Err(TryRecvError::Empty)));
    let (into, from) = (Arc::clone(&slot), receiver.clone());
    wait("receive", most, move || {
        let mut slot = lock(&into);
        if matches!(*slot, Err(TryRecvError::Empty)) {
            *slot = from.try_recv();
        }
        !matches!(*slot, Err(TryRecvError::Empty))
    });
    let got = std::mem::replace(&mut *lock(&slot), Err(TryRecvError::Empty));
    got.map_err(|error| match error {
        TryRecvError::Empty => RecvTimeoutError::Timeout,
        TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
    })
}

/// A thread that was started with [`spawn`].
#[derive(Debug)]
pub(crate) struct JoinHandle<T> {
    thread: Thread<T>,
    task: Option<TaskHandle>,
}

impl<T> JoinHandle<T> {
    /// As [`JoinHandle::join`](std::thread::JoinHandle::join).
    pub(crate) fn join(self) -> std::thread::Result<T> {
        if let Some(task) = self.task {
            task.wait();
        }
        self.thread.join()
    }

    /// The task that it is.
    pub(crate) fn task(&self) -> Option<TaskHandle> {
        self.task.clone()
    }

    /// Whether the thread has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.as_ref().map_or_else(|| self.thread.is_finished(), TaskHandle::is_over)
    }
}

/// Starts a thread, as a task if this thread is one.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let task = here().map(|(scheduler, _)| scheduler.register(name));
    let own = task.clone();
    let run = move || {
        let _turn = own.map(TaskHandle::take);
        body()
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    if let (Err(_), Some(task)) = (&thread, &task) {
        task.give_up();
    }
    Ok(JoinHandle { thread: thread?, task })
}

/// Tickets for threads that somebody else starts; none outside a simulation.
pub(crate) fn tasks(name: &str, count: usize) -> Vec<TaskHandle> {
    let Some((scheduler, _)) = here() else { return Vec::new() };
    (0..count).map(|n| scheduler.register(&format!("{name}-{n}"))).collect()
}

/// How a simulated worker waits for work.
pub(crate) struct WorkerTurn {
    scheduler: Arc<Scheduler>,
    task: usize,
    idle: u32,
}

/// After this many steps without work a worker waits: what others sent arrives in the first, and what that activates runs in
/// the same step; one more for what an operator asks of itself.
const IDLE_STEPS: u32 = 2;

impl WorkerTurn {
    /// For a worker on this thread; none outside a simulation.
    pub(crate) fn here() -> Option<WorkerTurn> {
        let (scheduler, task) = here()?;
        Some(WorkerTurn { scheduler, task, idle: 0 })
    }

    pub(crate) fn now(&self) -> ProcessingTime {
        self.scheduler.now()
    }

    /// Something that must never be so is so: the simulation ends.
    pub(crate) fn violated(&self, what: &str) {
        self.scheduler.set_stuck("watermark", what);
    }

    /// After a step: gives up the turn, and waits if there has been nothing to do; at most until `next`.
    pub(crate) fn stepped(&mut self, has_worked: bool, next: Option<ProcessingTime>) {
        let seen = self.scheduler.work();
        if has_worked {
            self.idle = 0;
            self.scheduler.note_work();
            return turn::point("step");
        }
        self.idle += 1;
        if self.idle < IDLE_STEPS {
            return turn::point("step");
        }
        let most = next.map(|at| at.since(self.now()));
        let scheduler = Arc::clone(&self.scheduler);
        let ready: Ready = Box::new(move || scheduler.work() != seen);
        self.scheduler.block(self.task, "park", most, Some(ready));
        self.idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three threads that append to a list at each point, and what they appended.
    fn interleaving(seed: u64) -> (String, Outcome) {
        let list = Arc::new(Mutex::new(String::new()));
        let scheduler = Scheduler::new(Settings::new(seed));
        let outcome = scheduler.run(|| {
            let threads: Vec<_> = ['a', 'b', 'c']
                .into_iter()
                .map(|name| {
                    let list = Arc::clone(&list);
                    spawn("writer", move || {
                        for _ in 0..5 {
                            lock(&list).push(name);
                            turn::point("written");
                        }
                    })
                    .unwrap()
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        let list = lock(&list).clone();
        (list, outcome.1)
    }

    #[test]
    fn same_seed_gives_same_order() {
        for seed in 0..20 {
            let (first, second) = (interleaving(seed), interleaving(seed));
            assert_eq!((first.0, first.1.trace), (second.0, second.1.trace));
        }
        let orders: std::collections::BTreeSet<_> = (0..20).map(|seed| interleaving(seed).0).collect();
        assert!(orders.len() > 15, "{}", orders.len());
    }

    #[test]
    fn time_advances_to_next_timer_when_no_task_can_run() {
        let scheduler = Scheduler::new(Settings::new(1));
        let (times, _) = scheduler.run(|| {
            let clock = clock().unwrap();
            let begun = clock.now();
            let other = clock.clone();
            let thread = spawn("sleeper", move || {
                sleep(Duration::from_secs(3_600));
                other.now()
            });
            sleep(Duration::from_secs(60));
            let short = clock.now().since(begun);
            (short, thread.unwrap().join().unwrap().since(begun))
        });
        let within = |time: Duration, seconds| (seconds..seconds + 2).contains(&time.as_secs());
        assert!(within(times.0, 60) && within(times.1, 3_600), "{times:?}");
    }

    #[test]
    fn message_arrives_before_timeout() {
        let scheduler = Scheduler::new(Settings::new(1));
        let (got, _) = scheduler.run(|| {
            let (sender, receiver) = crossbeam_channel::unbounded();
            let thread = spawn("sender", move || {
                sleep(Duration::from_secs(1));
                sender.send(7).unwrap();
            });
            let early = recv_timeout(&receiver, Duration::from_millis(500));
            let late = recv_timeout(&receiver, Duration::from_secs(5));
            thread.unwrap().join().unwrap();
            (early, late, recv(&receiver))
        });
        assert_eq!(got, (Err(RecvTimeoutError::Timeout), Ok(7), None));
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_named() {
        let scheduler = Scheduler::new(Settings::new(1));
        let ((), outcome) = scheduler.run(|| {
            let (_sender, receiver) = crossbeam_channel::unbounded::<u8>();
            recv(&receiver);
        });
        let (_, stuck) = outcome.stuck.unwrap();
        assert!(stuck.contains("nothing can run") && stuck.contains("receive"), "{stuck}");
    }
}
