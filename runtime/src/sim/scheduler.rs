//! Picks the task that runs next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tidemill_operators::ProcessingTime;

use super::task::{self, Baton, Ready, TaskHandle};
use super::{Disk, lock};

/// The simulated time at which every simulation begins: 2024-01-01T00:00:00Z.
pub(crate) const BEGIN: i64 = 1_704_067_200_000_000;
/// After this many turns the tasks get other weights.
const WEIGH_AGAIN: u64 = 256;

/// The invariant that every run ends.
pub(crate) const END: &str = "end";

/// The points that always give the turn away.
const ALWAYS: [&str; 2] = ["step", "lock"];

/// How a simulation runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    /// After this many turns the simulation is stuck.
    pub(crate) most_turns: u64,
    /// Of this many points a task passes at most one gives its turn away; a step of a worker always does.
    pub(crate) passes: u64,
    /// What a turn takes at most, in simulated microseconds.
    pub(crate) turn_takes: u64,
}

impl Settings {
    pub(crate) fn new(seed: u64) -> Settings {
        Settings { seed, most_turns: 2_000_000, turn_takes: 20, passes: 1 }
    }
}

/// How a simulation went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// How many turns there were.
    pub(crate) turns: u64,
    /// A hash of all turns: which task, at which point.
    pub(crate) trace: u64,
    /// Why it did not come to its end, if it did not: which invariant was broken, and how.
    pub(crate) stuck: Option<(&'static str, String)>,
}

/// Called at a turn.
type Alarm = Box<dyn FnOnce() + Send>;

/// Gives the turn to one task after the other.
pub(crate) struct Scheduler {
    now: AtomicI64,
    work: AtomicU64,
    /// How many tasks there are; the lock of the state is held where this is asked for.
    tasks: AtomicU64,
    is_stuck: Arc<AtomicBool>,
    disk: OnceLock<Arc<dyn Disk>>,
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    random: Random,
    tasks: BTreeMap<usize, Task>,
    next: usize,
    outcome: Outcome,
    /// What is done at a turn of that number.
    alarm: Option<(u64, Alarm)>,
}

struct Task {
    name: String,
    baton: Arc<Baton>,
    over: Arc<AtomicBool>,
    at: &'static str,
    blocked: Option<Blocked>,
    weight: u64,
}

struct Blocked {
    until: Option<i64>,
    ready: Option<Ready>,
}

impl Blocked {
    fn is_over(&mut self, now: i64) -> bool {
        self.until.is_some_and(|until| until <= now) || self.ready.as_mut().is_some_and(|ready| ready())
    }
}

/// Numbers that depend on a seed alone.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below that one; 0 below 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }
}

impl Scheduler {
    pub(crate) fn new(settings: Settings) -> Arc<Scheduler> {
        Arc::new(Scheduler {
            now: AtomicI64::new(BEGIN),
            work: AtomicU64::new(0),
            tasks: AtomicU64::new(0),
            is_stuck: Arc::default(),
            disk: OnceLock::new(),
            state: Mutex::new(State {
                random: Random::new(settings.seed),
                settings,
                tasks: BTreeMap::new(),
                next: 0,
                outcome: Outcome::default(),
                alarm: None,
            }),
        })
    }

