//! One query, stopped and continued with one worker, four and two, and in the other mode.
//!
//! ```sh
//! cargo run --release --example rescale
//! ```
//!
//! State is kept by key in 128 groups. A checkpoint does not care who wrote a group: each run's workers take up the
//! groups that are theirs now. So the number of workers, and the mode, may be another with each run.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::prelude::*;

const FILES: u64 = 400;
const RECORDS: u64 = 20_000;
const DEVICES: u64 = 400;

#[derive(Clone, Serialize, Deserialize)]
struct Measurement {
    device: u64,
    value: i64,
    at: EventTime,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    device: u64,
    window: EventTime,
    max: i64,
}

/// The greatest value of each device in sliding windows, and how often each was heard.
fn graph(directory: &Path, output: &Path) -> Graph {
    let graph = Graph::new("rescale");
    let measurements = graph
        .source(
            json_lines::<Measurement>(format!("{}/in-*.jsonl", directory.display())).bounded().partitions(4),
        )
        // As if it were much work, so that there is time to stop it.
        .inspect(|_| sleep(Duration::from_micros(30)))
        .with_watermark(|measurement| measurement.at, Duration::from_secs(300))
        .boxed();
    measurements
        .clone()
        .key_by(|measurement| measurement.device)
        .window(sliding(Duration::from_secs(120), Duration::from_secs(60)))
        .max(|measurement| measurement.value)
        .append()
        .uid("greatest")
        .map(|row| Row { device: row.key, window: row.window.start, max: row.value })
        .sink(json_lines_dir(output));
    measurements.key_by(|measurement| measurement.device).count().update().uid("heard").sink(discard().0);
    graph
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    write_measurements(directory.path())?;
    let (straight, output) = (directory.path().join("straight"), directory.path().join("rescaled"));
    let summary = graph(directory.path(), &straight).run(Options::default())?;
    let expected = rows(&straight)?;
    println!("{RECORDS} records, {} rows in a straight run, {} late\n", expected.len(), summary.late_rows);

    let checkpoint = directory.path().join("checkpoint");
    let ways = [(Mode::MicroBatch, 1), (Mode::MicroBatch, 4), (Mode::Continuous, 2), (Mode::MicroBatch, 2)];
    let mut read = 0;
    for (number, (mode, workers)) in ways.into_iter().enumerate() {
        let options = Options::default()
            .with_mode(mode)
            .with_workers(workers)
            .with_max_records_per_epoch(100)
            .with_checkpoint_interval(Duration::from_millis(20))
            .with_checkpoint(&checkpoint);
        let query = graph(directory.path(), &output).start(options)?;
        // All but the last run are stopped on the way.
        let enough = if number + 1 < ways.len() { RECORDS / 8 } else { u64::MAX };
        while !query.is_finished() && query.progress().total_input_rows < enough {
            sleep(Duration::from_millis(1));
        }
        query.stop();
        let summary = query.wait()?;
        read += summary.input_rows;
        println!("{mode}, workers: {workers}: {} records, {} late", summary.input_rows, summary.late_rows);
        show_state(&checkpoint)?;
    }

    if rows(&output)? != expected {
        return Err("the result is not that of the straight run".into());
    }
    if read != RECORDS {
        return Err(format!("{read} records were read instead of {RECORDS}").into());
    }
    println!("\nThe rows are those of the straight run: {}.", expected.len());
    Ok(())
}

/// What the last commit holds, by operator, and in whose files.
fn show_state(checkpoint: &Path) -> Result<(), Box<dyn Error>> {
    let details = inspect::show(&LocalDirectory::existing(checkpoint)?, None)?;
    for (uid, operator) in &details.operators {
        println!("    state of `{uid}`: {} entries, {} bytes", operator.entries, operator.bytes);
    }
    // A file's name is `state/<epoch>-<execution>-<worker>.delta`, or `.base`.
    let mut workers = BTreeMap::<&str, u64>::new();
    for file in &details.files {
        let parts = file.name.split('/').next_back().and_then(|name| name.split_once('.'));
        if let Some(worker) = parts.and_then(|(numbers, _)| numbers.split('-').nth(2)) {
            *workers.entry(worker).or_default() += file.bytes;
        }
    }
    let by_worker: Vec<_> =
        workers.iter().map(|(worker, bytes)| format!("worker {worker}: {bytes} bytes")).collect();
    println!("    written by {}", by_worker.join(", "));
    Ok(())
}

/// The rows in a directory, in order.
fn rows(directory: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        if !file.file_name().to_string_lossy().starts_with('.') {
            for line in std::fs::read_to_string(file.path())?.lines() {
                rows.push(serde_json::from_str(line)?);
            }
        }
    }
    rows.sort();
    Ok(rows)
}

fn write_measurements(directory: &Path) -> Result<(), Box<dyn Error>> {
    for file in 0..FILES {
        let mut text = String::new();
        for number in (file * RECORDS / FILES)..((file + 1) * RECORDS / FILES) {
            let scrambled = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let at = EventTime::from_secs(1_772_366_400) + Duration::from_millis(200 * number);
            let value = (scrambled % 1_000) as i64;
            let measurement = Measurement { device: scrambled % DEVICES, value, at };
            writeln!(text, "{}", serde_json::to_string(&measurement)?)?;
        }
        std::fs::write(directory.join(format!("in-{file:03}.jsonl")), text)?;
    }
    Ok(())
}
