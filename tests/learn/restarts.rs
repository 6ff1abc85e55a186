//! A query that stops and resumes in the other mode, on other numbers of workers; what its checkpoint shows.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::prelude::*;

use super::common::{assert_same, available_now, run, run_well};
use super::model::{Chain, Emitted, Model, Row, Scores, fails};
use super::steps::at;
use super::whole::rows;

/// A third of the rows.
fn part(rows: &[Row], run: usize) -> &[Row] {
    &rows[run * rows.len() / 3..(run + 1) * rows.len() / 3]
}

fn write(directory: &Path, run: usize, rows: &[Row]) {
    std::fs::create_dir_all(directory).unwrap();
    let mut text = String::new();
    for Row { key, time, number } in rows {
        writeln!(text, "{key} {time} {number}").unwrap();
    }
    std::fs::write(directory.join(format!("{run}.txt")), text).unwrap();
}

fn read(graph: &Graph, directory: &Path, uid: &str) -> EventStream<Row> {
    let lines = graph.source(text_files(directory.display().to_string())).uid(uid);
    let rows = lines.map(|line| {
        let numbers: Vec<i64> = line.split(' ').map(|part| part.parse().unwrap()).collect();
        Row { key: numbers[0] as u8, time: numbers[1], number: numbers[2] as u32 }
    });
    rows.with_watermark(at, Duration::from_micros(200)).boxed()
}

#[test]
fn learning_resumes_in_other_mode_on_other_workers() {
    let in_time = |rows: Vec<Row>| rows.into_iter().filter(|row| !fails(row.number)).collect::<Vec<_>>();
    let (examples, requests) = (in_time(rows(1, 600)), in_time(rows(99, 600)));
    // Rows at the end, which push the watermark past the others.
    let end = Row { key: 0, time: 1 << 40, number: 1 };
    let place = tempfile::tempdir().unwrap();
    let (learned, asked) = (place.path().join("examples"), place.path().join("requests"));
    let checkpoint = place.path().join("checkpoint");
    let ways = [(Mode::MicroBatch, 1), (Mode::Continuous, 3), (Mode::MicroBatch, 2), (Mode::Continuous, 1)];
    let mut found = vec![];
    for (at, (mode, workers)) in ways.into_iter().enumerate() {
        let (new_examples, new_requests) =
            if at < 3 { (part(&examples, at), part(&requests, at)) } else { (&[end][..], &[end][..]) };
        write(&learned, at, new_examples);
        write(&asked, at, new_requests);
        let graph = Graph::new("learn");
        let requests = read(&graph, &asked, "requests").key_by(|row| row.key);
        let learn = read(&graph, &learned, "examples").key_by(|row| row.key).learn(Chain, |row| row.number);
        let (scored, models) = learn.score(requests, |row| row.number);
        let (sink, scores) = memory_sink();
        scored.uid("learn").map(|it| (it.row, it.prediction, it.version)).sink(sink);
        models.sink(discard().0);
        let options =
            available_now(mode, workers).with_max_records_per_epoch(40).with_checkpoint(&checkpoint);
        assert_eq!(run_well(&graph, options).late_rows, 0, "{mode} {workers}");
        let rows = scores.snapshot();
        assert!(!rows.is_empty());
        found.extend(
            rows.into_iter().map(|(row, model, version)| Emitted::Scored(row.time, row, model, version)),
        );
    }
    let mut model = Model::new(Scores::Requests);
    let all = model.epoch(&[&examples[..], &[end]].concat(), &[&requests[..], &[end]].concat(), 1 << 40);
    let (models, scored): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| matches!(it, Emitted::Model(..)));
    assert_same(&found, &scored, "scores");

    let storage = LocalDirectory::existing(&checkpoint).unwrap();
    for it in models {
        let Emitted::Model(key, version, model) = it else { continue };
        let shown = inspect::of_key(&storage, None, "learn", &key.to_string()).unwrap();
        let states = shown.states.get("models").into_iter().flatten();
        let values: Vec<_> = states.map(|entry| entry.value.clone()).collect();
        assert_eq!(values, [json!({ "version": version, "model": model })], "key {key}");
    }
}

#[test]
fn other_number_of_features_is_refused_at_a_restart() {
    use tidemill::learn::LinearRegression;

    let place = tempfile::tempdir().unwrap();
    let (input, checkpoint) = (place.path().join("in"), place.path().join("checkpoint"));
    let learn = |features: usize, rate: f64, at: usize| {
        write(&input, at, part(&rows(1, 90), at));
        let graph = Graph::new("learn");
        let learner = LinearRegression::new(features).with_rate(rate);
        let example = move |row: &Row| (vec![f64::from(row.number) / 4_096.0; features], 1.0);
        let models = read(&graph, &input, "in").key_by(|row| row.key).learn(learner, example).models();
        models.uid("models").sink(discard().0);
        run(&graph, available_now(Mode::MicroBatch, 2).with_checkpoint(&checkpoint))
    };
    learn(2, 0.1, 0).unwrap();
    // Another rate is no other model.
    learn(2, 0.2, 1).unwrap();
    let error = learn(3, 0.2, 2).unwrap_err().to_string();
    assert!(error.contains("linear_regression of 2 features"), "{error}");
    assert!(error.contains("linear_regression of 3 features"), "{error}");
}
