//! Linear and logistic regression find the weights that their data was made with.

use tidemill::learn::{LearnError, Learner, LinearRegression, LogisticRegression, Predict, Weights};

/// Numbers from -1 to 1, evenly distributed.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn assert_near(found: &Weights, weights: &[f64], intercept: f64, within: f64) {
    let all = found.weights.iter().zip(weights).chain([(&found.intercept, &intercept)]);
    assert!(all.clone().all(|(one, other)| (one - other).abs() < within), "{found:?}");
}

#[test]
fn linear_regression_finds_known_weights() {
    let (weights, mut numbers) = ([3.0, -2.0, 0.5], Numbers(1));
    let exact = LinearRegression::new(3).with_rate(0.1);
    let noisy = LinearRegression::new(3).with_rate(0.5).with_decay(0.05);
    let (mut model, mut of_noise) = (exact.start(), noisy.start());
    for _ in 0..20_000 {
        let x = [numbers.next(), numbers.next(), numbers.next()];
        let y = x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + 4.0;
        exact.learn(&mut model, &(x, y)).unwrap();
        noisy.learn(&mut of_noise, &(x, y + numbers.next())).unwrap();
    }
    assert_near(&model, &weights, 4.0, 1e-9);
    assert_near(&of_noise, &weights, 4.0, 0.05);
    assert_eq!((model.examples, exact.predict(&model, &[1.0, 1.0, 2.0]).unwrap().round()), (20_000, 6.0));
}

#[test]
fn logistic_regression_finds_known_weights() {
    let (weights, mut numbers) = ([2.0, -1.0], Numbers(2));
    let learner = LogisticRegression::new(2).with_rate(2.0).with_decay(0.01);
    let mut model = learner.start();
    for _ in 0..200_000 {
        let x = vec![numbers.next() * 2.0, numbers.next() * 2.0];
        let sum = x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + 0.5;
        let is_true = numbers.next() / 2.0 + 0.5 < 1.0 / (1.0 + (-sum).exp());
        learner.learn(&mut model, &(x, is_true)).unwrap();
    }
    assert_near(&model, &weights, 0.5, 0.1);
    assert!((learner.predict(&model, &vec![0.0, 0.0]).unwrap() - 0.62).abs() < 0.03);
}

#[test]
fn l2_draws_weights_to_zero_and_intercept_can_be_left_out() {
    let l2 = LinearRegression::new(1).with_rate(0.05).with_l2(1.0);
    let through_zero = LinearRegression::new(1).with_rate(0.05).without_intercept();
    let (mut drawn, mut fixed) = (l2.start(), through_zero.start());
    for n in 0..10_000 {
        let x = [if n % 2 == 0 { 1.0 } else { -1.0 }];
        l2.learn(&mut drawn, &(x, 4.0 * x[0] + 1.0)).unwrap();
        through_zero.learn(&mut fixed, &(x, 4.0 * x[0])).unwrap();
    }
    // The loss (4 - w)² / 2 + w² / 2 is least at 2.
    assert_near(&drawn, &[2.0], 1.0, 0.1);
    assert_near(&fixed, &[4.0], 0.0, 1e-9);
    assert_eq!(fixed.intercept.to_bits(), 0.0f64.to_bits());
}

#[test]
fn rows_that_are_no_numbers_leave_the_model() {
    let learner = LinearRegression::<Vec<f64>>::new(2).with_rate(0.5);
    let mut model = learner.start();
    learner.learn(&mut model, &(vec![1.0, 2.0], 3.0)).unwrap();
    let before = model.clone();
    let big = f64::MAX;
    for (features, label, expected) in [
        (vec![f64::NAN, 1.0], 1.0, "feature 0 is not a finite number (got NaN)"),
        (vec![1.0, f64::NEG_INFINITY], 1.0, "feature 1 is not a finite number (got -inf)"),
        (vec![1.0, 1.0], f64::INFINITY, "the label is not a finite number (got inf)"),
        (vec![1.0], 1.0, "the learner takes 2 features (got 1)"),
        (vec![1.0, 1.0, 1.0], 1.0, "the learner takes 2 features (got 3)"),
        (vec![big, 1.0], -big, "the result would not be a finite number"),
        (vec![big, big], 1.0, "the result would not be a finite number"),
    ] {
        let error = learner.learn(&mut model, &(features.clone(), label)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.is::<LearnError>());
        assert_eq!(model, before, "{features:?}");
    }
    let error = learner.predict(&model, &vec![1.0, f64::NAN]).unwrap_err();
    assert_eq!(error.to_string(), "feature 1 is not a finite number (got NaN)");
    // Probabilities end at 0 and 1, however large the sum is.
    let logistic = LogisticRegression::<[f64; 1]>::new(1).with_rate(1e3);
    let mut model = logistic.start();
    logistic.learn(&mut model, &([1e3], true)).unwrap();
    assert_eq!(logistic.predict(&model, &[1e9]).unwrap().to_bits(), 1.0f64.to_bits());
    assert_eq!(logistic.predict(&model, &[-1e9]).unwrap().to_bits(), 0.0f64.to_bits());
}
