//! The engine's clock: setting the machine's clock changes nothing, and time does not go back behind a checkpoint.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{channel, memory, memory_sink, text_files};
use tidemill::testing::{SimClock, TestDriver};
use tidemill::{Graph, Mode, Options, ProcessingTime, Run, Trigger};

use common::{MODES, end, options, wait_until};

const HOUR: i64 = 3_600;
/// Between triggers, commits and listings of a directory.
const INTERVAL: Duration = Duration::from_millis(500);

/// A query over one endless channel, by which it can be woken.
fn numbers() -> (Graph, tidemill::connectors::ChannelSender<u64>) {
    let (sender, source) = channel(8);
    let graph = Graph::new("clock");
    graph.source(source).sink(memory_sink().0);
    (graph, sender)
}

#[test]
fn run_after_commit_in_future_does_not_go_back() {
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        // 2100: the clock of the machine was wrong, and has been set right.
        let future = ProcessingTime::from_micros(4_102_444_800_000_000);
        let clock = SimClock::new();
        clock.set(future);
        let (graph, sender) = numbers();
        let way = options(mode, 1).with_allow_loss().with_checkpoint_interval(Duration::from_millis(20));
        let mut driver = TestDriver::with_checkpoint(&graph, way.clone(), &clock, storage.clone()).unwrap();
        sender.send(1).unwrap();
        driver.epoch().unwrap().unwrap();
        let last = driver.progress().timestamp;
        assert!(last >= future);
        drop(driver);
        let (graph, sender) = numbers();
        let query = graph.start_in(storage, way).unwrap();
        for n in 0..3 {
            let before = query.progress().timestamp;
            sender.send(n).unwrap();
            wait_until(&query, "a commit", |query| query.progress().timestamp > before);
            assert!(query.progress().timestamp >= last, "{mode:?}");
        }
        query.stop();
        end(query, "clock").unwrap();
    }
}

/// Sets the machine's clock, as this process sees it.
fn shift(seconds: i64) {
    let before = SystemTime::now();
    std::fs::write(std::env::var("CLOCK_SHIFT").unwrap(), seconds.to_string()).unwrap();
    assert!(
        seconds == 0 || before.elapsed().map_or(true, |since| since > Duration::from_secs(60)),
        "the clock was not set: LD_PRELOAD is missing"
    );
}

/// Rows, triggers and commits must continue while the clock is set back and forward: not after the hour by which it is set.
fn goes_on(options: Options) {
    shift(0);
    let directory = tempfile::tempdir().unwrap();
    let (sender, source) = channel::<u64>(8);
    let graph = Graph::new("clock");
    let ((one, of_channel), (two, of_files)) = (memory_sink(), memory_sink());
    graph.source(source).sink(one);
    let files = text_files(directory.path().display().to_string()).poll_interval(INTERVAL);
    graph.source(files).map(|line| line.to_string()).sink(two);
    let what = format!("{} {:?}, {} workers", options.mode, options.trigger, options.workers);
    let query = graph.start(options).unwrap();
    let mut longest = Duration::ZERO;
    for (round, seconds) in [0, -HOUR, 0, HOUR, -HOUR].into_iter().enumerate() {
        shift(seconds);
        let (epoch, round) = (query.progress().epoch, round as u64);
        sender.send(round).unwrap();
        // By a rename: a listing between the two steps of a write would see an empty file, which is then done.
        let hidden = directory.path().join(format!(".{round}"));
        std::fs::write(&hidden, format!("{round}\n")).unwrap();
        std::fs::rename(hidden, directory.path().join(round.to_string())).unwrap();
        let begun = Instant::now();
        wait_until(&query, &what, |query| {
            let rows = (of_channel.snapshot().len(), of_files.snapshot().len());
            rows == (round as usize + 1, round as usize + 1) && query.progress().epoch > epoch
        });
        longest = longest.max(begun.elapsed());
    }
    println!("{what}: at most {longest:?} with intervals of {INTERVAL:?}");
    query.stop();
    end(query, &what).unwrap();
}

#[test]
#[ignore = "ci/hostile.sh sets the clock"]
fn clock_set_back_and_forward_stalls_nothing() {
    for workers in [1, 2] {
        goes_on(options(Mode::MicroBatch, workers));
        goes_on(options(Mode::MicroBatch, workers).with_trigger(Trigger::Every(INTERVAL)));
        goes_on(options(Mode::Continuous, workers).with_checkpoint_interval(INTERVAL));
    }
}

#[test]
fn first_epoch_begins_at_a_multiple_of_the_interval() {
    for (begin, first) in [(1_300_000, 2_000_000), (2_000_000, 2_000_000), (2_000_001, 3_000_000), (-1, 0)] {
        let graph = Graph::new("every second");
        graph.source(memory(0..10u64)).sink(memory_sink().0);
        let clock = SimClock::new();
        clock.set(ProcessingTime::from_micros(begin));
        let options = Options::default().with_trigger(Trigger::Every(Duration::from_secs(1)));
        let mut driver = TestDriver::new(&graph, options, &clock).unwrap();
        driver.settle().unwrap();
        if first > begin {
            assert_eq!(driver.committed(), None, "{begin}");
            driver.advance(Duration::from_micros((first - begin - 1).unsigned_abs())).unwrap();
            assert_eq!(driver.committed(), None, "{begin}");
            driver.advance(Duration::from_micros(1)).unwrap();
        }
        assert!(driver.committed().is_some(), "{begin}");
        assert_eq!(driver.progress().total_input_rows, 10);
    }
}
