//! The test that every operator with state has to pass: that nobody can tell a restart from its results.

use std::fmt::Debug;

use super::{Checkpoint, Harness};
use crate::graph::{NodeKind, Place};
use crate::stream::Chain;
use crate::{EventTime, KeyGroups, Mode, Operator, OperatorError, Stream};

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

/// What an operator with one input is given, and how: see [`three_phases`].
pub struct Phases<'a, T> {
    /// How the graph is run.
    pub mode: Mode,
    /// The rows of each epoch, and the watermark with which it ends.
    pub epochs: &'a [(Vec<T>, EventTime)],
    /// The hash of a row's key, by [`hash_key`](crate::hash_key): a row goes to the worker that holds the key.
    pub hash: &'a dyn Fn(&T) -> u64,
}

/// Runs an operator three times: straight on one worker; then with a restart in the middle, of which the first half is
/// on one worker and the second on three; then with restarts onto three, two and one. Before a restart there has been a
/// snapshot at the end of every epoch; it is restored from the chain of them, as it is or folded. Each time the rows of
/// output 0 must be what is `expected` of the epoch, in any order.
///
/// `make` makes an instance, `view` says what of a row matters. `tidemill_operators::testing::operator_of` gives a
/// `make` for aggregations.
///
/// ```
/// use tidemill_operators::testing::{Phases, numbers, operator_of, three_phases};
/// use tidemill_operators::{EventTime, Graph, Mode, hash_key};
///
/// let sums = operator_of(numbers(&Graph::new("sums"), 0).key_by(|n| n % 2).sum(|n| *n).update());
/// let epochs: Vec<_> = [[1u64, 2], [3, 4], [5, 6], [7, 8]].map(|rows| (rows.to_vec(), EventTime::MIN)).into();
/// let phases = Phases { mode: Mode::MicroBatch, epochs: &epochs, hash: &|n: &u64| hash_key(&(n % 2)) };
/// let expected = [[(0, 2), (1, 1)], [(0, 6), (1, 4)], [(0, 12), (1, 9)], [(0, 20), (1, 16)]];
/// three_phases(&phases, sums, |row: (u64, u64)| row, &expected.map(Vec::from));
/// ```
///
/// # Panics
///
/// If the results are others, or the operator fails: this is for tests.
#[allow(clippy::panic, reason = "a test's failure is a panic")]
pub fn three_phases<T, O, W, R>(
    phases: &Phases<'_, T>,
    make: impl Fn(Place) -> O + Clone + 'static,
    view: impl Fn(W) -> R,
    expected: &[Vec<R>],
) where
    T: Clone + Send + 'static,
    O: Operator,
    W: Send + 'static,
    R: Ord + Debug,
{
    let (half, third) = (phases.epochs.len() / 2, phases.epochs.len() / 3);
    let all = phases.epochs.len();
    for (way, workers) in [
        ("straight", vec![(0..all, 1)]),
        ("restarted", vec![(0..half, 1), (half..all, 3)]),
        ("restarted twice", vec![(0..third, 3), (third..2 * third, 2), (2 * third..all, 1)]),
    ] {
        let rows = match phases.run(&make, &workers, workers.len() > 1) {
            Ok(rows) => rows,
            Err(error) => panic!("{way}: the operator failed: {error}"),
        };
        assert_eq!(rows.len(), expected.len(), "as many epochs as there are expectations");
        for (epoch, (rows, expected)) in rows.into_iter().zip(expected).enumerate() {
            let mut rows: Vec<R> = rows.into_iter().map(&view).collect();
            rows.sort();
            let mut expected: Vec<&R> = expected.iter().collect();
            expected.sort();
            assert_eq!(rows.iter().collect::<Vec<_>>(), expected, "{way}: epoch {epoch}");
        }
    }
}

impl<T: Clone + Send + 'static> Phases<'_, T> {
    /// The rows of output 0, by epoch. Each phase is a range of epochs and a number of workers.
    fn run<O: Operator, W: Send + 'static>(
        &self,
        make: &(impl Fn(Place) -> O + Clone + 'static),
        phases: &[(std::ops::Range<usize>, usize)],
        tracked: bool,
    ) -> Result<Vec<Vec<W>>, OperatorError> {
        let mut checkpoint = Checkpoint::new();
        let mut results = Vec::new();
        for (number, (epochs, workers)) in phases.iter().enumerate() {
            if number % 2 == 1 {
                checkpoint.fold()?;
            }
            let place = |worker| Place::new(worker, *workers, self.mode);
            let harness = |worker| match tracked {
                true => Harness::restored(place(worker), make.clone(), &checkpoint),
                false => Ok(Harness::new(self.mode, {
                    let make = make.clone();
                    move || make(Place::new(0, 1, Mode::MicroBatch))
                })),
            };
            let mut instances = (0..*workers).map(harness).collect::<Result<Vec<Harness<O>>, _>>()?;
            for (rows, watermark) in self.epochs.get(epochs.clone()).unwrap_or_default() {
                let mut of_epoch = Vec::new();
                for (worker, instance) in instances.iter_mut().enumerate() {
                    let of_worker =
                        |row: &&T| KeyGroups::default().of((self.hash)(row)).worker(*workers) == worker;
                    instance.batch(0, rows.iter().filter(of_worker).cloned().collect())?;
                    instance.end_epoch(*watermark)?;
                    of_epoch.extend(instance.take::<W>(0));
                    if tracked {
                        instance.snapshot(&mut checkpoint)?;
                    }
                }
                results.push(of_epoch);
            }
        }
        Ok(results)
    }
}

impl<T> Debug for Phases<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Phases").field("mode", &self.mode).finish_non_exhaustive()
    }
}
