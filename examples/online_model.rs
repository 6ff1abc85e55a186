//! A model that learns while it scores: which visits of a shop end with an order.
//!
//! ```sh
//! cargo run --example online_model
//! ```
//!
//! A visit is scored when it begins, and its outcome is known some minutes later: that is the example. Logistic regression learns one
//! example after another, in the order of event time, and each visit is scored by the model of its own time. In the middle, customers
//! change their habits.
//!
//! The example compares the share of visits that were predicted rightly, each before it was learned, with a model that is fitted to all
//! visits at once, and which therefore knows the future. It also scores the visits again in a plain loop: the predictions are the same to
//! the last bit, in both modes and on any number of workers.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::learn::{Learner, LogisticRegression, Predict, Scored};
use tidemill::prelude::*;

/// Weights: pages seen, minutes, whether the customer is known.
type Features = [f64; 3];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Visit {
    number: u64,
    /// When it begins.
    at: EventTime,
    features: Features,
}

#[derive(Clone, Serialize, Deserialize)]
struct Outcome {
    /// When it is known.
    at: EventTime,
    features: Features,
    has_ordered: bool,
}

const VISITS: u64 = 20_000;
/// From this visit on, customers order for other reasons.
const CHANGE: u64 = VISITS / 2;

/// A number from -1 to 1.
fn random(seed: u64) -> f64 {
    let mut mixed = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn features(number: u64) -> Features {
    [random(4 * number), random(4 * number + 1), if number.is_multiple_of(3) { 1.0 } else { 0.0 }]
}

fn visits() -> impl Iterator<Item = Visit> + Clone + Send {
    (0..VISITS).map(|number| Visit {
        number,
        at: EventTime::from_secs(number as i64),
        features: features(number),
    })
}

fn outcomes() -> impl Iterator<Item = Outcome> + Clone + Send {
    (0..VISITS).map(|number| {
        let features = features(number);
        let weights = if number < CHANGE { [4.0, 1.0, 2.0] } else { [1.0, -4.0, 2.0] };
        let sum: f64 = features.iter().zip(weights).map(|(feature, weight)| feature * weight).sum();
        let probability = 1.0 / (1.0 + (1.0 - sum).exp());
        // Outcomes come out of order, one to five minutes after the visit began.
        let minutes = 1 + number * 7 % 5;
        Outcome {
            at: EventTime::from_secs((number + 60 * minutes) as i64),
            features,
            has_ordered: random(4 * number + 2) / 2.0 + 0.5 < probability,
        }
    })
}

fn learner() -> LogisticRegression<Features> {
    LogisticRegression::new(3).with_rate(0.1)
}

fn scores(graph: &Graph) -> (EventStream<Scored<(), Visit, f64>>, EventStream<Scored<(), Outcome, f64>>) {
    let delay = Duration::from_secs(5 * 60);
    let visits = graph.source(memory(visits())).with_watermark(|visit: &Visit| visit.at, Duration::ZERO);
    let outcomes =
        graph.source(memory(outcomes())).with_watermark(|outcome: &Outcome| outcome.at, delay).boxed();
    // One model for all visits.
    let learn = || {
        let outcomes = outcomes.clone().key_by(|_| ());
        outcomes.learn(learner(), |outcome| (outcome.features, outcome.has_ordered))
    };
    let (scored, _models) = learn().score(visits.key_by(|_| ()), |visit| visit.features);
    let (tested, _models) = learn().test_then_learn();
    (scored, tested)
}

/// Each visit's prediction and version, by a loop over the sorted outcomes.
fn expected() -> Result<Vec<(u64, u64, u64)>, Box<dyn Error + Send + Sync>> {
    let mut sorted: Vec<Outcome> = outcomes().collect();
    // Of outcomes that are known in the same second the order of their bytes decides.
    sorted.sort_by_cached_key(|outcome| (outcome.at, encoded(outcome)));
    let learner = learner();
    let (mut model, mut known) = (learner.start(), sorted.iter().peekable());
    visits()
        .map(|visit| {
            while let Some(outcome) = known.next_if(|outcome| outcome.at < visit.at) {
                learner.learn(&mut model, &(outcome.features, outcome.has_ordered))?;
            }
            Ok((visit.number, learner.predict(&model, &visit.features)?.to_bits(), model.examples))
        })
        .collect()
}

/// The bytes of an outcome in a checkpoint: a float has those of its bits, the lowest first. The time is the same.
fn encoded(outcome: &Outcome) -> Vec<u8> {
    let features = outcome.features.iter().flat_map(|feature| feature.to_le_bytes());
    features.chain([u8::from(outcome.has_ordered)]).collect()
}

/// The share of outcomes that a model predicts which is fitted to all of them at once, by gradient descent.
fn accuracy_of_batch(outcomes: &[Outcome]) -> Result<f64, Box<dyn Error + Send + Sync>> {
    let (mut weights, mut intercept) = ([0.0; 3], 0.0);
    let predict = |weights: &Features, intercept: f64, outcome: &Outcome| -> f64 {
        let sum: f64 = outcome.features.iter().zip(weights).map(|(feature, weight)| feature * weight).sum();
        1.0 / (1.0 + (-intercept - sum).exp())
    };
    for _ in 0..300 {
        let (mut slopes, mut slope) = ([0.0; 3], 0.0);
        for outcome in outcomes {
            let error = predict(&weights, intercept, outcome) - f64::from(u8::from(outcome.has_ordered));
            slopes.iter_mut().zip(outcome.features).for_each(|(slope, feature)| *slope += error * feature);
            slope += error;
        }
        let rate = 3.0 / outcomes.len() as f64;
        weights.iter_mut().zip(slopes).for_each(|(weight, slope)| *weight -= rate * slope);
        intercept -= rate * slope;
    }
    let is_right = |outcome: &&Outcome| (predict(&weights, intercept, outcome) > 0.5) == outcome.has_ordered;
    Ok(outcomes.iter().filter(is_right).count() as f64 / outcomes.len() as f64)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let expected = expected()?;
    let outcomes: Vec<Outcome> = outcomes().collect();
    let (before, after) = outcomes.split_at(CHANGE as usize);
    let batch = accuracy_of_batch(&outcomes)?;
    let halves = [accuracy_of_batch(before)?, accuracy_of_batch(after)?];
    println!("fitted to all visits at once: {:.1} % right", 100.0 * batch);
    println!("fitted to each half at once:  {:.1} % and {:.1} %", 100.0 * halves[0], 100.0 * halves[1]);
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2] {
            let graph = Graph::new("online model");
            let ((sink, scored), (tested_sink, tested)) = (memory_sink(), memory_sink());
            let (scores, tests) = scores(&graph);
            scores.map(|it| (it.row.number, it.prediction.to_bits(), it.version)).sink(sink);
            let right =
                |it: Scored<(), Outcome, f64>| (it.version, (it.prediction > 0.5) == it.row.has_ordered);
            tests.map(right).sink(tested_sink);
            let summary = graph.run(
                Options::default().with_mode(mode).with_workers(workers).with_max_records_per_epoch(5_000),
            )?;
            assert_eq!(summary.late_rows, 0);

            let mut scored = scored.snapshot();
            scored.sort_unstable();
            assert!(scored == expected, "the scores are those of a loop");
            let mut tested = tested.snapshot();
            tested.sort_unstable();
            assert_eq!(tested.len() as u64, VISITS);
            let share = |part: &[(u64, bool)]| {
                part.iter().filter(|(_, is_right)| *is_right).count() as f64 / part.len() as f64
            };
            let (before, after) = tested.split_at(CHANGE as usize);
            println!(
                "{mode}, {workers} workers: {:.1} % of visits predicted before they were learned; {:.1} % and {:.1} % of each half",
                100.0 * share(&tested),
                100.0 * share(before),
                100.0 * share(after)
            );
            // As good as what knows the future of its half, but for the visits after the change; better than one model for all.
            assert!(share(before) > halves[0] - 0.02 && share(after) > halves[1] - 0.02);
            assert!(share(&tested) > batch + 0.05);
        }
    }
    Ok(())
}
