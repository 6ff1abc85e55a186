//! Bugs that were, each under the name of what must not happen again.

use std::time::Duration;

use tidemill::connectors::MemorySource;
use tidemill::prelude::*;

/// Rows of an epoch that a worker had put by were missing from the epoch's watermark, which then ran ahead of them. It
/// takes two workers, pipelined epochs and luck: hence the repetitions.
#[test]
fn an_epoch_does_not_end_without_the_partitions_of_a_worker_that_is_behind() {
    for _ in 0..200 {
        let partitions = (1..=3i64).map(|pace| (0..720 / pace).map(|n| n * pace).collect::<Vec<_>>());
        let graph = Graph::new("paces");
        let (sink, windows) = memory_sink();
        graph
            .source(MemorySource::partitioned(partitions))
            .with_watermark(|n| EventTime::from_secs(*n), Duration::ZERO)
            .window(tumbling(Duration::from_secs(60)))
            .count()
            .append()
            .sink(sink);
        let options = Options::default()
            .with_workers(2)
            .with_max_records_per_epoch(40)
            .with_max_in_flight(4)
            .without_ctrl_c();
        let summary = graph.run(options).unwrap();
        assert_eq!(summary.late_rows, 0, "each partition is in order, so no row can be late");
        assert_eq!(windows.snapshot().iter().map(|w| w.value).sum::<u64>(), summary.input_rows);
    }
}

/// The worker that first saw the end of all input left without closing its windows, for the other had not said yet that
/// it had ended too.
#[test]
fn every_window_closes_at_the_end_of_input_whoever_notices_it_first() {
    for _ in 0..100 {
        let partitions = (1..=3i64).map(|pace| (0..360 / pace).map(|n| n * pace).collect::<Vec<_>>());
        let graph = Graph::new("ends");
        let (sink, windows) = memory_sink();
        graph
            .source(MemorySource::partitioned(partitions))
            .with_watermark(|n| EventTime::from_secs(*n), Duration::ZERO)
            .window(tumbling(Duration::from_secs(60)))
            .count()
            .append()
            .sink(sink);
        let options = Options::default()
            .with_mode(Mode::Continuous)
            .with_workers(2)
            .with_checkpoint_interval(Duration::from_micros(200))
            .without_ctrl_c();
        let summary = graph.run(options).unwrap();
        assert_eq!(
            windows.snapshot().iter().map(|w| w.value).sum::<u64>(),
            summary.input_rows - summary.late_rows
        );
        assert_eq!(summary.late_rows, 0, "each partition is in order, so no row can be late");
    }
}

/// In continuous mode a worker read a block of each of its slices in turn, and took the times of the last one for those
/// of all: rows of the others, in order in the file, came out late.
#[test]
fn a_file_of_many_blocks_in_order_has_no_late_rows_in_either_mode() {
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
