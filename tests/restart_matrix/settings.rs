//! Settings: windows, aggregates, output modes, watermarks.

use std::time::Duration;

use tidemill::connectors::MemorySink;
use tidemill::prelude::*;
use tidemill::{Early, session, session_by, sliding, tumbling};

use super::{Change, Row, check, refused, right};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

macro_rules! windowed {
    ($window:expr, $($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .with_watermark(|n| EventTime::from_secs(*n), secs(20))
                .uid("time")
                .key_by(|n| n % 3)
                .window($window)
                .$($rest)*
                .uid("op")
                .map(|r| (format!("{} {}", r.key, r.window.start), format!("{:?}", r.value)))
                .sink(sink);
        }
    };
}

macro_rules! unkeyed {
    ($window:expr, $($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .with_watermark(|n| EventTime::from_secs(*n), secs(20))
                .uid("time")
                .window($window)
                .$($rest)*
                .uid("op")
                .map(|r| (r.window.start.to_string(), format!("{:?}", r.value)))
                .sink(sink);
        }
    };
}

macro_rules! total {
    ($($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers.$($rest)*.uid("op").map(|value| (String::new(), format!("{value:?}"))).sink(sink);
        }
    };
}

macro_rules! watermark {
    ($($assign:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .$($assign)*
                .uid("time")
                .window(tumbling(secs(10)))
                .count()
                .append()
                .uid("op")
                .map(|r| (r.window.start.to_string(), r.value.to_string()))
                .sink(sink);
        }
    };
}

/// The largest number, if it is larger than a limit that is part of the aggregate.
#[derive(Clone)]
struct Above(i64);

impl tidemill::Aggregate for Above {
    type In = i64;
    type Acc = i64;
    type Out = i64;

    fn create(&self, n: &i64) -> i64 {
        (*n).max(self.0)
    }
    fn add(&self, acc: &mut i64, n: &i64) {
        *acc = (*acc).max(*n);
    }
    fn merge(&self, acc: &mut i64, other: i64) {
        *acc = (*acc).max(other);
    }
    fn finish(&self, acc: &i64) -> i64 {
        *acc
    }
    fn describe(&self) -> String {
        format!("above {}", self.0)
    }
}

pub(super) fn windows() -> Vec<Change> {
    let tumbling_10 = windowed!(tumbling(secs(10)), count().append());
    vec![
        right("nothing changes", tumbling_10, tumbling_10),
        refused(
            "tumbling size",
            tumbling_10,
            windowed!(tumbling(secs(60)), count().append()),
            &["`op`", "settings.rs:", "size 10s → 1m", "--drop-state op", "drop the old state"],
        ),
        refused(
            "tumbling offset",
            tumbling_10,
            windowed!(tumbling(secs(10)).offset(secs(3)), count().append()),
            &["offset 0s → 3s"],
        ),
        right(
            "an offset of one size more",
            windowed!(tumbling(secs(10)).offset(secs(3)), count().append()),
            windowed!(tumbling(secs(10)).offset(secs(13)), count().append()),
        ),
        refused(
            "tumbling to sliding",
            tumbling_10,
            windowed!(sliding(secs(10), secs(5)), count().append()),
            &["window tumbling → sliding", "slide none → 5s"],
        ),
        refused(
            "allowed lateness",
            windowed!(tumbling(secs(10)), allowed_lateness(secs(30)).count().firings()),
            windowed!(tumbling(secs(10)), allowed_lateness(secs(60)).count().firings()),
            &["`op`", "settings.rs:", "allowed lateness 30s → 1m", "--drop-state op"],
        ),
        refused(
            "size of windows with an allowed lateness",
            windowed!(tumbling(secs(10)), allowed_lateness(secs(30)).count().firings()),
            windowed!(tumbling(secs(20)), allowed_lateness(secs(30)).count().firings()),
            &["window tumbling 10s → tumbling 20s"],
        ),
        right(
            "early firing",
            windowed!(session(secs(10)), early(Early::every_records(2)).count().firings()),
            windowed!(session(secs(10)), early(Early::every_records(1)).count().firings()),
        ),
        refused(
            "tumbling to session",
            tumbling_10,
            windowed!(session(secs(10)), count().append()),
            &["window tumbling → session", "gap none → 10s"],
        ),
        refused(
            "sliding size",
            windowed!(sliding(secs(40), secs(10)), sum(|n| *n).append()),
            windowed!(sliding(secs(50), secs(10)), sum(|n| *n).append()),
            &["size 40s → 50s"],
        ),
        refused(
            "slide",
            windowed!(sliding(secs(40), secs(10)), sum(|n| *n).append()),
            windowed!(sliding(secs(40), secs(20)), sum(|n| *n).append()),
            &["slide 10s → 20s"],
        ),
        refused(
            "sliding offset",
            windowed!(sliding(secs(40), secs(10)), count().update()),
            windowed!(sliding(secs(40), secs(10)).offset(secs(1)), count().update()),
            &["offset 0s → 1s"],
        ),
        refused(
            "sliding to tumbling",
            windowed!(sliding(secs(40), secs(10)), count().append()),
            windowed!(tumbling(secs(40)), count().append()),
            &["window sliding → tumbling"],
        ),
        refused(
            "session gap",
            windowed!(session(secs(5)), count().append()),
            windowed!(session(secs(2)), count().append()),
            &["gap 5s → 2s"],
        ),
        refused(
            "session gap of the records",
            windowed!(session(secs(5)), count().append()),
            windowed!(session_by(|_: &i64| secs(5)), count().append()),
            &["gap 5s → by record"],
        ),
        refused(
            "session to tumbling",
            windowed!(session(secs(5)), count().append()),
            windowed!(tumbling(secs(5)), count().append()),
            &["window session → tumbling"],
        ),
        refused(
            "a window without a key",
            unkeyed!(tumbling(secs(10)), count().append()),
            unkeyed!(tumbling(secs(20)), count().append()),
            &["size 10s → 20s"],
        ),
        refused(
            "append to update",
            tumbling_10,
            windowed!(tumbling(secs(10)), count().update()),
            &["output append → update"],
        ),
        refused(
            "update to complete",
            windowed!(session(secs(10)), count().update()),
            windowed!(session(secs(10)), count().complete()),
            &["output update → complete"],
        ),
        right(
            "update to update_every",
            windowed!(tumbling(secs(10)), count().update()),
            windowed!(tumbling(secs(10)), count().update_every(secs(1))),
        ),
    ]
}

