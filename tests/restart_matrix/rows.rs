//! Operators that pass some of the rows: deduplication, rankings, limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::connectors::MemorySink;
use tidemill::prelude::*;

use super::{Change, Row, check, refused, right};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Counts the rows of each key that pass. Ten numbers share a second, so the runs share the second in which they meet.
macro_rules! distinct {
    ($delay:literal, |$n:ident| $key:expr, $($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .with_watermark(|n| EventTime::from_secs(n / 10), secs($delay))
                .uid("time")
                .key_by(|$n| $key)
                .$($rest)*
                .uid("op")
                .key_by(|n| n % 3)
                .count()
                .update()
                .map(|(key, count)| (key.to_string(), count.to_string()))
                .sink(sink);
        }
    };
}

pub(super) fn deduplication() -> Vec<Change> {
    let by_time = distinct!(1, |n| n % 3, distinct());
    let within_5 = distinct!(1, |n| n % 3, distinct_within(secs(5)));
    let within_60 = distinct!(1, |n| n % 3, distinct_within(secs(60)));
    let for_ttl = distinct!(1, |n| n % 3, distinct_for(secs(600)));
    vec![
        right("distinct stays", by_time, by_time),
        right("a span that has passed stays", within_5, within_5),
        right("a span that has not passed stays", within_60, within_60),
        right("a TTL stays", for_ttl, for_ttl),
        right("a longer TTL", for_ttl, distinct!(1, |n| n % 3, distinct_for(secs(3_600)))),
        right("a shorter TTL", distinct!(1, |n| n % 3, distinct_for(secs(3_600))), for_ttl),
        refused(
            "a longer span",
            within_5,
            within_60,
            &["`op`", "rows.rs:", "duplicates by key, within 5s → by key, within 1m", "--drop-state op"],
        ),
        refused("a shorter span", within_60, within_5, &["within 1m → by key, within 5s"]),
        right(
            "a delay stays",
            distinct!(5, |n| n % 3, distinct_within_watermark()),
            distinct!(5, |n| n % 3, distinct_within_watermark()),
        ),
        refused(
            "a span to the delay of the watermark",
            distinct!(5, |n| n % 3, distinct_within(secs(5))),
            distinct!(5, |n| n % 3, distinct_within_watermark()),
            &["operator distinct_within → distinct_within_watermark"],
        ),
        refused(
            "a longer delay",
            distinct!(5, |n| n % 3, distinct_within_watermark()),
            distinct!(60, |n| n % 3, distinct_within_watermark()),
            &["duplicates by key, within 5s → by key, within 1m"],
        ),
        refused(
            "by key and time to a span",
            by_time,
            within_60,
            &["`op`", "duplicates by key and event time → by key, within 1m"],
        ),
        refused(
            "a span to by key and time",
            within_60,
            by_time,
            &["duplicates by key, within 1m → by key and event time"],
        ),
        refused(
            "a TTL to a span",
            for_ttl,
            within_60,
            &["duplicates by key, within a TTL → by key, within 1m"],
        ),
        refused(
            "a span to a TTL",
            within_60,
            for_ttl,
            &["duplicates by key, within 1m → by key, within a TTL"],
        ),
        refused(
            "by key and time to a TTL",
            by_time,
            for_ttl,
            &["duplicates by key and event time → by key, within a TTL"],
        ),
        refused(
            "wider key of distinct",
            distinct!(1, |n| (n % 3) as i32, distinct()),
            by_time,
            &["type of its keys", "i32 → i64"],
        ),
        refused(
            "wider key of a span",
            distinct!(1, |n| (n % 3) as i32, distinct_within(secs(60))),
            within_60,
            &["i32 → i64"],
        ),
        refused(
            "key of a TTL as text",
            for_ttl,
            distinct!(1, |n| (n % 3).to_string(), distinct_for(secs(600))),
            &["i64 → text"],
        ),
        right("another type of rows", within_60, |numbers, sink| {
            numbers
                .with_watermark(|n| EventTime::from_secs(n / 10), secs(1))
                .uid("time")
                .map(|n| (n, n.to_string()))
                .key_by(|row| row.0 % 3)
                .distinct_within(secs(60))
                .uid("op")
                .key_by(|row| row.0 % 3)
                .count()
                .update()
                .map(|(key, count)| (key.to_string(), count.to_string()))
                .sink(sink);
        }),
    ]
}

macro_rules! windowed {
    ($($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .with_watermark(|n| EventTime::from_secs(*n), secs(20))
                .uid("time")
                .key_by(|n| n % 3)
                .window(tumbling(secs(50)))
                .$($rest)*
                .append()
                .uid("op")
                .map(|row| (format!("{} {}", row.key, row.window.start), format!("{:?}", row.value)))
                .sink(sink);
        }
    };
}