    /// Runs `main` as the first task, on this thread, and then all others to their ends.
    pub(crate) fn run<R>(self: &Arc<Self>, main: impl FnOnce() -> R) -> (R, Outcome) {
        let task = self.register("main");
        let task = task.task;
        // The first turn is this thread's: there is no other task.
        task::enter(self, task);
        lock(&self.state).outcome = Outcome::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(main));
        let others = Arc::clone(self);
        let alone = move || others.tasks.load(Ordering::SeqCst) == 1;
        self.block(task, "the end of the others", None, Some(Box::new(alone)));
        task::leave();
        let outcome = {
            let mut state = lock(&self.state);
            state.tasks.clear();
            state.outcome.clone()
        };
        match result {
            Ok(result) => (result, outcome),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Sets what answers the calls that tasks make of the file system; the first one stays.
    pub(crate) fn set_disk(&self, disk: Arc<dyn Disk>) {
        let _ = self.disk.set(disk);
    }

    pub(super) fn disk(&self) -> Option<Arc<dyn Disk>> {
        self.disk.get().cloned()
    }

    /// The number of the next task.
    pub(crate) fn next_task(&self) -> usize {
        lock(&self.state).next
    }

    /// Waits until no task is left of that number or a higher one.
    pub(crate) fn wait_for_all_from(&self, first: usize) {
        while lock(&self.state).tasks.range(first..).next().is_some() && !self.is_stuck() {
            super::sleep(Duration::from_millis(1));
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> ProcessingTime {
        ProcessingTime::from_micros(self.now.load(Ordering::SeqCst))
    }

    /// A number that changes when workers may have something to do.
    pub(super) fn work(&self) -> u64 {
        self.work.load(Ordering::SeqCst)
    }

    pub(super) fn note_work(&self) {
        self.work.fetch_add(1, Ordering::SeqCst);
    }

    /// Does something after this many further turns, at the first point then reached. Of several only the last.
    pub(crate) fn after_turns(&self, turns: u64, call: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.state);
        state.alarm = Some((state.outcome.turns + turns, Box::new(call)));
    }

    /// Forgets what was to be done after some turns.
    pub(crate) fn forget_alarm(&self) {
        lock(&self.state).alarm = None;
    }

    /// A task whose thread is about to be started.
    pub(crate) fn register(self: &Arc<Self>, name: &str) -> TaskHandle {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        let over = Arc::new(AtomicBool::new(false));
        let (baton, weight) = (Arc::default(), state.weight());
        let task = Task {
            name: name.to_owned(),
            baton,
            over: Arc::clone(&over),
            at: "start",
            blocked: None,
            weight,
        };
        state.tasks.insert(id, task);
        self.tasks.fetch_add(1, Ordering::SeqCst);
        TaskHandle { scheduler: Arc::clone(self), task: id, over }
    }

    pub(super) fn forget(&self, task: usize) {
        if let Some(task) = lock(&self.state).tasks.remove(&task) {
            self.tasks.fetch_sub(1, Ordering::SeqCst);
            task.over.store(true, Ordering::SeqCst);
        }
    }

    /// A task is over: another one has the turn.
    pub(super) fn end(&self, task: usize) {
        self.forget(task);
        let next = self.pick(&mut lock(&self.state), task, "end");
        if let Some((_, baton)) = next {
            baton.give();
        }
    }

    pub(super) fn wait_for_turn(&self, task: usize) {
        let Some(baton) = lock(&self.state).tasks.get(&task).map(|task| Arc::clone(&task.baton)) else {
            return;
        };
        baton.wait(|| self.report(task));
    }

    /// A thread waits very long for its turn: one that has it waits outside the simulation, for what the others hold.
    fn report(&self, waiting: usize) {
        if let Ok(state) = self.state.try_lock()
            && waiting == 0
        {
            let tasks = state.describe();
            tracing::error!("a simulated thread has kept its turn for seconds: {tasks}");
        }
    }

    /// A task gives up its turn, and gets it back some time.
    pub(super) fn pass(&self, task: usize, at: &'static str) {
        let keeps = {
            let mut state = lock(&self.state);
            let passes = state.settings.passes;
            passes > 1 && !ALWAYS.contains(&at) && state.random.below(passes) != 0
        };
        if !keeps {
            self.switch(task, at, None);
        }
    }

    /// A task waits until `ready`, or that long; returns whether it is ready.
    pub(super) fn block(
        &self,
        task: usize,
        at: &'static str,
        most: Option<Duration>,
        mut ready: Option<Ready>,
    ) -> bool {
        let until = most.map(|most| {
            self.now
                .load(Ordering::SeqCst)
                .saturating_add(i64::try_from(most.as_micros()).unwrap_or(i64::MAX))
        });
        if ready.as_mut().is_some_and(|ready| ready()) {
            self.pass(task, at);
            return true;
        }
        self.switch(task, at, Some(Blocked { until, ready }));
        until.is_none_or(|until| self.now.load(Ordering::SeqCst) < until)
    }

    fn switch(&self, task: usize, at: &'static str, blocked: Option<Blocked>) {
        let mut state = lock(&self.state);
        let Some(own) = state.tasks.get_mut(&task) else { return };
        (own.at, own.blocked) = (at, blocked);
        let own = Arc::clone(&own.baton);
        let Some((next, baton)) = self.pick(&mut state, task, at) else { return };
        drop(state);
        if next != task {
            baton.give();
            own.wait(|| self.report(task));
        }
    }

    /// The task that has the turn now; none if there are no tasks.
    fn pick(&self, state: &mut State, from: usize, at: &'static str) -> Option<(usize, Arc<Baton>)> {
        state.count(from, at);
        if state.alarm.as_ref().is_some_and(|(turn, _)| *turn <= state.outcome.turns)
            && let Some((_, call)) = state.alarm.take()
        {
            call();
        }
        let takes = state.settings.turn_takes;
        let takes = state.random.below(takes + 1) as i64;
        self.now.fetch_add(takes, Ordering::SeqCst);
        if state.outcome.turns >= state.settings.most_turns && state.outcome.stuck.is_none() {
            let turns = state.outcome.turns;
            self.is_stuck.store(true, Ordering::SeqCst);
            state.outcome.stuck = Some((END, format!("no end after {turns} turns: {}", state.describe())));
        }
        loop {
            let now = self.now.load(Ordering::SeqCst);
            for task in state.tasks.values_mut() {
                if task.blocked.as_mut().is_some_and(|blocked| blocked.is_over(now)) {
                    task.blocked = None;
                }
            }
            let all: u64 = state.tasks.values().filter(|task| task.blocked.is_none()).map(|t| t.weight).sum();
            if all > 0 {
                let mut left = state.random.below(all);
                let free = state.tasks.iter().filter(|(_, task)| task.blocked.is_none());
                for (id, task) in free {
                    if left < task.weight {
                        return Some((*id, Arc::clone(&task.baton)));
                    }
                    left -= task.weight;
                }
            }
            if state.tasks.is_empty() {
                return None;
            }
            let blocked = state.tasks.values().filter_map(|task| task.blocked.as_ref());
            match blocked.filter_map(|blocked| blocked.until).min() {
                Some(until) => drop(self.now.fetch_max(until, Ordering::SeqCst)),
                None => {
                    // Nothing will ever happen: every waiting task continues without what it waits for.
                    self.is_stuck.store(true, Ordering::SeqCst);
                    let tasks = state.describe();
                    let stuck = &mut state.outcome.stuck;
                    stuck.get_or_insert_with(|| (END, format!("nothing can run: {tasks}")));
                    state.tasks.values_mut().for_each(|task| task.blocked = None);
                }
            }
        }
    }

    /// Whether the simulation does not come to an end.
    pub(crate) fn is_stuck(&self) -> bool {
        lock(&self.state).outcome.stuck.is_some()
    }

    /// The same as a flag.
    pub(crate) fn stuck_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_stuck)
    }

