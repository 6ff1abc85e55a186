//! The joins that Apache Spark has computed: row for row the same here.
//!
//! In micro-batch one epoch is one file of each side, as it was one batch in Spark. In continuous mode the watermark moves
//! with every row and in another order each time, so which rows are late differs; but the result follows from those that are not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill::connectors::MemoryTable;
use tidemill::prelude::*;

use super::common::{assert_same, available_now, run_well, sorted};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    ts: String,
    key: String,
    value: i64,
}

impl Row {
    fn time(&self) -> EventTime {
        self.ts.parse().unwrap()
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const DELAYS: [Duration; 2] = [MINUTE.saturating_mul(10), MINUTE.saturating_mul(5)];
const SIDES: [&str; 2] = ["left", "right"];

fn folder(scenario: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(scenario)
}

/// The files of a side, in order, with their rows.
fn input(scenario: &str, side: &str) -> Vec<(PathBuf, Vec<Row>)> {
    let entries = std::fs::read_dir(folder(scenario).join(side)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let rows = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    files.iter().map(|path| (path.clone(), rows(path))).collect()
}

/// A copy whose files have changed one after the other.
fn copy(scenario: &str, side: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let begin = SystemTime::now() - Duration::from_secs(3_600);
    for (n, (path, _)) in input(scenario, side).iter().enumerate() {
        let to = directory.path().join(path.file_name().unwrap());
        std::fs::copy(path, &to).unwrap();
        let file = std::fs::File::options().write(true).open(&to).unwrap();
        file.set_modified(begin + Duration::from_secs(n as u64)).unwrap();
    }
    directory
}

struct Query {
    graph: Graph,
    results: MemoryTable<String>,
    late: [MemoryTable<Row>; 2],
    _directories: [tempfile::TempDir; 2],
}

fn text(left: &Row, right: Option<&Row>) -> String {
    let (ts, key, value) = match right {
        Some(right) => (json!(right.ts), json!(right.key), json!(right.value)),
        None => (Value::Null, Value::Null, Value::Null),
    };
    json!({"lts": left.ts, "lkey": left.key, "lvalue": left.value, "rts": ts, "rkey": key, "rvalue": value})
        .to_string()
}

fn query(scenario: &str) -> Query {
    let directories = SIDES.map(|side| copy(scenario, side));
    let graph = Graph::new(scenario);
    let side = |n: usize| {
        let files = json_lines::<Row>(directories[n].path().display().to_string()).max_files_per_epoch(1);
        graph.source(files).with_watermark(Row::time, DELAYS[n]).key_by(|row| row.key.clone())
    };
    let join = side(0).join(side(1)).within(Bounds::after(Duration::ZERO..=MINUTE * 15));
    let (sink, results) = memory_sink();
    let (left, right) = if scenario == "join_inner" {
        let (rows, left, right) = join.inner_with_late();
        rows.map(|(_, left, right)| text(&left, Some(&right))).sink(sink);
        (left, right)
    } else {
        let (rows, left, right) = join.left_outer_with_late();
        rows.map(|(_, left, right)| text(&left, right.as_ref())).sink(sink);
        (left, right)
    };
    let late = [left, right].map(|stream| {
        let (sink, table) = memory_sink();
        stream.sink(sink);
        table
    });
    Query { graph, results, late, _directories: directories }
}

fn expected(scenario: &str) -> Vec<String> {
    let lines = std::fs::read_to_string(folder(scenario).join("expected.jsonl")).unwrap();
    // Spark leaves out the fields that are null.
    let normal = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for field in ["rts", "rkey", "rvalue"] {
            if row.get(field).is_none() {
                row[field] = Value::Null;
            }
        }
        row.to_string()
    };
    sorted(lines.lines().map(normal).collect())
}

/// The result of the rows that are not late, when the watermark is where both sides have left it.
fn followed(scenario: &str, late: &[BTreeSet<Row>; 2]) -> Vec<String> {
    let all =
        SIDES.map(|side| input(scenario, side).into_iter().flat_map(|(_, rows)| rows).collect::<Vec<_>>());
    let ends = [0, 1].map(|n| all[n].iter().map(Row::time).max().unwrap() - DELAYS[n]);
    let watermark = ends[0].min(ends[1]);
    let in_time = [0, 1].map(|n| all[n].iter().filter(|row| !late[n].contains(row)).collect::<Vec<_>>());
    let mut rows = vec![];
    for left in &in_time[0] {
        let until = left.time() + MINUTE * 15;
        let matches = |right: &&&Row| right.key == left.key && (left.time()..=until).contains(&right.time());
        let pairs: Vec<_> = in_time[1].iter().filter(matches).collect();
        rows.extend(pairs.iter().map(|right| text(left, Some(right))));
        if scenario == "join_leftOuter" && pairs.is_empty() && until < watermark {
            rows.push(text(left, None));
        }
    }
    sorted(rows)
}

fn late_rows(query: &Query) -> [BTreeSet<Row>; 2] {
    [0, 1].map(|n| query.late[n].snapshot().into_iter().collect())
}

fn check(scenario: &str) {
    for workers in [1, 2, 4] {
        let micro_batch = query(scenario);
        let summary = run_well(&micro_batch.graph, available_now(Mode::MicroBatch, workers));
        let what = format!("{scenario}, {workers} workers");
        assert_same(&sorted(micro_batch.results.snapshot()), &expected(scenario), what.clone());
        let late = late_rows(&micro_batch);
        assert!(summary.late_rows > 0 && summary.late_rows == (late[0].len() + late[1].len()) as u64);

        let continuous = query(scenario);
        let summary = run_well(&continuous.graph, available_now(Mode::Continuous, workers));
        let late = late_rows(&continuous);
        assert_eq!(summary.late_rows, (late[0].len() + late[1].len()) as u64);
        // A row is late only behind rows of its own side.
        for n in [0, 1] {
            let mut watermark = EventTime::MIN;
            for row in input(scenario, SIDES[n]).into_iter().flat_map(|(_, rows)| rows) {
                assert!(
                    row.time() < watermark || !late[n].contains(&row),
                    "{what}: in time, but late: {row:?}"
                );
                watermark = watermark.max(row.time() - DELAYS[n]);
            }
        }
        assert_same(&sorted(continuous.results.snapshot()), &followed(scenario, &late), what);
    }
}

#[test]
fn inner_join_is_that_of_spark() {
    check("join_inner");
}

#[test]
fn left_outer_join_is_that_of_spark() {
    check("join_leftOuter");
}