/// Ranks structs of a type, by a number in them.
macro_rules! ranked {
    ($type:ident, $($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .map($type::of)
                .key_by(|player| player.name.len())
                .$($rest)*
                .update()
                .uid("op")
                .map(|(key, best)| (key.to_string(), format!("{:?}", best.iter().map(|it| it.points).collect::<Vec<_>>())))
                .sink(sink);
        }
    };
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename = "Player")]
struct Player {
    points: u32,
    name: String,
}

impl Player {
    fn of(n: i64) -> Self {
        Player { points: n as u32, name: n.to_string() }
    }
}

/// The same, in another order and with one field more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename = "Player")]
struct Rated {
    name: String,
    points: u32,
    #[serde(default)]
    rating: Option<u32>,
}

impl Rated {
    fn of(n: i64) -> Self {
        Rated { name: n.to_string(), points: n as u32, rating: None }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename = "Player")]
struct Wider {
    points: u64,
    name: String,
}

impl Wider {
    fn of(n: i64) -> Self {
        Wider { points: n as u64, name: n.to_string() }
    }
}

pub(super) fn rankings() -> Vec<Change> {
    let top_3 = running!(top_n(3, |n| n % 7).update());
    let sorted = windowed!(sort_within_window(|n| n % 7));
    let ranked = windowed!(rank(|n| n % 7));
    vec![
        right("a ranking stays", top_3, top_3),
        right("a ranking of windows stays", ranked, ranked),
        right("sorted windows stay", sorted, sorted),
        right("update to complete of a ranking", top_3, running!(top_n(3, |n| n % 7).complete())),
        refused(
            "more rows",
            top_3,
            running!(top_n(5, |n| n % 7).update()),
            &["`op`", "rows.rs:", "aggregate top 3 → top 5", "--drop-state op"],
        ),
        refused("fewer rows", top_3, running!(top_n(1, |n| n % 7).update()), &["aggregate top 3 → top 1"]),
        refused(
            "top to bottom",
            top_3,
            running!(bottom_n(3, |n| n % 7).update()),
            &["aggregate top 3 → bottom 3"],
        ),
        refused(
            "a rank to a comparison",
            top_3,
            running!(top_n_by(3, |a, b| (a % 7).cmp(&(b % 7))).update()),
            &["aggregate top 3 → top by comparison 3"],
        ),
        refused(
            "more rows of a window",
            windowed!(top_n(2, |n| n % 7)),
            windowed!(top_n(3, |n| n % 7)),
            &["aggregate top 2 → top 3"],
        ),
        refused(
            "a ranking to all ranks",
            windowed!(top_n(2, |n| n % 7)),
            ranked,
            &["aggregate top 2 → ranked"],
        ),
        refused("all ranks to sorted", ranked, sorted, &["aggregate ranked → sorted"]),
        right(
            "sorted to sorted by comparison",
            sorted,
            windowed!(sort_within_window_by(|a, b| (a % 7, a).cmp(&(b % 7, b)))),
        ),
        refused("sorted to collected", sorted, windowed!(collect()), &["aggregate sorted → collect"]),
        right(
            "fields of ranked rows move and come",
            ranked!(Player, top_n(3, |it| it.points)),
            ranked!(Rated, top_n(3, |it| it.points)),
        ),
        refused(
            "wider number in ranked rows",
            ranked!(Player, bottom_n(3, |it| it.points)),
            ranked!(Wider, bottom_n(3, |it| it.points)),
            &["points: u32 → u64"],
        ),
    ]
}

macro_rules! limited {
    ($rows:literal, $type:ty) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            let first = numbers.map(|n| n as $type).limit($rows).uid("op");
            first.count().update().map(|count| (String::new(), count.to_string())).sink(sink);
        }
    };
}

pub(super) fn limits() -> Vec<Change> {
    vec![
        right("a limit stays", limited!(50, i64), limited!(50, i64)),
        right("a limit that is reached later stays", limited!(200, i64), limited!(200, i64)),
        right("more rows after the limit was reached", limited!(50, i64), limited!(120, i64)),
        right("fewer rows before the limit is reached", limited!(300, i64), limited!(200, i64)),
        right("another type of limited rows", limited!(200, i64), limited!(200, u8)),
    ]
}

#[test]
fn changed_deduplication_is_refused_or_right() {
    check(&deduplication());
}

#[test]
fn changed_rankings_are_refused_or_right() {
    check(&rankings());
}

#[test]
fn changed_limits_are_refused_or_right() {
    check(&limits());
}
