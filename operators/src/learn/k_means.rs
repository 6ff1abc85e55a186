//! K-means: which of a few clusters a point belongs to, learned point by point.
//!
//! After J. MacQueen, "Some methods for classification and analysis of multivariate observations" (1967), whose centers are the means of
//! their points so far, with the half-life of Spark's streaming k-means. The start is the farthest-first traversal of T. F. Gonzalez,
//! "Clustering to minimize the maximum intercluster distance" (1985), over the first points: it needs no random numbers.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::error::check_features;
use super::{LearnError, LearnResult, Learner, Predict};

/// The largest coordinate: the square of the distance of two points stays finite.
const MOST: f64 = 1e150;

/// Clusters of points: each point moves the center that is nearest to it.
///
/// An example is a point, `X`: an array, which needs no memory of its own (`[f64; 3]`), or a `Vec<f64>`. A prediction is the [`Nearest`]
/// center; none before there are centers. Coordinates should have about the same spread, or the widest one decides.
///
/// The centers begin as points that are far from each other among the first ones, 10 for each cluster unless
/// [`with_start`](Self::with_start) sets another number. From then on a center is the mean of the points that were nearest to it when they
/// came; with a [half-life](Self::with_half_life), newer points count more. A center of which no point is the nearest any more stays
/// where it is.
///
/// A row is an error, and leaves the model as it was, if it has another number of coordinates, or if one is NaN, infinite or beyond
/// ±10¹⁵⁰.
///
/// ```
/// use tidemill::learn::{KMeans, Learner, Predict};
///
/// let towns = KMeans::new(2, 2).with_start(4);
/// let mut model = towns.start();
/// for point in [[0.0, 0.0], [9.0, 9.0], [0.0, 1.0], [9.0, 8.0], [0.0, 2.0], [9.0, 7.0]] {
///     towns.learn(&mut model, &point)?;
/// }
/// assert_eq!(model.centers[0].position, [0.0, 1.0]);
/// assert_eq!(model.centers[1].position, [9.0, 8.0]);
/// let nearest = towns.predict(&model, &[6.0, 4.0])?.unwrap();
/// assert_eq!((nearest.cluster, nearest.distance), (1, 5.0));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct KMeans<X> {
    clusters: usize,
    dimensions: usize,
    half_life: Option<f64>,
    first: usize,
    #[serde(skip)]
    types: PhantomData<fn() -> X>,
}

impl<X> KMeans<X> {
    /// That many clusters of points with that many coordinates, in which all points count alike.
    pub const fn new(clusters: usize, dimensions: usize) -> Self {
        let first = clusters.saturating_mul(10);
        KMeans { clusters, dimensions, half_life: None, first, types: PhantomData }
    }

    /// Sets after how many points of all clusters a point counts half: greater than zero.
    #[must_use]
    pub const fn with_half_life(self, points: f64) -> Self {
        KMeans { half_life: Some(points), ..self }
    }

    /// Sets among how many of the first points the centers begin: at least as many as clusters.
    ///
    /// Those points are in the state until then, and count alike. If there are fewer different ones than clusters, more are awaited.
    #[must_use]
    pub const fn with_start(self, points: usize) -> Self {
        KMeans { first: points, ..self }
    }

    /// Adds points at one place to the nearest center.
    fn add(&self, centers: &mut [Center], point: &[f64], points: f64) {
        let Some((nearest, _)) = nearest(centers, point) else { return };
        if let Some(center) = centers.get_mut(nearest) {
            center.weight += points;
            let part = points / center.weight;
            center.position.iter_mut().zip(point).for_each(|(at, to)| *at += (to - *at) * part);
        }
    }

    /// Chooses centers among the first points, and adds the others to them.
    fn begin(&self, model: &mut Clusters) {
        let mut first = std::mem::take(&mut model.first);
        // The distance of each point to the nearest center.
        let mut distances = vec![f64::INFINITY; first.len()];
        let mut chosen = Vec::with_capacity(self.clusters);
        for _ in 0..self.clusters {
            // Of points that are equally far the first.
            let free = distances.iter().enumerate().filter(|(at, _)| !chosen.contains(at));
            let farthest = free.reduce(|most, next| if next.1 > most.1 { next } else { most });
            let Some((at, _)) = farthest else { break };
            let Some(center) = first.get(at).cloned() else { break };
            chosen.push(at);
            for (distance, point) in distances.iter_mut().zip(&first) {
                *distance = distance.min(squared(&center.position, &point.position));
            }
            model.centers.push(center);
        }
        let mut at = 0;
        first.retain(|_| {
            at += 1;
            !chosen.contains(&(at - 1))
        });
        for point in &first {
            self.add(&mut model.centers, &point.position, point.weight);
        }
    }
}

