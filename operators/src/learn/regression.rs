//! Linear and logistic regression by stochastic gradient descent.
//!
//! After H. Robbins and S. Monro, "A stochastic approximation method" (1951); B. Widrow and M. E. Hoff, "Adaptive switching circuits"
//! (1960), for the squared loss; and L. Bottou, "Stochastic gradient descent tricks" (2012), for the rate that falls as 1/t.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::error::check_features;
use super::{LearnError, LearnResult, Learner, Predict};

/// Linear regression: a number as a weighted sum of features, learned by the squared loss.
///
/// An example is `(features, label)`, both numbers; a prediction is a number. The settings are those of [`Sgd`].
///
/// ```
/// use tidemill::learn::{Learner, LinearRegression, Predict};
///
/// let line = LinearRegression::new(1).with_rate(0.2);
/// let mut model = line.start();
/// for n in 0..1_000 {
///     let x = f64::from(n % 5) / 5.0;
///     line.learn(&mut model, &([x], 3.0 * x - 1.0))?;
/// }
/// assert!((model.weights[0] - 3.0).abs() < 1e-3 && (model.intercept + 1.0).abs() < 1e-3);
/// assert!((line.predict(&model, &[2.0])? - 5.0).abs() < 1e-2);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub type LinearRegression<X> = Sgd<X, Squared>;

/// Logistic regression: the probability that something is true, learned by the logarithmic loss.
///
/// An example is `(features, label)`, numbers and a `bool`; a prediction is the probability of `true`, from 0 to 1. The settings are
/// those of [`Sgd`].
///
/// ```
/// use tidemill::learn::{Learner, LogisticRegression, Predict};
///
/// let is_large = LogisticRegression::new(1).with_rate(1.0);
/// let mut model = is_large.start();
/// for n in 0..1_000 {
///     let x = f64::from(n % 10);
///     is_large.learn(&mut model, &([x - 4.5], x > 4.5))?;
/// }
/// assert!(is_large.predict(&model, &[-1.0])? < 0.1 && is_large.predict(&model, &[1.0])? > 0.9);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub type LogisticRegression<X> = Sgd<X, Logistic>;

/// A linear model learned by stochastic gradient descent: [`LinearRegression`] and [`LogisticRegression`].
///
/// `X` is the type of the features: an array, which needs no memory of its own (`[f64; 3]`), or a `Vec<f64>`. Each example moves the
/// weights against the slope of its loss, by the rate. Features should be about as large as 1: with a rate above 2 / (1 + the sum of
/// their squares) linear regression diverges.
///
/// A row is an error, and leaves the model as it was, if it has another number of features, if a feature or the label is NaN or infinite,
/// or if a weight would be.
///
/// All settings but the number of features may change at a restart. The models then learn on with the new ones.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Sgd<X, G> {
    features: usize,
    rate: f64,
    decay: f64,
    l2: f64,
    has_intercept: bool,
    #[serde(skip)]
    types: PhantomData<fn() -> (X, G)>,
}

impl<X, G> Sgd<X, G> {
    /// A model with that many features, at a rate of 0.01 that stays, with an intercept and without regularisation.
    pub const fn new(features: usize) -> Self {
        Sgd { features, rate: 0.01, decay: 0.0, l2: 0.0, has_intercept: true, types: PhantomData }
    }

    /// Sets how far an example moves the weights: greater than zero.
    #[must_use]
    pub const fn with_rate(self, rate: f64) -> Self {
        Sgd { rate, ..self }
    }

    /// Sets how fast the rate falls: after `n` examples it is `rate / (1 + decay · n)`.
    ///
    /// With 0, the default, a model follows a world that changes. Otherwise it settles, and its noise vanishes.
    #[must_use]
    pub const fn with_decay(self, decay: f64) -> Self {
        Sgd { decay, ..self }
    }

    /// Sets how strongly weights are drawn to zero: the loss has `l2 / 2` times the sum of their squares added. The intercept is not
    /// drawn.
    #[must_use]
    pub const fn with_l2(self, l2: f64) -> Self {
        Sgd { l2, ..self }
    }

    /// Leaves the intercept out: the prediction for features of zero is fixed.
    #[must_use]
    pub const fn without_intercept(self) -> Self {
        Sgd { has_intercept: false, ..self }
    }
}

impl<X, G> Clone for Sgd<X, G> {
    fn clone(&self) -> Self {
        Sgd { types: PhantomData, ..*self }
    }
}

impl<X, G> fmt::Debug for Sgd<X, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sgd")
            .field("features", &self.features)
            .field("rate", &self.rate)
            .field("decay", &self.decay)
            .field("l2", &self.l2)
            .field("has_intercept", &self.has_intercept)
            .finish()
    }
}

/// What [`Sgd`] learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Weights {
    /// The weight of each feature.
    pub weights: Vec<f64>,
    /// What is added to the weighted sum.
    pub intercept: f64,
    /// How many examples have been learned.
    pub examples: u64,
}

