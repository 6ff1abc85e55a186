//! Whole queries: the same models and scores, bit for bit, in both modes and on any number of workers.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::connectors::MemorySource;
use tidemill::learn::{Clusters, KMeans, Learner, LinearRegression, LogisticRegression, Predict, Weights};
use tidemill::prelude::*;

use super::common::{assert_same, run_well, ways};
use super::model::{Row, sort};
use super::steps::at;

/// Rows out of order by up to 90, many of one key and many of one time.
pub(crate) fn rows(seed: u32, count: u32) -> Vec<Row> {
    let row = |n: u32| {
        let mixed = n.wrapping_add(seed).wrapping_mul(0x9e37_79b1);
        let key = if n.is_multiple_of(3) { 5 } else { (mixed >> 13) as u8 % 9 };
        let time = i64::from(n) * 10 - 3_000 + i64::from(mixed >> 8) % 10 * 10;
        Row { key, time, number: mixed >> 20 }
    };
    (0..count).map(row).collect()
}

fn features(row: &Row) -> [f64; 2] {
    let part = |by: u32| f64::from(row.number % by) / f64::from(by);
    [part(64) - 0.5, part(7)]
}

fn linear() -> LinearRegression<[f64; 2]> {
    LinearRegression::new(2).with_rate(0.3).with_decay(0.01).with_l2(0.001)
}

fn logistic() -> LogisticRegression<[f64; 2]> {
    LogisticRegression::new(2).with_rate(0.7)
}

fn label(row: &Row) -> f64 {
    let [a, b] = features(row);
    2.0 * a - b + f64::from(row.number % 11) / 20.0
}

/// The keys' models after examples before a time, by a loop.
fn looped<L: Learner>(
    learner: &L,
    key: u8,
    before: i64,
    example: impl Fn(&Row) -> L::Example,
) -> (u64, L::Model) {
    let mut examples = rows(1, 600);
    examples.retain(|row| row.key == key && row.time < before);
    sort(&mut examples);
    let mut model = learner.start();
    examples.iter().for_each(|row| learner.learn(&mut model, &example(row)).unwrap());
    (examples.len() as u64, model)
}

/// Bits, which are equal only if all floats are.
fn bits(model: &Weights) -> Vec<u64> {
    let weights = model.weights.iter().chain([&model.intercept]);
    weights.map(|weight| weight.to_bits()).chain([model.examples]).collect()
}

type Event = (u8, i64, u32, u64, u64);

#[test]
fn scores_and_models_are_the_same_in_all_ways() {
    let requests = rows(99, 200);
    let expected: Vec<Event> = requests
        .iter()
        .map(|row| {
            let (version, model) = looped(&linear(), row.key, row.time, |row| (features(row), label(row)));
            let prediction = linear().predict(&model, &features(row)).unwrap();
            (row.key, row.time, row.number, prediction.to_bits(), version)
        })
        .collect();
    let last = |key: u8| {
        let (version, model) = looped(&linear(), key, i64::MAX, |row| (features(row), label(row)));
        (key, (version, bits(&model)))
    };
    let models: BTreeMap<u8, _> = rows(1, 600).iter().map(|row| last(row.key)).collect();
    assert!(models.len() == 9 && models[&5].0 > 200, "{models:?}");

    for options in ways(&[0, usize::MAX], 70) {
        let what = format!("{options:?}");
        let graph = Graph::new("learn");
        let parts = |rows: Vec<Row>| -> Vec<Vec<Row>> {
            (0..3).map(|n| rows.iter().copied().skip(n).step_by(3).collect()).collect()
        };
        let stream = |rows| {
            let rows = graph.source(MemorySource::partitioned(parts(rows)));
            rows.with_watermark(at, Duration::from_micros(200)).key_by(|row| row.key)
        };
        let learn = stream(rows(1, 600)).learn(linear(), |row| (features(row), label(row)));
        let (scored, versions) = learn.score(stream(requests.clone()), features);
        let ((sink, scores), (model_sink, emitted), (window_sink, counts)) =
            (memory_sink(), memory_sink(), memory_sink());
        let scored = scored.boxed();
        scored
            .clone()
            .map(|it| (it.key, it.row.time, it.row.number, it.prediction.to_bits(), it.version))
            .sink(sink);
        // Scored rows are in time for windows behind.
        scored
            .window(tumbling(Duration::from_micros(500)))
            .count()
            .append()
            .map(|it| it.value)
            .sink(window_sink);
        versions.as_inserts().map(|it| (it.key, it.version, bits(&it.model))).sink(model_sink);
        let summary = run_well(&graph, options);
        assert_eq!(summary.late_rows, 0, "{what}");
        assert_same(&scores.snapshot(), &expected, &what);
        assert_eq!(counts.snapshot().iter().sum::<u64>(), 200, "{what}");
        // The last of each key is whole, and each one before is that of its version.
        let mut found = BTreeMap::new();
        for (key, version, model) in emitted.snapshot() {
            let before = found.insert(key, (version, model));
            assert!(before.is_none_or(|before| before.0 < version), "{what}");
        }
        assert_eq!(found, models, "{what}");
    }
}

