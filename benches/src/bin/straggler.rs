//! A bounded job over a file with two workers, of which one shares its core with busy threads: how long it takes, against the
//! time that is ideal for the speed that is left.
//!
//! `cargo run --release -p tidemill-benches --features pinning --bin straggler -- --help`
//!
//! The job counts the words of a text in micro-batch, with two sources: one whose partitions the idle worker takes over from the
//! slow one, and one that keeps each partition on its worker. The exit code is not zero if an answer is wrong, or if the job with
//! the first source takes longer than the limit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use core_affinity::CoreId;
use serde::Serialize;
use tidemill::connectors::{Text, TextFiles, for_each, text_files};
use tidemill::{
    Graph, Options, PlanLimits, PrepareContext, ReaderContext, Run, Source, SourceError, SourceInfo,
};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::measure::median;
use tidemill_benches::text::zipf_file;

/// Counts the words of a file beside busy threads.
#[derive(Debug, Parser)]
struct Arguments {
    /// MiB of text.
    #[arg(long, default_value_t = 1_024)]
    mib: u64,
    /// Distinct words.
    #[arg(long, default_value_t = 2_000)]
    words: usize,
    /// Busy threads on the core of worker 1: it keeps one share of this many and one.
    #[arg(long, default_value_t = 2)]
    busy: usize,
    /// Partitions of the source.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Measured rounds, after one that is not.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How many times the ideal time the job may take.
    #[arg(long, default_value_t = 1.25)]
    limit: f64,
    /// Also append the result to this file, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const WORKERS: usize = 2;

/// The same source, each of whose partitions stays on its worker.
struct Staying(TextFiles);

impl Source for Staying {
    type Item = <TextFiles as Source>::Item;
    type Offset = <TextFiles as Source>::Offset;
    type Reader = <TextFiles as Source>::Reader;

    fn describe(&self) -> String {
        self.0.describe()
    }
    fn is_bounded(&self) -> bool {
        self.0.is_bounded()
    }
    fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<Self::Offset>, SourceError> {
        self.0.prepare(context)
    }
    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
        self.0.refresh(limits)
    }
    fn latest(
        &self,
        partition: u32,
        from: &Self::Offset,
        limits: &PlanLimits,
    ) -> Result<Self::Offset, SourceError> {
        self.0.latest(partition, from, limits)
    }
    fn open(
        &self,
        partition: u32,
        from: &Self::Offset,
        context: ReaderContext,
    ) -> Result<Self::Reader, SourceError> {
        self.0.open(partition, from, context)
    }
}

/// Threads that keep a core busy until they are dropped.
struct Busy {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn on(core: CoreId, threads: usize) -> Busy {
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                assert!(core_affinity::set_for_current(core), "a thread can stay on a core");
                let mut n = 0u64;
                while !is_over.load(Ordering::Relaxed) {
                    n = black_box(n.wrapping_add(1));
                }
            })
        };
        let threads = (0..threads).map(start).collect();
        Busy { is_over, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a busy thread ends");
        }
    }
}

/// How much of a core a thread gets that always has something to do: turns of a loop in a time.
fn speed(core: CoreId) -> u64 {
    let count = move || {
        assert!(core_affinity::set_for_current(core), "a thread can stay on a core");
        let (begun, mut turns) = (Instant::now(), 0u64);
        while begun.elapsed() < Duration::from_millis(600) {
            (0..1_000u64).for_each(|n| {
                black_box(n);
            });
            turns += 1;
        }
        turns
    };
    thread::spawn(count).join().expect("the thread ends")
}

/// Runs the job; returns its seconds and how many words it has counted.
fn run(source: impl Source<Item = Text>) -> (f64, u64) {
    let begun = Instant::now();
    let counts: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let shared = Arc::clone(&counts);
    let graph = Graph::new("straggler");
    graph.source(source).keys_by(Text::words).count().update().sink(for_each(move |(word, count)| {
        shared.lock().expect("no thread panics").insert(word, count);
    }));
    graph.run(Options::default().with_workers(WORKERS).with_pin(true)).expect("the query runs to its end");
    let seconds = begun.elapsed().as_secs_f64();
    (seconds, counts.lock().expect("no thread panics").values().sum())
}

/// What was measured: medians, in seconds.
#[derive(Debug, Serialize)]
struct Measured {
    mib: u64,
    partitions: u32,
    busy: usize,
    /// The share of its core that worker 1 has beside the busy threads.
    share: f64,
    /// Nothing beside the workers.
    free: f64,
    /// What is ideal beside the busy threads.
    ideal: f64,
    /// Beside the busy threads.
    moving: f64,
    /// Beside the busy threads, where partitions stay on their worker.
    staying: f64,
    /// Whether all answers were right.
    right: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut json = JsonLines::append(arguments.json.as_deref()).expect("the file can be opened");
    println!("{}", json.provenance().headline());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("words.txt");
    let words = zipf_file(&path, arguments.mib << 20, arguments.words, 7).expect("the text can be written");
    let cores = core_affinity::get_core_ids().expect("the cores are known");
    let core = *cores.get(1).expect("two cores");
    let source =
        |path: &Path| text_files(path.display().to_string()).bounded().partitions(arguments.partitions);

    let alone = speed(core);
    let share = {
        let _busy = Busy::on(core, arguments.busy);
        speed(core) as f64 / alone as f64
    };
    let (mut free, mut moving, mut staying, mut right) = (Vec::new(), Vec::new(), Vec::new(), true);
    for round in 0..=arguments.runs {
        let mut measure = |of: &mut Vec<f64>, (seconds, counted): (f64, u64)| {
            right &= counted == words;
            if round > 0 {
                of.push(seconds);
            }
        };
        measure(&mut free, run(source(&path)));
        let _busy = Busy::on(core, arguments.busy);
        measure(&mut moving, run(source(&path)));
        measure(&mut staying, run(Staying(source(&path))));
    }
    let (free, moving, staying) = (median(&free), median(&moving), median(&staying));
    let ideal = free * WORKERS as f64 / ((WORKERS - 1) as f64 + share);
    let line = |what: &str, seconds: f64| println!("{what:40} {seconds:8.3} s {:6.2}", seconds / ideal);
    println!("worker 1 has {:.0} % of its core; times in seconds, and over the ideal time", share * 100.0);
    line("nothing beside the workers", free);
    line("ideal beside busy threads", ideal);
    line("partitions move", moving);
    line("partitions stay", staying);
    let kept = right && moving <= arguments.limit * ideal;
    println!("limit {:.2}: {}", arguments.limit, if kept { "kept" } else { "MISSED" });
    let result = Measured {
        mib: arguments.mib,
        partitions: arguments.partitions,
        busy: arguments.busy,
        share,
        free,
        ideal,
        moving,
        staying,
        right,
    };
    json.write(&result).expect("the result can be written");
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
