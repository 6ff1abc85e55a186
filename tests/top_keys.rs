//! The keys that most rows of an operator have, in the progress: against exact counts, in both modes, on any number of workers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill::connectors::MemorySource;
use tidemill::prelude::*;
use tidemill::{StateProgress, Summary, TopKey};

use common::{MODES, options, run, run_well};

/// A key that cannot be printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Station {
    name: String,
    line: u16,
}

fn station(number: u64) -> Station {
    Station { name: format!("station {number}"), line: (number % 7) as u16 }
}

fn json(number: u64) -> String {
    format!(r#"{{"name":"station {number}","line":{}}}"#, number % 7)
}

/// Three operators that get their rows by the same keys, and an aggregate.
fn graph(keys: &[u64]) -> Graph {
    let graph = Graph::new("top keys");
    let parts = (0..3).map(|n| keys.iter().copied().skip(n).step_by(3).collect());
    let rows = graph.source(MemorySource::partitioned(parts)).boxed();
    let keyed = || rows.clone().key_by(|key| station(*key));
    keyed().count().update().sink(discard().0);
    keyed().count_window(10).count().append().sink(discard().0);
    keyed().distinct_for(Duration::from_secs(60)).sink(discard().0);
    keyed()
        .map_with_state(|_, key, number: &mut Option<u64>| {
            let number = number.insert(number.unwrap_or(0) + 1);
            (key, *number)
        })
        .sink(discard().0);
    graph
}

/// The operators that count keys: all but the aggregate.
fn counting(summary: &Summary) -> &[StateProgress] {
    let (aggregate, others) = summary.last.state_operators.split_first().unwrap();
    assert_eq!(aggregate.top_keys, [], "{aggregate:?}");
    assert_eq!(others.len(), 3);
    others
}

/// The keys of an operator with their shares, which come in order.
fn shares(operator: &StateProgress) -> BTreeMap<&str, f64> {
    assert!(operator.top_keys.is_sorted_by(|a, b| a.percent >= b.percent), "{operator:?}");
    operator.top_keys.iter().map(|TopKey { key, percent, .. }| (&**key, f64::from(*percent))).collect()
}

/// Checks that each share is at most `above` too high and `below` too low, in percent.
fn check(keys: &[u64], way: Options, above: f64, below: f64) {
    let what = format!("{way:?}");
    let summary = run_well(&graph(keys), way.with_top_keys(64));
    let mut exact = BTreeMap::<u64, f64>::new();
    keys.iter().for_each(|key| *exact.entry(*key).or_default() += 100.0 / keys.len() as f64);
    for operator in counting(&summary) {
        let mut found = shares(operator);
        for (key, exact) in &exact {
            let share = found.remove(&*json(*key)).unwrap_or(0.0);
            assert!(share <= exact + above, "{key}: {share} %, exactly {exact:.1} %: {operator:?}\n{what}");
            assert!(share >= exact - below, "{key}: {share} %, exactly {exact:.1} %: {operator:?}\n{what}");
        }
        assert!(found.is_empty(), "{found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn top_keys_of_few_rows_are_exact_but_for_counters(
        rows in prop::collection::vec((any::<prop::sample::Index>(), 0u64..300), 1..900),
        hot in 1usize..4,
    ) {
        // A few keys have more rows than all others.
        let keys: Vec<u64> = rows.iter().map(|(of, key)| match of.index(3) {
            0 => *key,
            _ => key % hot as u64,
        }).collect();
        for mode in MODES {
            for workers in [1, 2, 4] {
                // All of so few rows are in the sample: a share is rounded down, and too low by what one of 64 counters has on average.
                check(&keys, options(mode, workers), 1e-9, 1.0 + 100.0 / 64.0 + 1e-9);
            }
        }
    }
}

#[test]
fn top_keys_of_many_rows_are_those_of_their_sample() {
    // Two in five rows of one key, one in ten of another, in a pattern; the others of many keys.
    let key = |n: u64| match n % 10 {
        0 | 3 | 4 | 7 => 1,
        5 => 2,
        _ => 10 + n * 7_919 % 10_000,
    };
    let keys: Vec<u64> = (0..120_000).map(key).collect();
    for mode in MODES {
        for workers in [1, 2, 4] {
            check(&keys, options(mode, workers), 4.0, 5.0);
        }
    }
}

#[test]
fn progress_has_as_many_keys_as_were_asked_for() {
    let keys = [1, 2, 3, 3];
    let summary = run_well(&graph(&keys), options(Mode::MicroBatch, 1).with_top_keys(2));
    for operator in counting(&summary) {
        assert_eq!(shares(operator), BTreeMap::from([(&*json(3), 50.0), (&*json(1), 25.0)]));
    }
    let summary = run_well(&graph(&keys), options(Mode::MicroBatch, 1));
    assert!(summary.last.state_operators.iter().all(|operator| operator.top_keys.is_empty()));
    assert!(!serde_json::to_string(&summary.last).unwrap().contains("topKeys"));
}

#[test]
fn more_keys_than_are_counted_are_refused() {
    let refused = run(&graph(&[1]), options(Mode::MicroBatch, 1).with_top_keys(65)).unwrap_err();
    assert_eq!(refused.to_string(), "--top-keys: must be at most 64, the keys that are counted (got 65)");
}