    /// Notes that it does not come to an end.
    pub(crate) fn set_stuck(&self, invariant: &'static str, why: &str) {
        self.is_stuck.store(true, Ordering::SeqCst);
        let mut state = lock(&self.state);
        let why = format!("{why}: {}", state.describe());
        state.outcome.stuck.get_or_insert((invariant, why));
    }
}

impl State {
    /// Some tasks run more often than others for a while: a slow thread.
    fn weight(&mut self) -> u64 {
        [1, 4, 4, 16, 64].get(self.random.below(5) as usize).copied().unwrap_or(4)
    }

    fn count(&mut self, task: usize, at: &'static str) {
        self.outcome.turns += 1;
        let mut hash = self.outcome.trace ^ 0xcbf2_9ce4_8422_2325;
        for byte in at.bytes().chain([task as u8]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.outcome.trace = hash;
        if self.outcome.turns.is_multiple_of(WEIGH_AGAIN) {
            let ids: Vec<usize> = self.tasks.keys().copied().collect();
            for id in ids {
                let weight = self.weight();
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.weight = weight;
                }
            }
        }
    }

    fn describe(&self) -> String {
        let tasks = self.tasks.values().map(|task| {
            let how = if task.blocked.is_some() { "waits" } else { "is" };
            format!("{} {how} at `{}`", task.name, task.at)
        });
        tasks.collect::<Vec<_>>().join(", ")
    }
}
