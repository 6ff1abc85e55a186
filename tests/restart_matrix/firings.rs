//! Windows that fire early and late, and windows by count, by the clock, of one's own.

use std::time::Duration;

use tidemill::connectors::MemorySink;
use tidemill::prelude::*;
use tidemill::{Early, Window, WindowAssigner, cumulative, session, sliding, tumbling};

use super::{Change, Row, check, refused, right};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Windows of event time.
macro_rules! timed {
    (by $key:ty, $($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .with_watermark(|n| EventTime::from_secs(*n), secs(20))
                .uid("time")
                .key_by(|n| (n % 3) as $key)
                .$($rest)*
                .uid("op")
                .map(|row| (format!("{} {}", row.key, row.window.start), format!("{:?}", row.value).replace("Some", "")))
                .sink(sink);
        }
    };
    ($name:ident $($rest:tt)*) => { timed!(by i64, $name $($rest)*) };
}

/// Windows that do not depend on event time; the windows of a key are numbered.
macro_rules! counted {
    (by $key:ty, $($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .key_by(|n| (n % 3) as $key)
                .$($rest)*
                .append()
                .uid("op")
                .map(|row| (format!("{} {}", row.key, row.number), format!("{:?}", row.value)))
                .sink(sink);
        }
    };
    ($name:ident $($rest:tt)*) => { counted!(by i64, $name $($rest)*) };
}

macro_rules! clocked {
    ($($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .key_by(|n| n % 3)
                .$($rest)*
                .uid("op")
                .map(|row| (row.key.to_string(), format!("{:?}", row.value)))
                .sink(sink);
        }
    };
}

/// Windows as long as it says.
#[derive(Clone)]
struct Shifts(i64);

impl<V> WindowAssigner<V> for Shifts {
    fn assign(&self, time: EventTime, _: &V, windows: &mut Vec<Window>) {
        let size = self.0 * 1_000_000;
        let start = time.as_micros().div_euclid(size) * size;
        windows
            .push(Window { start: EventTime::from_micros(start), end: EventTime::from_micros(start + size) });
    }
    fn describe(&self) -> String {
        format!("shifts of {}s", self.0)
    }
}

pub(super) fn firings() -> Vec<Change> {
    let lateness_30 = timed!(window(tumbling(secs(10))).allowed_lateness(secs(30)).count().firings());
    let plain = timed!(window(tumbling(secs(50))).early(Early::every_records(4)).count().firings());
    vec![
        right("windows that fire late stay", lateness_30, lateness_30),
        right("windows that fire early stay", plain, plain),
        refused(
            "an allowed lateness comes",
            plain,
            timed!(
                window(tumbling(secs(50)))
                    .early(Early::every_records(4))
                    .allowed_lateness(secs(5))
                    .count()
                    .firings()
            ),
            &["`op`", "firings.rs:", "allowed lateness none → 5s", "--drop-state op"],
        ),
        refused(
            "an allowed lateness goes",
            timed!(
                window(tumbling(secs(50)))
                    .early(Early::every_records(4))
                    .allowed_lateness(secs(5))
                    .count()
                    .firings()
            ),
            plain,
            &["allowed lateness 5s → none"],
        ),
        right(
            "records to an interval",
            plain,
            timed!(window(tumbling(secs(50))).early(Early::every(secs(3_600))).count().firings()),
        ),
        right(
            "early firing by both comes",
            timed!(window(session(secs(2))).allowed_lateness(secs(30)).count().firings()),
            timed!(
                window(session(secs(2)))
                    .allowed_lateness(secs(30))
                    .early(Early::every_records(2).or_every(secs(1)))
                    .count()
                    .firings()
            ),
        ),
        right(
            "early firing goes",
            timed!(
                window(tumbling(secs(10)))
                    .allowed_lateness(secs(30))
                    .early(Early::every(secs(3_600)))
                    .count()
                    .firings()
            ),
            timed!(window(tumbling(secs(10))).allowed_lateness(secs(30)).count().firings()),
        ),
        right(
            "fewer records until windows fire",
            timed!(window(session(secs(20))).early(Early::every_records(50)).count().firings()),
            timed!(window(session(secs(20))).early(Early::every_records(3)).count().firings()),
        ),
        refused(
            "firings to append",
            plain,
            timed!(window_by(tumbling(secs(50))).count().append()),
            &["output firings → append"],
        ),
        refused(
            "append to firings",
            timed!(window_by(tumbling(secs(50))).count().append()),
            plain,
            &["output append → firings"],
        ),
        refused(
            "windows that fire once to early ones",
            timed!(window(tumbling(secs(50))).count().append()),
            plain,
            &["window tumbling → tumbling 50s"],
        ),
        refused(
            "early windows to some that fire once",
            plain,
            timed!(window(tumbling(secs(50))).count().update()),
            &["window tumbling 50s → tumbling"],
        ),
        refused(
            "aggregate of early windows",
            plain,
            timed!(window(tumbling(secs(50))).early(Early::every_records(4)).sum(|n| *n as u64).firings()),
            &["aggregate count → sum"],
        ),
        refused(
            "slide of late windows",
            timed!(window(sliding(secs(40), secs(10))).allowed_lateness(secs(30)).count().firings()),
            timed!(window(sliding(secs(40), secs(20))).allowed_lateness(secs(30)).count().firings()),
            &["window sliding 40s every 10s → sliding 40s every 20s"],
        ),
        refused(
            "gap of late sessions",
            timed!(window(session(secs(5))).allowed_lateness(secs(30)).count().firings()),
            timed!(window(session(secs(6))).allowed_lateness(secs(30)).count().firings()),
            &["gap 5s → session, gap 6s"],
        ),
        refused(
            "step of cumulative windows",
            timed!(window_by(cumulative(secs(60), secs(20))).count().append()),
            timed!(window_by(cumulative(secs(60), secs(30))).count().append()),
            &["cumulative 1m by 20s → cumulative 1m by 30s"],
        ),
        refused(
            "windows of one's own",
            timed!(window_by(Shifts(30)).count().append()),
            timed!(window_by(Shifts(60)).count().append()),
            &["window shifts of 30s → shifts of 60s"],
        ),
        right(
            "windows of one's own stay",
            timed!(window_by(Shifts(30)).collect().append()),
            timed!(window_by(Shifts(30)).collect().append()),
        ),
        refused(
            "wider key of early windows",
            timed!(by i32, window(tumbling(secs(50))).early(Early::every_records(4)).count().firings()),
            plain,
            &["i32 → i64"],
        ),
    ]
}

