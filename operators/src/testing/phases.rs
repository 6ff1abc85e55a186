//! The test that every operator with state has to pass: that its results do not depend on restarts.

use std::fmt::Debug;
use std::ops::Range;

use super::{Checkpoint, Harness};
use crate::build::Dealt;
use crate::graph::{NodeKind, Place};
use crate::stream::Chain;
use crate::{Batch, EventTime, KeyGroups, Mode, Operator, OperatorError, ProcessingTime, Stream};

/// The operator behind a stream, for a [`Harness`]: an aggregation with the chain of steps before it, as it runs on one
/// worker, or the steps behind the last operator.
///
/// # Panics
///
/// If it comes from a source, a union, or another node that computes nothing: this is for tests.
#[allow(clippy::panic, reason = "a test's failure is a panic")]
pub fn operator_of<T: Send + 'static, P: Chain<Out = T>>(
    stream: Stream<T, P>,
) -> impl Fn(Place) -> Box<dyn Operator> + Clone + 'static {
    let stream = stream.boxed();
    let make = match stream.graph().nodes().get(stream.node().0).map(|node| &node.kind) {
        Some(NodeKind::Grouped(grouped)) => grouped.direct.clone(),
        Some(NodeKind::Operator(operator)) => operator.make.clone(),
        _ => panic!("the stream does not come from an operator"),
    };
    move |place| make(place)
}

/// What the instances of an operator are given in one epoch: see [`three_phases`].
pub struct EpochInput {
    inputs: Vec<InputRows>,
    watermark: EventTime,
    now: Option<ProcessingTime>,
}

/// The rows of an input for the instance at a place.
type InputRows = (usize, Box<dyn Fn(Place) -> Batch>);

impl EpochInput {
    /// An epoch without rows that ends with this watermark.
    pub fn until(watermark: EventTime) -> Self {
        EpochInput { inputs: Vec::new(), watermark, now: None }
    }

    /// The clock stands there when the epoch begins.
    #[must_use]
    pub fn at(mut self, now: ProcessingTime) -> Self {
        self.now = Some(now);
        self
    }

    /// A keyed input: `hash` returns the [hash](crate::hash_key) of a row's key, and the row goes to the worker that holds it.
    #[must_use]
    pub fn by_key<T>(self, input: usize, rows: Vec<T>, hash: impl Fn(&T) -> u64 + 'static) -> Self
    where
        T: Clone + Send + 'static,
    {
        self.input(input, move |place| {
            let is_mine = |row: &&T| KeyGroups::default().of(hash(row)).worker(place.workers) == place.worker;
            rows.iter().filter(is_mine).cloned().collect()
        })
    }

    /// An input of an [operator of one's own](crate::build) that is keyed.
    #[must_use]
    pub fn keyed<K, T>(self, input: usize, rows: Vec<Dealt<K, T>>) -> Self
    where
        K: Clone + Send + 'static,
        T: Clone + Send + 'static,
    {
        self.by_key(input, rows, |row| row.hash)
    }

    /// An input that every worker gets all of.
    #[must_use]
    pub fn broadcast<T: Clone + Send + 'static>(self, input: usize, rows: Vec<T>) -> Self {
        self.input(input, move |_| rows.clone())
    }

    /// An input that the first worker gets.
    #[must_use]
    pub fn single<T: Clone + Send + 'static>(self, input: usize, rows: Vec<T>) -> Self {
        self.input(input, move |place| if place.worker == 0 { rows.clone() } else { Vec::new() })
    }

    fn input<T: Send + 'static>(mut self, input: usize, rows: impl Fn(Place) -> Vec<T> + 'static) -> Self {
        self.inputs.push((input, Box::new(move |place| Batch::from_vec(rows(place)))));
        self
    }
}

impl Debug for EpochInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inputs: Vec<usize> = self.inputs.iter().map(|(input, _)| *input).collect();
        f.debug_struct("EpochInput")
            .field("inputs", &inputs)
            .field("watermark", &self.watermark)
            .field("now", &self.now)
            .finish()
    }
}

/// Runs an operator three times: straight on one worker; then with a restart in the middle, of which the first half is
/// on one worker and the second on three; then with restarts onto three, two and one. Before a restart there has been a
/// snapshot at the end of every epoch; it is restored from the chain of them, as it is or folded. Each time the results must
/// be what is `expected` of the epoch, in any order.
///
/// `make` makes an instance, `results` takes what an instance has emitted and says what of it matters.
/// [`operator_of`] returns a `make` for aggregations and for operators of one's own.
///
/// ```
/// use tidemill::operator::HashedKey;
/// use tidemill::prelude::*;
/// use tidemill::testing::{EpochInput, operator_of, three_phases};
///
/// let numbers = Graph::new("sums").source(memory(0..0u64));
/// let sums = operator_of(numbers.key_by(|n| n % 2).sum(|n| *n).update());
/// let epochs = [[1u64, 2], [3, 4], [5, 6], [7, 8]].map(|rows| {
///     EpochInput::until(EventTime::MIN).by_key(0, rows.to_vec(), |n| HashedKey::of(&(n % 2)).hash)
/// });
/// let expected = [[(0, 2), (1, 1)], [(0, 6), (1, 4)], [(0, 12), (1, 9)], [(0, 20), (1, 16)]];
/// three_phases(Mode::MicroBatch, &epochs, sums, |it| it.take::<(u64, u64)>(0), &expected.map(Vec::from));
/// ```
///
/// # Panics
///
/// If the results are others, or the operator fails: this is for tests.
pub fn three_phases<O, R>(
    mode: Mode,
    epochs: &[EpochInput],
    make: impl Fn(Place) -> O + Clone + 'static,
    results: impl Fn(&mut Harness<O>) -> Vec<R>,
    expected: &[Vec<R>],
) where
    O: Operator,
    R: Ord + Debug,
{
    let (half, third, all) = (epochs.len() / 2, epochs.len() / 3, epochs.len());
    for (way, phases) in [
        ("straight", vec![(0..all, 1)]),
        ("restarted", vec![(0..half, 1), (half..all, 3)]),
        ("restarted twice", vec![(0..third, 3), (third..2 * third, 2), (2 * third..all, 1)]),
    ] {
        compare(way, mode, epochs, &make, &results, &phases, expected);
    }
}

