//! What state takes with and without a limit: one window that collects every row, and the resident set until it closes.
//!
//! `cargo run --release -p tidemill-benches --bin spill -- --rows 2000000 --keys 100000 --state-memory 8MiB`
//!
//! The answer is checked; the exit code is not zero if it is wrong, or if the state has taken more than its limit and
//! what a few batches bring.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tidemill::connectors::{iterate_partitions, try_for_each};
use tidemill::{EventTime, Graph, Options, Run, tumbling};
use tidemill_benches::measure::rss;

/// Collects rows in one window and watches the memory.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many rows.
    #[arg(long, default_value_t = 4_000_000)]
    rows: u64,
    /// How many bytes each has besides its number.
    #[arg(long, default_value_t = 0)]
    bytes: usize,
    /// How many keys.
    #[arg(long, default_value_t = 100)]
    keys: u64,
    #[command(flatten)]
    options: Options,
}

type Row = (u64, Box<[u8]>);

fn main() -> ExitCode {
    const MIB: f64 = 1024.0 * 1024.0;
    let Arguments { rows, bytes, keys, mut options } = Arguments::parse();
    options.max_records_per_epoch.get_or_insert(100_000);
    let partitions = u32::try_from(options.workers).expect("few workers");
    let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let before = rss().unwrap_or(0);
    let sampler = {
        let (most, over) = (Arc::clone(&most), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(rss().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let gathering = Arc::new(AtomicU64::new(0));
    let (seen, sum) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let graph = Graph::new("spill");
    graph
        .source(iterate_partitions(partitions, move |partition| {
            (u64::from(partition)..rows).step_by(partitions as usize)
        }))
        .map({
            let (most, gathering) = (Arc::clone(&most), Arc::clone(&gathering));
            move |n| -> Row {
                if n + 1 == rows {
                    gathering.store(most.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                (n, vec![n as u8; bytes].into())
            }
        })
        .with_watermark(|_| EventTime::from_micros(0), Duration::ZERO)
        .key_by(move |row: &Row| row.0 % keys)
        .window(tumbling(Duration::from_secs(1)))
        .collect()
        .append()
        .sink(try_for_each({
            let (seen, sum) = (Arc::clone(&seen), Arc::clone(&sum));
            move |window: tidemill::WindowResult<u64, Vec<Row>>| -> Result<(), std::convert::Infallible> {
                seen.fetch_add(window.value.len() as u64, Ordering::Relaxed);
                sum.fetch_add(window.value.iter().map(|row| row.0).sum(), Ordering::Relaxed);
                Ok(())
            }
        }));
    let start = Instant::now();
    let summary = graph.run(options.clone()).expect("the query runs");
    let seconds = start.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    sampler.join().expect("the sampler ends");
    let right = seen.load(Ordering::Relaxed) == rows && sum.load(Ordering::Relaxed) == (0..rows).sum::<u64>();
    // Each worker takes a batch whole before it looks, and looks again only when it holds a good deal more.
    let slack = (4 << 20) + options.state_memory.unwrap_or(0) / 4;
    let kept = options
        .state_memory
        .is_none_or(|limit| summary.last.state_memory <= limit + slack * options.workers as u64);
    println!(
        "{rows} rows of {} bytes, {keys} keys, {:?}, {} workers, state memory {}: {seconds:.2} s; resident +{:.0} MiB while it gathers, +{:.0} MiB at all; counted {:.1} MiB at most, {:.0} MiB spilled; {}, {}",
        16 + 8 + bytes,
        options.mode,
        options.workers,
        options.state_memory.map_or("unlimited".to_owned(), |limit| format!("{:.0} MiB", limit as f64 / MIB)),
        gathering.load(Ordering::Relaxed).saturating_sub(before) as f64 / MIB,
        most.load(Ordering::Relaxed).saturating_sub(before) as f64 / MIB,
        summary.last.state_memory as f64 / MIB,
        summary.last.spilled as f64 / MIB,
        if right { "right" } else { "WRONG" },
        if kept { "kept" } else { "MISSED" },
    );
    if right && kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
