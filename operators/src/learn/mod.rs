//! Models that learn from a stream while it runs, and that score rows.
//!
//! [`KeyedStream::learn`] keeps one model per key and teaches it the examples of the key in the order of event time, as the watermark
//! passes them: so the models are the same in both modes, on any number of workers and after a restart. A stream of models, of
//! examples that were scored before they were learned, or of other rows scored at the model of their event time is what comes out.
//! State: the examples and requests ahead of the watermark, and a model per key. Late rows of either input are dropped and counted.
//!
//! - `operator.rs`: the order of examples and requests, the models, failures
//! - `scoring.rs`: which rows are scored
//! - `regression.rs`: linear and logistic regression; `k_means.rs`: clusters; `error.rs`: rows that cannot be learned

mod error;
mod k_means;
mod operator;
mod regression;
mod scoring;

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::error::LearnError;
pub use self::k_means::{Center, Clusters, KMeans, Nearest};
pub use self::regression::{LinearRegression, Logistic, LogisticRegression, Loss, Sgd, Squared, Weights};

use self::operator::{Learning, Streams};
use self::scoring::{Models, Requests, Tests};
use crate::aggregate::short_name;
use crate::build::{ByKey, OperatorBuilder};
use crate::chain::{Chain, HasEventTime};
use crate::process::Failed;
use crate::stream::Keying;
use crate::{Data, EventStream, Key, KeyedStream, Stream};

/// What learning and predicting return. `?` works on any error, and so does `Err("a text".into())`.
pub type LearnResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A way to learn a model from examples, one after another: what [`KeyedStream::learn`] takes.
///
/// [`LinearRegression`], [`LogisticRegression`] and [`KMeans`] are ready ones. For each key it is called with the examples in the
/// order of event time, so the model may depend on it.
///
/// ```
/// use tidemill::learn::{LearnResult, Learner, Predict};
///
/// /// Predicts that the next value is the last one.
/// struct Last;
///
/// impl Learner for Last {
///     type Example = f64;
///     type Model = f64;
///
///     fn start(&self) -> f64 {
///         0.0
///     }
///     fn learn(&self, last: &mut f64, value: &f64) -> LearnResult {
///         if value.is_nan() {
///             return Err("no number".into());
///         }
///         *last = *value;
///         Ok(())
///     }
/// }
///
/// let mut last = Last.start();
/// Last.learn(&mut last, &7.5)?;
/// assert_eq!(last, 7.5);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a learner",
    note = "`tidemill::learn` has ready ones; `impl Learner` for your own"
)]
pub trait Learner: Send + Sync + 'static {
    /// What it learns from. It is made of a row when that is learned, and is not kept.
    type Example;
    /// The model of a key; part of the state.
    type Model: Data + Clone;

    /// Returns the model before the first example.
    fn start(&self) -> Self::Model;

    /// Learns an example.
    ///
    /// # Errors
    ///
    /// An error fails the query, or sends the row to [`Rejected::failed`]. The model keeps the changes that were made before the
    /// error: so check first, then change.
    fn learn(&self, model: &mut Self::Model, example: &Self::Example) -> LearnResult;

    /// Returns the name of the learner in plans and checkpoints.
    ///
    /// A checkpoint records it, and a restart with another name is refused. If models depend on a parameter in such a way that
    /// they are useless with another one, such as the number of features, include it. The default is the type's name in lower
    /// case, without path and type arguments.
    fn describe(&self) -> String {
        short_name::<Self>()
    }

    /// Returns what is wrong with the settings, if anything is. A graph with such a learner is refused.
    ///
    /// ```
    /// use tidemill::learn::{Learner, LinearRegression};
    ///
    /// let prices = LinearRegression::<[f64; 2]>::new(2).with_rate(-0.1);
    /// assert!(prices.problem().is_some_and(|problem| problem.contains("greater than zero (got -0.1)")));
    /// ```
    fn problem(&self) -> Option<String> {
        None
    }
}

/// A learner whose models predict.
pub trait Predict: Learner {
    /// What a prediction is made of.
    type Features;
    /// A prediction.
    type Prediction: Data;

