//! Reads of a table from another thread while one worker updates it as fast as it can.
//!
//! `cargo run --release -p tidemill-benches --features tables --bin table_reads`
//! `cargo run --release -p tidemill-benches --features tables --bin table_reads -- --checked 10000000`
//!
//! Without `--checked`: phases with and without a reader by turns, in one run of the query. It prints how long reads take and how
//! many updates the worker makes in each kind of phase. With `--checked`: that many reads, each compared with the committed content
//! of its epoch. The exit code is not zero if a read is wrong or a limit is missed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep, yield_now};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use tidemill::connectors::iterate;
use tidemill::prelude::IntoTable;
use tidemill::table::TableReader;
use tidemill::{Graph, Options, QueryHandle, Run};
use tidemill_benches::harness::slots::histogram;

/// Reads a table while it is updated.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many keys the table has.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Reads per second.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Seconds of a phase.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Pairs of phases.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many reads are compared with the content of their epoch, instead of phases.
    #[arg(long)]
    checked: Option<u64>,
    /// How many updates there are for these reads.
    #[arg(long, default_value_t = 30_000_000)]
    updates: u64,
    /// The greatest 99th percentile of a read in microseconds.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    options: Options,
}

/// The key that an update changes: first each once, then in random order. Its value is the number of the update.
fn key_of(update: u64, keys: u64) -> u64 {
    if update < keys { update } else { random(update) % keys }
}

fn random(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    number ^ (number >> 32)
}

/// Starts the query. `updates` limits the updates; the number of those that have been read is in the counter.
fn start(arguments: &Arguments, updates: u64, read: &Arc<AtomicU64>) -> QueryHandle {
    let (keys, counter) = (arguments.keys, Arc::clone(read));
    let graph = Graph::new("reads of a table");
    let numbers = graph.source(iterate(move || {
        let counter = Arc::clone(&counter);
        (0..updates).inspect(move |number| counter.store(number + 1, Ordering::Relaxed))
    }));
    let numbers = numbers.boxed();
    numbers.clone().key_by(move |update| key_of(*update, keys)).into_table().queryable("updates");
    if arguments.checked.is_some() {
        numbers.key_by(|_| 0u64).into_table().queryable("last update");
    }
    graph.start(arguments.options.clone()).expect("the query starts")
}

/// Waits until all keys have been committed.
fn wait_for_keys(reader: &TableReader, keys: u64) {
    while reader.table::<u64, u64>("updates").expect("a table").len() < keys as usize {
        sleep(Duration::from_millis(1));
    }
}

/// Reads at the rate until it is to end; returns how long reads took, and whether all found a value that an update of the key has.
fn read_at_rate(reader: &TableReader, arguments: &Arguments, is_over: &AtomicBool) -> (Histogram<u64>, bool) {
    let (mut times, mut right) = (histogram(), true);
    let gap = Duration::from_nanos(1_000_000_000 / arguments.rate.max(1));
    let mut due = Instant::now();
    while !is_over.load(Ordering::Acquire) {
        let now = Instant::now();
        if now < due {
            sleep(due - now);
            continue;
        }
        due += gap;
        let key = random(times.len() ^ 0x5EED) % arguments.keys;
        let begun = Instant::now();
        let value = reader.table::<u64, u64>("updates").ok().and_then(|table| table.get(&key));
        times.saturating_record(begun.elapsed().as_nanos() as u64);
        right &= value.is_some_and(|update| key_of(update, arguments.keys) == key);
    }
    (times, right)
}

