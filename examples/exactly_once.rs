//! A query that is killed again and again, and loses nothing and says nothing twice.
//!
//! ```sh
//! cargo run --release --example exactly_once
//! cargo run --release --example exactly_once -- --mode continuous --workers 2
//! cargo run --release --example exactly_once -- --checkpoint somewhere/new   # to look at it afterwards
//! ```
//!
//! The query counts visits by page and window into a directory of JSON Lines. It runs in a process of its own, which
//! this one kills (SIGKILL: the process is not asked) in the midst of its work, looks at what a reader of the directory
//! would see, and starts the same command again. With `--checkpoint` the query resumes at its last commit. All
//! the while every row that is to be seen is right and there once, and in the end all rows are there.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

const FILES: u64 = 600;
const VISITS: u64 = 12_000;
const WINDOW: Duration = Duration::from_secs(10);
/// How many times the process is killed.
const KILLS: u64 = 6;

/// Kills a query again and again, and shows that its result is exact.
#[derive(Parser)]
struct Args {
    /// Be the process that is killed: run the query in this directory.
    #[arg(long, hide = true)]
    query_in: Option<PathBuf>,

    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Serialize, Deserialize)]
struct Visit {
    page: u64,
    at: EventTime,
}

/// What the query says: how often a page was visited in a window.
#[derive(Serialize, Deserialize)]
struct Count {
    window: EventTime,
    page: u64,
    visits: u64,
}

type Counts = BTreeMap<(EventTime, u64), u64>;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    match &args.query_in {
        Some(directory) => run_query(directory, args.options),
        None => kill_and_look(args.options),
    }
}

/// The query: nothing in it knows of crashes.
fn run_query(directory: &Path, options: Options) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("exactly_once");
    graph
        .source(
            json_lines::<Visit>(format!("{}/visits-*.jsonl", directory.display())).bounded().partitions(4),
        )
        // As if each record were much work: else all is over before anyone can interfere.
        .inspect(|_| sleep(Duration::from_micros(100)))
        .with_watermark(|visit| visit.at, Duration::from_secs(60))
        .key_by(|visit| visit.page)
        .window(tumbling(WINDOW))
        .count()
        .append()
        .map(|row| Count { window: row.window.start, page: row.key, visits: row.value })
        .sink(json_lines_dir(directory.join("counts")).roll_every_epoch());

    let query = graph.start(options)?;
    let mut said = None;
    while !query.is_finished() {
        let epoch = query.progress().epoch;
        if let Some(epoch) = epoch.filter(|_| epoch != said) {
            println!("{epoch}");
        }
        said = epoch;
        sleep(Duration::from_millis(1));
    }
    println!("{}", query.wait()?.last.epoch.unwrap_or_default());
    Ok(())
}

/// Runs the query in processes that are killed, and then in one that is not.
fn kill_and_look(options: Options) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let expected = write_visits(directory.path())?;
    let checkpoint = options.checkpoint.clone().unwrap_or_else(|| directory.path().join("checkpoint"));
    if checkpoint.join("current").exists() {
        let said = format!("{} holds a checkpoint already: this needs a new place", checkpoint.display());
        return Err(said.into());
    }

    println!("{VISITS} visits, {} windows by page\n", expected.len());
    println!("{:>5}{:>12}{:>15}   end", "run", "last epoch", "rows visible");
    let mut killed = 0;
    for run in 1.. {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).arg("--query-in").arg(directory.path());
        if options.checkpoint.is_none() {
            command.arg("--checkpoint").arg(&checkpoint);
        }
        if options.max_records_per_epoch.is_none() {
            command.args(["--max-records-per-epoch", "100"]);
        }
        if options.checkpoint_interval == Options::default().checkpoint_interval {
            command.args(["--checkpoint-interval", "10ms"]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut epochs = BufReader::new(child.stdout.take().ok_or("the query has no output")?).lines();
        let mut last = None;
        if killed < KILLS {
            // After some epochs, and then somewhere in the midst of the next one.
            for epoch in epochs.by_ref().take(1 + run as usize % 3) {
                last = Some(epoch?);
            }
            sleep(Duration::from_micros(run * 1_700 % 9_000));
            child.kill()?;
        }
        // What it has said before it died, or all, if it is left alone.
        for epoch in epochs {
            last = Some(epoch?);
        }
        let status = child.wait()?;
        let rows = visible_rows(&directory.path().join("counts"), &expected)?;
        let end = if status.success() { "done".to_owned() } else { format!("{status}") };
        println!("{run:>5}{:>12}{rows:>15}   {end}", last.unwrap_or_default());
        if status.success() {
            if rows != expected.len() {
                return Err(format!("{rows} rows are there, and {} should be", expected.len()).into());
            }
            break;
        }
        if killed == KILLS {
            return Err("the query failed without being killed".into());
        }
        killed += 1;
    }
    if killed == 0 {
        return Err("the query was done before it could be killed: give it shorter epochs".into());
    }
    println!("\nTimes it was killed: {killed}. Nothing is lost, nothing is there twice.");
    Ok(())
}

/// How many rows a reader of the directory sees. Each must be right, and there once.
fn visible_rows(directory: &Path, expected: &Counts) -> Result<usize, Box<dyn Error>> {
    let mut seen = Counts::new();
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        // A file under way has a name that begins with a dot, which readers pass over.
        if file.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        for line in std::fs::read_to_string(file.path())?.lines() {
            let Count { window, page, visits } = serde_json::from_str(line)?;
            if seen.insert((window, page), visits).is_some() {
                return Err(format!("page {page} is there twice for {window}").into());
            }
            if expected.get(&(window, page)) != Some(&visits) {
                return Err(format!("page {page} had not {visits} visits in {window}").into());
            }
        }
    }
    Ok(seen.len())
}

/// Writes the input, each visit up to half a minute late, and counts it in a plain loop.
fn write_visits(directory: &Path) -> Result<Counts, Box<dyn Error>> {
    let mut counts = Counts::new();
    for file in 0..FILES {
        let mut text = String::new();
        for number in (file * VISITS / FILES)..((file + 1) * VISITS / FILES) {
            let scrambled = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let late = Duration::from_millis(scrambled % 30_000);
            let at = EventTime::from_secs(1_772_366_400) + Duration::from_millis(50 * number) - late;
            let visit = Visit { page: scrambled % 23, at };
            *counts.entry((tumbling(WINDOW).window_of(at).start, visit.page)).or_default() += 1;
            writeln!(text, "{}", serde_json::to_string(&visit)?)?;
        }
        std::fs::write(directory.join(format!("visits-{file:03}.jsonl")), text)?;
    }
    Ok(counts)
}
