//! Where a query begins, and what it says where it cannot.

use std::collections::BTreeMap;

use tidemill::Trigger;
use tidemill::connectors::kafka::{KafkaSettings, Start, Topics, kafka};
use tidemill::prelude::*;
use tidemill::testing::collecting_sink;

use crate::broker::{broker_or_return, delete_before, producer, send, send_numbers, topic};
use crate::whole::{numbers, options};

#[test]
fn query_without_checkpoint_begins_where_it_is_told() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "starts", 2);
    send_numbers(&broker, &topic, 2, 0..20);
    let read = |start| {
        let source = kafka(broker.as_str(), topic.as_str()).bounded().start(start);
        numbers(source, options(Mode::MicroBatch, 2)).unwrap()
    };
    assert_eq!(read(Start::Earliest).len(), 20);
    assert!(read(Start::Latest).is_empty());
    assert_eq!(read(Start::Timestamp(EventTime::from_secs(17))), [17, 18, 19]);
    assert!(read(Start::Timestamp(EventTime::from_secs(100))).is_empty());
    let offsets = BTreeMap::from([((topic.clone(), 0), 8), ((topic.clone(), 1), 10)]);
    assert_eq!(read(Start::Offsets(offsets)), [16, 18]);
}

#[test]
fn deleted_records_end_the_query_unless_loss_is_allowed() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "deleted", 1);
    send_numbers(&broker, &topic, 1, 0..10);
    let place = tempfile::tempdir().unwrap();
    let now = || {
        let options = options(Mode::MicroBatch, 1).with_trigger(Trigger::AvailableNow);
        options.with_checkpoint(place.path()).with_allow_loss()
    };
    assert_eq!(numbers(kafka(broker.as_str(), topic.as_str()), now()).unwrap().len(), 10);
    send_numbers(&broker, &topic, 1, 10..30);
    delete_before(&broker, &topic, 0, 20);
    let error = numbers(kafka(broker.as_str(), topic.as_str()), now()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("{topic}[0] has no record at offset 10")) && error.contains("allow_loss"),
        "{error}"
    );
    let found = numbers(kafka(broker.as_str(), topic.as_str()).allow_loss(), now()).unwrap();
    assert_eq!(found, Vec::from_iter(20..30));
}

#[test]
fn bad_records_are_named_skipped_or_returned() {
    let broker = broker_or_return!();
    let topic = topic(&broker, "bad", 1);
    let producer = producer(&broker);
    for value in ["1", "one", "2"] {
        send(&producer, &topic, 0, value, 0);
    }
    rdkafka::producer::Producer::flush(&producer, crate::broker::PATIENCE).unwrap();
    let source = || kafka(broker.as_str(), topic.as_str()).bounded();
    let error = numbers(source(), options(Mode::MicroBatch, 1)).unwrap_err().to_string();
    assert!(
        error.contains(&format!("{topic}[0], offset 1")) && error.contains("BadRecords::Skip"),
        "{error}"
    );
    let found = numbers(source().on_bad_record(BadRecords::Skip), options(Mode::Continuous, 1)).unwrap();
    assert_eq!(found, [1, 2]);
    let graph = Graph::new("bad records");
    let (sink, rows) = collecting_sink();
    graph.source(source().json::<u64>().with_bad_records()).sink(sink);
    graph.run(options(Mode::MicroBatch, 1)).unwrap();
    let rows = rows.committed();
    assert_eq!(rows[0], Ok(1));
    let bad = rows[1].as_ref().unwrap_err();
    assert_eq!((bad.line, bad.text.as_str()), (1, "one"));
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let broker = broker_or_return!();
    let said = |source| numbers(source, options(Mode::MicroBatch, 1)).unwrap_err().to_string();
    let error = said(kafka(broker.as_str(), "there-is-none"));
    assert!(error.contains("there is no topic `there-is-none`"), "{error}");
    let error = said(kafka(broker.as_str(), Topics::matching("none-such-*")).bounded());
    assert!(error.contains("matches `none-such-*`"), "{error}");
    let error = said(kafka(KafkaSettings::new(&broker).option("no.such.option", "1"), "x"));
    assert!(error.contains("no.such.option"), "{error}");
    let settings =
        KafkaSettings::new(&broker).secret("sasl.password", "geheim").option("security.protocol", "wrong");
    let error = said(kafka(settings, "x"));
    assert!(error.contains("security.protocol") && !error.contains("geheim"), "{error}");
}
