//! Rows that the learners of this module refuse.

/// Why a row cannot be learned or scored. The model stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// The row has another number of features than the learner.
    #[error(
        "the learner takes {expected} features (got {got}): return as many for each row, or give the learner another number of them"
    )]
    Width {
        /// How many features the learner takes.
        expected: usize,
        /// How many the row has.
        got: usize,
    },
    /// A feature is NaN or infinite.
    #[error("feature {feature} is not a finite number (got {value})")]
    Feature {
        /// The number of the feature, from 0.
        feature: usize,
        /// Its value.
        value: f64,
    },
    /// The label is NaN or infinite.
    #[error("the label is not a finite number (got {value})")]
    Label {
        /// Its value.
        value: f64,
    },
    /// The result would not be a finite number.
    #[error(
        "the result would not be a finite number: the features are too large, or the learning rate is too high; scale the features to about 1"
    )]
    Overflow,
}

/// Checks the features of a row.
pub(super) fn check_features(features: &[f64], expected: usize) -> Result<(), LearnError> {
    let got = features.len();
    if got != expected {
        return Err(LearnError::Width { expected, got });
    }
    // All at once, which is faster than one by one; the row that has one is rare.
    if features.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    let (feature, value) =
        features.iter().copied().enumerate().find(|(_, value)| !value.is_finite()).unwrap_or_default();
    Err(LearnError::Feature { feature, value })
}
