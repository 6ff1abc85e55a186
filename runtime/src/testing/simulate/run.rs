//! One simulation: the runs of a seed, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_operators::ProcessingTime;

use super::disk::{Disk, Failed};
use super::journal::Loss;
use super::plan::{End, Run, Variant, runs};
use super::world::World;
use super::{Breach, Report, Scenario, Simulation, Violation};
use crate::checkpoint::LocalDirectory;
use crate::error::RunError;
use crate::progress::Summary;
use crate::query::{QueryHandle, Run as _};
use crate::sim::{self, END, Scheduler, Settings};

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
    let mut graph = String::new();
    let violation = |graph: &str, breach: Breach| Violation {
        graph: graph.to_owned(),
        seed: variant.seed,
        replay: variant.to_string(),
        invariant: breach.invariant,
        what: breach.what,
        runs: runs.iter().map(Run::to_string).collect(),
    };
    let mut world = World::new(variant).map_err(|error| violation("", no_disk(error)))?;
    let scenario = make(&mut world);
    let mut settings = Settings::new(variant.seed);
    settings.most_turns = simulation.most_turns;
    // Long stretches of one thread and short ones find different faults.
    settings.passes = 1 << (2 * (variant.seed % 3));
    let scheduler = Scheduler::new(settings);
    let mut report = Report { seeds: 1, ..Report::default() };
    scheduler.set_disk(Arc::<Disk>::clone(&world.disk));
    let (found, outcome) = scheduler.run(|| {
        let mut all = Runs {
            scheduler: &scheduler,
            world: &mut world,
            scenario: &scenario,
            keeps_checkpoint: simulation.bounds.checkpoint,
            report: &mut report,
            graph: &mut graph,
        };
        all.go(&runs)
    });
    (report.turns, report.trace) = (outcome.turns, outcome.trace);
    let found = outcome.stuck.map_or(found, |(invariant, what)| Err(Breach::new(invariant, what)));
    found.map(|()| report).map_err(|breach| violation(&graph, breach))
}

fn no_disk(error: std::io::Error) -> Breach {
    Breach::new("disk", format!("the directory of the simulated disk: {error}"))
}

struct Runs<'a, S> {
    scheduler: &'a Arc<Scheduler>,
    world: &'a mut World,
    scenario: &'a S,
    keeps_checkpoint: bool,
    report: &'a mut Report,
    graph: &'a mut String,
}

impl<S: Scenario> Runs<'_, S> {
    fn go(&mut self, runs: &[Run]) -> Result<(), Breach> {
        let begun = self.scheduler.now();
        let tasks = self.world.start_tasks().map_err(|error| error.to_string())?;
        let mut tasks = Some(tasks);
        for run in runs {
            let is_last = run.end == End::Complete;
            if is_last {
                for task in tasks.take().into_iter().flatten() {
                    task.join().map_err(|_| "a thread beside the query has panicked")?;
                }
                self.wait_until(begun + self.world.last_arrival + Duration::from_millis(1));
            }
            let summary = self.run(run)?;
            if let Some(breach) = self.world.shared.breach() {
                return Err(breach.with(&format!("run {}", run.number)));
            }
            let check =
                |when: &str| self.scenario.check(summary.as_ref(), is_last).map_err(|found| found.with(when));
            check(&format!("after run {}", run.number))?;
            if is_last {
                // What has been shown at the end is synced.
                let disk = &self.world.disk;
                disk.keep(Some(Loss::All)).and_then(|()| disk.restore()).map_err(no_disk)?;
                check("after the last run and a crash of the machine")?;
            }
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
    fn run(&mut self, run: &Run) -> Result<Option<Summary>, Breach> {
        self.report.runs += 1;
        let shared = Arc::clone(&self.world.shared);
        let disk = Arc::clone(&self.world.disk);
        shared.begin_run(run.end);
        disk.begin_run(run);
        let kept = Arc::new(AtomicBool::new(true));
        if let End::Crash(turns) = run.end {
            let (shared, kept) = (Arc::clone(&shared), Arc::clone(&kept));
            let (disk, power) = (Arc::clone(&disk), run.power);
            self.scheduler.after_turns(turns, move || {
                shared.die();
                kept.store(disk.keep(power).is_ok(), Ordering::SeqCst);
            });
        }
        let first_task = self.scheduler.next_task();
        let graph = self.scenario.graph();
        graph.name().clone_into(self.graph);
        let mut options = self.scenario.options(run.options.clone());
        if options.state_memory.is_some() {
            options = options.with_spill_dir(disk.spill());
        }
        let storage = LocalDirectory::open(disk.checkpoint()).map_err(RunError::from);
        let started = match self.keeps_checkpoint {
            true => storage.and_then(|storage| graph.start_in(Arc::new(storage), options)),
            false => graph.start(options),
        };
        let outcome = started.and_then(|handle| self.watch(handle, run));
        drop(graph);
        self.scheduler.forget_alarm();
        if !kept.load(Ordering::SeqCst) {
            return Err(no_disk(std::io::Error::other("it could not be copied")));
        }
        let failed = disk.end_run();
        self.scheduler.wait_for_all_from(first_task);
        if run.power.is_some() && !shared.is_dead() {
            disk.keep(run.power).map_err(no_disk)?;
        }
        disk.restore().map_err(no_disk)?;
        if shared.is_dead() {
            self.report.crashes += 1;
            return Ok(None);
        }
        match (outcome, failed) {
            (Ok(_), Some(Failed { what, matters: true })) => {
                let what =
                    format!("run {} ends without an error, though there was one at {what}", run.number);
                Err(Breach::new("error", what))
            }
            (Ok(summary), _) => Ok(Some(summary)),
            (Err(_), failed) if failed.is_some() || shared.sink_has_failed() => {
                self.report.faults += 1;
                Ok(None)
            }
            (Err(error), _) => {
                let what = format!("run {} fails, and nothing was wrong: {error}", run.number);
                Err(Breach::new("run", what))
            }
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
                End::Complete => self
                    .scheduler
                    .set_stuck(END, &format!("run {} has not ended after {LONGEST:?}", run.number)),
                _ => handle.stop(),
            }
            if run.end != End::Complete && !sim::wait("the end of the run", Some(LONGEST), until_over) {
                self.scheduler
                    .set_stuck(END, &format!("run {} has not stopped after {LONGEST:?}", run.number));
            }
        }
        if self.world.shared.is_dead() || self.scheduler.is_stuck() {
            handle.cancel();
        }
        handle.wait()
    }
}
