//! What a checkpoint shows of windows that are open.

use std::time::Duration;

use serde_json::{Value, json};
use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::prelude::*;

use super::common::MODES;

#[test]
fn open_windows_of_a_key_are_shown() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let input = place.path().join("in");
        std::fs::create_dir_all(&input).unwrap();
        std::fs::write(input.join("a"), "1\n12\n13\n").unwrap();
        let graph = Graph::new("windows");
        let seconds = graph.source(text_files(input.display().to_string()));
        let seconds = seconds.map(|line| line.parse::<i64>().unwrap());
        let keyed =
            seconds.with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO).key_by(|_| 7u8);
        let windows =
            keyed.window(tumbling(Duration::from_secs(10))).allowed_lateness(Duration::from_secs(60));
        windows.count().firings().uid("counts").sink(memory_sink().0);
        let checkpoint = place.path().join("checkpoint");
        let options = Options::default().without_ctrl_c().with_mode(mode).with_workers(2);
        graph.run(options.with_checkpoint(&checkpoint).with_trigger(Trigger::AvailableNow)).unwrap();

        let storage = LocalDirectory::existing(&checkpoint).unwrap();
        let shown = inspect::of_key(&storage, None, "counts", "7").unwrap();
        let windows: Vec<(Value, Value, Value)> = shown.states["windows"]
            .iter()
            .map(|entry| {
                (entry.at.clone().unwrap(), entry.value["acc"].clone(), entry.value["is_closed"].clone())
            })
            .collect();
        // By end and start: one has closed and is kept for late records.
        let second = |n: i64| json!(n * 1_000_000);
        let expected = [
            (json!([second(10), second(0)]), json!(1), json!(true)),
            (json!([second(20), second(10)]), json!(2), json!(false)),
        ];
        assert_eq!(windows, expected, "{mode}");
        assert_eq!(shown.event_timers, [20, 70].map(|secs| secs * 1_000_000), "{mode}");
    }
}
