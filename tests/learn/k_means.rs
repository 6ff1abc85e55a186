//! K-means against plain loops and against the means of clusters that are apart.

use tidemill::learn::{Clusters, KMeans, LearnError, Learner, Predict};

use super::regression::Numbers;

const CENTERS: [[f64; 2]; 4] = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]];

/// Points around the centers, the number of each with it.
fn points(count: usize) -> Vec<(usize, [f64; 2])> {
    let mut numbers = Numbers(3);
    let point = |n: usize| {
        // Long runs of one cluster, so that a start by the first points alone would have several centers in one.
        let cluster = n / 5 % 4;
        (cluster, CENTERS[cluster].map(|at| at + 2.0 * numbers.next()))
    };
    (0..count).map(point).collect()
}

fn learn(learner: &KMeans<[f64; 2]>, points: &[(usize, [f64; 2])]) -> Clusters {
    let mut model = learner.start();
    points.iter().for_each(|(_, point)| learner.learn(&mut model, point).unwrap());
    model
}

#[test]
fn centers_of_separated_clusters_are_their_means() {
    let (points, learner) = (points(4_000), KMeans::new(4, 2));
    let model = learn(&learner, &points);
    assert_eq!((model.centers.len(), model.examples), (4, 4_000));
    let mut found = vec![];
    for (cluster, at) in CENTERS.iter().enumerate() {
        let nearest = learner.predict(&model, at).unwrap().unwrap();
        let of_cluster: Vec<_> = points.iter().filter(|point| point.0 == cluster).collect();
        let center = &model.centers[nearest.cluster];
        for axis in [0, 1] {
            let mean = of_cluster.iter().map(|(_, point)| point[axis]).sum::<f64>() / of_cluster.len() as f64;
            assert!((center.position[axis] - mean).abs() < 1e-9, "{center:?}, {mean}");
        }
        assert!((center.weight - 1_000.0).abs() < 1e-9 && nearest.distance < 0.2, "{center:?}");
        found.push(nearest.cluster);
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3]);
}

#[test]
fn half_life_weighs_points_as_a_loop_does() {
    let learner = KMeans::new(1, 1).with_start(1).with_half_life(10.0);
    let mut model = learner.start();
    let points: Vec<f64> = (0..200).map(|n| f64::from(n * n % 17)).collect();
    for (n, point) in points.iter().enumerate() {
        learner.learn(&mut model, &[*point]).unwrap();
        let weight = |at: usize| 0.5f64.powf((n - at) as f64 / 10.0);
        let weights: f64 = (0..=n).map(weight).sum();
        let mean = (0..=n).map(|at| weight(at) * points[at]).sum::<f64>() / weights;
        let center = &model.centers[0];
        assert!((center.position[0] - mean).abs() < 1e-9, "{n}: {center:?}, {mean}");
        assert!((center.weight - weights).abs() < 1e-9, "{n}: {center:?}, {weights}");
    }
}

#[test]
fn start_waits_for_different_points_and_chooses_far_ones() {
    let learner = KMeans::new(3, 1).with_start(5);
    let mut model = learner.start();
    // Only two different points among the first six.
    for point in [1.0, 1.0, 4.0, 1.0, 4.0, 1.0] {
        learner.learn(&mut model, &[point]).unwrap();
        assert_eq!(learner.predict(&model, &[0.0]).unwrap(), None);
    }
    learner.learn(&mut model, &[2.0]).unwrap();
    let centers: Vec<_> = model.centers.iter().map(|center| (center.position[0], center.weight)).collect();
    assert_eq!(centers, [(1.0, 4.0), (4.0, 2.0), (2.0, 1.0)]);
    assert_eq!(model.examples, 7);
    // The first point, then the farthest one, then the one that is farthest from both; the others move the nearest center.
    let model = [0.0, 1.0, 9.0, 10.0, 4.0].iter().fold(learner.start(), |mut model, point| {
        learner.learn(&mut model, &[*point]).unwrap();
        model
    });
    let centers: Vec<_> = model.centers.iter().map(|center| (center.position[0], center.weight)).collect();
    assert_eq!(centers, [(0.5, 2.0), (9.5, 2.0), (4.0, 1.0)]);
}

#[test]
fn points_that_are_no_numbers_leave_the_model() {
    let learner = KMeans::<Vec<f64>>::new(2, 2).with_start(2);
    let mut model = learner.start();
    for before_start in [true, false] {
        let before = model.clone();
        for (point, expected) in [
            (vec![f64::NAN, 1.0], "feature 0 is not a finite number (got NaN)"),
            (vec![1.0, f64::INFINITY], "feature 1 is not a finite number (got inf)"),
            (vec![1.0, -1e151], "the result would not be a finite number"),
            (vec![1.0], "the learner takes 2 features (got 1)"),
        ] {
            let error = learner.learn(&mut model, &point).unwrap_err();
            assert!(error.to_string().contains(expected) && error.is::<LearnError>(), "{error}");
            let error = learner.predict(&model, &point).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(model, before, "{before_start}");
        }
        // As far apart as points can be.
        for point in [[1e150, -1e150], [-1e150, 1e150], [1e150, 1e150]] {
            learner.learn(&mut model, &point.to_vec()).unwrap();
        }
        let coordinates = || model.centers.iter().flat_map(|center| &center.position);
        assert!(coordinates().count() == 4 && coordinates().all(|at| at.is_finite()), "{model:?}");
    }
}
