//! Fifteen graphs of the usual kinds. Each runs in both modes, with one and with two workers, and checks its results.

mod graphs;
mod input;

use std::error::Error;
use std::path::Path;

use tidemill::prelude::*;

/// What a graph is given: a directory of its own, and how to run.
type Run = fn(&Path, &Options) -> Result<(), Box<dyn Error>>;

const GRAPHS: [(&str, Run); 15] = [
    ("page views", graphs::page_views::run),
    ("word count", graphs::word_count::run),
    ("revenue", graphs::revenue::run),
    ("temperatures", graphs::temperatures::run),
    ("sessions", graphs::sessions::run),
    ("paid orders", graphs::paid_orders::run),
    ("clicks of ads", graphs::clicks_of_ads::run),
    ("unpaid orders", graphs::unpaid_orders::run),
    ("top products", graphs::top_products::run),
    ("access log", graphs::access_log::run),
    ("two sources", graphs::two_sources::run),
    ("totals", graphs::totals::run),
    ("alarms", graphs::alarms::run),
    ("stock", graphs::stock::run),
    ("late visits", graphs::late_visits::run),
];

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2] {
            let options = Options::default().with_mode(mode).with_workers(workers);
            for (name, run) in GRAPHS {
                let scratch = directory.path().join(format!("{name} {mode} {workers}"));
                std::fs::create_dir(&scratch)?;
                run(&scratch, &options)
                    .map_err(|error| format!("{name}, {mode}, {workers} workers: {error}"))?;
            }
        }
    }
    println!("{} graphs, each in both modes with one and two workers: all results are right", GRAPHS.len());
    Ok(())
}

/// Fails unless the rows, in any order, are these.
fn check<T: std::fmt::Debug>(rows: Vec<T>, expected: Vec<T>) -> Result<(), Box<dyn Error>> {
    let texts = |rows: Vec<T>| rows.iter().map(|row| format!("{row:?}")).collect();
    compare(texts(rows), texts(expected))
}

fn compare(mut rows: Vec<String>, mut expected: Vec<String>) -> Result<(), Box<dyn Error>> {
    rows.sort();
    expected.sort();
    if rows == expected { Ok(()) } else { Err(format!("{rows:?} instead of {expected:?}").into()) }
}