pub(super) fn aggregates() -> Vec<Change> {
    let tumbling_count = windowed!(tumbling(secs(50)), count().append());
    vec![
        refused(
            "count to sum in a window",
            tumbling_count,
            windowed!(tumbling(secs(50)), sum(|n| *n as u64).append()),
            &["aggregate count → sum"],
        ),
        refused(
            "sum to max in a session",
            windowed!(session(secs(5)), sum(|n| *n).append()),
            windowed!(session(secs(5)), max(|n| *n).append()),
            &["aggregate sum → max"],
        ),
        refused(
            "min to max for ever",
            running!(min(|n| *n).update()),
            running!(max(|n| *n).update()),
            &["aggregate min → max"],
        ),
        refused(
            "collect to fold for ever",
            running!(collect().update()),
            running!(
                fold(Vec::new(), |all: &mut Vec<i64>, n| all.push(*n), |all, more| all.extend(more)).update()
            ),
            &["aggregate collect → fold"],
        ),
        refused(
            "count to max of a whole stream",
            total!(count().update()),
            total!(max(|n| *n as u64).update()),
            &["aggregate count → max"],
        ),
        refused(
            "a parameter that an aggregate names",
            running!(aggregate(Above(5)).update()),
            running!(aggregate(Above(1000)).update()),
            &["aggregate above 5 → above 1000"],
        ),
        refused(
            "an aggregate for ever to one in windows",
            running!(count().update()),
            windowed!(tumbling(secs(10)), count().append()),
            &["operator aggregate → window"],
        ),
        refused(
            "upserts as inserts to snapshots as inserts",
            running!(count().update().as_inserts().key_by(|row| row.0).count().update()),
            running!(count().complete().as_inserts().key_by(|row| row.0).count().update()),
            &["input upserts as inserts → snapshots as inserts"],
        ),
        refused(
            "upserts as inserts to windows that have closed",
            unkeyed!(
                tumbling(secs(10)),
                count().update().as_inserts().boxed().window(tumbling(secs(50))).count().append()
            ),
            unkeyed!(tumbling(secs(10)), count().append().window(tumbling(secs(50))).count().append()),
            &["input"],
        ),
        right(
            "upserts as inserts stay",
            running!(count().update().as_inserts().key_by(|row| row.0).max(|row| row.1).update()),
            running!(count().update().as_inserts().key_by(|row| row.0).max(|row| row.1).update()),
        ),
        right("update to complete for ever", running!(count().update()), running!(count().complete())),
        right("complete to update of a stream", total!(sum(|n| *n).complete()), total!(sum(|n| *n).update())),
    ]
}

pub(super) fn watermarks() -> Vec<Change> {
    vec![
        refused(
            "watermark delay",
            watermark!(with_watermark(|n| EventTime::from_secs(*n), secs(2))),
            watermark!(with_watermark(|n| EventTime::from_secs(*n), secs(30))),
            &["its watermark", "`time`", "delay 2s → 30s", "--drop-state time"],
        ),
        refused(
            "delay to punctuation",
            watermark!(with_watermark(|n| EventTime::from_secs(*n), secs(2))),
            watermark!(with_punctuated_watermark(
                |n| EventTime::from_secs(*n),
                |n| Some(EventTime::from_secs(*n - 2))
            )),
            &["watermark delayed → punctuated"],
        ),
        right(
            "idle_after",
            watermark!(with_watermark(|n| EventTime::from_secs(*n), secs(2))),
            watermark!(with_watermark(|n| EventTime::from_secs(*n), secs(2)).idle_after(secs(60))),
        ),
    ]
}

#[test]
fn changed_windows_are_refused_or_right() {
    check(&windows());
}

#[test]
fn changed_aggregates_are_refused_or_right() {
    check(&aggregates());
}

#[test]
fn changed_watermarks_are_refused_or_right() {
    check(&watermarks());
}
