//! What durable checkpoints cost: throughput, latency at the boundary of an epoch, the time to a commit, recovery.
//!
//! `cargo run --release -p tidemill-benches --bin checkpoint -- --help`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark fails loudly"
)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use tidemill::connectors::{channel, discard, iterate_partitions};
use tidemill::{Epoch, Graph, Journal, Mode, Options, Prepared, Run, Sink, SinkError};
use tidemill_benches::baseline::windowed_count::WindowedCount;
use tidemill_benches::generator::splitmix64;
use tidemill_benches::harness::run::{Job as Counting, Shape, on_tidemill};
use tidemill_benches::harness::schedule::Load;
use tidemill_benches::harness::slots::Percentiles;
use tidemill_benches::jobs::windowed_count::windowed_count;
use tidemill_benches::measure::{Sample, compare, machine, median, table};

/// What durable checkpoints cost.
#[derive(Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Job::All)]
    job: Job,

    /// Measured rounds of each comparison (after one that is not).
    #[arg(long, default_value_t = 3)]
    runs: usize,

    /// How many workers.
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// Throughput: keys.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    keys: Vec<u64>,

    /// Boundary: events a second.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,

    /// Boundary: seconds of each run.
    #[arg(long, default_value_t = 8)]
    seconds: u64,

    /// Recovery: keys.
    #[arg(long, default_value_t = 10_000_000)]
    restored: u64,

    /// Where the checkpoints go: a directory on the disk to be measured.
    #[arg(long, default_value = "target/checkpoints")]
    dir: std::path::PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Job {
    /// All of them.
    All,
    /// Windowed count with a checkpoint every second, against the same without.
    Throughput,
    /// 99th percentile by slots of 250 ms in continuous mode, with a checkpoint every second and without.
    Boundary,
    /// Micro-batches as fast as can be, each durable: from a record's arrival to its commit.
    Commit,
    /// The time to begin with a large state.
    Recovery,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("{:?}", machine());
    let wants = |job| arguments.job == Job::All || arguments.job == job;
    let mut kept = true;
    if wants(Job::Throughput) {
        kept &= throughput(&arguments);
    }
    if wants(Job::Boundary) {
        kept &= boundary(&arguments);
    }
    if wants(Job::Commit) {
        kept &= commit(&arguments);
    }
    if wants(Job::Recovery) {
        kept &= recovery(&arguments);
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn place(arguments: &Arguments) -> tempfile::TempDir {
    std::fs::create_dir_all(&arguments.dir).expect("the directory for checkpoints can be made");
    tempfile::tempdir_in(&arguments.dir).expect("a directory for the checkpoint")
}

fn verdict(what: &str, kept: bool) -> bool {
    println!("{what}: {}", if kept { "kept" } else { "MISSED" });
    kept
}

/// Windowed count with and without a checkpoint a second.
fn throughput(arguments: &Arguments) -> bool {
    let mut kept = true;
    for keys in arguments.keys.iter().copied() {
        // Some seconds of work, and in micro-batch about a second's work in an epoch.
        let a_second: u64 = if keys < 100_000 { 200_000_000 } else { 30_000_000 };
        let job = WindowedCount::new(4 * a_second, keys, arguments.workers);
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            let options = Options::default()
                .with_mode(mode)
                .with_checkpoint_interval(Duration::from_secs(1))
                .with_max_records_per_epoch(a_second / arguments.workers as u64);
            let run = |options: &Options| {
                let answer = windowed_count(job, options);
                Sample {
                    elapsed: answer.elapsed,
                    records: job.events,
                    answer: answer.checksum ^ answer.events ^ answer.rows.rotate_left(32),
                }
            };
            let with = || {
                let dir = place(arguments);
                run(&options.clone().with_checkpoint(dir.path()))
            };
            let name = format!("windowed count, {keys} keys, {mode}, a checkpoint a second");
            let comparison = compare(&name, arguments.runs, with, || run(&options));
            let limit = if keys < 100_000 { 1.0 / 0.97 } else { 1.0 / 0.9 };
            println!("{}", table(std::slice::from_ref(&comparison)));
            kept &= verdict(
                &format!("  time with over without {:.3}, limit {limit:.3}", comparison.ratio),
                comparison.agreed && comparison.ratio <= limit,
            );
        }
    }
    kept
}

fn micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_micros() as i64
}

/// The 99th percentile of every slot of 250 ms, in microseconds.
fn timeline(arguments: &Arguments, checkpoint: Option<&Path>) -> Vec<f64> {
    // No window closes meanwhile: that has a price of its own, with and without checkpoints.
    let job =
        Counting { shape: Shape::WindowedCount, window: 24 * 3_600_000_000, sink_takes: Duration::ZERO };
    let load =
        Load { keys: 1_000_000, prefill: true, ..Load::open(arguments.rate, arguments.seconds as f64) };
    let mut options = Options::default().with_mode(Mode::Continuous).with_workers(arguments.workers);
    if let Some(dir) = checkpoint {
        options = options.with_checkpoint(dir);
    }
    let measured = on_tidemill(job, &load, &options, &mut |_, _| ());
    assert!(measured.is_right(), "the counts are right");
    measured.record.iter().map(|(_, slot)| Percentiles::of(slot).p99).collect()
}

