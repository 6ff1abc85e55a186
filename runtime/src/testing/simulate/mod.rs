//! Simulation: runs a whole query with several workers in many schedules, with crashes and restarts.
//!
//! [`simulate`] runs a graph once for each seed. The threads of the query (workers, driver, the saver of state,
//! journals) run the engine's code, but exactly one of them runs at a time: a thread gives up its turn after each step
//! of a worker and at points in the engine, and the seed chooses the next thread. Time is simulated; it advances when
//! no thread can run. The seed also determines the number of runs, and for each run the mode, the number of workers and
//! the end: in order, by a crash at any point, or by a failing disk or sink. The last run reads the input to its end;
//! the output must then equal that of a run without faults.
//!
//! The same seed gives the same schedule. A failing seed is shrunk, and [`Violation`] contains the value with which to
//! replay it.
//!
//! These parts of the environment are simulated:
//!
//! - One disk, for the checkpoint, for state that is spilled, and for sinks and sources of files in the
//!   [directory](World::directory) of the query. Its calls can be slow or fail, and it can become full: then the run
//!   must end with an error. A crash of the process keeps the content of the disk. A crash of the machine keeps what
//!   was synced; the seed chooses which other writes, lengths, new names, renames and removals are kept and which are
//!   lost, in any combination that POSIX allows. The machine may also crash between two runs.
//! - [`SimSource`] and [`SimSink`], in place of sockets, brokers and databases. Sockets and threads of your own are not part
//!   of the simulation.
//!
//! A sink of your own can be simulated, too: `examples/simulate.rs` has one with a fault, which the simulation finds.
//! The sink must call [`point`] where it waits or where its process may die, and must change the outside world only
//! while the process [is alive](Life::is_alive).

mod disk;
mod journal;
mod plan;
mod run;
mod sink;
mod source;
mod world;

use std::fmt;
use std::ops::Range;

use tidemill_operators::{Graph, Mode};

use self::plan::{Bounds, Variant};
pub use self::sink::SimSink;
pub use self::source::{SimReader, SimSource};
pub use self::world::{Life, World, pause, point};
use crate::options::Options;
use crate::progress::Summary;

/// A scenario: a program, its input and the expected output.
pub trait Scenario {
    /// The graph; built for each run, with the same sources and sinks.
    fn graph(&self) -> Graph;

    /// Returns the options of a run, changed from those that the seed has chosen.
    fn options(&self, options: Options) -> Options {
        options
    }

    /// Checks the output after a run.
    ///
    /// `summary` is given if the run ended in order. After the last run, which has read all input, `is_last` is true.
    ///
    /// # Errors
    ///
    /// The problem, as a text or as a [`Breach`], which names the check.
    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach>;
}

/// The set of simulations to run.
#[derive(Clone, Debug)]
pub struct Simulation {
    seeds: Range<u64>,
    bounds: Bounds,
    replay: Option<Variant>,
    most_turns: u64,
}

impl Simulation {
    /// Returns one simulation per seed: up to four workers, up to five runs, both modes, crashes and faults.
    ///
    /// If the environment variable `TIDEMILL_SEED` is set to the value of a [`Violation`], only that simulation runs.
    pub fn new(seeds: Range<u64>) -> Self {
        let modes = vec![Mode::MicroBatch, Mode::Continuous];
        let bounds = Bounds { workers: 4, modes, runs: 5, crashes: true, faults: true, checkpoint: true };
        let replay = std::env::var("TIDEMILL_SEED").ok().and_then(|text| text.parse().ok());
        Simulation { seeds, bounds, replay, most_turns: 400_000 }
    }

    /// Sets the maximum of workers, 4 by default.
    #[must_use]
    pub fn with_workers(mut self, most: usize) -> Self {
        self.bounds.workers = most;
        self
    }

    /// Restricts the simulations to one mode.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.bounds.modes = vec![mode];
        self
    }

    /// Sets the maximum of runs, one after the other, 5 by default.
    #[must_use]
    pub fn with_runs(mut self, most: usize) -> Self {
        self.bounds.runs = most;
        self
    }

    /// Leaves out crashes and faults: all runs end in order.
    #[must_use]
    pub fn without_faults(mut self) -> Self {
        (self.bounds.crashes, self.bounds.faults) = (false, false);
        self
    }

    /// Leaves out the checkpoint: each seed has one run, to the end of the input.
    #[must_use]
    pub fn without_checkpoint(mut self) -> Self {
        (self.bounds.runs, self.bounds.checkpoint) = (1, false);
        self.without_faults()
    }

    /// Sets the maximum of turns of a seed, 400 000 by default: one that takes more counts as endless.
    #[must_use]
    pub fn with_turns(mut self, most: u64) -> Self {
        self.most_turns = most;
        self
    }
}

/// The figures of a set of simulations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seeds.
    pub seeds: u64,
    /// The runs of the query.
    pub runs: u64,
    /// The runs that ended by a crash.
    pub crashes: u64,
    /// The runs that ended by an error of the disk or the sink.
    pub faults: u64,
    /// The turns of all threads.
    pub turns: u64,
    /// A hash of the schedule: the same for the same seeds.
    pub trace: u64,
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.seeds += other.seeds;
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.turns += other.turns;
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }
}

