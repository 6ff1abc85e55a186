//! The broker, and what tests do with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The address of the broker; `None`, with a word, if there is none.
pub(crate) fn broker() -> Option<String> {
    let address = std::env::var("TIDEMILL_KAFKA").ok();
    assert!(
        address.is_some() || std::env::var("TIDEMILL_SERVICES").as_deref() != Ok("1"),
        "TIDEMILL_SERVICES=1, but no broker: run `ci/services.sh kafka -- …`"
    );
    if address.is_none() {
        eprintln!("not run: there is no Kafka broker (ci/services.sh starts one)");
    }
    address
}

/// Leaves the test where there is no broker.
macro_rules! broker_or_return {
    () => {
        match crate::broker::broker() {
            Some(address) => address,
            None => return,
        }
    };
}
pub(crate) use broker_or_return;

/// Waits for a future of the admin client, which another thread completes.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn config(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    config
}

/// A new topic with a name of its own.
pub(crate) fn topic(broker: &str, stem: &str, partitions: i32) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("{stem}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let admin: AdminClient<DefaultClientContext> = config(broker).create().unwrap();
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    wait(admin.create_topics([&topic], &AdminOptions::new())).unwrap()[0].clone().unwrap();
    name
}

pub(crate) fn grow(broker: &str, topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> = config(broker).create().unwrap();
    wait(admin.create_partitions([&NewPartitions::new(topic, partitions)], &AdminOptions::new())).unwrap()[0]
        .clone()
        .unwrap();
}

/// Deletes the records before an offset.
pub(crate) fn delete_before(broker: &str, topic: &str, partition: i32, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = config(broker).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
    wait(admin.delete_records(&list, &AdminOptions::new())).unwrap();
}

pub(crate) fn producer(broker: &str) -> BaseProducer {
    config(broker).set("enable.idempotence", "true").set("linger.ms", "1").create().unwrap()
}

/// A producer whose records are visible when their transaction commits.
pub(crate) fn transactional(broker: &str, id: &str) -> BaseProducer {
    let producer: BaseProducer = config(broker).set("transactional.id", id).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

/// Sends a value to a partition, with a timestamp in milliseconds.
pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str, millis: i64) {
    loop {
        let record =
            BaseRecord::<str, str>::to(topic).partition(partition).payload(value).key("k").timestamp(millis);
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

/// Sends numbers to all partitions in turn.
pub(crate) fn send_numbers(broker: &str, topic: &str, partitions: i32, numbers: std::ops::Range<u64>) {
    let producer = producer(broker);
    for number in numbers {
        let partition = (number % partitions as u64) as i32;
        // A timestamp of 0 would be the time of sending.
        send(&producer, topic, partition, &number.to_string(), 1_000 * number as i64 + 1);
    }
    producer.flush(PATIENCE).unwrap();
}