    /// Returns the features of an example.
    fn features<'a>(&self, example: &'a Self::Example) -> &'a Self::Features;

    /// Predicts by a model.
    ///
    /// # Errors
    ///
    /// As [`Learner::learn`].
    fn predict(&self, model: &Self::Model, features: &Self::Features) -> LearnResult<Self::Prediction>;
}

/// The model of a key after a number of examples: an upsert, which replaces the earlier ones of its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelVersion<K, M> {
    /// The key.
    pub key: K,
    /// How many examples the model has learned.
    pub version: u64,
    /// The model.
    pub model: M,
}

/// A row with the prediction of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scored<K, T, P> {
    /// The key.
    pub key: K,
    /// The row.
    pub row: T,
    /// The prediction.
    pub prediction: P,
    /// How many examples the model had learned.
    pub version: u64,
}

/// Rows of an input that were not learned or scored.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejected<K, T: Send + 'static> {
    /// Rows for which the learner returned an error.
    pub failed: Stream<Failed<K, T>>,
    /// Rows older than the watermark. They are counted, too.
    pub late: EventStream<T>,
}

/// A keyed stream of examples that will be learned: see [`KeyedStream::learn`].
///
/// | method | emits |
/// |---|---|
/// | [`models`](Self::models) | models |
/// | [`test_then_learn`](Self::test_then_learn) | each example, scored before it is learned; models |
/// | [`score`](Self::score) | the rows of another stream, scored by the models of their event time; models |
///
/// **Order.** The examples of a key are learned in the order of event time once the watermark has passed them; those of one time in
/// the order of their bytes in a checkpoint (postcard). So a model does not depend on the order in which rows arrive, on the mode or on
/// the number of workers. (A row that holds a `HashMap` has no such order: use a `BTreeMap`.)
///
/// **Models.** A [`ModelVersion`] is emitted for a key whenever the watermark has passed examples of the key: at most one per epoch in
/// micro-batch. Models are upserts without event time.
///
/// **Failures.** An error of the learner fails the query, with the key and the line of the call. The methods that end in
/// `_with_rejected` return such rows as a stream. A row that fails is not learned, and has no version.
///
/// **Late rows** are dropped and counted; the methods that end in `_with_rejected` return them.
///
/// **State.** Rows ahead of the watermark, and the model of every key, for ever.
#[must_use = "a learner does nothing until it is asked for `.models()`, `.test_then_learn()` or `.score(…)` and ends in a sink"]
pub struct Learn<K, V, L, E> {
    inputs: OperatorBuilder<(ByKey<K, V>,)>,
    learner: Arc<L>,
    example: Arc<E>,
}

impl<K, V, L, E> fmt::Debug for Learn<K, V, L, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learn").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Learns a model for each key from its rows, in the order of event time. `example` makes an example of a row.
    ///
    /// A constant key, `key_by(|_| ())`, makes one model for all rows, on one worker. Models of different keys learn in parallel.
    ///
    /// How likely a visit ends with an order, learned from visits that have ended:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::learn::LogisticRegression;
    /// use tidemill::prelude::*;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Visit {
    ///     second: i64,
    ///     minutes: f64,
    ///     has_ordered: bool,
    /// }
    ///
    /// let visit = |second, minutes, has_ordered| Visit { second, minutes, has_ordered };
    /// let graph = Graph::new("visits");
    /// let visits = graph
    ///     .source(memory((0..400).map(move |n| visit(n, (n % 10) as f64, n % 10 >= 5))))
    ///     .with_watermark(|visit| EventTime::from_secs(visit.second), Duration::ZERO);
    /// let requests = graph
    ///     .source(memory([(100, 8.0), (399, 1.0), (399, 8.0)]))
    ///     .with_watermark(|request: &(i64, f64)| EventTime::from_secs(request.0), Duration::ZERO);
    /// let (scored, models) = visits
    ///     .key_by(|_| ())
    ///     .learn(LogisticRegression::new(1).with_rate(0.5), |visit| ([visit.minutes - 5.0], visit.has_ordered))
    ///     .score(requests.key_by(|_| ()), |request| [request.1 - 5.0]);
    /// let ((sink, scores), (model_sink, versions)) = (memory_sink(), memory_sink());
    /// scored.map(|it| (it.row, it.prediction > 0.5, it.version)).sink(sink);
    /// models.map(|it| it.version).sink(model_sink);
    /// graph.run(Options::default())?;
    /// let mut scores = scores.snapshot();
    /// scores.sort_by(|one, other| one.0.partial_cmp(&other.0).unwrap());
    /// assert_eq!(scores, [((100, 8.0), true, 100), ((399, 1.0), false, 399), ((399, 8.0), true, 399)]);
    /// assert_eq!(versions.snapshot().last(), Some(&400));
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn learn<L, E>(self, learner: L, example: E) -> Learn<K, V, L, E>
    where
        P::Time: HasEventTime,
        L: Learner,
        E: Fn(&V) -> L::Example + Send + Sync + 'static,
    {
        let graph = self.port.graph.clone();
        let inputs = graph.operator("learn").keyed_stream(self).at(Location::caller());
        let inputs = inputs.setting("learner", learner.describe());
        let inputs = match learner.problem() {
            Some(problem) => inputs.problem(problem),
            None => inputs,
        };
        Learn { inputs, learner: Arc::new(learner), example: Arc::new(example) }
    }
}

