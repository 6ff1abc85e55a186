//! Transactions: their control records, and records that were aborted, leave offsets without records.

use rdkafka::producer::Producer;
use tidemill::Trigger;
use tidemill::connectors::kafka::kafka;

use crate::broker::{PATIENCE, broker_or_return, send, topic, transactional};
use crate::whole::{WAYS, numbers, options};

#[test]
fn only_committed_records_are_read_and_ranges_end_in_gaps() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "transactions", 2);
    let producer = transactional(&broker, &format!("{topic}-producer"));
    let place = tempfile::tempdir().unwrap();
    let mut number = 0;
    for (run, (mode, workers)) in WAYS.into_iter().enumerate() {
        let mut expected = Vec::new();
        // The last transaction of each run is aborted, in every second run an open one follows.
        for (transaction, commits) in [true, false, true, true, false].into_iter().enumerate() {
            producer.begin_transaction().unwrap();
            for _ in 0..1 + 3 * transaction {
                let value = if commits { number } else { 1_000_000 + number };
                send(&producer, &topic, (number % 2) as i32, &value.to_string(), 0);
                expected.extend(commits.then_some(number));
                number += 1;
            }
            producer.flush(PATIENCE).unwrap();
            match commits {
                true => producer.commit_transaction(PATIENCE).unwrap(),
                false => producer.abort_transaction(PATIENCE).unwrap(),
            }
        }
        if run % 2 == 1 {
            producer.begin_transaction().unwrap();
            send(&producer, &topic, 0, "2000000", 0);
            producer.flush(PATIENCE).unwrap();
        }
        let options =
            options(mode, workers).with_trigger(Trigger::AvailableNow).with_checkpoint(place.path());
        let source = kafka(broker.as_str(), topic.as_str());
        let found = numbers(source, options.with_allow_loss().with_max_records_per_epoch(4)).unwrap();
        assert_eq!(found, expected, "run {run}, {mode}, {workers}");
        if run % 2 == 1 {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
}
