//! Deduplications that cannot run.

use std::time::Duration;

use tidemill::prelude::*;

use super::model::{Row, at};

fn refused(build: impl Fn(&Graph)) -> String {
    let graph = Graph::new("wrong");
    build(&graph);
    graph.run(Options::default().without_ctrl_c()).unwrap_err().to_string()
}

fn rows() -> Vec<Row> {
    vec![Row { key: 1, time: 2, number: 3 }]
}

#[test]
fn watermark_without_delay_is_refused_with_a_remedy() {
    for is_zero in [true, false] {
        let message = refused(|graph| {
            let rows = graph.source(memory(rows()));
            let rows = match is_zero {
                true => rows.with_watermark(at, Duration::ZERO).boxed(),
                false => rows.with_punctuated_watermark(at, |row| Some(at(row))).boxed(),
            };
            rows.key_by(|row| row.key).distinct_within_watermark().sink(memory_sink().0);
        });
        let parts =
            if is_zero { ["delay of zero", ".with_watermark"] } else { ["has no delay", "with_watermark"] };
        for part in parts.into_iter().chain(["distinct_within_watermark", ".distinct_within(", "wrong.rs:"]) {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}

#[test]
fn span_and_ttl_of_zero_are_refused() {
    let message = refused(|graph| {
        let rows = graph.source(memory(rows())).with_watermark(at, Duration::ZERO);
        rows.key_by(|row| row.key).distinct_within(Duration::ZERO).sink(memory_sink().0);
    });
    assert!(message.contains("span of the deduplication is zero"), "{message}");
    let message = refused(|graph| {
        graph.source(memory(rows())).key_by(|row| row.key).distinct_for(Duration::ZERO).sink(memory_sink().0);
    });
    assert!(message.contains("the TTL is zero") && message.contains("distinct_for"), "{message}");
}

/// The greatest delay in front of it counts, through unions and windows.
#[test]
fn delay_of_united_streams_is_the_greatest() {
    let graph = Graph::new("united");
    let source =
        |delay| graph.source(memory(rows())).with_watermark(at, Duration::from_micros(delay)).boxed();
    let (sink, table) = memory_sink();
    let both = source(5).union(source(7));
    both.window(tumbling(Duration::from_micros(10)))
        .count()
        .append()
        .key_by(|window| window.value)
        .distinct_within_watermark()
        .map(|window| window.value)
        .sink(sink);
    graph.run(Options::default().without_ctrl_c()).unwrap();
    assert_eq!(table.snapshot(), [2]);
}
