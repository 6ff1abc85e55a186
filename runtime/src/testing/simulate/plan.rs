//! What happens in one simulation: which runs there are, and how each ends. All of it follows from the seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tidemill_operators::{Mode, ParseOptionError};

use super::journal::Loss;
use crate::options::{Backpressure, Options, Pid, Trigger};
use crate::sim::Random;

/// A seed, and what shrinking has taken away from what it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) seed: u64,
    /// At most this many rows of each input.
    pub(super) rows: Option<u64>,
    /// At most this many workers.
    pub(super) workers: Option<usize>,
    /// The runs that are left out, by number.
    pub(super) without: Vec<usize>,
}

impl Variant {
    pub(super) fn of(seed: u64) -> Variant {
        Variant { seed, rows: None, workers: None, without: Vec::new() }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        if let Some(rows) = self.rows {
            write!(f, ",rows={rows}")?;
        }
        if let Some(workers) = self.workers {
            write!(f, ",workers={workers}")?;
        }
        self.without.iter().try_for_each(|run| write!(f, ",without={run}"))
    }
}

impl FromStr for Variant {
    type Err = ParseOptionError;

    fn from_str(text: &str) -> Result<Variant, ParseOptionError> {
        let wrong = || ParseOptionError::new(text, "a seed such as 17 or 17,rows=3,workers=2,without=0");
        let mut parts = text.trim().split(',');
        let seed = parts.next().and_then(|seed| seed.parse().ok()).ok_or_else(wrong)?;
        let mut variant = Variant::of(seed);
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let value: u64 = value.parse().map_err(|_| wrong())?;
            match name {
                "rows" => variant.rows = Some(value),
                "workers" => variant.workers = Some(value as usize),
                "without" => variant.without.push(value as usize),
                _ => return Err(wrong()),
            }
        }
        Ok(variant)
    }
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// When everything has been read and committed.
    Complete,
    /// In order, after so much simulated time.
    Stop(Duration),
    /// The process dies after this many turns.
    Crash(u64),
    /// The disk breaks at that call.
    Disk(u64, Fault),
    /// The sink fails at that call, before or after it has done what it was asked to.
    Sink(u64, bool),
}

/// How a call of the disk goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and nothing has changed.
    Fails,
    /// It fails, and has happened.
    FailsLate,
    /// There is no room: a first part of a write is there. All later ones fail.
    Full,
}

/// One run of the query.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) number: usize,
    pub(super) options: Options,
    pub(super) end: End,
    /// Whether the machine crashes at the end of the run, and what of the disk is lost with it.
    pub(super) power: Option<Loss>,
    /// How long a call of the disk takes at most.
    pub(super) slow: Duration,
    /// The seed of what is decided while it runs.
    pub(super) seed: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { mode, workers, checkpoint_interval, max_in_flight, .. } = &self.options;
        write!(
            f,
            "run {}: {mode:?}, {workers} workers, checkpoints every {checkpoint_interval:?}, ",
            self.number
        )?;
        write!(f, "{max_in_flight} epochs in flight, the disk takes up to {:?}, ", self.slow)?;
        match self.end {
            End::Complete => f.write_str("runs to its end"),
            End::Stop(after) => write!(f, "is stopped after {after:?}"),
            End::Crash(turns) => write!(f, "crashes after {turns} turns"),
            End::Disk(call, fault) => write!(f, "the disk {fault:?} at call {call}"),
            End::Sink(call, done) => {
                write!(
                    f,
                    "the sink fails at call {call}, {} it is done",
                    if done { "after" } else { "before" }
                )
            }
        }?;
        match self.power {
            Some(loss) => write!(f, "; then the machine crashes and loses {loss:?} of what was not synced"),
            None => Ok(()),
        }
    }
}

/// What may happen: see the methods of [`Simulation`](super::Simulation).
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) workers: usize,
    pub(super) modes: Vec<Mode>,
    pub(super) runs: usize,
    pub(super) crashes: bool,
    pub(super) faults: bool,
    pub(super) checkpoint: bool,
}

/// A number of about any order of magnitude below `10^digits`.
fn any_size(random: &mut Random, digits: u64) -> u64 {
    let bound = 10u64.pow(random.below(digits) as u32 + 1);
    random.below(bound)
}

fn pick<T: Clone>(random: &mut Random, of: &[T]) -> Option<T> {
    of.get(random.below(of.len() as u64) as usize).cloned()
}

