//! Numbers arrive as they were sent: through files of JSON, and through sums, whatever the order of the records.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use tidemill::aggregate::{Average, Sum};
use tidemill::connectors::{FileSink, MemorySource, NonFinite};
use tidemill::prelude::*;

use common::{run_well, ways};

/// Floats whose shortest text a fast but inexact parser reads as a neighbour, and the ends of the range.
const FLOATS: [f64; 9] = [
    31.245270191439438,
    0.9146155235219107,
    122.41629403378658,
    5e-324,
    2.225073858507201e-308,
    f64::MAX,
    -0.0,
    9007199254740993.0,
    1.5,
];

#[test]
fn floats_come_back_from_json_lines_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("floats.jsonl");
    let wide = FLOATS.map(|float| (float, (float as f32).min(f32::MAX), u128::MAX, i128::MIN));
    let graph = Graph::new("write");
    graph.source(memory(wide)).sink(json_lines_sink(&path));
    graph.run(Options::default()).unwrap();
    let graph = Graph::new("read");
    let (sink, table) = memory_sink();
    let files = json_lines::<(f64, f32, u128, i128)>(path.display().to_string()).bounded().partitions(1);
    graph.source(files).sink(sink);
    graph.run(Options::default()).unwrap();
    let bits = |row: &(f64, f32, u128, i128)| (row.0.to_bits(), row.1.to_bits(), row.2, row.3);
    let read: Vec<_> = table.snapshot().iter().map(bits).collect();
    assert_eq!(read, wide.iter().map(bits).collect::<Vec<_>>());
}

#[test]
fn nan_in_a_json_sink_ends_the_query_naming_the_field() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Ratio {
        of: f64,
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |sink: FileSink| {
        let graph = Graph::new("ratios");
        graph.source(memory([Ratio { of: f64::NAN }])).sink(sink);
        graph.run(Options::default())
    };
    let path = dir.path().join("ratios.jsonl");
    let error = run(json_lines_sink(&path)).unwrap_err().to_string();
    assert!(error.contains("field `of`: JSON has no number for NaN"), "{error}");
    run(json_lines_sink(&path).non_finite(NonFinite::String)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"of\":\"NaN\"}\n");
}

#[test]
fn sums_are_equal_to_the_bit_with_any_workers_mode_and_epochs() {
    // Amounts, and now and then numbers that hide them for a while, or leave the range.
    let number = |n: u64| match n % 50 {
        7 => 1e200,
        9 => -1e200,
        11 => f64::MAX,
        13 => -f64::MAX,
        _ => (n * 7919 % 10_007) as f64 / 100.0,
    };
    let wide = |n: u64| if n.is_multiple_of(2) { i64::MAX - n as i64 } else { i64::MIN };
    let partition = |p: u64| (0..500u64).map(|n| (n, number(n * 4 + p), wide(n + p))).collect::<Vec<_>>();
    let partitions: Vec<_> = (0..4).map(partition).collect();
    let sums = || {
        let float = |row: &(u64, f64, i64)| row.1;
        let short = |row: &(u64, f64, i64)| row.1 as f32 / 3.0;
        (Sum::of(float), Sum::of(short), Average::of(float), Sum::of(|row: &(u64, f64, i64)| row.2))
    };
    let bits = |(sum, short, average, wide): (f64, f32, f64, i64)| {
        (sum.to_bits(), short.to_bits(), average.to_bits(), wide)
    };
    let mut all = Vec::new();
    for way in ways(&[1, usize::MAX], 40) {
        let graph = Graph::new("sums");
        let rows = graph.source(MemorySource::partitioned(partitions.clone())).boxed();
        let (by_key, keys) = memory_sink();
        rows.clone().key_by(|row| row.0 % 3).aggregate(sums()).complete().sink(by_key);
        let (by_window, windows) = memory_sink();
        rows.with_watermark(|row| EventTime::from_micros(row.0 as i64), Duration::from_micros(50))
            .window(sliding(Duration::from_micros(100), Duration::from_micros(20)))
            .aggregate(sums())
            .append()
            .sink(by_window);
        run_well(&graph, way.clone());
        let mut keys: Vec<_> = keys.snapshot().into_iter().map(|(key, sums)| (key, bits(sums))).collect();
        let windows = windows.snapshot().into_iter();
        let mut windows: Vec<_> = windows.map(|row| (row.window, bits(row.value))).collect();
        keys.sort_unstable();
        windows.sort_unstable();
        assert_eq!((keys.len(), windows.len()), (3, 29), "{way:?}");
        all.push((format!("{way:?}"), keys, windows));
    }
    for (way, keys, windows) in &all {
        assert_eq!(keys, &all[0].1, "{way}");
        assert_eq!(windows, &all[0].2, "{way}");
    }
}
