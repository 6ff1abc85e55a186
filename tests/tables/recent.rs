//! Tables of the last rows of each key, by number and by event time, against plain loops.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tidemill::connectors::json_lines;
use tidemill::table::{IntoTable, Table};
use tidemill::testing::collecting_sink;
use tidemill::{EventTime, Graph, Mode, RowChange, Stream};

use crate::common::{available_now, run};
use crate::graphs::{Change, Outputs, content};
use crate::model::{Random, add};
use crate::results::assert_same;

/// (key, event time in seconds, value)
type Row = (u32, i64, u32);

const DELAY: i64 = 5;
const SPAN: i64 = 20;

/// Rows out of order by less than the delay.
fn rows(seed: u64) -> Vec<Row> {
    let mut random = Random(seed);
    let mut row =
        |number| (random.below(6) as u32, number + random.below(DELAY as u64) as i64, random.below(4) as u32);
    (0..300).map(|number| row(number / 3)).collect()
}

fn tables(rows: Stream<Row>) -> Stream<Change> {
    let last = rows.clone().key_by(|row| row.0).into_newest_table(3).uid("last");
    let timed = rows.with_watermark(|row| EventTime::from_secs(row.1), Duration::from_secs(DELAY as u64));
    let recent = timed.key_by(|row| row.0).into_recent_table(Duration::from_secs(SPAN as u64)).uid("recent");
    let changes = |name: &'static str, table: &Table<u32, Row>| {
        let words =
            move |change: RowChange<(u32, Row)>| (name.to_owned(), format!("{:?}", change.row), change.diff);
        table.changes().as_inserts().map(words).boxed()
    };
    changes("last", &last).union(changes("recent", &recent))
}

fn naive(rows: &[Row]) -> Outputs {
    let mut outputs = Outputs::new();
    let mut by_key: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.0).or_default().push(*row));
    let watermark = rows.iter().map(|row| row.1).max().unwrap() - DELAY;
    for (key, rows) in by_key {
        for row in rows.iter().rev().take(3) {
            add(&mut outputs, ("last".to_owned(), format!("{:?}", (key, row))), 1);
        }
        for row in rows.iter().filter(|row| row.1 + SPAN > watermark) {
            add(&mut outputs, ("recent".to_owned(), format!("{:?}", (key, row))), 1);
        }
    }
    outputs
}

#[test]
fn last_rows_by_number_and_by_time_survive_restarts() {
    let ways = [
        (Mode::MicroBatch, 1),
        (Mode::Continuous, 3),
        (Mode::MicroBatch, 2),
        (Mode::Continuous, 1),
        (Mode::MicroBatch, 4),
    ];
    for seed in 1..4 {
        let place = tempfile::tempdir().unwrap();
        let input = place.path().join("in");
        fs::create_dir(&input).unwrap();
        let (rows, mut found) = (rows(seed), Vec::new());
        for (number, (mode, workers)) in ways.into_iter().enumerate() {
            let until = (number + 1) * 60;
            let lines = rows[until - 60..until].iter().map(|row| serde_json::to_string(row).unwrap() + "\n");
            fs::write(input.join(number.to_string()), lines.collect::<String>()).unwrap();
            let graph = Graph::new("last rows");
            let (sink, changes) = collecting_sink();
            // With one partition the watermark is that of all rows.
            let source = json_lines::<Row>(input.display().to_string()).partitions(1);
            tables(graph.source(source).uid("in").boxed()).sink(sink);
            let options = available_now(mode, workers).with_checkpoint(place.path().join("checkpoint"));
            run(&graph, options.with_allow_loss().with_max_records_per_epoch(25)).unwrap();
            found.extend(changes.committed());
            assert_same(
                &content(&found),
                &naive(&rows[..until]),
                &format!("seed {seed}, run {number}, {mode}"),
            );
        }
    }
}

#[test]
fn tables_that_keep_nothing_are_refused() {
    let graph = Graph::new("nothing");
    let rows = graph.source(json_lines::<Row>("rows")).boxed();
    let none = rows.clone().key_by(|row| row.0).into_newest_table(0);
    none.changes().sink(collecting_sink().0);
    let timed = rows.with_watermark(|row| EventTime::from_secs(row.1), Duration::ZERO).key_by(|row| row.0);
    timed.into_recent_table(Duration::ZERO).changes().sink(collecting_sink().0);
    let said = graph.validate().unwrap_err().to_string();
    assert!(said.contains("keep at least one") && said.contains("span of the table is zero"), "{said}");
    assert_eq!(said.matches("recent.rs:").count(), 2, "{said}");
}
