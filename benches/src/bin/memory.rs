//! Whether memory stays bounded when a sink is slow: an endless source as fast as it can go, and a sink that takes a
//! millisecond for a record.
//!
//! `cargo run --release -p tidemill-benches --bin memory -- --help`
//!
//! The exit code is not zero if the resident set has grown by more than the limit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use tidemill::connectors::iterate_partitions;
use tidemill::{Epoch, Graph, Mode, Options, Run, Sink, SinkError};
use tidemill_benches::measure::rss;

/// Runs a slow sink behind a fast source and watches the memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// How much the resident set may grow, in MiB, after the first two seconds.
    #[arg(long, default_value_t = 64)]
    limit_mib: u64,
    /// Only one combination, in this process; without it all are run, each in its own, at the same time.
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    options: Options,
}

/// A record of some size: a key and 100 bytes elsewhere.
type Row = (u64, Box<[u8]>);

/// Takes a millisecond for each record, until it is told to hurry.
struct Slow {
    hurry: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Sink<Row> for Slow {
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<Row>) -> Result<(), SinkError> {
        for _ in rows.drain(..) {
            if !self.hurry.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(1));
            }
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

fn run(arguments: &Arguments) -> bool {
    const MIB: f64 = 1024.0 * 1024.0;
    let options = &arguments.options;
    let workers = u32::try_from(options.workers).expect("few workers");
    let (hurry, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let graph = Graph::new("slow sink");
    graph
        .source(iterate_partitions(workers, |partition| (u64::from(partition)..).step_by(2)))
        .map(|n| -> Row { (n, vec![n as u8; 100].into()) })
        .sink(Slow { hurry: Arc::clone(&hurry), written: Arc::clone(&written) });
    let query = graph.start(options.clone()).expect("the query starts");
    let start = Instant::now();
    sleep(Duration::from_secs(2));
    let first = rss().unwrap_or(0);
    let mut most = first;
    while start.elapsed().as_secs_f64() < arguments.seconds.max(3.0) && !query.is_finished() {
        sleep(Duration::from_millis(250));
        most = most.max(rss().unwrap_or(0));
    }
    let epochs = query.progress().epoch.map_or(0, |last| last + 1);
    let last = rss().unwrap_or(0);
    let growth = most.saturating_sub(first);
    let (alive, count) = (!query.is_finished(), written.load(Ordering::Relaxed));
    hurry.store(true, Ordering::Relaxed);
    query.stop();
    let outcome = query.wait();
    let good = alive && outcome.is_ok() && growth < arguments.limit_mib << 20 && count > 0;
    println!(
        "slow sink, {:?}, {workers} workers, {:.0} s: {count} records written, {} epochs, {:.1} MiB at 2 s, {:.1} at most (+{:.1}), {:.1} at the end: {}",
        options.mode,
        start.elapsed().as_secs_f64(),
        epochs,
        first as f64 / MIB,
        most as f64 / MIB,
        growth as f64 / MIB,
        last as f64 / MIB,
        if good { "kept" } else { "MISSED" }
    );
    if let Err(error) = outcome {
        println!("  {error}");
    }
    good
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.alone {
        return if run(&arguments) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let program = std::env::current_exe().expect("this program has a path");
    let mut children = Vec::new();
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in ["1", "2"] {
            let mode = if mode == Mode::MicroBatch { "micro-batch" } else { "continuous" };
            let child = Command::new(&program)
                .args(["--alone", "--mode", mode, "--workers", workers])
                // Epochs of a second or two, so that some are committed while it runs.
                .args(["--max-records-per-epoch", "1000"])
                .args(["--seconds", &arguments.seconds.to_string()])
                .args(["--limit-mib", &arguments.limit_mib.to_string()])
                .spawn();
            children.push(child.expect("this program starts again"));
        }
    }
    let mut good = true;
    for mut child in children {
        good &= child.wait().expect("it ends").success();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
