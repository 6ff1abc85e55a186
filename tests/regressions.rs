//! Bugs that were, each under the name of what must not happen again.

use std::time::Duration;

use tidemill::prelude::*;

/// In continuous mode a worker read a block of each of its slices in turn, and took the times of the last one for those
/// of all: rows of the others, in order in the file, came out late.
#[test]
fn ordered_file_of_many_blocks_has_no_late_rows() {
    let directory = tempfile::tempdir().unwrap();
    let rows = 300_000u64;
    let text: String = (0..rows).map(|n| format!("{n}\n")).collect();
    std::fs::write(directory.path().join("numbers.txt"), &text).unwrap();
    for (mode, workers) in
        [(Mode::MicroBatch, 2), (Mode::Continuous, 1), (Mode::Continuous, 2), (Mode::Continuous, 3)]
    {
        let graph = Graph::new("blocks");
        let (sink, windows) = memory_sink();
        graph
            .source(text_files(directory.path().display().to_string()).bounded())
            .map(|line| line.parse::<i64>().unwrap())
            .with_watermark(|n| EventTime::from_secs(*n), Duration::from_secs(10))
            .key_by(|n| n % 2)
            .window(tumbling(Duration::from_secs(60)))
            .count()
            .append()
            .sink(sink);
        let options = Options::default().with_mode(mode).with_workers(workers).without_ctrl_c();
        let summary = graph.run(options).unwrap();
        assert_eq!((summary.input_rows, summary.late_rows), (rows, 0), "{mode}, {workers} workers");
        assert_eq!(windows.snapshot().iter().map(|w| w.value).sum::<u64>(), rows);
    }
}
