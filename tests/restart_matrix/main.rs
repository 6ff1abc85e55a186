//! Every change of a setting or a type that can happen under one uid, between two runs on one checkpoint.
//!
//! Each row of the tables runs an old program, and then a new one on what the old one left. The new one is refused with a
//! message that names the difference, or its rows and those of the old run are what the new program alone would have
//! emitted. There is no third outcome.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

/// A program with an aggregate over all records of a key.
macro_rules! running {
    ($($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .key_by(|n| n % 3)
                .$($rest)*
                .uid("op")
                .map(|(key, value)| (key.to_string(), format!("{value:?}")))
                .sink(sink);
        }
    };
}

mod firings;
mod rows;
mod settings;
mod sketches;
mod types;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidemill::connectors::MemorySink;
use tidemill::prelude::*;

/// Rows of a result: the last value of each key is what counts.
type Row = (String, String);
/// A program: what it does with numbers, of which each is a second of event time too.
type Program = fn(Stream<i64>, MemorySink<Row>);

enum Outcome {
    /// The message has all of these parts.
    Refused(&'static [&'static str]),
    /// The same rows as if the new program had run all the time.
    Right,
}

struct Change {
    name: &'static str,
    old: Program,
    new: Program,
    outcome: Outcome,
}

fn refused(name: &'static str, old: Program, new: Program, parts: &'static [&'static str]) -> Change {
    Change { name, old, new, outcome: Outcome::Refused(parts) }
}

fn right(name: &'static str, old: Program, new: Program) -> Change {
    Change { name, old, new, outcome: Outcome::Right }
}

/// The input of the two runs: windows are open between them.
const RUNS: [std::ops::Range<i64>; 2] = [0..95, 95..400];

/// Runs the first program on the first part of the input and the second one on the rest, with one checkpoint.
fn run(programs: [Program; 2], workers: usize) -> Result<BTreeMap<String, String>, String> {
    let place = tempfile::tempdir().unwrap();
    let mut rows = BTreeMap::new();
    for (run, program) in programs.into_iter().enumerate() {
        rows.extend(run_once(place.path(), run, program, workers)?);
    }
    Ok(rows)
}

fn run_once(place: &Path, run: usize, program: Program, workers: usize) -> Result<Vec<Row>, String> {
    let input = place.join("in");
    fs::create_dir_all(&input).unwrap();
    let lines: String = RUNS[run].clone().map(|n| format!("{n}\n")).collect();
    fs::write(input.join(run.to_string()), lines).unwrap();
    let graph = Graph::new("matrix");
    let (sink, table) = memory_sink();
    let numbers = graph.source(text_files(input.display().to_string())).uid("in");
    program(numbers.map(|line| line.parse::<i64>().unwrap()).boxed(), sink);
    let options = Options::default()
        .without_ctrl_c()
        .with_workers(workers)
        .with_checkpoint(place.join("checkpoint"))
        // One epoch per run: what passes a deduplication depends on where the epochs end.
        .with_max_records_per_epoch(1_000)
        .with_trigger(Trigger::AvailableNow);
    graph.run(options).map_err(|error| error.to_string())?;
    Ok(table.snapshot())
}

#[test]
fn matrix_has_rows_for_settings_states_and_keys() {
    let tables = [
        [settings::windows(), settings::aggregates(), settings::watermarks()],
        [rows::deduplication(), rows::rankings(), rows::limits()],
        [firings::firings(), firings::counts(), firings::clocks()],
        [sketches::distinct_counts(), sketches::quantiles(), sketches::frequencies()],
    ];
    let tables = tables.into_iter().flatten().chain([types::states(), types::keys()]);
    let tables: Vec<usize> = tables.map(|table| table.len()).collect();
    assert!(tables.iter().all(|rows| *rows > 0) && tables.iter().sum::<usize>() >= 150, "{tables:?}");
}

/// Checks every row of a table, and names all that fail.
fn check(table: &[Change]) {
    let failed: Vec<String> = table
        .iter()
        .filter_map(|change| {
            // One worker runs the direct operator, two run the pair of local and merge.
            let results = [1, 2].map(|workers| verdict(change, workers));
            results.into_iter().find_map(Result::err).map(|problem| format!("{}: {problem}", change.name))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} changes:\n{}", failed.len(), table.len(), failed.join("\n"));
}

fn verdict(change: &Change, workers: usize) -> Result<(), String> {
    let changed = run([change.old, change.new], workers);
    match (&change.outcome, changed) {
        (Outcome::Refused(parts), Err(message)) => {
            let missing: Vec<_> = parts.iter().filter(|part| !message.contains(**part)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} is not in: {message}")) }
        }
        (Outcome::Refused(_), Ok(rows)) => Err(format!("was accepted: {rows:?}")),
        (Outcome::Right, Err(message)) => Err(format!("was refused: {message}")),
        (Outcome::Right, Ok(rows)) => {
            let expected = run([change.new, change.new], workers)?;
            if rows == expected { Ok(()) } else { Err(format!("{rows:?} instead of {expected:?}")) }
        }
    }
}
