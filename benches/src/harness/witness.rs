//! Whether something else took the cores while a run was measured.
//!
//! The kernel's own accounting is asked, not a thread that spins and measures the gaps between its readings of the clock.
//! Such a thread needs a core of its own: on a machine of two cores it takes a third of what two workers have. Tried on
//! one, with the keyed count of 100,000 and 3 million events a second on timely, it raised p50 of two workers from 3 and
//! 6 us to 155–457 us and 0.8–1.3 ms; and of one worker, beside which a core is free, p99 from 28–39 us to 79–102 us at 3
//! million, for cores share their cache and the host's processor. Of what took a core from it (30 % of its time) it could
//! not tell whether that was the engine itself. The kernel tells: with the spinning thread as the disturbance, threads
//! of two workers waited 0.6 to 0.97 of the run and others ran 0.64 to 0.72; without, others ran at most 0.014 and the host
//! took at most 0.007. It costs nothing during the run, but a look at each thread every 50 ms. What it does not see
//! is a neighbour on another core that takes cache and memory bandwidth.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::measure::cpu_time;

/// The greatest share of a run that a core may have been taken from it.
pub const ALLOWED: f64 = 0.02;
/// The kernel counts the time of `/proc/stat` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// What else took the cores, as shares of the run's time; over several cores a share may exceed 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// How long the threads of this process were ready to run and waited for a core.
    pub waited: f64,
    /// How long other processes ran.
    pub others: f64,
    /// How long the host ran something else than this machine.
    pub stolen: f64,
}

impl Disturbance {
    /// The share of the run that something else took from it: the threads' waiting, as far as other processes ran
    /// meanwhile (threads of an engine that has more of them than there are cores wait for each other), and what the
    /// host took.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.waited.min(self.others) + self.stolen
    }

    /// What was seen, in words.
    #[must_use]
    pub fn text(&self) -> String {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        format!(
            "threads waited for a core {}, other processes ran {}, the host took {}: {}",
            percent(self.waited),
            percent(self.others),
            percent(self.stolen),
            if self.is_too_much() { "DISTURBED" } else { "quiet" }
        )
    }

    /// Whether the run should be repeated.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.share() > ALLOWED
    }
}

/// Accounts for a run. It asks the kernel, and only while the run's threads exist: [`look`](Witness::look) now and then.
#[derive(Debug)]
pub struct Witness {
    begun: Instant,
    own: Duration,
    machine: Option<Times>,
    /// What each thread had waited when it was first seen, and when last, in nanoseconds.
    threads: HashMap<u64, (u64, u64)>,
}

/// CPU time of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    busy: Duration,
    stolen: Duration,
}

impl Witness {
    /// Begins with a run. Threads that exist already are not the engine's, except for what they wait from now on.
    #[must_use]
    pub fn begin() -> Witness {
        let mut witness = Witness {
            begun: Instant::now(),
            own: cpu_time().unwrap_or_default(),
            machine: fs::read_to_string("/proc/stat").ok().as_deref().and_then(times),
            threads: HashMap::new(),
        };
        witness.see(true);
        witness
    }

    /// Notes what each thread has waited so far: a thread that ends takes its account with it.
    pub fn look(&mut self) {
        self.see(false);
    }

    fn see(&mut self, at_start: bool) {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return };
        for task in tasks.flatten() {
            let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let text = fs::read_to_string(task.path().join("schedstat"));
            let Some(waited) = text.ok().as_deref().and_then(waited) else { continue };
            let from = if at_start { waited } else { 0 };
            self.threads.entry(id).or_insert((from, from)).1 = waited;
        }
    }

    /// Ends with the run.
    #[must_use]
    pub fn finish(mut self) -> Disturbance {
        self.see(false);
        let elapsed = self.begun.elapsed().as_secs_f64().max(1e-9);
        let own = cpu_time().unwrap_or_default().saturating_sub(self.own);
        let waited: u64 = self.threads.values().map(|(first, last)| last.saturating_sub(*first)).sum();
        let now = fs::read_to_string("/proc/stat").ok().as_deref().and_then(times);
        let (busy, stolen) = match (self.machine, now) {
            (Some(before), Some(now)) => {
                (now.busy.saturating_sub(before.busy), now.stolen.saturating_sub(before.stolen))
            }
            _ => (own, Duration::ZERO),
        };
        Disturbance {
            waited: Duration::from_nanos(waited).as_secs_f64() / elapsed,
            others: busy.saturating_sub(own).as_secs_f64() / elapsed,
            stolen: stolen.as_secs_f64() / elapsed,
        }
    }
}

/// The second number of a thread's `schedstat`: how long it was ready to run and waited, in nanoseconds.
fn waited(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, ….
fn times(stat: &str) -> Option<Times> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u32> = line.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let at = |place: usize| ticks.get(place).copied();
    let busy =
        [at(0)?, at(1)?, at(2)?, at(5)?, at(6)?].into_iter().fold(Duration::ZERO, |sum, n| sum + TICK * n);
    Some(Times { busy, stolen: TICK * at(7)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        assert_eq!(waited("69770853 42981777 176\n"), Some(42_981_777));
        assert_eq!(waited(""), None);
        let stat = "cpu  600 20 100 3400 50 10 30 80 0 0\ncpu0 1 1 1\n";
        let (busy, stolen) = (Duration::from_millis(7_600), Duration::from_millis(800));
        assert_eq!(times(stat), Some(Times { busy, stolen }));
        assert_eq!(times("intr 5"), None);
    }

    #[test]
    fn threads_that_wait_for_each_other_are_not_disturbed() {
        let of = |waited, others, stolen| Disturbance { waited, others, stolen };
        assert!(!of(0.9, 0.01, 0.0).is_too_much());
        assert!(!of(0.01, 0.9, 0.0).is_too_much());
        assert!(of(0.5, 0.3, 0.0).is_too_much() && (of(0.5, 0.3, 0.1).share() - 0.4).abs() < 1e-9);
        assert!(of(0.0, 0.0, 0.03).is_too_much());
    }

    #[test]
    fn threads_that_share_cores_are_seen_waiting() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let mut witness = Witness::begin();
        let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let busy = |until: Instant| while Instant::now() < until {};
        let until = Instant::now() + Duration::from_millis(300);
        std::thread::scope(|scope| {
            (0..threads).for_each(|_| {
                scope.spawn(move || busy(until));
            });
            std::thread::sleep(Duration::from_millis(200));
            witness.look();
        });
        let seen = witness.finish();
        assert!(seen.waited > 0.1, "{seen:?}");
    }
}
