//! Measuring: interleaved runs and their medians, memory and CPU time of this process, what machine it was, and
//! results as JSON lines.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

/// One run of a program under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How long the job took, by its own account.
    pub elapsed: Duration,
    /// How many input records it worked through.
    pub records: u64,
    /// A checksum of its answer: both programs of a comparison must give the same in every run.
    pub answer: u64,
}

/// The runs of one program, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The middle run.
    pub median: f64,
    /// The fastest run.
    pub min: f64,
    /// The slowest run.
    pub max: f64,
    /// Millions of input records a second in the middle run.
    pub mega_per_second: f64,
}

/// Two programs on one job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The job.
    pub name: String,
    /// The program under test.
    pub a: Summary,
    /// The baseline.
    pub b: Summary,
    /// The median over the rounds of `a`'s time divided by `b`'s of the same round: below 1, `a` is faster.
    pub ratio: f64,
    /// The same of the CPU time (user and system), which other programs on the machine disturb less; 0 if unknown.
    pub cpu_ratio: f64,
    /// Whether all runs of both gave one answer. If not, the numbers are void.
    pub agreed: bool,
}

/// The median of some numbers (0 for none; the mean of the middle two for an even count).
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let high = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        return high;
    }
    let low = (sorted.len() / 2).checked_sub(1).and_then(|at| sorted.get(at)).copied().unwrap_or(0.0);
    f64::midpoint(low, high)
}

/// Summarises runs.
#[must_use]
pub fn summarise(samples: &[Sample]) -> Summary {
    let seconds: Vec<f64> = samples.iter().map(|sample| sample.elapsed.as_secs_f64()).collect();
    let middle = median(&seconds);
    let records = samples.first().map_or(0, |sample| sample.records);
    Summary {
        median: middle,
        min: seconds.iter().copied().reduce(f64::min).unwrap_or(0.0),
        max: seconds.iter().copied().reduce(f64::max).unwrap_or(0.0),
        mega_per_second: if middle > 0.0 { records as f64 / middle / 1e6 } else { 0.0 },
    }
}

/// Runs `a` (under test) and `b` (baseline) by turns, `runs` times each after one unmeasured round. Who goes first
/// changes from round to round, so that a machine that drifts treats both alike.
pub fn compare(
    name: &str,
    runs: usize,
    mut a: impl FnMut() -> Sample,
    mut b: impl FnMut() -> Sample,
) -> Comparison {
    let (warm_a, warm_b) = (a(), b());
    let mut agreed = warm_a.answer == warm_b.answer;
    let (mut of_a, mut of_b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu_of_a, mut cpu_of_b) = (Vec::new(), Vec::new());
    for round in 0..runs.max(1) {
        let ((x, cpu_x), (y, cpu_y)) = if round % 2 == 0 {
            let x = with_cpu(&mut a);
            (x, with_cpu(&mut b))
        } else {
            let y = with_cpu(&mut b);
            (with_cpu(&mut a), y)
        };
        cpu_of_a.push(cpu_x);
        cpu_of_b.push(cpu_y);
        agreed &= x.answer == warm_a.answer && y.answer == warm_b.answer;
        ratios.push(x.elapsed.as_secs_f64() / y.elapsed.as_secs_f64().max(1e-9));
        of_a.push(x);
        of_b.push(y);
    }
    Comparison {
        name: name.to_owned(),
        a: summarise(&of_a),
        b: summarise(&of_b),
        ratio: median(&ratios),
        cpu_ratio: median(&cpu_of_a) / median(&cpu_of_b).max(1e-9),
        agreed,
    }
}

/// Runs a program and says what CPU time it took, in seconds.
fn with_cpu(run: &mut impl FnMut() -> Sample) -> (Sample, f64) {
    let before = cpu_time().unwrap_or_default();
    let sample = run();
    (sample, cpu_time().unwrap_or_default().saturating_sub(before).as_secs_f64())
}