/// Phases by turns, all in one run of the query.
fn phases(arguments: &Arguments) -> bool {
    let read = Arc::new(AtomicU64::new(0));
    let query = start(arguments, u64::MAX, &read);
    let reader = query.table_reader();
    wait_for_keys(&reader, arguments.keys);
    let phase = || {
        let (begun, before) = (Instant::now(), read.load(Ordering::Relaxed));
        sleep(Duration::from_secs(arguments.seconds));
        (read.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
    };
    phase();
    let (mut times, mut right) = (histogram(), true);
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        let with_reader = || {
            let is_over = AtomicBool::new(false);
            scope(|scope| {
                let reading = scope.spawn(|| read_at_rate(&reader, arguments, &is_over));
                let rate = phase();
                is_over.store(true, Ordering::Release);
                (rate, reading.join().expect("the reader ends"))
            })
        };
        // Which one is first changes from round to round.
        let (without, (with, (of_phase, is_right))) = if round % 2 == 0 {
            (phase(), with_reader())
        } else {
            let with = with_reader();
            (phase(), with)
        };
        times.add(of_phase).expect("the same bounds");
        right &= is_right;
        ratios.push(with / without);
        rates.push((without, with));
    }
    query.stop();
    query.wait().expect("it ends in order");
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or(0.0);
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    for (without, with) in rates {
        println!("  updates/s without a reader {:.2} M, with one {:.2} M", without / 1e6, with / 1e6);
    }
    let reads_per_second = times.len() as f64 / (arguments.rounds as u64 * arguments.seconds) as f64;
    let kept = right && at(0.99) < arguments.limit as f64 && ratio >= 0.95;
    println!(
        "{:?}, {} keys, {reads_per_second:.0} reads/s: a read takes p50 {:.1} us  p99 {:.1} us  p99.9 {:.1} us  max {:.0} us; updates with a reader {ratio:.3} of without (median of {}); {}, {}",
        arguments.options.mode,
        arguments.keys,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        ratios.len(),
        if right { "right" } else { "WRONG" },
        if kept { "kept" } else { "MISSED" },
    );
    kept
}

/// The updates of each key, so that the content of any epoch is known.
fn history(keys: u64, updates: u64) -> Vec<Vec<u32>> {
    let mut history = vec![Vec::new(); keys as usize];
    for update in 0..updates {
        if let Some(of_key) = history.get_mut(key_of(update, keys) as usize) {
            of_key.push(update as u32);
        }
    }
    history
}

/// Reads while all updates are made, and again after the last one until there were enough.
fn checked(arguments: &Arguments, reads: u64) -> bool {
    let updates = arguments.updates.min(u64::from(u32::MAX));
    let history = history(arguments.keys, updates);
    let read = Arc::new(AtomicU64::new(0));
    let query = start(arguments, updates, &read);
    let reader = query.table_reader();
    let begun = Instant::now();
    let (mut done, mut beside, mut wrong, mut epochs, mut last) = (0u64, 0u64, 0u64, 0u64, None);
    while done < reads {
        let tables = reader.tables();
        if tables.epoch().is_none() {
            yield_now();
            continue;
        }
        epochs += u64::from(last != tables.epoch());
        last = tables.epoch();
        let values = tables.table::<u64, u64>("updates").expect("a table");
        let newest = tables.table::<u64, u64>("last update").expect("a table");
        let newest = newest.get(&0);
        for _ in 0..64.min(reads - done) {
            let key = random(done ^ 0x5EED) % arguments.keys;
            let of_key = history.get(key as usize).map_or(&[][..], Vec::as_slice);
            let made = of_key.partition_point(|update| Some(u64::from(*update)) <= newest);
            let expected = made.checked_sub(1).and_then(|at| of_key.get(at)).map(|update| u64::from(*update));
            wrong += u64::from(values.get(&key) != expected);
            done += 1;
        }
        if !query.is_finished() {
            beside = done;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    query.stop();
    query.wait().expect("it ends in order");
    println!(
        "{:?}, {} keys: {done} reads in {seconds:.1} s, {beside} of them while the query ran, of {epochs} epochs, while it made {} updates: {wrong} differ from the committed content of their epoch",
        arguments.options.mode,
        arguments.keys,
        read.load(Ordering::Relaxed),
    );
    wrong == 0
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let good = match arguments.checked {
        Some(reads) => checked(&arguments, reads),
        None => phases(&arguments),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
