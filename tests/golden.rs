//! Queries whose results Apache Spark has computed: row for row the same here, with any number of workers.
//!
//! In continuous mode the watermark moves within a file, so a row may be late there that Spark, whose watermark moves
//! between files, still took. How far the results may differ by that is worked out from the input.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidemill::aggregate::{Count, Max, Min, Sum};
use tidemill::connectors::{JsonLines, MemoryTable, json_lines, memory, memory_sink};
use tidemill::{
    Epoch, EventStream, EventTime, Graph, Mode, StaticSide, Stream, Window, session, sliding, tumbling,
};

use common::{assert_same, available_now, run_well};

const WORKERS: [usize; 3] = [1, 2, 4];
const DELAY: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// RFC 3339 with six digits of fraction, as the golden files have it.
fn micros(time: EventTime) -> String {
    let text = time.to_string();
    let (seconds, fraction) = text.trim_end_matches('Z').split_once('.').map_or_else(
        || (text.trim_end_matches('Z').to_owned(), String::new()),
        |(s, f)| (s.to_owned(), f.to_owned()),
    );
    format!("{seconds}.{fraction:0<6}Z")
}

fn folder(scenario: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(scenario)
}

fn expected(scenario: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder(scenario).join("expected.jsonl")).unwrap();
    let normal = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap().to_string();
    common::sorted(text.lines().map(normal).collect())
}

/// The input files, in order, with their rows.
fn input(scenario: &str) -> Vec<(PathBuf, Vec<Row>)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder(scenario).join("left")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let rows = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    files.iter().map(|path| (path.clone(), rows(path))).collect()
}

/// A copy of the input whose files have changed one after the other: a checkout gives them any time.
fn copy(scenario: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let begin = SystemTime::now() - Duration::from_secs(3_600);
    for (n, (path, _)) in input(scenario).iter().enumerate() {
        let to = directory.path().join(path.file_name().unwrap());
        std::fs::copy(path, &to).unwrap();
        let file = std::fs::File::options().write(true).open(&to).unwrap();
        file.set_modified(begin + Duration::from_secs(n as u64)).unwrap();
    }
    directory
}

fn rows_of(directory: &Path) -> JsonLines<Row> {
    json_lines::<Row>(directory.display().to_string()).max_files_per_epoch(1)
}

/// A row of a result: what it is about, and what it says.
type Said = (String, String);

struct Query {
    graph: Graph,
    results: MemoryTable<Said>,
    late: MemoryTable<Row>,
    _directory: tempfile::TempDir,
}

fn said(window: &Window, key: (&str, &str), mut fields: serde_json::Value) -> Said {
    fields["start"] = json!(micros(window.start));
    fields["end"] = json!(micros(window.end));
    fields[key.0] = json!(key.1);
    (format!("{} {}", micros(window.start), key.1), fields.to_string())
}

/// A row of the deduplication.
fn pair(row: &Row) -> String {
    json!({"key": row.key, "ts": row.ts}).to_string()
}

fn group_of(key: &str) -> Option<String> {
    let number: u32 = key.strip_prefix('k')?.parse().ok()?;
    (number < 7).then(|| format!("group-{}", number % 3))
}

