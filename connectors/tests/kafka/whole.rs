//! Whole queries over topics.

use std::time::Duration;

use tidemill::connectors::kafka::{KafkaSource, Topics, kafka};
use tidemill::prelude::*;
use tidemill::testing::collecting_sink;

use crate::broker::{broker_or_return, grow, producer, send, send_numbers, topic};

pub(crate) fn options(mode: Mode, workers: usize) -> Options {
    Options::default().with_mode(mode).with_workers(workers).without_ctrl_c()
}

pub(crate) const WAYS: [(Mode, usize); 5] = [
    (Mode::MicroBatch, 1),
    (Mode::Continuous, 1),
    (Mode::MicroBatch, 2),
    (Mode::Continuous, 4),
    (Mode::MicroBatch, 4),
];

/// The numbers of a topic, sorted.
pub(crate) fn numbers(source: KafkaSource, options: Options) -> Result<Vec<u64>, RunError> {
    let graph = Graph::new("numbers");
    let (sink, rows) = collecting_sink();
    graph.source(source.json::<u64>()).uid("numbers").sink(sink);
    graph.run(options)?;
    let mut rows = rows.committed();
    rows.sort();
    Ok(rows)
}

#[test]
fn bounded_source_reads_what_is_there_once() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "bounded", 3);
    send_numbers(&broker, &topic, 3, 0..1_000);
    for (mode, workers) in WAYS {
        let source = kafka(broker.as_str(), topic.as_str()).bounded();
        let found = numbers(source, options(mode, workers).with_max_records_per_epoch(100)).unwrap();
        assert_eq!(found, Vec::from_iter(0..1_000), "{mode}, {workers}");
    }
}

#[test]
fn query_resumes_at_its_positions_in_both_modes() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "resumes", 4);
    let place = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for (run, (mode, workers)) in (0..).zip(WAYS) {
        send_numbers(&broker, &topic, 4, run * 200..run * 200 + 200);
        let options =
            options(mode, workers).with_trigger(Trigger::AvailableNow).with_checkpoint(place.path());
        let source = kafka(broker.as_str(), topic.as_str()).commit_to_group(format!("{topic}-group"));
        let rows = numbers(source, options.with_allow_loss().with_max_records_per_epoch(30)).unwrap();
        assert_eq!(rows, Vec::from_iter(run * 200..run * 200 + 200), "{mode}, {workers}");
        found.extend(rows);
    }
    assert_eq!(found.len(), 1_000);
}

#[test]
fn windows_over_topic_close_by_timestamps_of_records() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "windows", 2);
    // The number is the second of its record.
    send_numbers(&broker, &topic, 2, 0..100);
    for (mode, workers) in WAYS {
        let graph = Graph::new("windows");
        let source = kafka(broker.as_str(), topic.as_str())
            .bounded()
            .decode(|record| record.timestamp().map(|time| (time, record.partition())).ok_or("no timestamp"));
        let (sink, rows) = collecting_sink();
        graph
            .source(source)
            .with_watermark(|record| record.0, Duration::from_secs(2))
            .key_by(|record| record.1)
            .window(tumbling(Duration::from_secs(10)))
            .count()
            .append()
            .map(|row| (row.key, row.window.start.as_secs(), row.value))
            .sink(sink);
        let summary = graph.run(options(mode, workers)).unwrap();
        let mut rows = rows.committed();
        rows.sort();
        let expected: Vec<_> =
            (0..2).flat_map(|key| (0..10).map(move |window| (key, 10 * window, 5))).collect();
        assert_eq!(rows, expected, "{mode}, {workers}: {summary}");
    }
}

#[test]
fn partitions_and_topics_are_found_while_the_query_runs() {
    let broker = broker_or_return!();
    for (mode, workers) in [(Mode::MicroBatch, 2), (Mode::Continuous, 2)] {
        let first = topic(&broker, &format!("grows-{mode}"), 1);
        send_numbers(&broker, &first, 1, 0..10);
        let graph = Graph::new("grows");
        let (sink, rows) = collecting_sink();
        let source =
            kafka(broker.as_str(), Topics::matching(format!("grows-{mode}-{}-*", std::process::id())));
        graph.source(source.discovery(Duration::from_millis(50)).json::<u64>()).sink(sink);
        let handle = graph.start(options(mode, workers)).unwrap();
        let await_rows = |count: usize| {
            let begun = std::time::Instant::now();
            while rows.committed().len() < count {
                assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "{mode}: {} rows of {count}",
                    rows.committed().len()
                );
                std::thread::park_timeout(Duration::from_millis(5));
            }
        };
        await_rows(10);
        grow(&broker, &first, 3);
        let second = topic(&broker, &format!("grows-{mode}"), 1);
        let producer = producer(&broker);
        for (number, (topic, partition)) in (10..).zip([(&first, 1), (&first, 2), (&second, 0), (&first, 0)])
        {
            send(&producer, topic, partition, &number.to_string(), 0);
        }
        rdkafka::producer::Producer::flush(&producer, crate::broker::PATIENCE).unwrap();
        await_rows(14);
        handle.stop();
        handle.wait().unwrap();
        let mut found = rows.committed();
        found.sort();
        assert_eq!(found, Vec::from_iter(0..14), "{mode}");
    }
}