/// An invariant that does not hold, and the observation that shows it.
///
/// While a failing simulation is shrunk, it must break the same invariant; the text may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    invariant: String,
    what: String,
}

impl Breach {
    /// A breach of the invariant of that name.
    ///
    /// ```
    /// # use tidemill::testing::simulate::Breach;
    /// let late_rows = 3;
    /// let breach = Breach::new("in time", format!("{late_rows} rows are late"));
    /// ```
    pub fn new(invariant: impl Into<String>, what: impl Into<String>) -> Self {
        Breach { invariant: invariant.into(), what: what.into() }
    }

    fn with(self, when: &str) -> Breach {
        Breach { what: format!("{} ({when})", self.what), ..self }
    }
}

/// A breach of the invariant `check`.
impl From<String> for Breach {
    fn from(what: String) -> Self {
        Breach::new("check", what)
    }
}

/// A breach of the invariant `check`.
impl From<&str> for Breach {
    fn from(what: &str) -> Self {
        Breach::new("check", what)
    }
}

/// A broken invariant, and the smallest simulation found that breaks it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The graph.
    pub graph: String,
    /// The seed.
    pub seed: u64,
    /// The value of `TIDEMILL_SEED` that replays the shrunk simulation.
    pub replay: String,
    /// The invariant that does not hold: that of a [`Breach`], or one that every simulation checks.
    pub invariant: String,
    /// What is wrong.
    pub what: String,
    /// What the runs were, a line each.
    pub runs: Box<[String]>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "graph `{}`, seed {}, invariant `{}`: {}",
            self.graph, self.seed, self.invariant, self.what
        )?;
        self.runs.iter().try_for_each(|run| writeln!(f, "  {run}"))?;
        write!(f, "replay it with TIDEMILL_SEED={} in the environment of this test", self.replay)
    }
}

/// What a failing test prints.
impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}

/// Simulates what `make` makes, for every seed, until something is wrong.
///
/// ```
/// use tidemill::Summary;
/// use tidemill::prelude::*;
/// use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, Simulation, World, simulate};
///
/// /// Doubles numbers.
/// struct Doubles { numbers: SimSource<u64>, doubles: SimSink<u64>, count: u64 }
///
/// impl Scenario for Doubles {
///     fn graph(&self) -> Graph {
///         let graph = Graph::new("doubles");
///         graph.source(self.numbers.clone()).map(|n| n * 2).sink(self.doubles.clone());
///         graph
///     }
///     fn check(&self, _: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
///         let mut shown = self.doubles.shown();
///         shown.sort();
///         let wanted: Vec<u64> = (0..self.count).map(|n| n * 2).collect();
///         if is_last && shown != wanted {
///             return Err(format!("{shown:?} instead of {wanted:?}").into());
///         }
///         Ok(())
///     }
/// }
///
/// let report = simulate(Simulation::new(0..10), |world: &mut World| {
///     let count = world.rows(20);
///     let numbers = world.source(vec![(0..count).collect()]);
///     Doubles { numbers, doubles: world.sink(), count }
/// })?;
/// assert_eq!(report.seeds, 10);
/// # Ok::<(), tidemill::testing::simulate::Violation>(())
/// ```
///
/// # Errors
///
/// A [`Violation`]: the scenario's own check fails; a run fails without a fault, succeeds in spite of one, or does not end;
/// or a [`SimSink`] gets an epoch again with other rows, though it was told that they would be the same.
pub fn simulate<S: Scenario>(
    simulation: Simulation,
    make: impl Fn(&mut World) -> S,
) -> Result<Report, Violation> {
    let mut report = Report::default();
    let variants: Vec<Variant> = match &simulation.replay {
        Some(variant) => vec![variant.clone()],
        None => simulation.seeds.clone().map(Variant::of).collect(),
    };
    for variant in variants {
        match run::seed(&variant, &simulation, &make) {
            Ok(one) => report.add(&one),
            Err(violation) if simulation.replay.is_some() => return Err(violation),
            Err(violation) => return Err(shrink(variant, violation, &simulation, &make)),
        }
    }
    Ok(report)
}

/// Takes away what the violation does not need.
fn shrink<S: Scenario>(
    mut variant: Variant,
    mut violation: Violation,
    simulation: &Simulation,
    make: &impl Fn(&mut World) -> S,
) -> Violation {
    let mut attempt = |smaller: Variant, variant: &mut Variant| match run::seed(&smaller, simulation, make) {
        Ok(_) => false,
        // Something else that is wrong is not what is looked for.
        Err(found) if found.invariant != violation.invariant => false,
        Err(found) => {
            (violation, *variant) = (found, smaller);
            true
        }
    };
    for run in 0..simulation.bounds.runs {
        let mut smaller = variant.clone();
        smaller.without.push(run);
        attempt(smaller, &mut variant);
    }
    for workers in 1..simulation.bounds.workers {
        if attempt(Variant { workers: Some(workers), ..variant.clone() }, &mut variant) {
            break;
        }
    }
    for rows in [1, 2, 4, 8, 16, 32] {
        if attempt(Variant { rows: Some(rows), ..variant.clone() }, &mut variant) {
            break;
        }
    }
    violation
}