fn query(scenario: &str) -> Query {
    let directory = copy(scenario);
    let graph = Graph::new(scenario);
    let rows = graph.source(rows_of(directory.path())).boxed();
    let (sink, results) = memory_sink();
    let (late_sink, late) = memory_sink();
    let timed = |rows: Stream<Row>| rows.with_watermark(Row::time, DELAY);
    let count_and_sum = || (Count::new(), Sum::of(|r: &Row| r.value));
    let ten = Duration::from_secs(600);
    match scenario {
        "count_complete" => {
            rows.key_by(|r| r.key.clone())
                .aggregate(count_and_sum())
                .complete()
                .map(|(key, (count, sum))| {
                    (key.clone(), json!({"key": key, "count": count, "sum": sum}).to_string())
                })
                .sink(sink);
        }
        "dedup" => {
            let (main, side) = timed(rows).key_by(|r| r.key.clone()).distinct_with_late();
            // Which of the rows with one key and time comes first depends on the workers, and differs in nothing else that is
            // compared: Spark has kept these two columns only.
            main.map(|r| (String::new(), pair(&r))).sink(sink);
            side.sink(late_sink);
        }
        "session_append" => {
            let (main, side) = timed(rows)
                .key_by(|r| r.key.clone())
                .window(session(Duration::from_secs(300)))
                .aggregate(count_and_sum())
                .append_with_late();
            main.map(|r| said(&r.window, ("key", &r.key), json!({"count": r.value.0, "sum": r.value.1})))
                .sink(sink);
            side.sink(late_sink);
        }
        "sliding_append" => {
            let (main, side) = timed(rows)
                .key_by(|r| r.key.clone())
                .window(sliding(ten, ten / 2))
                .aggregate((Count::new(), Min::of(|r: &Row| r.value), Max::of(|r: &Row| r.value)))
                .append_with_late();
            main.map(|r| {
                let (count, min, max) = r.value;
                said(&r.window, ("key", &r.key), json!({"count": count, "min": min, "max": max}))
            })
            .sink(sink);
            side.sink(late_sink);
        }
        "static_join" => {
            let groups = (0..7).map(|n| format!("k{n}")).map(|key| (group_of(&key).unwrap(), key));
            let (main, side) = timed(rows)
                .key_by(|r| r.key.clone())
                .join_static(StaticSide::read(memory(groups), |(_, key)| key.clone()))
                .inner()
                .map(|(_, row, (key, _))| Row { key, ..row })
                .key_by(|r| r.key.clone())
                .window(tumbling(ten))
                .count()
                .append_with_late();
            main.map(|r| said(&r.window, ("grp", &r.key), json!({"count": r.value}))).sink(sink);
            side.sink(late_sink);
        }
        "tumbling_append" | "tumbling_update" => {
            let windows =
                timed(rows).key_by(|r| r.key.clone()).window(tumbling(ten)).aggregate(count_and_sum());
            let (main, side): (EventStream<_>, _) = match scenario {
                "tumbling_append" => windows.append_with_late(),
                _ => windows.update_with_late(),
            };
            main.map(|r| said(&r.window, ("key", &r.key), json!({"count": r.value.0, "sum": r.value.1})))
                .sink(sink);
            side.sink(late_sink);
        }
        other => panic!("no scenario {other}"),
    }
    Query { graph, results, late, _directory: directory }
}

/// In update mode the last row of each window and key counts.
fn last(rows: Vec<Said>) -> Vec<String> {
    rows.into_iter().collect::<BTreeMap<_, _>>().into_values().collect()
}

fn texts(scenario: &str, rows: Vec<Said>) -> Vec<String> {
    common::sorted(match scenario {
        "tumbling_update" => last(rows),
        _ => rows.into_iter().map(|(_, text)| text).collect(),
    })
}

/// How far a row keeps its windows open: the last end of those that it is in.
fn last_end(scenario: &str, time: EventTime) -> EventTime {
    let ten = Duration::from_secs(600);
    match scenario {
        // A row is late once the watermark has passed it.
        "dedup" => time + Duration::from_micros(1),
        // A row at the very end of a session belongs to it: its watermark stays a microsecond behind.
        "session_append" => session(Duration::from_secs(300)).span_of(time).end + Duration::from_micros(1),
        "sliding_append" => sliding(ten, ten / 2).windows_of(time).last().unwrap().end,
        _ => tumbling(ten).window_of(time).end,
    }
}

/// The rows that come to the windows: in one scenario a join drops some, behind the watermark.
fn seen(scenario: &str, rows: Vec<Row>) -> Vec<Row> {
    match scenario {
        "static_join" => {
            rows.into_iter().filter_map(|row| group_of(&row.key).map(|key| Row { key, ..row })).collect()
        }
        _ => rows,
    }
}

/// The late rows where the watermark moves between files.
fn late_by_file(scenario: &str) -> Vec<String> {
    let (mut watermark, mut late) = (EventTime::MIN, Vec::new());
    for (_, rows) in input(scenario) {
        let end = rows.iter().map(Row::time).max().map_or(watermark, |t| watermark.max(t - DELAY));
        late.extend(
            seen(scenario, rows)
                .iter()
                .filter(|r| last_end(scenario, r.time()) <= watermark)
                .map(|r| format!("{r:?}")),
        );
        watermark = end;
    }
    common::sorted(late)
}

fn micro_batch(scenario: &str) {
    for workers in WORKERS {
        let query = query(scenario);
        let summary = run_well(&query.graph, available_now(Mode::MicroBatch, workers));
        let read: usize = input(scenario).iter().map(|(_, rows)| rows.len()).sum();
        assert_eq!(summary.input_rows, read as u64);
        assert_eq!(summary.epochs, 8, "one file is one epoch");
        assert_same(
            &texts(scenario, query.results.snapshot()),
            &expected(scenario),
            format!("{workers} workers"),
        );
        if scenario == "count_complete" {
            assert_eq!(summary.late_rows, 0);
            continue;
        }
        let late = common::sorted(query.late.snapshot().iter().map(|r| format!("{r:?}")).collect());
        assert!(!late.is_empty());
        assert_same(&late, &late_by_file(scenario), format!("late, {workers} workers"));
        assert_eq!(summary.late_rows, late.len() as u64);
    }
}

#[test]
fn counts_by_key_are_those_of_spark() {
    micro_batch("count_complete");
}

