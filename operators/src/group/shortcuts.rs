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
        /// How many records.
        #[track_caller]
        pub fn count(self) -> $result<$($parameter,)+ Count<$value>> {
            self.aggregate(Count::new())
        }

        /// The sum of what `of` takes from each record, exact but for the result: an integer stops at the end of its range, a
        /// float is rounded. It does not depend on the order of the records. Plain addition of floats, which does, is
        /// [`Sum::naive`].
        #[track_caller]
        pub fn sum<N, F>(self, of: F) -> $result<$($parameter,)+ Sum<Projection<$value, N, F>, N::Total>>
        where
            N: Number,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Sum::of(of))
        }

        /// The least of what `of` takes from each record.
        #[track_caller]
        pub fn min<N, F>(self, of: F) -> $result<$($parameter,)+ Min<Projection<$value, N, F>>>
        where
            N: Data + Clone + PartialOrd,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Min::of(of))
        }

        /// The greatest of what `of` takes from each record.
        #[track_caller]
        pub fn max<N, F>(self, of: F) -> $result<$($parameter,)+ Max<Projection<$value, N, F>>>
        where
            N: Data + Clone + PartialOrd,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Max::of(of))
        }

        /// The mean of what `of` takes from each record, as `f64`. It does not depend on the order of the records.
        #[track_caller]
        pub fn average<N, F>(self, of: F) -> $result<$($parameter,)+ Average<Projection<$value, N, F>>>
        where
            N: Number,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Average::of(of))
        }

        /// All records combined two by two. `combine` must be associative and commutative: workers combine theirs first, and
        /// in which order is not defined.
        #[track_caller]
        pub fn reduce<F>(self, combine: F) -> $result<$($parameter,)+ Reduce<$value, F>>
        where
            $value: Data + Clone,
            F: Fn($value, $value) -> $value + Send + Sync + 'static,
        {
            self.aggregate(Reduce::with(combine))
        }

        /// All records folded into `initial` by `add`; `merge` joins what was folded apart, the earlier part first. Records of
        /// one partition stay in order, those of several interleave as they come: [`InOrder`] says what that costs. Where the
        /// order does not matter, `aggregate(Fold::new(…))` does without.
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

        /// All records as a `Vec`. Records of one partition stay in order, in every kind of window; those of several interleave
        /// as they come.
        #[track_caller]
        pub fn collect(self) -> $result<$($parameter,)+ Collect<$value>>
        where
            $value: Data + Clone,
        {
            self.aggregate(Collect::new())
        }

        /// As [`collect`](Self::collect), with a codec of your choice for records that leave memory: they do where the
        /// query has a limit (`--state-memory`) and there are more than that.
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