impl Weights {
    /// Returns the weighted sum of features, and the intercept.
    pub fn weigh(&self, features: &[f64]) -> f64 {
        let products = self.weights.iter().zip(features).map(|(weight, feature)| weight * feature);
        products.fold(self.intercept, |sum, product| sum + product)
    }
}

/// A loss for [`Sgd`]: what it costs to predict a label by a weighted sum.
pub trait Loss: 'static {
    /// What is to be predicted.
    type Label;
    /// The name of the learner in plans and checkpoints.
    const NAME: &'static str;

    /// Returns the prediction that a weighted sum stands for.
    fn predict(sum: f64) -> f64;

    /// Returns the derivative of the loss by the weighted sum.
    ///
    /// # Errors
    ///
    /// If the label cannot be learned.
    fn slope(sum: f64, label: &Self::Label) -> Result<f64, LearnError>;
}

/// Half the square of the difference: the loss of [`LinearRegression`].
#[derive(Clone, Copy, Debug)]
pub enum Squared {}

impl Loss for Squared {
    type Label = f64;
    const NAME: &'static str = "linear_regression";

    #[inline]
    fn predict(sum: f64) -> f64 {
        sum
    }

    #[inline]
    fn slope(sum: f64, label: &f64) -> Result<f64, LearnError> {
        if label.is_finite() { Ok(sum - label) } else { Err(LearnError::Label { value: *label }) }
    }
}

/// The negative logarithm of the probability: the loss of [`LogisticRegression`].
#[derive(Clone, Copy, Debug)]
pub enum Logistic {}

impl Loss for Logistic {
    type Label = bool;
    const NAME: &'static str = "logistic_regression";

    #[inline]
    fn predict(sum: f64) -> f64 {
        // Of numbers of any size: exp() overflows to infinity, whose inverse is 0.
        1.0 / (1.0 + (-sum).exp())
    }

    #[inline]
    fn slope(sum: f64, label: &bool) -> Result<f64, LearnError> {
        Ok(Self::predict(sum) - f64::from(u8::from(*label)))
    }
}

impl<X, G> Learner for Sgd<X, G>
where
    X: AsRef<[f64]> + 'static,
    G: Loss,
{
    type Example = (X, G::Label);
    type Model = Weights;

    fn start(&self) -> Weights {
        Weights { weights: vec![0.0; self.features], intercept: 0.0, examples: 0 }
    }

    fn learn(&self, model: &mut Weights, (features, label): &Self::Example) -> LearnResult {
        let features = features.as_ref();
        check_features(features, self.features)?;
        let rate = self.rate / (1.0 + self.decay * model.examples as f64);
        let step = rate * G::slope(model.weigh(features), label)?;
        let intercept = if self.has_intercept { model.intercept - step } else { model.intercept };
        let kept = 1.0 - rate * self.l2;
        let moved = |weight: f64, feature: f64| weight * kept - step * feature;
        // First whether all weights stay finite, then the change.
        let is_finite =
            model.weights.iter().zip(features).fold(intercept.is_finite(), |all, (weight, feature)| {
                all & moved(*weight, *feature).is_finite()
            });
        if !is_finite {
            return Err(LearnError::Overflow.into());
        }
        model
            .weights
            .iter_mut()
            .zip(features)
            .for_each(|(weight, feature)| *weight = moved(*weight, *feature));
        model.intercept = intercept;
        model.examples += 1;
        Ok(())
    }

    fn describe(&self) -> String {
        format!("{} of {} features", G::NAME, self.features)
    }

    fn problem(&self) -> Option<String> {
        let Sgd { features, rate, decay, l2, .. } = *self;
        let name = G::NAME;
        if features == 0 {
            return Some(format!("the number of features of `{name}` must be at least 1 (got 0)"));
        }
        if !(rate.is_finite() && rate > 0.0) {
            return Some(format!(
                "the rate of `{name}` must be a number greater than zero (got {rate}): `.with_rate(…)`"
            ));
        }
        let settings = [("decay of the rate", "with_decay", decay), ("L2 weight", "with_l2", l2)];
        for (setting, method, value) in settings {
            if !(value.is_finite() && value >= 0.0) {
                return Some(format!(
                    "the {setting} of `{name}` must be zero or a greater number (got {value}): `.{method}(…)`"
                ));
            }
        }
        (rate * l2 >= 1.0).then(|| {
            format!(
                "the rate of `{name}` times its L2 weight must be less than 1 (got {}), or weights change their sign: lower one \
                 of them",
                rate * l2
            )
        })
    }
}

impl<X, G> Predict for Sgd<X, G>
where
    X: AsRef<[f64]> + 'static,
    G: Loss,
{
    type Features = X;
    type Prediction = f64;

    fn features<'a>(&self, example: &'a Self::Example) -> &'a X {
        &example.0
    }

    fn predict(&self, model: &Weights, features: &X) -> LearnResult<f64> {
        let features = features.as_ref();
        check_features(features, self.features)?;
        let prediction = G::predict(model.weigh(features));
        if prediction.is_finite() { Ok(prediction) } else { Err(LearnError::Overflow.into()) }
    }
}
