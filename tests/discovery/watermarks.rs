//! What a new shard does to the watermark of its stream, in simulated time.

use std::time::Duration;

use tidemill::testing::{Collected, SimClock, TestDriver, collecting_sink};
use tidemill::{EventTime, Graph, Mode, Options, tumbling};

use crate::common::MODES;
use crate::shards::{Row, Shards};

const SECOND: Duration = Duration::from_secs(1);

/// A query that counts the rows of windows of ten seconds, where a row's number is its event time in seconds.
struct Counts {
    test: TestDriver,
    clock: SimClock,
    source: Shards,
    windows: Collected<(i64, u64)>,
    late: Collected<Row>,
}

impl Counts {
    fn new(mode: Mode, idle_after: Option<Duration>) -> Counts {
        let mut source = Shards::new(&[]);
        source.every = SECOND;
        source.add(0);
        source.push(0, [1, 25]);
        let graph = Graph::new("counts");
        let ((sink, windows), (late_sink, late)) = (collecting_sink(), collecting_sink());
        let timed = graph.source(source.clone());
        let timed = timed.with_watermark(|row| EventTime::from_secs(row.1), Duration::ZERO);
        let timed = match idle_after {
            Some(after) => timed.idle_after(after).boxed(),
            None => timed.boxed(),
        };
        let (results, late_rows) = timed.window(tumbling(10 * SECOND)).count().append_with_late();
        results.map(|row| (row.window.start.as_micros() / 10_000_000, row.value)).sink(sink);
        late_rows.sink(late_sink);
        let options = Options::default().with_mode(mode).without_ctrl_c();
        let options = options.with_checkpoint_interval(Duration::from_millis(100));
        let clock = SimClock::new();
        let test = TestDriver::new(&graph, options, &clock).unwrap();
        let mut counts = Counts { test, clock, source, windows, late };
        counts.pass(Duration::ZERO);
        assert_eq!(counts.shown(), ([(0, 1)].into(), vec![]));
        counts
    }

    /// Lets time pass in small steps, and what has come be read and committed.
    fn pass(&mut self, time: Duration) {
        let until = self.clock.now() + time;
        loop {
            self.test.settle().unwrap();
            if self.clock.now() >= until {
                break;
            }
            self.test.advance(Duration::from_millis(100)).unwrap();
        }
        // The epoch under way in continuous mode.
        self.test.advance(Duration::from_millis(100)).unwrap();
    }

    fn shown(&self) -> (Vec<(i64, u64)>, Vec<Row>) {
        let mut windows = self.windows.committed();
        windows.sort_unstable();
        (windows, self.late.committed())
    }

    fn partitions(&self) -> usize {
        self.test.progress().sources[0].end_offset.len()
    }
}

#[test]
fn new_shard_holds_watermark_until_its_first_record() {
    for mode in MODES {
        let mut counts = Counts::new(mode, None);
        counts.source.add(0);
        counts.pass(2 * SECOND);
        assert_eq!(counts.partitions(), 2, "it is shown before it has records");
        // The watermark is 25 s, and stays.
        counts.source.push(0, [45]);
        counts.pass(60 * SECOND);
        assert_eq!(counts.shown(), ([(0, 1)].into(), vec![]), "{mode:?}");
        // A record behind the watermark is late if its window is closed; the others are in time.
        counts.source.push(1, [5, 22, 31]);
        counts.pass(SECOND);
        assert_eq!(counts.shown(), ([(0, 1), (2, 2)].into(), vec![(1, 5)]), "{mode:?}");
        // The watermark is the least of both.
        counts.source.push(1, [50]);
        counts.pass(SECOND);
        assert_eq!(counts.shown().0, [(0, 1), (2, 2), (3, 1)], "{mode:?}");
    }
}

#[test]
fn new_shard_that_stays_silent_becomes_idle() {
    for mode in MODES {
        let mut counts = Counts::new(mode, Some(10 * SECOND));
        counts.pass(5 * SECOND);
        counts.source.add(0);
        counts.pass(3 * SECOND);
        assert_eq!(counts.partitions(), 2);
        // The first shard has been silent for 8 s: the second one counts from its discovery.
        counts.source.push(0, [45]);
        counts.pass(5 * SECOND);
        assert_eq!(counts.shown().0, [(0, 1)], "{mode:?}");
        counts.pass(4 * SECOND);
        assert_eq!(counts.shown().0, [(0, 1), (2, 1)], "{mode:?}");
        // Idle, it holds nothing, and its records are in time as long as their windows are open.
        counts.source.push(1, [5, 44]);
        counts.pass(SECOND);
        assert_eq!(counts.shown(), ([(0, 1), (2, 1)].into(), vec![(1, 5)]), "{mode:?}");
    }
}

#[test]
fn new_shard_of_idle_stream_takes_nothing_back() {
    for mode in MODES {
        let mut counts = Counts::new(mode, Some(SECOND));
        counts.source.push(0, [45]);
        // All are idle for long.
        counts.pass(30 * SECOND);
        assert_eq!(counts.shown().0, [(0, 1), (2, 1)], "{mode:?}");
        counts.source.add(0);
        counts.source.push(1, [29, 46]);
        counts.pass(2 * SECOND);
        assert_eq!(counts.shown(), ([(0, 1), (2, 1)].into(), vec![(1, 29)]), "{mode:?}");
        counts.source.push(0, [55]);
        counts.source.push(1, [51]);
        counts.pass(2 * SECOND);
        assert_eq!(counts.shown().0, [(0, 1), (2, 1), (4, 2)], "{mode:?}");
    }
}

/// A stream without shards holds the union that it is part of: nothing closes before it has shown anything.
#[test]
fn source_without_shards_holds_union() {
    for mode in MODES {
        let (mut empty, mut full) = (Shards::new(&[]), Shards::new(&[]));
        (empty.every, full.every) = (SECOND, SECOND);
        full.add(0);
        full.push(0, [1, 25, 70]);
        let graph = Graph::new("union");
        let timed = |source: &Shards, uid: &str| {
            let rows = graph.source(source.clone()).uid(uid);
            rows.with_watermark(|row: &Row| EventTime::from_secs(row.1), Duration::ZERO).boxed()
        };
        let ((sink, windows), (late_sink, late)) = (collecting_sink(), collecting_sink());
        let both = timed(&empty, "empty").union(timed(&full, "full"));
        let (results, late_rows) = both.window(tumbling(10 * SECOND)).count().append_with_late();
        results.map(|row| (row.window.start.as_micros() / 10_000_000, row.value)).sink(sink);
        late_rows.sink(late_sink);
        let options = Options::default().with_mode(mode).without_ctrl_c();
        let options = options.with_checkpoint_interval(Duration::from_millis(100));
        let clock = SimClock::new();
        let test = TestDriver::new(&graph, options, &clock).unwrap();
        let mut counts = Counts { test, clock, source: empty, windows, late };
        counts.pass(2 * SECOND);
        assert_eq!(counts.shown(), (vec![], vec![]), "{mode}");
        counts.source.add(0);
        counts.source.push(0, [2, 30]);
        counts.pass(3 * SECOND);
        assert_eq!(counts.shown(), (vec![(0, 2), (2, 1)], vec![]), "{mode}");
    }
}
