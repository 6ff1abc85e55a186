//! The aggregates that everyone needs, as methods: the same on keyed streams, on windows and on whole streams.

use super::running::RunningAggregate;
use super::total::TotalAggregate;
use super::windowed::{WindowedAggregate, WindowedStream};
use crate::aggregate::{Average, Collect, Count, Fold, InOrder, Max, Min, Number, Projection, Reduce, Sum};
use crate::codec::Codec;
use crate::state::Windowing;
use crate::stream::{Chain, KeyedStream, Keying, Timed};
use crate::{Data, Key, Stream};

macro_rules! shortcuts {
    ($value:ident, $result:ident < $($parameter:ident),+ >) => {
        /// Counts the records.
        #[track_caller]
        pub fn count(self) -> $result<$($parameter,)+ Count<$value>> {
            self.aggregate(Count::new())
        }

        /// Sums what `of` takes from each record.
        ///
        /// The sum is exact until the result is rounded (floats) or saturates (integers), so it does not depend on the order of
        /// the records. [`Sum::naive`] is plain addition of floats, which does.
        #[track_caller]
        pub fn sum<N, F>(self, of: F) -> $result<$($parameter,)+ Sum<Projection<$value, N, F>, N::Total>>
        where
            N: Number,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Sum::of(of))
        }

        /// Keeps the least of what `of` takes from each record.
        #[track_caller]
        pub fn min<N, F>(self, of: F) -> $result<$($parameter,)+ Min<Projection<$value, N, F>>>
        where
            N: Data + Clone + PartialOrd,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Min::of(of))
        }

        /// Keeps the greatest of what `of` takes from each record.
        #[track_caller]
        pub fn max<N, F>(self, of: F) -> $result<$($parameter,)+ Max<Projection<$value, N, F>>>
        where
            N: Data + Clone + PartialOrd,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Max::of(of))
        }

        /// Averages what `of` takes from each record, as `f64`. It does not depend on the order of the records.
        #[track_caller]
        pub fn average<N, F>(self, of: F) -> $result<$($parameter,)+ Average<Projection<$value, N, F>>>
        where
            N: Number,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Average::of(of))
        }

        /// Combines all records two by two. `combine` must be associative and commutative: each worker combines its own records
        /// first, in an undefined order.
        #[track_caller]
        pub fn reduce<F>(self, combine: F) -> $result<$($parameter,)+ Reduce<$value, F>>
        where
            $value: Data + Clone,
            F: Fn($value, $value) -> $value + Send + Sync + 'static,
        {
            self.aggregate(Reduce::with(combine))
        }

        /// Folds all records into `initial` by `add`; `merge` joins two parts, the earlier one first.
        ///
        /// Records of one partition stay in order, those of several interleave as they come: [`InOrder`] has the cost. Where
        /// the order does not matter, use `aggregate(Fold::new(…))`.
        #[track_caller]
        pub fn fold<S, F, G>(
            self,
            initial: S,
            add: F,
            merge: G,
        ) -> $result<$($parameter,)+ InOrder<Fold<$value, S, F, G>>>
        where
            S: Data + Clone + Sync,
            F: Fn(&mut S, &$value) + Send + Sync + 'static,
            G: Fn(&mut S, S) + Send + Sync + 'static,
        {
            self.aggregate(InOrder::of(Fold::new(initial, add, merge)))
        }

        /// Collects all records into a `Vec`. Records of one partition stay in order, in every kind of window; those of several interleave
        /// as they come.
        #[track_caller]
        pub fn collect(self) -> $result<$($parameter,)+ Collect<$value>>
        where
            $value: Data + Clone,
        {
            self.aggregate(Collect::new())
        }

        /// As [`collect`](Self::collect), with a codec of your choice for records that spill to disk under `--state-memory`.
        #[track_caller]
        pub fn collect_with<C>(self, codec: C) -> $result<$($parameter,)+ Collect<$value, C>>
        where
            $value: Data + Clone,
            C: Codec<$value>,
        {
            self.aggregate(Collect::new().with_codec(codec))
        }
    };
}

pub(crate) use shortcuts;

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Send + 'static,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    shortcuts!(V, RunningAggregate<K, V, P, Y>);
}

impl<K, V, P, Y, W> WindowedStream<K, V, P, Y, W>
where
    K: Key,
    V: Send + 'static,
    P: Chain<Time = Timed>,
    Y: Keying<P::Out, Key = K, Value = V>,
    W: Windowing<V>,
{
    shortcuts!(V, WindowedAggregate<K, V, P, Y, W>);
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    shortcuts!(T, TotalAggregate<T, P>);
}
