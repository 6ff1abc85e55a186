//! One simulation: the runs of a seed, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_operators::ProcessingTime;

use super::plan::{End, Run, Variant, runs};
use super::storage::{Disk, SimStorage};
use super::world::World;
use super::{Report, Scenario, Simulation, Violation};
use crate::error::RunError;
use crate::progress::Summary;
use crate::query::{QueryHandle, Run as _};
use crate::sim::{self, Scheduler, Settings};

/// A run that is to end by itself takes no longer than that, in simulated time.
const LONGEST: Duration = Duration::from_secs(600);

/// So long a run waits for a crash or a fault that does not come; then it is stopped.
const UNTIL_FAULT: Duration = Duration::from_secs(2);

/// Simulates a seed.
pub(super) fn seed<S: Scenario>(
    variant: &Variant,
    simulation: &Simulation,
    make: &impl Fn(&mut World) -> S,
) -> Result<Report, Violation> {
    let runs = runs(variant, &simulation.bounds);
    let mut world = World::new(variant);
    let scenario = make(&mut world);
    let mut settings = Settings::new(variant.seed);
    settings.most_turns = simulation.most_turns;
    // Long stretches of one thread and short ones find different faults.
    settings.passes = 1 << (2 * (variant.seed % 3));
    let scheduler = Scheduler::new(settings);
    let mut report = Report { seeds: 1, ..Report::default() };
    let mut graph = String::new();
    let (found, outcome) = scheduler.run(|| {
        let mut all = Runs {
            scheduler: &scheduler,
            world: &mut world,
            scenario: &scenario,
            report: &mut report,
            graph: &mut graph,
        };
        all.go(&runs)
    });
    (report.turns, report.trace) = (outcome.turns, outcome.trace);
    let found = outcome.stuck.map_or(found, Err);
    found.map(|()| report).map_err(|what| Violation {
        graph,
        seed: variant.seed,
        replay: variant.to_string(),
        what,
        runs: runs.iter().map(Run::to_string).collect(),
    })
}

struct Runs<'a, S> {
    scheduler: &'a Arc<Scheduler>,
    world: &'a mut World,
    scenario: &'a S,
    report: &'a mut Report,
    graph: &'a mut String,
}

impl<S: Scenario> Runs<'_, S> {
    fn go(&mut self, runs: &[Run]) -> Result<(), String> {
        let begun = self.scheduler.now();
        let disk = Disk::default();
        let tasks = self.world.start_tasks().map_err(|error| error.to_string())?;
        let mut tasks = Some(tasks);
        for run in runs {
            let is_last = run.end == End::Complete;
            if is_last {
                for task in tasks.take().into_iter().flatten() {
                    task.join().map_err(|_| "a thread beside the query has panicked".to_owned())?;
                }
                self.wait_until(begun + self.world.last_arrival + Duration::from_millis(1));
            }
            let summary = self.run(run, &disk)?;
            if let Some(what) = self.world.shared.violation() {
                return Err(format!("{what} (run {})", run.number));
            }
            self.scenario
                .check(summary.as_ref(), is_last)
                .map_err(|what| format!("{what} (after run {})", run.number))?;
        }
        Ok(())
    }

    fn wait_until(&self, time: ProcessingTime) {
        let now = self.scheduler.now();
        if now < time {
            sim::sleep(time.since(now));
        }
    }

    /// One run of the query; its summary, if it ended in order.
    fn run(&mut self, run: &Run, disk: &Disk) -> Result<Option<Summary>, String> {
        self.report.runs += 1;
        let shared = Arc::clone(&self.world.shared);
        shared.begin_run(run.end);
        let kept = Arc::new(AtomicBool::new(true));
        if let End::Crash(turns) = run.end {
            let (shared, kept) = (Arc::clone(&shared), Arc::clone(&kept));
            let keep = self.world.directories.as_ref().map(|directories| directories.keeper());
            self.scheduler.after_turns(turns, move || {
                shared.die();
                let copied = keep.is_none_or(|keep| keep().is_ok());
                kept.store(copied, Ordering::SeqCst);
            });
        }
        let storage = SimStorage::new(disk, &shared, run.end, run.slow, run.seed);
        let graph = self.scenario.graph();
        graph.name().clone_into(self.graph);
        let options = self.scenario.options(run.options.clone());
        let started = graph.start_in(Arc::new(storage.clone()), options);
        let outcome = started.and_then(|handle| self.watch(handle, run));
        drop(graph);
        self.scheduler.forget_alarm();
        if let Some(directories) = &self.world.directories {
            directories.restore().map_err(|error| format!("the directory of the simulation: {error}"))?;
        }
        if !kept.load(Ordering::SeqCst) {
            return Err("the directory of the simulation could not be copied".to_owned());
        }
        if shared.is_dead() {
            self.report.crashes += 1;
            return Ok(None);
        }
        match outcome {
            Ok(summary) => Ok(Some(summary)),
            Err(_) if storage.has_failed() || shared.sink_has_failed() => {
                self.report.faults += 1;
                Ok(None)
            }
            Err(error) => Err(format!("run {} fails, and nothing was wrong: {error}", run.number)),
        }
    }

    /// Waits for the end of the query, or brings it about.
    fn watch(&self, handle: QueryHandle, run: &Run) -> Result<Summary, RunError> {
        let over = handle.over();
        let (shared, scheduler) = (Arc::clone(&self.world.shared), Arc::clone(self.scheduler));
        let is_stuck = scheduler.stuck_flag();
        let until_over = move || over() || shared.is_dead() || is_stuck.load(Ordering::SeqCst);
        let most = match run.end {
            End::Stop(after) => after,
            End::Complete => LONGEST,
            _ => UNTIL_FAULT,
        };
        if !sim::wait("the end of the run", Some(most), until_over.clone()) {
            match run.end {
                End::Complete => {
                    self.scheduler.set_stuck(&format!("run {} has not ended after {LONGEST:?}", run.number))
                }
                _ => handle.stop(),
            }
            if run.end != End::Complete && !sim::wait("the end of the run", Some(LONGEST), until_over) {
                self.scheduler.set_stuck(&format!("run {} has not stopped after {LONGEST:?}", run.number));
            }
        }
        if self.world.shared.is_dead() || self.scheduler.stuck().is_some() {
            handle.cancel();
        }
        handle.wait()
    }
}