impl<X> Clone for KMeans<X> {
    fn clone(&self) -> Self {
        KMeans { types: PhantomData, ..*self }
    }
}

impl<X> fmt::Debug for KMeans<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KMeans")
            .field("clusters", &self.clusters)
            .field("dimensions", &self.dimensions)
            .field("half_life", &self.half_life)
            .field("start", &self.first)
            .finish()
    }
}

/// What [`KMeans`] learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Clusters {
    /// The centers; none before enough points have come.
    pub centers: Vec<Center>,
    /// How many points have been learned.
    pub examples: u64,
    /// The different points before there are centers.
    first: Vec<Center>,
}

/// A center of [`Clusters`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Center {
    /// Its coordinates.
    pub position: Vec<f64>,
    /// How many points it is the mean of; with a half-life, as much as they count now.
    pub weight: f64,
}

/// The center that is nearest to a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Nearest {
    /// The number of the cluster, from 0; that of the first if several are as near.
    pub cluster: usize,
    /// How far the center is.
    pub distance: f64,
}

/// The square of the distance.
#[inline]
fn squared(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).fold(0.0, |sum, (one, other)| sum + (one - other) * (one - other))
}

/// The nearest center, and the square of its distance.
#[inline]
fn nearest(centers: &[Center], point: &[f64]) -> Option<(usize, f64)> {
    let distances = centers.iter().map(|center| squared(&center.position, point)).enumerate();
    distances.reduce(|least, next| if next.1 < least.1 { next } else { least })
}

fn check(point: &[f64], dimensions: usize) -> Result<(), LearnError> {
    check_features(point, dimensions)?;
    let is_small = point.iter().fold(true, |all, value| all & (value.abs() <= MOST));
    if is_small { Ok(()) } else { Err(LearnError::Overflow) }
}

impl<X: AsRef<[f64]> + 'static> Learner for KMeans<X> {
    type Example = X;
    type Model = Clusters;

    fn start(&self) -> Clusters {
        Clusters::default()
    }

    fn learn(&self, model: &mut Clusters, point: &X) -> LearnResult {
        let point = point.as_ref();
        check(point, self.dimensions)?;
        model.examples += 1;
        if !model.centers.is_empty() {
            if let Some(half_life) = self.half_life {
                let kept = (-1.0 / half_life).exp2();
                model.centers.iter_mut().for_each(|center| center.weight *= kept);
            }
            self.add(&mut model.centers, point, 1.0);
            return Ok(());
        }
        match model.first.iter_mut().find(|first| first.position == point) {
            Some(first) => first.weight += 1.0,
            None => model.first.push(Center { position: point.to_vec(), weight: 1.0 }),
        }
        if model.first.len() >= self.clusters && model.examples >= self.first as u64 {
            self.begin(model);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("k_means of {} clusters in {} dimensions", self.clusters, self.dimensions)
    }

    fn problem(&self) -> Option<String> {
        let KMeans { clusters, dimensions, half_life, first, .. } = *self;
        for (what, number) in [("clusters", clusters), ("dimensions", dimensions)] {
            if number == 0 {
                return Some(format!("the number of {what} of `k_means` must be at least 1 (got 0)"));
            }
        }
        if let Some(half_life) = half_life
            && !(half_life.is_finite() && half_life > 0.0)
        {
            return Some(format!(
                "the half-life of `k_means` must be a number greater than zero (got {half_life}): `.with_half_life(…)`"
            ));
        }
        (first < clusters).then(|| {
            format!("`k_means` must start with at least as many points as clusters, {clusters} (got {first}): `.with_start(…)`")
        })
    }
}

impl<X: AsRef<[f64]> + 'static> Predict for KMeans<X> {
    type Features = X;
    type Prediction = Option<Nearest>;

    fn features<'a>(&self, example: &'a X) -> &'a X {
        example
    }

    fn predict(&self, model: &Clusters, point: &X) -> LearnResult<Option<Nearest>> {
        let point = point.as_ref();
        check(point, self.dimensions)?;
        let nearest = nearest(&model.centers, point);
        Ok(nearest.map(|(cluster, squared)| Nearest { cluster, distance: squared.sqrt() }))
    }
}