#[test]
fn first_rows_of_key_and_time_are_those_of_spark() {
    micro_batch("dedup");
}

#[test]
fn continuous_deduplication_has_all_rows_in_time() {
    let may_be_late = late_by_row("dedup");
    for workers in WORKERS {
        let query = query("dedup");
        let summary = run_well(&query.graph, available_now(Mode::Continuous, workers));
        let late = query.late.snapshot();
        assert_eq!(summary.late_rows, late.len() as u64);
        let mut in_time: Vec<Row> = input("dedup").into_iter().flat_map(|(_, rows)| rows).collect();
        for row in &late {
            let text = format!("{row:?}");
            assert!(may_be_late.contains(&text), "{workers} workers: late, but came in time: {text}");
            // A duplicate may be late when the first is not.
            let at = in_time.iter().position(|other| format!("{other:?}") == text).unwrap();
            in_time.remove(at);
        }
        let expected: BTreeSet<String> = in_time.iter().map(pair).collect();
        let expected: Vec<String> = expected.into_iter().collect();
        assert_same(&texts("dedup", query.results.snapshot()), &expected, format!("{workers} workers"));
    }
}

#[test]
fn sessions_are_those_of_spark() {
    micro_batch("session_append");
}

#[test]
fn sliding_windows_are_those_of_spark() {
    micro_batch("sliding_append");
}

#[test]
fn windows_behind_a_static_join_are_those_of_spark() {
    micro_batch("static_join");
}

#[test]
fn tumbling_windows_are_those_of_spark() {
    micro_batch("tumbling_append");
}

#[test]
fn the_last_updates_of_tumbling_windows_are_those_of_spark() {
    micro_batch("tumbling_update");
}

#[test]
fn every_row_is_in_the_last_update_of_its_window_or_late() {
    for mode in common::MODES {
        for workers in WORKERS {
            let query = query("tumbling_update");
            let summary = run_well(&query.graph, available_now(mode, workers));
            let count = |text: &String| {
                serde_json::from_str::<serde_json::Value>(text).unwrap()["count"].as_u64().unwrap()
            };
            let counted: u64 = texts("tumbling_update", query.results.snapshot()).iter().map(count).sum();
            assert_eq!(counted + summary.late_rows, summary.input_rows, "{mode:?}, {workers} workers");
            assert_eq!(summary.late_rows, query.late.snapshot().len() as u64);
        }
    }
}

#[test]
fn an_update_says_every_changed_window_once_in_an_epoch() {
    for workers in WORKERS {
        let query = query("tumbling_update");
        run_well(&query.graph, available_now(Mode::MicroBatch, workers));
        for (epoch, rows) in query.results.by_epoch() {
            let distinct: BTreeSet<&String> = rows.iter().map(|(about, _)| about).collect();
            assert_eq!(distinct.len(), rows.len(), "epoch {epoch}, {workers} workers");
        }
    }
}

#[test]
fn counts_by_key_are_those_of_spark_in_continuous_mode_too() {
    for workers in WORKERS {
        let query = query("count_complete");
        run_well(&query.graph, available_now(Mode::Continuous, workers));
        assert_eq!(texts("count_complete", query.results.snapshot()), expected("count_complete"));
    }
}

/// The rows that are late if the watermark moves with every row, in the order of the files: no other may be.
fn late_by_row(scenario: &str) -> BTreeSet<String> {
    let (mut watermark, mut late) = (EventTime::MIN, BTreeSet::new());
    for (_, rows) in input(scenario) {
        for row in rows {
            let time = row.time();
            if last_end(scenario, time) <= watermark {
                late.extend(seen(scenario, vec![row]).iter().map(|row| format!("{row:?}")));
            }
            watermark = watermark.max(time - DELAY);
        }
    }
    late
}

/// The results of the windows (not sessions) if these rows are late and the watermark ends where the greatest time
/// puts it.
fn windows_without(scenario: &str, late: &BTreeSet<String>) -> Vec<Said> {
    let ten = Duration::from_secs(600);
    let all: Vec<Row> = input(scenario).into_iter().flat_map(|(_, rows)| rows).collect();
    let watermark = all.iter().map(Row::time).max().unwrap() - DELAY;
    let all = seen(scenario, all);
    let mut windows: BTreeMap<(Window, String), Vec<i64>> = BTreeMap::new();
    for row in all.iter().filter(|r| !late.contains(&format!("{r:?}"))) {
        let of: Vec<Window> = match scenario {
            "sliding_append" => sliding(ten, ten / 2).windows_of(row.time()).collect(),
            _ => vec![tumbling(ten).window_of(row.time())],
        };
        for window in of {
            windows.entry((window, row.key.clone())).or_default().push(row.value);
        }
    }
    windows
        .into_iter()
        .filter(|((window, _), _)| scenario == "tumbling_update" || window.end <= watermark)
        .map(|((window, key), values)| {
            let (count, sum) = (values.len(), values.iter().sum::<i64>());
            match scenario {
                "sliding_append" => said(
                    &window,
                    ("key", &key),
                    json!({"count": count, "min": values.iter().min(), "max": values.iter().max()}),
                ),
                "static_join" => said(&window, ("grp", &key), json!({"count": count})),
                _ => said(&window, ("key", &key), json!({"count": count, "sum": sum})),
            }
        })
        .collect()
}