/// The rows scored, the models, and the rejected examples.
type Tested<K, V, L> = (
    EventStream<Scored<K, V, <L as Predict>::Prediction>>,
    Stream<ModelVersion<K, <L as Learner>::Model>>,
    Rejected<K, V>,
);

/// The rows scored, the models, and the rejected examples and requests.
type Answered<K, V, R, L> = (
    EventStream<Scored<K, R, <L as Predict>::Prediction>>,
    Stream<ModelVersion<K, <L as Learner>::Model>>,
    Rejected<K, V>,
    Rejected<K, R>,
);

impl<K, V, L, E> Learn<K, V, L, E>
where
    K: Key,
    V: Data,
    L: Learner,
    E: Fn(&V) -> L::Example + Send + Sync + 'static,
{
    /// Emits the model of a key when it has learned.
    pub fn models(self) -> Stream<ModelVersion<K, L::Model>> {
        self.alone(Models, false).0
    }

    /// As [`models`](Self::models), with the rows that were not learned.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::learn::LinearRegression;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("readings");
    /// let readings = [(1i64, 2.0, 4.0), (2, f64::NAN, 1.0), (3, 1.0, 2.0)];
    /// let (models, rejected) = graph
    ///     .source(memory(readings))
    ///     .with_watermark(|reading| EventTime::from_secs(reading.0), Duration::ZERO)
    ///     .key_by(|_| ())
    ///     .learn(LinearRegression::new(1), |reading| ([reading.1], reading.2))
    ///     .models_with_rejected();
    /// let ((sink, models_of), (failed_sink, failed)) = (memory_sink(), memory_sink());
    /// models.sink(sink);
    /// rejected.failed.sink(failed_sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(models_of.snapshot().last().map(|it| it.version), Some(2));
    /// assert_eq!(failed.snapshot()[0].error, "feature 0 is not a finite number (got NaN)");
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn models_with_rejected(self) -> (Stream<ModelVersion<K, L::Model>>, Rejected<K, V>) {
        let (models, _, failed, _, late, _) = self.alone(Models, true);
        (models, Rejected { failed, late })
    }

    /// Scores each example before it is learned, and emits it with the prediction and with its event time.
    ///
    /// What is predicted of rows that the model has not seen says how good it is; see [`KeyedStream::learn`] for the other kinds. An
    /// example is scored by the model that has learned all examples before it, those of the same time among them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::learn::LinearRegression;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("rent");
    /// // 2 more for each room, and 1 for none.
    /// let rent = |n: i64| (n, (n % 4) as f64, (n % 4 * 2 + 1) as f64);
    /// let (tested, _models) = graph
    ///     .source(memory((0..2_000).map(rent)))
    ///     .with_watermark(|rent| EventTime::from_secs(rent.0), Duration::ZERO)
    ///     .key_by(|_| ())
    ///     .learn(LinearRegression::new(1).with_rate(0.1), |rent| ([rent.1], rent.2))
    ///     .test_then_learn();
    /// let (sink, errors) = memory_sink();
    /// tested.map(|it| (it.version, (it.prediction - it.row.2).abs())).sink(sink);
    /// graph.run(Options::default())?;
    /// let errors = errors.snapshot();
    /// assert_eq!(errors[0], (0, 1.0));
    /// assert!(errors[1_999].1 < 1e-6);
    /// # Ok::<(), RunError>(())
    /// ```
    ///
    /// The way is called prequential: A. P. Dawid, "Statistical theory: the prequential approach" (1984).
    pub fn test_then_learn(
        self,
    ) -> (EventStream<Scored<K, V, L::Prediction>>, Stream<ModelVersion<K, L::Model>>)
    where
        L: Predict,
    {
        let (models, scored, ..) = self.alone(Tests, false);
        (scored, models)
    }

    /// As [`test_then_learn`](Self::test_then_learn), with the rows that were not learned.
    pub fn test_then_learn_with_rejected(self) -> Tested<K, V, L>
    where
        L: Predict,
    {
        let (models, scored, failed, _, late, _) = self.alone(Tests, true);
        (scored, models, Rejected { failed, late })
    }

    /// Scores the rows of another stream, and emits them with the prediction and with their event time. `features` makes the
    /// features of a row.
    ///
    /// A row at `t` is scored once the watermark has passed `t`, by the model that has learned all examples of its key with an event
    /// time before `t`; by the model before the first example if there are none. The watermark is the lesser one of both streams, so
    /// examples that seldom come hold requests back: give their stream [`idle_after`](crate::Stream::idle_after).
    ///
    /// The idea is the temporal join, with a model as the version of a table: see [`Join::as_of`](crate::Join::as_of).
    #[track_caller]
    pub fn score<R, Q, Z, F>(
        self,
        requests: KeyedStream<K, R, Q, Z>,
        features: F,
    ) -> (EventStream<Scored<K, R, L::Prediction>>, Stream<ModelVersion<K, L::Model>>)
    where
        L: Predict,
        R: Data,
        Q: Chain<Time: HasEventTime>,
        Z: Keying<Q::Out, Key = K, Value = R>,
        F: Fn(&R) -> L::Features + Send + Sync + 'static,
    {
        let (models, scored, ..) = self.answering(requests, features, false);
        (scored, models)
    }

    /// As [`score`](Self::score), with the examples and the requests that were rejected.
    #[track_caller]
    pub fn score_with_rejected<R, Q, Z, F>(
        self,
        requests: KeyedStream<K, R, Q, Z>,
        features: F,
    ) -> Answered<K, V, R, L>
    where
        L: Predict,
        R: Data,
        Q: Chain<Time: HasEventTime>,
        Z: Keying<Q::Out, Key = K, Value = R>,
        F: Fn(&R) -> L::Features + Send + Sync + 'static,
    {
        let (models, scored, failed, failed_requests, late, late_requests) =
            self.answering(requests, features, true);
        let requests = Rejected { failed: failed_requests, late: late_requests };
        (scored, models, Rejected { failed, late }, requests)
    }

    /// The operator without requests.
    fn alone<S>(self, scoring: S, diverts: bool) -> Streams<K, V, L, S>
    where
        S: scoring::Scoring<K, V, L> + Clone + Send + Sync,
    {
        let Learn { inputs, learner, example } = self;
        inputs.stateful(move |_| {
            Learning::new(Arc::clone(&learner), Arc::clone(&example), scoring.clone(), diverts)
        })
    }

    #[track_caller]
    fn answering<R, Q, Z, F>(
        self,
        requests: KeyedStream<K, R, Q, Z>,
        features: F,
        diverts: bool,
    ) -> Streams<K, V, L, Requests<K, R, F>>
    where
        L: Predict,
        R: Data,
        Q: Chain,
        Z: Keying<Q::Out, Key = K, Value = R>,
        F: Fn(&R) -> L::Features + Send + Sync + 'static,
    {
        let Learn { inputs, learner, example } = self;
        let features = Arc::new(features);
        inputs.keyed_stream(requests).stateful(move |_| {
            let requests = Requests::new(Arc::clone(&features));
            Learning::new(Arc::clone(&learner), Arc::clone(&example), requests, diverts)
        })
    }
}