#[test]
fn tested_examples_are_the_same_in_all_ways() {
    let mut all = rows(1, 600);
    sort(&mut all);
    let (learner, mut models) = (logistic(), BTreeMap::<u8, (u64, Weights)>::new());
    let mut expected: Vec<Event> = vec![];
    for row in &all {
        let (version, model) = models.entry(row.key).or_insert_with(|| (0, learner.start()));
        let prediction = learner.predict(model, &features(row)).unwrap();
        expected.push((row.key, row.time, row.number, prediction.to_bits(), *version));
        learner.learn(model, &(features(row), label(row) > 0.3)).unwrap();
        *version += 1;
    }
    for options in ways(&[0, usize::MAX], 70) {
        let what = format!("{options:?}");
        let graph = Graph::new("test then learn");
        let rows = graph.source(memory(rows(1, 600))).with_watermark(at, Duration::from_micros(200));
        let learn = rows.key_by(|row| row.key).learn(logistic(), |row| (features(row), label(row) > 0.3));
        let (sink, tested) = memory_sink();
        let (scored, _models) = learn.test_then_learn();
        scored.map(|it| (it.key, it.row.time, it.row.number, it.prediction.to_bits(), it.version)).sink(sink);
        assert_eq!(run_well(&graph, options).late_rows, 0, "{what}");
        assert_same(&tested.snapshot(), &expected, &what);
    }
}

/// The bits of a model of clusters.
fn bits_of_clusters(model: &Clusters) -> Vec<u64> {
    let numbers = model.centers.iter().flat_map(|center| center.position.iter().chain([&center.weight]));
    numbers.map(|number| number.to_bits()).chain([model.examples]).collect()
}

#[test]
fn clusters_are_the_same_in_all_ways() {
    let learner = || KMeans::new(4, 2).with_start(45).with_half_life(30.0);
    let model = |key: u8| (key, bits_of_clusters(&looped(&learner(), key, i64::MAX, features).1));
    let expected: BTreeMap<u8, Vec<u64>> = rows(1, 600).iter().map(|row| model(row.key)).collect();
    // Most keys have too few rows for a start.
    assert!(expected[&5].len() > 1 && expected.values().any(|model| model.len() == 1), "{expected:?}");
    for options in ways(&[0, usize::MAX], 70) {
        let what = format!("{options:?}");
        let graph = Graph::new("clusters");
        let rows = graph.source(memory(rows(1, 600))).with_watermark(at, Duration::from_micros(200));
        let (sink, models) = memory_sink();
        let learned = rows.key_by(|row| row.key).learn(learner(), features).models();
        learned.as_inserts().map(|it| (it.key, bits_of_clusters(&it.model))).sink(sink);
        assert_eq!(run_well(&graph, options).late_rows, 0, "{what}");
        assert_eq!(models.snapshot().into_iter().collect::<BTreeMap<_, _>>(), expected, "{what}");
    }
}