/// How much the worst slot of a second is worse with a checkpoint in it.
fn boundary(arguments: &Arguments) -> bool {
    let worst_of_seconds = |timeline: &[f64]| {
        // The first second is warming up.
        let seconds: Vec<f64> =
            timeline.chunks_exact(4).skip(1).map(|slots| slots.iter().copied().fold(0.0, f64::max)).collect();
        median(&seconds)
    };
    let mut rises = Vec::new();
    for round in 0..arguments.runs {
        let without = timeline(arguments, None);
        let dir = place(arguments);
        let with = timeline(arguments, Some(dir.path()));
        if round == 0 {
            let shown = |t: &[f64]| t.iter().map(|p| format!("{p:.0}")).collect::<Vec<_>>().join(" ");
            println!("p99 by 250 ms, us, without: {}", shown(&without));
            println!("p99 by 250 ms, us, with:    {}", shown(&with));
        }
        let (without, with) = (worst_of_seconds(&without), worst_of_seconds(&with));
        println!("worst slot of a second, median over seconds: {with:.0} us with, {without:.0} us without");
        rises.push((with - without) / 1000.0);
    }
    let rise = median(&rises);
    verdict(&format!("p99 at the boundary of an epoch rises by {rise:.2} ms, limit 2 ms"), rise < 2.0)
}

/// Measures from a record's stamp to the commit of its epoch.
#[derive(Default)]
struct Commits {
    pending: Vec<i64>,
    latencies: Arc<Mutex<Vec<f64>>>,
}

impl Sink<i64> for Commits {
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<i64>) -> Result<(), SinkError> {
        self.pending.append(rows);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared, SinkError> {
        Ok(Prepared::nothing())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        let now = micros();
        let mut latencies = self.latencies.lock().unwrap();
        latencies.extend(self.pending.drain(..).map(|sent| (now - sent) as f64));
        Ok(())
    }
}

/// Records that come one by one through a journal, each in a durable micro-batch of its own, counted by key.
fn commit(arguments: &Arguments) -> bool {
    let latencies = Arc::<Mutex<Vec<f64>>>::default();
    let (sender, source) = channel::<i64>(1024);
    let graph = Graph::new("commit");
    let sink = Commits { latencies: Arc::clone(&latencies), ..Commits::default() };
    graph
        .source(source.journaled())
        .key_by(|sent| splitmix64(*sent as u64) % 100)
        .max(|sent| *sent)
        .update()
        .map(|(_, sent)| sent)
        .sink(sink);
    let dir = place(arguments);
    let options = Options::default().with_workers(arguments.workers).with_checkpoint(dir.path());
    let handle = graph.start(options).expect("the query starts");
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(15));
        sender.send(micros()).expect("the query takes records");
    }
    drop(sender);
    handle.wait().expect("the query ends in order");
    let mut latencies = latencies.lock().unwrap().clone();
    assert_eq!(latencies.len(), 200, "every record is committed");
    latencies.sort_by(f64::total_cmp);
    let (median, p99) = (latencies[100] / 1000.0, latencies[197] / 1000.0);
    verdict(
        &format!("from arrival to durable commit: median {median:.2} ms, p99 {p99:.2} ms; limit 5 ms"),
        median < 5.0,
    )
}

/// Builds a state of many keys, and begins again with it.
fn recovery(arguments: &Arguments) -> bool {
    let dir = place(arguments);
    let keys = arguments.restored;
    let run = |events: u64| {
        let graph = Graph::new("recovery");
        graph
            .source(iterate_partitions(2, move |partition| {
                (u64::from(partition)..events).step_by(2).map(splitmix64)
            }))
            .key_by(|key| *key)
            .count()
            .update()
            .sink_per_worker(|_| Ok(discard().0));
        let options = Options::default().with_workers(2).with_checkpoint(dir.path());
        let start = Instant::now();
        let summary = graph.run(options).expect("the query runs to its end");
        (start.elapsed(), summary)
    };
    let (built, _) = run(keys);
    // Two records more: the time until they are counted and committed is the recovery.
    let (restored, summary) = run(keys + 2);
    let rows: u64 = summary.last.state_operators.iter().map(|operator| operator.num_rows_total).sum();
    assert_eq!(rows, keys + 2, "all state is there");
    println!("{keys} keys counted and saved in {:.2} s", built.as_secs_f64());
    verdict(
        &format!(
            "restored with 2 workers, 2 records more and the end: {:.2} s; limit 10 s",
            restored.as_secs_f64()
        ),
        restored < Duration::from_secs(10),
    )
}