/// In continuous mode: the late rows are among those that may be, and the results follow from the others.
fn continuous(scenario: &str) {
    let may_be_late = late_by_row(scenario);
    for workers in WORKERS {
        let query = query(scenario);
        let summary = run_well(&query.graph, available_now(Mode::Continuous, workers));
        let late: BTreeSet<String> = query.late.snapshot().iter().map(|r| format!("{r:?}")).collect();
        assert_eq!(summary.late_rows, late.len() as u64);
        let wrong: Vec<_> = late.difference(&may_be_late).collect();
        assert!(wrong.is_empty(), "{workers} workers: late, but came in time: {wrong:?}");
        let said = texts(scenario, query.results.snapshot());
        if scenario == "sliding_append" {
            // A row that came too late for one of its windows, but not for the other, is in no list: see below.
            continue;
        }
        let followed = texts(scenario, windows_without(scenario, &late));
        assert_same(&said, &followed, format!("{scenario}, {workers} workers"));
    }
}

#[test]
fn continuous_tumbling_windows_have_all_rows_in_time() {
    continuous("tumbling_append");
    continuous("static_join");
}

#[test]
fn continuous_updates_have_all_rows_in_time() {
    continuous("tumbling_update");
}

#[test]
fn continuous_sliding_row_in_time_is_not_late() {
    continuous("sliding_append");
}

#[test]
fn continuous_sessions_differ_only_by_late_rows() {
    let scenario = "session_append";
    let may_be_late = late_by_row(scenario);
    let by_file: BTreeSet<String> = late_by_file(scenario).into_iter().collect();
    // Keys all of whose rows are late, or not, whichever way the watermark moves.
    let all: Vec<Row> = input(scenario).into_iter().flat_map(|(_, rows)| rows).collect();
    let unsure: BTreeSet<&str> = all
        .iter()
        .filter(|r| may_be_late.contains(&format!("{r:?}")))
        .filter(|r| !by_file.contains(&format!("{r:?}")))
        .map(|r| r.key.as_str())
        .collect();
    let sure = |text: &String| {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        !unsure.contains(value["key"].as_str().unwrap())
    };
    for workers in WORKERS {
        let query = query(scenario);
        run_well(&query.graph, available_now(Mode::Continuous, workers));
        let late: BTreeSet<String> = query.late.snapshot().iter().map(|r| format!("{r:?}")).collect();
        assert!(late.is_subset(&may_be_late), "{workers} workers");
        // A row that Spark finds hours late may be taken here, if nothing that came before had moved the watermark.
        let taken: BTreeSet<&str> = all
            .iter()
            .filter(|r| by_file.contains(&format!("{r:?}")) && !late.contains(&format!("{r:?}")))
            .map(|r| r.key.as_str())
            .collect();
        let known = |text: &String| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            sure(text) && !taken.contains(value["key"].as_str().unwrap())
        };
        let said: Vec<String> = texts(scenario, query.results.snapshot()).into_iter().filter(known).collect();
        let spark: Vec<String> = expected(scenario).into_iter().filter(known).collect();
        assert!(!spark.is_empty() || !taken.is_empty());
        assert_same(&said, &spark, format!("{workers} workers"));
    }
}

#[test]
fn golden_epoch_commits_with_watermark_of_its_file() {
    let query = query("tumbling_append");
    run_well(&query.graph, available_now(Mode::MicroBatch, 2));
    let mut watermark = EventTime::MIN;
    let mut ends: BTreeMap<Epoch, (EventTime, EventTime)> = BTreeMap::new();
    for (n, (_, rows)) in input("tumbling_append").into_iter().enumerate() {
        let end = rows.iter().map(Row::time).max().map_or(watermark, |t| watermark.max(t - DELAY));
        ends.insert(Epoch::new(n as u64), (watermark, end));
        watermark = end;
    }
    for (epoch, rows) in query.results.by_epoch() {
        let (begin, end) = ends[&epoch];
        for (_, text) in rows {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let closes: EventTime = value["end"].as_str().unwrap().parse().unwrap();
            assert!(begin < closes && closes <= end, "epoch {epoch}: {text}");
        }
    }
}
