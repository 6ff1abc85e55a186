//! Aggregates that estimate: what their state depends on.

use std::time::Duration;

use tidemill::connectors::MemorySink;
use tidemill::prelude::*;

use super::{Change, Row, check, refused, right};

macro_rules! windowed {
    ($($rest:tt)*) => {
        |numbers: Stream<i64>, sink: MemorySink<Row>| {
            numbers
                .with_watermark(|n| EventTime::from_secs(*n), Duration::from_secs(20))
                .uid("time")
                .key_by(|n| n % 3)
                .window(sliding(Duration::from_secs(60), Duration::from_secs(10)))
                .$($rest)*
                .append()
                .uid("op")
                .map(|row| (format!("{} {}", row.key, row.window.start), format!("{:?}", row.value)))
                .sink(sink);
        }
    };
}

pub(super) fn distinct_counts() -> Vec<Change> {
    let precise = running!(hyper_log_log(14, |n| n % 50).update());
    // After the restart there are registers.
    let rough = running!(hyper_log_log(8, |n| *n).update());
    vec![
        right("a precision stays", precise, precise),
        right("a precision with registers stays", rough, rough),
        right(
            "a precision of windows stays",
            windowed!(hyper_log_log(4, |n| *n)),
            windowed!(hyper_log_log(4, |n| *n)),
        ),
        refused(
            "a lower precision",
            precise,
            rough,
            &["`op`", "sketches.rs:", "aggregate hyper_log_log 14 → hyper_log_log 8", "--drop-state op"],
        ),
        refused(
            "a higher precision of windows",
            windowed!(hyper_log_log(8, |n| *n)),
            windowed!(hyper_log_log(12, |n| *n)),
            &["aggregate hyper_log_log 8 → hyper_log_log 12"],
        ),
        refused(
            "a count to distinct values",
            running!(count().update()),
            precise,
            &["count → hyper_log_log 14"],
        ),
    ]
}

pub(super) fn quantiles() -> Vec<Change> {
    let one_percent = running!(quantiles(0.01, [0.5, 0.99], |n| *n).update());
    vec![
        right("an error stays", one_percent, one_percent),
        right(
            "an error of windows stays",
            windowed!(quantiles(0.1, [0.5], |n| *n)),
            windowed!(quantiles(0.1, [0.5], |n| *n)),
        ),
        right("other quantiles", one_percent, running!(quantiles(0.01, [0.1], |n| *n).update())),
        refused(
            "a smaller error",
            one_percent,
            running!(quantiles(0.001, [0.5, 0.99], |n| *n).update()),
            &["`op`", "sketches.rs:", "aggregate quantiles within 0.775 % → quantiles within 0.098 %"],
        ),
    ]
}

pub(super) fn frequencies() -> Vec<Change> {
    let counts = running!(count_min(0.01, |n| n % 7).update());
    let rough = running!(count_min(0.1, |n| *n).update());
    let top_3 = running!(top_keys(3, |n| n % 7).update());
    vec![
        right("a table of counts stays", counts, counts),
        right("a table of more counts stays", rough, rough),
        refused(
            "a larger error",
            counts,
            running!(count_min(0.1, |n| n % 7).update()),
            &["`op`", "sketches.rs:", "aggregate count_min 5 x 512 → count_min 5 x 32"],
        ),
        right("top keys stay", top_3, top_3),
        right(
            "top keys of windows stay",
            windowed!(top_keys(2, |n| n % 7)),
            windowed!(top_keys(2, |n| n % 7)),
        ),
        refused(
            "more top keys",
            top_3,
            running!(top_keys(5, |n| n % 7).update()),
            &["`op`", "sketches.rs:", "aggregate top_keys with 48 counters → top_keys with 80 counters"],
        ),
        refused(
            "another type of top keys",
            top_3,
            running!(top_keys(3, |n| (n % 7).to_string()).update()),
            &["`op`", "i64 → text"],
        ),
        refused("counts to top keys", counts, top_3, &["count_min 5 x 512 → top_keys with 48 counters"]),
    ]
}

pub(super) fn samples() -> Vec<Change> {
    let five = running!(sample(5, |n| n % 50).update());
    vec![
        right("a sample stays", five, five),
        right("a sample of windows stays", windowed!(sample(3, |n| *n)), windowed!(sample(3, |n| *n))),
        refused(
            "a larger sample",
            five,
            running!(sample(9, |n| n % 50).update()),
            &["`op`", "sketches.rs:", "aggregate sample of 5 → sample of 9"],
        ),
        refused(
            "a sample of another type",
            five,
            running!(sample(5, |n| n.to_string()).update()),
            &["`op`", "i64 → text"],
        ),
    ]
}

#[test]
fn changed_samples_are_refused_or_right() {
    check(&samples());
}

#[test]
fn changed_quantiles_are_refused_or_right() {
    check(&quantiles());
}

#[test]
fn changed_frequencies_are_refused_or_right() {
    check(&frequencies());
}

#[test]
fn changed_distinct_counts_are_refused_or_right() {
    check(&distinct_counts());
}
