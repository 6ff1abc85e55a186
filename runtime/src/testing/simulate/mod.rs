//! Simulation: a whole query with several workers, run again and again in other orders, with crashes and restarts.
//!
//! [`simulate`] runs a graph once for each seed. The workers, the driver, the thread that saves state and those of journals
//! are the engine's own, but exactly one of them runs at a time: a thread gives up its turn after each step of a worker and
//! at points in the engine, and the seed chooses who is next. Time is simulated; it advances when no thread can run. A
//! seed also decides how many runs there are, in which mode, with how many workers, and how each ends: in order, by a crash
//! at any point, by a failing disk or sink. The last run goes to the end of the input; what the sinks show then must be what
//! it would be without all that.
//!
//! The same seed takes the same turns. A failing one is shrunk, and [`Violation`] says how to replay it.
//!
//! What is simulated of the outside:
//!
//! - One disk, for the checkpoint, for state that is spilled, and for sinks and sources of files in the
//!   [directory](World::directory) of the query. Its calls can be slow or fail, and it can fill up: then the run must end
//!   with an error. A crash is one of the process, which leaves what the disk held at that moment, or one of the machine.
//!   That keeps what was synced; of other writes, lengths, new names, renames and removals, the seed says which are kept
//!   and which are lost, in any combination that POSIX allows. The machine may also crash between two runs.
//! - [`SimSource`] and [`SimSink`], in place of sockets, brokers and databases. Sockets and threads of your own are not part
//!   of the simulation.
//!
//! A sink of your own is simulated with the rest: `examples/simulate.rs` shows one, with a fault that is found. Where it
//! waits, or where its process may die, it calls [`point`]; what it does to the outside, it does only while the process
//! [is alive](Life::is_alive).

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

/// What is simulated: a program, its input and what must come of it.
pub trait Scenario {
    /// The graph; built for each run, with the same sources and sinks.
    fn graph(&self) -> Graph;

    /// The options of a run, out of those that the seed has chosen.
    fn options(&self, options: Options) -> Options {
        options
    }

    /// Checks what is to be seen after a run, whose summary is given if it ended in order. At the end, when all input has
    /// been read, `is_last` is true.
    ///
    /// # Errors
    ///
    /// What is wrong; a text will do, and [`Breach::new`] tells one check from another.
    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach>;
}

/// Which simulations there are.
#[derive(Clone, Debug)]
pub struct Simulation {
    seeds: Range<u64>,
    bounds: Bounds,
    replay: Option<Variant>,
    most_turns: u64,
}

impl Simulation {
    /// One for each seed: up to four workers, up to five runs, both modes, crashes and faults. If the environment has
    /// `TIDEMILL_SEED`, as a [`Violation`] says it, only that one.
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

    /// The same in one mode only.
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

    /// The same without crashes and without faults: all runs end in order.
    #[must_use]
    pub fn without_faults(mut self) -> Self {
        (self.bounds.crashes, self.bounds.faults) = (false, false);
        self
    }

    /// The same without a checkpoint: each seed has one run, to its end.
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

/// What simulations there have been.
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
    /// A hash of who had each turn, and at which point: the same for the same seeds.
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

/// An invariant that does not hold, and how that was seen.
///
/// While a failing simulation is made smaller, it must break the same invariant; the text may be another one.
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

/// Something that must never happen, and the smallest simulation found in which it does.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The graph.
    pub graph: String,
    /// The seed.
    pub seed: u64,
    /// What `TIDEMILL_SEED` is to be to replay it, shrunk.
    pub replay: String,
    /// Which invariant does not hold: that of a [`Breach`], or one of the simulation's own.
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
