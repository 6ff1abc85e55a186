//! Counts words in windows of ten minutes, a new one every five: every word counts in two windows.
//!
//! ```sh
//! cargo run --example sliding_windows
//! ```
//!
//! Windows are `[start, end)` and begin at multiples of the slide: a word at 12:07 counts in 12:00–12:10 and in
//! 12:05–12:15, one at 12:10 no longer in 12:00–12:10. The watermark follows ten minutes behind the latest word, so
//! words may come that much out of order. In append mode a window is emitted once, when the watermark has passed its end.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use tidemill::ParseTimeError;
use tidemill::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Heard {
    at: EventTime,
    word: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let heard = [
        ("12:02", "cat dog"),
        ("12:03", "dog dog"),
        ("12:07", "owl cat"),
        ("12:11", "dog"),
        ("12:04", "cat"), // seven minutes out of order, and still in time
        ("12:13", "owl"),
        ("12:10", "owl"), // the first instant of 12:10–12:20
    ];
    let mut words = Vec::new();
    for (clock, text) in heard {
        let at = time(clock)?;
        words.extend(text.split(' ').map(|word| Heard { at, word: word.to_owned() }));
    }

    let graph = Graph::new("sliding_windows");
    let (sink, table) = memory_sink();
    graph
        .source(memory(words))
        .with_watermark(|heard| heard.at, 10 * MINUTE)
        .key_by(|heard| heard.word.clone())
        .window(sliding(10 * MINUTE, 5 * MINUTE))
        .count()
        .append()
        .sink(sink);
    graph.run(Options::default())?;

    let counts: BTreeMap<_, _> = table
        .snapshot()
        .into_iter()
        .map(|row| ((format!("{}–{}", clock(row.window.start), clock(row.window.end)), row.key), row.value))
        .collect();
    show(&counts);

    let expected = [
        ("11:55–12:05", "cat", 2),
        ("11:55–12:05", "dog", 3),
        ("12:00–12:10", "cat", 3),
        ("12:00–12:10", "dog", 3),
        ("12:00–12:10", "owl", 1),
        ("12:05–12:15", "cat", 1),
        ("12:05–12:15", "dog", 1),
        ("12:05–12:15", "owl", 3),
        ("12:10–12:20", "dog", 1),
        ("12:10–12:20", "owl", 2),
    ];
    let expected = expected.map(|(window, word, count)| ((window.to_owned(), word.to_owned()), count));
    if counts != BTreeMap::from(expected) {
        return Err("the counts are not what they should be".into());
    }
    println!("\nEvery count is as it should be.");
    Ok(())
}

/// Prints a row for each window and a column for each word.
fn show(counts: &BTreeMap<(String, String), u64>) {
    let windows: BTreeSet<_> = counts.keys().map(|(window, _)| window).collect();
    let words: BTreeSet<_> = counts.keys().map(|(_, word)| word).collect();
    print!("{:11}", "window");
    words.iter().for_each(|word| print!("{word:>5}"));
    println!();
    for window in windows {
        print!("{window}");
        for word in &words {
            let count = counts.get(&(window.clone(), (*word).clone()));
            print!("{:>5}", count.map_or("·".to_owned(), u64::to_string));
        }
        println!();
    }
}

/// The instant of a time of day.
fn time(clock: &str) -> Result<EventTime, ParseTimeError> {
    format!("2026-03-01T{clock}:00Z").parse()
}

/// The time of day of an instant.
fn clock(time: EventTime) -> String {
    time.to_string().chars().skip(11).take(5).collect()
}
