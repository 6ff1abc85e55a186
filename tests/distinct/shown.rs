//! What a checkpoint shows of a key that is remembered.

use std::time::Duration;

use serde_json::{Value, json};
use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::prelude::*;

use super::common::MODES;

#[test]
fn key_is_shown_with_the_end_of_its_memory() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let input = place.path().join("in");
        std::fs::create_dir_all(&input).unwrap();
        std::fs::write(input.join("a"), "1 5\n2 7\n1 6\n").unwrap();
        let graph = Graph::new("shown");
        let rows = graph.source(text_files(input.display().to_string())).map(|line| {
            let (key, second) = line.split_once(' ').unwrap();
            (key.parse::<u32>().unwrap(), second.parse::<i64>().unwrap())
        });
        let rows = rows.with_watermark(|row| EventTime::from_secs(row.1), Duration::from_secs(60)).boxed();
        let by_key = || rows.clone().key_by(|row| row.0);
        by_key().distinct().uid("by-time").sink(memory_sink().0);
        by_key().distinct_within_watermark().uid("within").sink(memory_sink().0);
        by_key().distinct_for(Duration::from_secs(3_600)).uid("for").sink(memory_sink().0);
        let checkpoint = place.path().join("checkpoint");
        let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(2);
        graph.run(options.with_checkpoint(&checkpoint).with_trigger(Trigger::AvailableNow)).unwrap();

        let storage = LocalDirectory::existing(&checkpoint).unwrap();
        let seen = |uid: &str, key: &str| -> Vec<Value> {
            let shown = inspect::of_key(&storage, None, uid, key).unwrap();
            shown.states.get("seen").into_iter().flatten().map(|entry| entry.value.clone()).collect()
        };
        assert_eq!(seen("by-time", "[1, 5000000]"), [Value::Null], "{mode}");
        assert_eq!(seen("by-time", "[1, 7000000]"), [] as [Value; 0]);
        assert_eq!(seen("within", "1"), [json!(65_000_000)]);
        assert_eq!(seen("for", "2"), [Value::Null]);
        assert_eq!(seen("for", "3"), [] as [Value; 0]);
    }
}
