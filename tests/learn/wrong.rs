//! Settings that cannot work are refused before the query runs; rows that fail, fail it with the key and the line.

use std::time::Duration;

use tidemill::learn::{KMeans, Learner, LinearRegression, LogisticRegression};
use tidemill::prelude::*;

use super::common::{MODES, options, run};
use super::model::{Chain, Row};
use super::steps::at;

fn refused<L: Learner<Example = ([f64; 2], f64)>>(learner: L) -> String {
    let graph = Graph::new("wrong");
    let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
    let models = rows.key_by(|row| row.key).learn(learner, |_| ([1.0, 2.0], 3.0)).models();
    models.sink(discard().0);
    graph.validate().map_or_else(|error| error.to_string(), |_| "valid".to_owned())
}

#[test]
fn settings_of_regression_that_cannot_work_are_refused() {
    let of = LinearRegression::new;
    assert_eq!(refused(of(2).with_rate(0.9).with_l2(1.0)), "valid");
    let error = refused(of(0));
    assert!(error.contains("features of `linear_regression` must be at least 1 (got 0)"), "{error}");
    assert!(error.contains("tests/learn/wrong.rs:"), "{error}");
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = refused(of(2).with_rate(rate));
        assert!(error.contains(&format!("greater than zero (got {rate}): `.with_rate(…)`")), "{error}");
    }
    for wrong in [-0.5, f64::NAN, f64::INFINITY] {
        let error = refused(of(2).with_decay(wrong));
        assert!(
            error.contains(&format!("zero or a greater number (got {wrong}): `.with_decay(…)`")),
            "{error}"
        );
        let error = refused(of(2).with_l2(wrong));
        assert!(error.contains(&format!("zero or a greater number (got {wrong}): `.with_l2(…)`")), "{error}");
    }
    let error = refused(of(2).with_rate(0.5).with_l2(2.0));
    assert!(error.contains("times its L2 weight must be less than 1 (got 1)"), "{error}");
    let logistic = LogisticRegression::<[f64; 2]>::new(0);
    assert!(logistic.problem().is_some_and(|it| it.contains("`logistic_regression`")));
}

#[test]
fn settings_of_k_means_that_cannot_work_are_refused() {
    let of = |clusters, dimensions| KMeans::<[f64; 2]>::new(clusters, dimensions);
    let problem = |learner: KMeans<[f64; 2]>| learner.problem().unwrap_or_default();
    assert_eq!(problem(of(3, 2).with_half_life(0.1).with_start(3)), "");
    assert!(problem(of(0, 2)).contains("clusters of `k_means` must be at least 1 (got 0)"));
    assert!(problem(of(3, 0)).contains("dimensions of `k_means` must be at least 1 (got 0)"));
    assert!(
        problem(of(3, 2).with_start(2)).contains("as many points as clusters, 3 (got 2): `.with_start(…)`")
    );
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let problem = problem(of(3, 2).with_half_life(wrong));
        assert!(
            problem.contains(&format!("greater than zero (got {wrong}): `.with_half_life(…)`")),
            "{problem}"
        );
    }
}

#[test]
fn row_that_fails_ends_the_query_with_key_and_line() {
    let row = |key, number| Row { key, time: 1, number };
    for mode in MODES {
        for (examples, requests) in [(row(4, 10), row(4, 1)), (row(4, 1), row(4, 10))] {
            let graph = Graph::new("fails");
            let stream = |row| {
                graph.source(memory([row])).with_watermark(at, Duration::ZERO).key_by(|row: &Row| row.key)
            };
            let line = line!() + 1;
            let learn = stream(examples).learn(Chain, |row| row.number);
            learn.score(stream(requests), |row| row.number).0.sink(discard().0);
            let error = run(&graph, options(mode, 2)).unwrap_err().to_string();
            assert!(error.contains("key 4: refuses 10"), "{error}");
            assert!(error.contains(&format!("tests/learn/wrong.rs:{line}")), "{error}");
        }
    }
}

#[test]
fn late_rows_are_counted() {
    for mode in MODES {
        let graph = Graph::new("late");
        let rows = [50, 90, 20].map(|time| Row { key: 1, time, number: 1 });
        let rows = graph.source(memory(rows)).with_watermark(at, Duration::ZERO).key_by(|row| row.key);
        let (sink, models) = memory_sink();
        rows.learn(Chain, |row| row.number).models().map(|it| it.version).sink(sink);
        let summary = run(&graph, options(mode, 1).with_max_records_per_epoch(1)).unwrap();
        assert_eq!((summary.late_rows, models.snapshot().last()), (1, Some(&2)), "{mode}");
    }
}

/// The rows of an update replace others: a model that had learned one could not forget it.
#[test]
fn examples_and_requests_that_replace_others_are_refused() {
    for upserts in [0, 1] {
        let graph = Graph::new("upserts");
        let firings = |input: usize| {
            let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
            let windows = rows
                .key_by(|row| row.key)
                .window(tumbling(Duration::from_secs(1)))
                .early(Early::every_records(2));
            let firings = windows.max(|row| row.number).firings();
            if input == upserts { firings } else { firings.as_inserts().boxed() }
        };
        let learn = firings(0).key_by(|it| it.key).learn(Chain, |it| it.value.unwrap_or(0));
        learn.score(firings(1).key_by(|it| it.key), |it| it.value.unwrap_or(0)).0.sink(discard().0);
        let error = graph.validate().unwrap_err().to_string();
        assert!(error.contains("emits upserts"), "{error}");
    }
}
