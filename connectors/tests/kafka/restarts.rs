//! A broker that is killed and comes back.

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;
use tidemill::connectors::kafka::kafka;
use tidemill::prelude::*;
use tidemill::testing::collecting_sink;

use crate::broker::{PATIENCE, broker_or_return, producer, send, topic};
use crate::whole::{numbers, options};

#[test]
#[ignore = "restarts the broker of the other tests"]
fn query_goes_on_when_the_broker_is_back() {
    let broker = broker_or_return!();
    for (mode, workers) in [(Mode::MicroBatch, 2), (Mode::Continuous, 2)] {
        let topic = topic(&broker, "restarts", 3);
        let producer = producer(&broker);
        let place = tempfile::tempdir().unwrap();
        let graph = Graph::new("restarts");
        let (sink, rows) = collecting_sink();
        graph.source(kafka(broker.as_str(), topic.as_str()).json::<u64>()).uid("numbers").sink(sink);
        let way = options(mode, workers).with_checkpoint(place.path()).with_allow_loss();
        let handle = graph.start(way.with_checkpoint_interval(Duration::from_millis(100))).unwrap();
        let mut sent = 0;
        for round in 0..3 {
            for _ in 0..100 {
                send(&producer, &topic, (sent % 3) as i32, &sent.to_string(), 1);
                sent += 1;
            }
            if round % 2 == 1 {
                // Some of the records are on their way.
                assert!(
                    Command::new(std::env::var("TIDEMILL_KAFKA_RESTART").unwrap())
                        .status()
                        .unwrap()
                        .success()
                );
            }
            producer.flush(4 * PATIENCE).unwrap();
            let begun = Instant::now();
            while rows.committed().len() < sent as usize {
                assert!(!handle.is_finished(), "{mode}: {:?}", handle.wait());
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "{mode}: {} of {sent}",
                    rows.committed().len()
                );
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        handle.stop();
        handle.wait().unwrap();
        let mut found = rows.committed();
        found.sort();
        // A producer that sends again what it holds for lost may have sent it twice.
        let in_topic = numbers(kafka(broker.as_str(), topic.as_str()).bounded(), options(mode, 1)).unwrap();
        assert_eq!(found, in_topic, "{mode}: {} of {}", found.len(), in_topic.len());
        found.dedup();
        assert_eq!(found, Vec::from_iter(0..sent), "{mode}");
    }
}
