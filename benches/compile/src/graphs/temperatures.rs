//! Average temperatures in sliding windows: from CSV to a directory of CSV.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tidemill::prelude::*;

use crate::check;
use crate::input::{self, Reading};

pub fn run(scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let mut text = "sensor,celsius,at\n".to_owned();
    for Reading { sensor, celsius, at } in input::readings(80) {
        text += &format!("{sensor},{celsius},{}\n", at.as_micros());
    }
    std::fs::write(scratch.join("readings.csv"), text)?;
    let out = scratch.join("averages");
    let graph = Graph::new("temperatures");
    graph
        .source(csv_files::<Reading>(scratch.join("readings.csv").display().to_string()).bounded())
        .with_watermark(|reading| reading.at, Duration::from_secs(1))
        .key_by(|reading| reading.sensor)
        .window(sliding(Duration::from_secs(40), Duration::from_secs(8)))
        .average(|reading| reading.celsius)
        .append()
        .filter(|row| {
            row.window.start >= EventTime::from_secs(0) && row.window.end <= EventTime::from_secs(80)
        })
        .map(|row| (row.key, row.window.start.as_micros() / 1_000_000, row.value))
        .sink(csv_dir(&out));
    graph.run(options.clone())?;

    let mut rows = Vec::new();
    for file in std::fs::read_dir(&out)? {
        let file = file?;
        if !file.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(file.path())?;
            rows.extend(text.lines().map(str::to_owned));
        }
    }
    let starts = (0..=40).step_by(8);
    let expected: Vec<String> = (0..4)
        .flat_map(|sensor| starts.clone().map(move |start| format!("{sensor},{start},{}.0", 22 + sensor)))
        .collect();
    check(rows, expected)
}
