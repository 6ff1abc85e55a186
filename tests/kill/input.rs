//! What the query reads, and what it has to say about it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is read from files, and what comes over the socket.
pub(crate) const FROM_FILES: u64 = 6_000;
pub(crate) const FROM_SOCKET: u64 = 3_000;
/// How many numbers a query without keys reads from files.
pub(crate) const NUMBERS: u64 = 30_000;
/// The length of a window and how far back a record may be, in microseconds.
pub(crate) const WINDOW: i64 = 1_000;
pub(crate) const DELAY: i64 = 250;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: u64,
    /// In microseconds.
    pub(crate) time: i64,
    pub(crate) value: u64,
}

/// A row of the results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) start: i64,
    pub(crate) key: u64,
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

/// The `n`th of `events` in a time that is the same for both sources: nearly in order, so that no record is late; or, if
/// `with_late`, now and then one that is.
pub(crate) fn event(n: u64, events: u64, with_late: bool) -> Event {
    let scrambled = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let back =
        if with_late && scrambled.is_multiple_of(11) { 4 * WINDOW } else { scrambled as i64 % (DELAY - 50) };
    let time = 1_000_000 + (n * 60_000 / events) as i64 - back;
    Event { key: scrambled % 13, time, value: scrambled % 1_000 }
}

/// Writes rows into files of a directory, which are read in the order of their names.
pub(crate) fn write_files(dir: &Path, rows: impl Iterator<Item = impl Serialize>, per_file: usize) {
    std::fs::create_dir_all(dir).unwrap();
    let lines: Vec<String> = rows.map(|row| serde_json::to_string(&row).unwrap() + "\n").collect();
    for (number, lines) in lines.chunks(per_file).enumerate() {
        std::fs::write(dir.join(format!("{number:03}.jsonl")), lines.concat()).unwrap();
    }
}

/// The rows that a plain loop finds if no record is late, sorted.
pub(crate) fn counted(events: impl Iterator<Item = Event>) -> Vec<String> {
    let mut windows = BTreeMap::<(i64, u64), (u64, u64)>::new();
    for event in events {
        let start = event.time.div_euclid(WINDOW) * WINDOW;
        let (count, sum) = windows.entry((start, event.key)).or_default();
        *count += 1;
        *sum += event.value;
    }
    let rows = windows.into_iter().map(|((start, key), (count, sum))| Row { start, key, count, sum });
    let mut rows: Vec<String> = rows.map(|row| serde_json::to_string(&row).unwrap()).collect();
    rows.sort();
    rows
}

/// The rows that a reader of a directory finds, sorted; none if there is no directory yet.
pub(crate) fn visible(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for file in std::fs::read_dir(dir).into_iter().flatten() {
        let path = file.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.ends_with('\n'), "{}: half a row", path.display());
            rows.extend(text.lines().map(str::to_owned));
        }
    }
    rows.sort();
    rows
}

/// This many rows are shown of a difference.
const SOME: usize = 10;

/// Some of what `rows` has more often than `all`.
pub(crate) fn beyond<'a>(rows: &'a [String], all: &[String]) -> Vec<&'a str> {
    let mut left = BTreeMap::<&str, usize>::new();
    for row in all {
        *left.entry(row).or_default() += 1;
    }
    let mut beyond = Vec::new();
    for row in rows {
        match left.get_mut(row.as_str()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => beyond.push(row.as_str()),
        }
    }
    beyond.truncate(SOME);
    beyond
}
