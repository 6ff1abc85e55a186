//! Tables against differential dataflow written by hand, by turns in one run: batches of updates, one after the other.
//!
//! `cargo run --release -p tidemill-benches --features tables --bin tables -- --help`
//!
//! The exit code is not zero if an answer is wrong.

#![allow(clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tidemill::{Mode, Options};
use tidemill_benches::baseline::tables::{Operators, tables};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::measure::median;
use tidemill_benches::tables::{Outcome, Schedule, Sizes, Work, job};

/// Compares tables with differential dataflow.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is computed: count, distinct, join, top-SIZE of a group, sum, deep (sum, join, sum).
    #[arg(long, value_delimiter = ',', default_value = "count,distinct,join,top-100,top-10000")]
    work: Vec<Work>,
    /// Updates of a batch.
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000")]
    batches: Vec<u64>,
    /// Records with which a run begins.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Updates that are measured with batches of 100; of other batches fewer or more, so that a run takes about as long.
    #[arg(long, default_value_t = 500_000)]
    updates: u64,
    /// Rounds, of which each runs every program once.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Programs.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tidemill,epochs,total,reduce")]
    programs: Vec<Program>,
    /// Also append every result to this file, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Program {
    /// Tables in continuous mode: a batch comes once the one before has been computed.
    Tidemill,
    /// Tables in micro-batch: an epoch is a batch, and epochs overlap.
    Epochs,
    /// Differential dataflow with the operators for totally ordered times, where there are any.
    Total,
    /// Differential dataflow with `reduce`.
    Reduce,
}

/// What a program cost.
#[derive(Serialize)]
struct Line {
    work: String,
    batch: u64,
    rows: u64,
    updates: u64,
    program: &'static str,
    runs: usize,
    /// Microseconds for an update: the median of the runs.
    update: f64,
    /// Microseconds of CPU time for an update.
    cpu: f64,
    /// Microseconds for a batch; 0 if they overlapped.
    p50: f64,
    p99: f64,
    /// Seconds until the first records had been loaded.
    load: f64,
    right: bool,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Tidemill => "tables",
            Program::Epochs => "tables, micro-batch",
            Program::Total => "differential",
            Program::Reduce => "differential, reduce",
        }
    }

    /// Whether it differs from the others on this work.
    fn has(self, work: Work) -> bool {
        self != Program::Reduce || matches!(work, Work::Count | Work::Distinct)
    }

    fn run(self, schedule: &Arc<Schedule>) -> Outcome {
        match self {
            Program::Tidemill => {
                job::run(schedule, Options::default().with_workers(1).with_mode(Mode::Continuous))
            }
            Program::Epochs => job::run(schedule, Options::default().with_workers(1)),
            Program::Total => return tables(schedule, Operators::Total),
            Program::Reduce => return tables(schedule, Operators::Reduce),
        }
        .expect("the run ends in order")
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut json = JsonLines::append(arguments.json.as_deref()).expect("the file can be written");
    println!("{}", json.provenance().headline());
    println!(
        "{:<12}{:>7}  {:<22}{:>10}{:>10}{:>10}{:>10}{:>8}",
        "work", "batch", "program", "us/update", "CPU us", "p50 us", "p99 us", "load s"
    );
    let mut good = true;
    for work in &arguments.work {
        for batch in &arguments.batches {
            let rounds = match batch {
                1 => arguments.updates / 25,
                2..10_000 => arguments.updates / batch,
                _ => arguments.updates * 2 / batch,
            };
            let sizes = Sizes {
                rows: arguments.rows,
                batch: *batch,
                rounds: rounds.max(2),
                warmup: (rounds / 10).max(1),
            };
            let schedule = Arc::new(Schedule::new(*work, sizes));
            let programs: Vec<Program> =
                arguments.programs.iter().copied().filter(|it| it.has(*work)).collect();
            let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); programs.len()];
            for _ in 0..arguments.runs {
                for (program, outcomes) in programs.iter().zip(&mut outcomes) {
                    outcomes.push(program.run(&schedule));
                }
            }
            for (program, outcomes) in programs.into_iter().zip(outcomes) {
                let line = line(program, &schedule, &outcomes);
                good &= line.right;
                println!(
                    "{:<12}{:>7}  {:<22}{:>10.3}{:>10.3}{:>10.1}{:>10.1}{:>8.2}{}",
                    line.work,
                    line.batch,
                    line.program,
                    line.update,
                    line.cpu,
                    line.p50,
                    line.p99,
                    line.load,
                    if line.right { "" } else { "  WRONG ANSWER" }
                );
                json.write(&line).expect("the file can be written");
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(program: Program, schedule: &Schedule, outcomes: &[Outcome]) -> Line {
    let updates = schedule.sizes.batch * schedule.sizes.rounds;
    let of = |figure: fn(&Outcome) -> f64| median(&outcomes.iter().map(figure).collect::<Vec<_>>());
    Line {
        work: schedule.work.to_string(),
        batch: schedule.sizes.batch,
        rows: schedule.sizes.rows,
        updates,
        program: program.name(),
        runs: outcomes.len(),
        update: of(|it| it.elapsed.as_secs_f64()) * 1e6 / updates as f64,
        cpu: of(|it| it.cpu.as_secs_f64()) * 1e6 / updates as f64,
        p50: of(|it| it.latencies.value_at_quantile(0.5) as f64) / 1e3,
        p99: of(|it| it.latencies.value_at_quantile(0.99) as f64) / 1e3,
        load: of(|it| it.load.as_secs_f64()),
        right: outcomes.iter().all(|it| it.answer == schedule.answer),
    }
}