/// The comparisons as an aligned table.
#[must_use]
pub fn table(rows: &[Comparison]) -> String {
    let wide = rows.iter().map(|row| row.name.chars().count()).chain([3]).max().unwrap_or(3);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:wide$}  {:>21}  {:>21}  {:>8}  {:>8}  {:>5}  {:>7}",
        "job", "a: s (min-max)", "b: s (min-max)", "a M/s", "b M/s", "a/b", "CPU a/b"
    );
    for row in rows {
        let cell = |s: &Summary| format!("{:.3} ({:.3}-{:.3})", s.median, s.min, s.max);
        let ratio = if row.agreed {
            format!("{:>5.2}  {:>7.2}", row.ratio, row.cpu_ratio)
        } else {
            "VOID: answers differ".to_owned()
        };
        let _ = writeln!(
            text,
            "{:wide$}  {:>21}  {:>21}  {:>8.2}  {:>8.2}  {ratio}",
            row.name,
            cell(&row.a),
            cell(&row.b),
            row.a.mega_per_second,
            row.b.mega_per_second,
        );
    }
    text
}

/// The largest resident set of this process so far, in bytes (`None` where the system does not say).
#[must_use]
pub fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The resident set of this process at present, in bytes (`None` where the system does not say).
#[must_use]
pub fn rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Lets [`peak_rss`] count afresh from the present size. Returns whether the system allowed it.
pub fn reset_peak_rss() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// CPU time of this process so far, user and system, with its ended threads (`None` where the system does not say).
#[must_use]
#[cfg(unix)]
pub fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// CPU time of this process so far, user and system, with its ended threads (`None` where the system does not say).
#[must_use]
#[cfg(not(unix))]
pub fn cpu_time() -> Option<Duration> {
    None
}

/// What the numbers were measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// The processor's name as the kernel gives it.
    pub cpu: String,
    /// Main memory in bytes.
    pub memory: u64,
    /// The operating system and architecture.
    pub system: String,
    /// The compiler.
    pub rustc: String,
}

/// Describes this machine, as far as it tells.
#[must_use]
pub fn machine() -> Machine {
    let value = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let kib = value("/proc/meminfo", "MemTotal")
        .split_whitespace()
        .next()
        .and_then(|n| n.parse::<u64>().ok())
        .unwrap_or(0);
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu: value("/proc/cpuinfo", "model name"),
        memory: kib * 1024,
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        rustc: option_env!("TIDEMILL_RUSTC_VERSION").unwrap_or("unknown").to_owned(),
    }
}

/// Writes one result as one line of JSON.
///
/// # Errors
/// If the value cannot be encoded or `out` not written.
pub fn json_line(out: &mut impl Write, result: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, result)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn comparisons_take_turns_and_check_answers() {
        let sample = |ms, answer| Sample { elapsed: Duration::from_millis(ms), records: 1_000, answer };
        let good = compare("job", 3, || sample(20, 1), || sample(10, 1));
        assert!(good.agreed);
        assert!((good.ratio - 2.0).abs() < 1e-9);
        assert!((good.b.mega_per_second - 0.1).abs() < 1e-9);
        let bad = compare("job", 1, || sample(20, 1), || sample(10, 2));
        assert!(!bad.agreed);
        assert!(table(&[good, bad]).contains("VOID"));
    }

    #[test]
    fn this_process_has_a_size_and_an_age() {
        if cfg!(target_os = "linux") {
            assert!(peak_rss().unwrap() > 100_000);
            let before = cpu_time().unwrap();
            let sum = (0..1_000_000u64).fold(0u64, |sum, k| sum ^ k.wrapping_mul(sum | 1));
            assert!(std::hint::black_box(sum) > 0 && cpu_time().unwrap() > before);
        }
        let mut line = Vec::new();
        json_line(&mut line, &machine()).unwrap();
        assert!(line.ends_with(b"}\n"));
    }
}
