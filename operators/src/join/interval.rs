//! The interval join as users build it: which rows come out.

use super::pairs::{FullOuter, Inner, Kind, LeftOuter, Pairs, RightOuter};
use super::semi::Semi;
use super::{Bounds, Sides};
use crate::build::OperatorBuilder;
use crate::{Data, EventStream, Key};

/// A join by key and event time that waits for its kind.
///
/// A pair of rows matches if their keys are equal and the event time of the right row, less that of the left one, is within
/// the [`Bounds`].
///
/// | kind | emits | event time |
/// |---|---|---|
/// | [`inner`](Self::inner) | each pair, at once | the later one |
/// | [`left_outer`](Self::left_outer) | also left rows that nothing matches | their own |
/// | [`right_outer`](Self::right_outer) | also right rows that nothing matches | their own |
/// | [`full_outer`](Self::full_outer) | also rows of both sides that nothing matches | their own |
/// | [`semi`](Self::semi) | left rows that something matches, once | their own |
/// | [`anti`](Self::anti) | left rows that nothing matches | their own |
///
/// A row that nothing matches is emitted as soon as the watermark proves that no match can come: when it has passed the
/// last time at which one could be. Such rows are older than the watermark of the inputs; so the output has a watermark of
/// its own, which stays as far behind as the bounds reach, and windows and joins behind it count these rows as in time.
///
/// **Watermark.** The watermark of a join is the lesser one of both inputs. A side that is silent holds it, unless it has
/// [`idle_after`](crate::Stream::idle_after).
///
/// **Late rows.** A row is late if its event time is before the watermark. It is counted and matches nothing; the methods
/// that end in `_with_late` return late rows of each side as a stream of their own.
///
/// **State.** The rows of each side that rows to come can match: those of the last `bounds` before the watermark, and all
/// that are ahead of it.
///
/// The idea is Flink's interval join and Spark's stream–stream join with a time range condition.
#[must_use = "a join does nothing until it has a kind, `.inner()` or another, and ends in a sink"]
pub struct IntervalJoin<K, L, R> {
    inputs: OperatorBuilder<Sides<K, L, R>>,
    bounds: Bounds,
}

impl<K, L, R> std::fmt::Debug for IntervalJoin<K, L, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalJoin").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// The result of a join and the late rows of its sides.
type WithLate<T, L, R> = (EventStream<T>, EventStream<L>, EventStream<R>);

impl<K: Key, L: Data + Clone, R: Data + Clone> IntervalJoin<K, L, R> {
    pub(super) fn new(inputs: OperatorBuilder<Sides<K, L, R>>, bounds: Bounds) -> Self {
        IntervalJoin { inputs, bounds }
    }

    /// Emits each pair that matches.
    pub fn inner(self) -> EventStream<(K, L, R)> {
        self.inner_with_late().0
    }

    /// As [`inner`](Self::inner), with the late rows of the left and of the right side.
    pub fn inner_with_late(self) -> WithLate<(K, L, R), L, R> {
        self.pairs::<Inner>()
    }

    /// Emits each pair that matches, and left rows that nothing matches.
    pub fn left_outer(self) -> EventStream<(K, L, Option<R>)> {
        self.left_outer_with_late().0
    }

    /// As [`left_outer`](Self::left_outer), with the late rows of the left and of the right side.
    pub fn left_outer_with_late(self) -> WithLate<(K, L, Option<R>), L, R> {
        self.pairs::<LeftOuter>()
    }

    /// Emits each pair that matches, and right rows that nothing matches.
    pub fn right_outer(self) -> EventStream<(K, Option<L>, R)> {
        self.right_outer_with_late().0
    }

    /// As [`right_outer`](Self::right_outer), with the late rows of the left and of the right side.
    pub fn right_outer_with_late(self) -> WithLate<(K, Option<L>, R), L, R> {
        self.pairs::<RightOuter>()
    }

    /// Emits each pair that matches, and rows of both sides that nothing matches.
    pub fn full_outer(self) -> EventStream<(K, Option<L>, Option<R>)> {
        self.full_outer_with_late().0
    }

    /// As [`full_outer`](Self::full_outer), with the late rows of the left and of the right side.
    pub fn full_outer_with_late(self) -> WithLate<(K, Option<L>, Option<R>), L, R> {
        self.pairs::<FullOuter>()
    }

    /// Emits the left rows that something matches, each once.
    pub fn semi(self) -> EventStream<(K, L)> {
        self.semi_with_late().0
    }

    /// As [`semi`](Self::semi), with the late rows of the left and of the right side.
    pub fn semi_with_late(self) -> WithLate<(K, L), L, R> {
        self.left_rows::<false>()
    }

    /// Emits the left rows that nothing matches.
    pub fn anti(self) -> EventStream<(K, L)> {
        self.anti_with_late().0
    }

    /// As [`anti`](Self::anti), with the late rows of the left and of the right side.
    pub fn anti_with_late(self) -> WithLate<(K, L), L, R> {
        self.left_rows::<true>()
    }

    fn pairs<J: Kind<K, L, R>>(self) -> WithLate<J::Row, L, R> {
        let bounds = self.bounds;
        self.operator(J::NAME).stateful(move |_| Pairs::<K, L, R, J>::new(bounds))
    }

    fn left_rows<const ANTI: bool>(self) -> WithLate<(K, L), L, R> {
        let bounds = self.bounds;
        self.operator(Semi::<K, L, R, ANTI>::NAME).stateful(move |_| Semi::<K, L, R, ANTI>::new(bounds))
    }

    fn operator(self, kind: &'static str) -> OperatorBuilder<Sides<K, L, R>> {
        let operator =
            self.inputs.named("interval_join").setting("kind", kind).setting("bounds", self.bounds);
        match self.bounds.problem() {
            Some(problem) => operator.problem(problem),
            None => operator,
        }
    }
}