pub(super) fn counts() -> Vec<Change> {
    let of_7 = counted!(count_window(7).collect());
    let last_7 = counted!(count_window(7).every(2).sum(|n| *n));
    vec![
        right("count windows stay", of_7, of_7),
        right("count windows that overlap stay", last_7, last_7),
        refused(
            "size of count windows",
            of_7,
            counted!(count_window(8).collect()),
            &["`op`", "firings.rs:", "window 7 records → 8 records", "--drop-state op"],
        ),
        refused(
            "count windows overlap",
            counted!(count_window(7).sum(|n| *n)),
            last_7,
            &["window 7 records → 7 records every 2"],
        ),
        refused(
            "slide of count windows",
            last_7,
            counted!(count_window(7).every(3).sum(|n| *n)),
            &["7 records every 2 → 7 records every 3"],
        ),
        refused(
            "aggregate of count windows",
            last_7,
            counted!(count_window(7).every(2).max(|n| *n)),
            &["aggregate sum → max"],
        ),
        refused(
            "wider key of count windows",
            counted!(by i32, count_window(7).collect()),
            of_7,
            &["i32 → i64"],
        ),
    ]
}

pub(super) fn clocks() -> Vec<Change> {
    let global = clocked!(global_window(Early::every_records(4)).sum(|n| *n).firings());
    vec![
        right("a global window stays", global, global),
        right(
            "a global window fires more often",
            clocked!(global_window(Early::every_records(40)).sum(|n| *n).firings()),
            clocked!(global_window(Early::every_records(1)).sum(|n| *n).firings()),
        ),
        refused(
            "a global window to windows of the clock",
            global,
            clocked!(processing_time_window(tumbling(secs(3_600))).sum(|n| *n).firings()),
            &["window global → tumbling 1h"],
        ),
        refused(
            "size of windows of the clock",
            clocked!(processing_time_window(tumbling(secs(7_200))).sum(|n| *n).append()),
            clocked!(processing_time_window(tumbling(secs(3_600))).sum(|n| *n).append()),
            &["window tumbling 2h → tumbling 1h"],
        ),
        refused(
            "gap of sessions of the clock",
            clocked!(processing_time_window(session(secs(7_200))).sum(|n| *n).append()),
            clocked!(processing_time_window(session(secs(3_600))).sum(|n| *n).append()),
            &["gap 2h → session, gap 1h"],
        ),
        refused(
            "windows of the clock to event time",
            clocked!(processing_time_window(tumbling(secs(50))).count().append()),
            timed!(window_by(tumbling(secs(50))).count().append()),
            &["operator processing_time_window → window"],
        ),
    ]
}

#[test]
fn changed_firings_are_refused_or_right() {
    check(&firings());
}

#[test]
fn changed_count_windows_are_refused_or_right() {
    check(&counts());
}

#[test]
fn changed_windows_of_the_clock_are_refused_or_right() {
    check(&clocks());
}