/// The runs of a seed, the last one to its end.
pub(super) fn runs(variant: &Variant, bounds: &Bounds) -> Vec<Run> {
    let mut random = Random::new(variant.seed ^ 0x72_75_6e_73);
    let count = 1 + random.below(bounds.runs.max(1) as u64) as usize;
    let mut runs: Vec<Run> =
        (0..count).map(|number| run(&mut random, number, number + 1 == count, bounds)).collect();
    runs.retain(|run| run.end == End::Complete || !variant.without.contains(&run.number));
    if let Some(most) = variant.workers {
        runs.iter_mut().for_each(|run| run.options.workers = run.options.workers.min(most.max(1)));
    }
    runs
}

fn run(random: &mut Random, number: usize, is_last: bool, bounds: &Bounds) -> Run {
    let millis = |ms| Duration::from_millis(ms);
    let mode = pick(random, &bounds.modes).unwrap_or(Mode::MicroBatch);
    let workers = 1 + random.below(bounds.workers.max(1) as u64) as usize;
    let interval = pick(random, &[1, 5, 20, 100]).map_or(millis(5), millis);
    let trigger = match random.below(4) {
        0 if mode == Mode::MicroBatch => Trigger::Every(interval),
        _ => Trigger::Asap,
    };
    let mut options = Options::default()
        .without_ctrl_c()
        .with_mode(mode)
        .with_workers(workers)
        .with_checkpoint_interval(interval)
        .with_trigger(if is_last { Trigger::AvailableNow } else { trigger })
        .with_max_in_flight(1 + random.below(3) as usize);
    let retain = 1 + random.below(3) as usize;
    if bounds.checkpoint {
        options = options.with_retain(retain);
    }
    // Without a number of its own, which would change what the seeds that are kept run.
    if options.trigger == Trigger::Every(millis(20)) && retain == 2 {
        options = options.with_backpressure(Backpressure::Pid(Pid::default()));
    }
    if random.below(3) == 0 {
        options = options.with_max_records_per_epoch(1 + any_size(random, 2));
    }
    if random.below(4) == 0 {
        options = options.with_max_queued(1 + any_size(random, 2) as usize);
    }
    let (stop, turns, call) = (any_size(random, 3), any_size(random, 4), any_size(random, 3));
    let (fault, sink, done) = (random.below(3), any_size(random, 2), random.below(2) == 0);
    let fault = match fault {
        0 => Fault::Fails,
        1 => Fault::FailsLate,
        _ => Fault::Full,
    };
    let end = match random.below(8) {
        _ if is_last => End::Complete,
        0 | 1 => End::Stop(millis(1 + stop)),
        2 | 3 if bounds.faults => End::Disk(1 + call, fault),
        4 if bounds.faults => End::Sink(1 + sink / 4, done),
        _ if bounds.crashes => End::Crash(1 + turns),
        _ => End::Stop(millis(1 + stop)),
    };
    let power = match random.below(8) {
        _ if is_last || !bounds.crashes => None,
        0 => Some(Loss::All),
        1 => Some(Loss::Some),
        // Of a crash more may be left to do.
        2 | 3 if matches!(end, End::Crash(_)) => Some(Loss::Some),
        _ => None,
    };
    let slow = pick(random, &[0, 0, 300, 3_000]).map_or(Duration::ZERO, Duration::from_micros);
    let seed = random.next();
    // Of a generator of its own, so that old seeds choose the same of everything else.
    let mut of_seed = Random::new(seed ^ 0x61_68_65_61);
    if mode == Mode::Continuous && of_seed.below(2) == 0 {
        options = options.with_max_ahead(any_size(&mut of_seed, 2) as usize);
    }
    Run { number, options, end, power, slow, seed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variant_reads_what_it_writes() {
        let variant = Variant { seed: 17, rows: Some(3), workers: Some(2), without: vec![0, 2] };
        assert_eq!(variant.to_string().parse(), Ok(variant));
        assert!("x".parse::<Variant>().is_err() && "1,rows".parse::<Variant>().is_err());
    }

    #[test]
    fn last_run_has_no_faults_and_is_never_left_out() {
        let modes = vec![Mode::MicroBatch, Mode::Continuous];
        let bounds = Bounds { workers: 4, modes, runs: 5, crashes: true, faults: true, checkpoint: true };
        for seed in 0..200 {
            let variant = Variant { without: (0..9).collect(), ..Variant::of(seed) };
            let runs = runs(&variant, &bounds);
            assert_eq!(runs.iter().map(|run| run.end).collect::<Vec<_>>(), [End::Complete]);
        }
    }
}