/// Runs an operator with a restart after every epoch: on one worker, on one again, on two, on three and so on.
///
/// Each restart reads the snapshots of all earlier epochs, as a chain or folded into one. The results of each epoch must be those in
/// `expected`, in any order. With one row in each epoch there is a restart between any two rows.
///
/// The arguments are those of [`three_phases`].
///
/// ```
/// use tidemill::operator::HashedKey;
/// use tidemill::prelude::*;
/// use tidemill::testing::{EpochInput, operator_of, restart_each_epoch};
///
/// let numbers = Graph::new("sums").source(memory(0..0u64));
/// let sums = operator_of(numbers.key_by(|n| n % 2).sum(|n| *n).update());
/// let epochs = [1u64, 2, 3].map(|n| {
///     EpochInput::until(EventTime::MIN).by_key(0, vec![n], |n| HashedKey::of(&(n % 2)).hash)
/// });
/// let expected = [vec![(1, 1)], vec![(0, 2)], vec![(1, 4)]];
/// restart_each_epoch(Mode::Continuous, &epochs, sums, |it| it.take::<(u64, u64)>(0), &expected);
/// ```
///
/// # Panics
///
/// As [`three_phases`].
pub fn restart_each_epoch<O, R>(
    mode: Mode,
    epochs: &[EpochInput],
    make: impl Fn(Place) -> O + Clone + 'static,
    results: impl Fn(&mut Harness<O>) -> Vec<R>,
    expected: &[Vec<R>],
) where
    O: Operator,
    R: Ord + Debug,
{
    // At least two phases, so that there are snapshots.
    let workers = [1, 1, 2, 3].into_iter().cycle();
    let phases: Vec<_> = (0..=epochs.len()).map(|epoch| epoch..epoch + 1).zip(workers).collect();
    compare("restarted after each epoch", mode, epochs, &make, &results, &phases, expected);
}

/// Runs an operator by phases, and compares its results with those that are expected.
#[allow(clippy::panic, reason = "a test's failure is a panic")]
fn compare<O: Operator, R: Ord + Debug>(
    way: &str,
    mode: Mode,
    epochs: &[EpochInput],
    make: &(impl Fn(Place) -> O + Clone + 'static),
    results: &impl Fn(&mut Harness<O>) -> Vec<R>,
    phases: &[(Range<usize>, usize)],
    expected: &[Vec<R>],
) {
    let rows = match run(mode, epochs, make, results, phases) {
        Ok(rows) => rows,
        Err(error) => panic!("{way}: the operator failed: {error}"),
    };
    assert_eq!(rows.len(), expected.len(), "as many epochs as there are expectations");
    for (epoch, (mut rows, expected)) in rows.into_iter().zip(expected).enumerate() {
        rows.sort();
        let mut expected: Vec<&R> = expected.iter().collect();
        expected.sort();
        assert_eq!(rows.iter().collect::<Vec<_>>(), expected, "{way}: epoch {epoch}");
    }
}

/// The results, by epoch. Each phase is a range of epochs and a number of workers.
fn run<O: Operator, R>(
    mode: Mode,
    epochs: &[EpochInput],
    make: &(impl Fn(Place) -> O + Clone + 'static),
    results: &impl Fn(&mut Harness<O>) -> Vec<R>,
    phases: &[(Range<usize>, usize)],
) -> Result<Vec<Vec<R>>, OperatorError> {
    let is_tracked = phases.len() > 1;
    let mut checkpoint = Checkpoint::new();
    let mut all = Vec::new();
    for (number, (range, workers)) in phases.iter().enumerate() {
        if number % 2 == 1 {
            checkpoint.fold()?;
        }
        let place = |worker| Place::new(worker, *workers, mode);
        let harness = |worker| match is_tracked {
            true => Harness::restored(place(worker), make.clone(), &checkpoint),
            false => Ok(Harness::new(mode, {
                let make = make.clone();
                move || make(Place::new(0, 1, Mode::MicroBatch))
            })),
        };
        let mut instances = (0..*workers).map(harness).collect::<Result<Vec<Harness<O>>, _>>()?;
        for epoch in epochs.get(range.clone()).unwrap_or_default() {
            let mut of_epoch = Vec::new();
            for (worker, instance) in instances.iter_mut().enumerate() {
                if let Some(now) = epoch.now {
                    instance.advance_to(now)?;
                }
                for (input, rows) in &epoch.inputs {
                    instance.take_batch(*input, rows(place(worker)))?;
                }
                instance.end_epoch(epoch.watermark)?;
                of_epoch.extend(results(instance));
                if is_tracked {
                    instance.snapshot(&mut checkpoint)?;
                }
            }
            all.push(of_epoch);
        }
    }
    Ok(all)
}
