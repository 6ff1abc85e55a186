//! The aggregates that everyone needs, as methods: the same on keyed streams, on windows and on whole streams.

use std::cmp::Ordering;
use std::hash::Hash;

use super::running::RunningAggregate;
use super::total::TotalAggregate;
use super::windowed::{WindowedAggregate, WindowedStream};
use crate::aggregate::{
    Average, Collect, Count, CountMin, Fold, Greatest, GreatestBy, HasOrder, HyperLogLog, InOrder, Least,
    LeastBy, Max, Min, Number, Projection, Quantiles, Ranked, Reduce, Sample, Sorted, Sum, TopKeys, TopN,
};
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

        /// Counts the distinct values that `of` takes from the records, about.
        ///
        /// `precision` is from 4 to 18. With 14 the standard error is 0.8 %, in 16 KiB of state; [`HyperLogLog`] has the bounds.
        #[track_caller]
        pub fn hyper_log_log<N, F>(
            self,
            precision: u8,
            of: F,
        ) -> $result<$($parameter,)+ HyperLogLog<$value, Projection<$value, N, F>>>
        where
            N: Hash + 'static,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(HyperLogLog::of(precision, of))
        }

        /// Computes quantiles of what `of` takes from each record, within a relative error: a `Vec` with one number for each.
        ///
        /// `quantiles(0.01, [0.5, 0.99], …)` is the median and the 99th percentile, within 1 % of the exact ones. [`Quantiles`] has the
        /// bounds.
        #[track_caller]
        pub fn quantiles<N, F>(
            self,
            error: f64,
            quantiles: impl IntoIterator<Item = f64>,
            of: F,
        ) -> $result<$($parameter,)+ Quantiles<Projection<$value, N, F>>>
        where
            N: Number,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Quantiles::of(error, quantiles, of))
        }

        /// Counts about how many records have each value that `of` returns, in a table that answers for any value.
        ///
        /// A count is never too low, and nearly always too high by at most `error` times the number of all records. [`CountMin`] has the
        /// bounds.
        #[track_caller]
        pub fn count_min<N, F>(
            self,
            error: f64,
            of: F,
        ) -> $result<$($parameter,)+ CountMin<$value, Projection<$value, N, F>>>
        where
            N: Hash + 'static,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(CountMin::of(error, of))
        }

        /// Finds the `n` most frequent values that `of` returns, with bounds of their numbers, in bounded memory.
        ///
        /// Up to 32 `n` distinct values are counted exactly. [`TopKeys`] has the bounds for more.
        #[track_caller]
        pub fn top_keys<N, F>(
            self,
            n: usize,
            of: F,
        ) -> $result<$($parameter,)+ TopKeys<$value, Projection<$value, N, F>>>
        where
            N: Key,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(TopKeys::of(n, of))
        }

        /// Samples `n` of the distinct values that `of` returns, each set of them with the same probability.
        ///
        /// The sample does not depend on the order of the records. [`Sample`] says why.
        #[track_caller]
        pub fn sample<N, F>(self, n: usize, of: F) -> $result<$($parameter,)+ Sample<$value, Projection<$value, N, F>>>
        where
            N: Key + Ord,
            F: Fn(&$value) -> N + Send + Sync + 'static,
        {
            self.aggregate(Sample::of(n, of))
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

        /// Keeps the `n` records with the greatest rank, the greatest first.
        ///
        /// Of records with the same rank the least by their own order comes first, and is kept if not all of them are. So a rank
        /// such as `(price, Reverse(time))` decides ties itself. Records without an order of their own, such as those with floats, are
        /// ranked by [`top_n_by`](Self::top_n_by).
        #[track_caller]
        pub fn top_n<R, F>(
            self,
            n: usize,
            rank: F,
        ) -> $result<$($parameter,)+ TopN<$value, Greatest<Projection<$value, R, F>>>>
        where
            $value: Data + Clone + HasOrder,
            R: HasOrder + 'static,
            F: Fn(&$value) -> R + Send + Sync + 'static,
        {
            self.aggregate(TopN::greatest(n, rank))
        }

        /// Keeps the `n` records with the least rank, the least first; ties as in [`top_n`](Self::top_n). Records without an order of
        /// their own: [`top_n_by`](Self::top_n_by), with the comparison reversed.
        #[track_caller]
        pub fn bottom_n<R, F>(
            self,
            n: usize,
            rank: F,
        ) -> $result<$($parameter,)+ TopN<$value, Least<Projection<$value, R, F>>>>
        where
            $value: Data + Clone + HasOrder,
            R: HasOrder + 'static,
            F: Fn(&$value) -> R + Send + Sync + 'static,
        {
            self.aggregate(TopN::least(n, rank))
        }

        /// Keeps the `n` records that are the greatest by comparison, the greatest first. For records without an order of their
        /// own, such as those with floats (`f64::total_cmp`).
        ///
        /// Of records that are equal by it any may be kept: compare everything that matters. For the least records reverse it:
        /// `|a, b| b.celsius.total_cmp(&a.celsius)`.
        #[track_caller]
        pub fn top_n_by<F>(self, n: usize, compare: F) -> $result<$($parameter,)+ TopN<$value, GreatestBy<F>>>
        where
            $value: Data + Clone,
            F: Fn(&$value, &$value) -> Ordering + Send + Sync + 'static,
        {
            self.aggregate(TopN::greatest_by(n, compare))
        }

        /// Numbers all records by their rank, from 1 for the greatest: a `Vec` of pairs, in order. Records with the same rank have the
        /// same number, and as many numbers are left out: 1, 2, 2, 4.
        ///
        /// All records are kept, as by [`collect`](Self::collect); [`top_n`](Self::top_n) keeps only the first ones.
        #[track_caller]
        pub fn rank<R, F>(
            self,
            rank: F,
        ) -> $result<$($parameter,)+ Ranked<$value, Greatest<Projection<$value, R, F>>>>
        where
            $value: Data + Clone + HasOrder,
            R: HasOrder + 'static,
            F: Fn(&$value) -> R + Send + Sync + 'static,
        {
            self.aggregate(Ranked::greatest(rank))
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

    /// Sorts the records of each window by what `key` takes from each, the least first; where that is equal, by the order of the
    /// records.
    ///
    /// All records are kept, as by [`collect`](Self::collect).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("in order");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([3i64, 1, 2, 12, 11]))
    ///     .with_watermark(|second| EventTime::from_secs(*second), Duration::from_secs(5))
    ///     .window(tumbling(Duration::from_secs(10)))
    ///     .sort_within_window(|second| *second)
    ///     .append()
    ///     .flat_map(|window| window.value)
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [1, 2, 3, 11, 12]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn sort_within_window<R, F>(
        self,
        key: F,
    ) -> WindowedAggregate<K, V, P, Y, W, Sorted<V, Least<Projection<V, R, F>>>>
    where
        V: Data + Clone + HasOrder,
        R: HasOrder + 'static,
        F: Fn(&V) -> R + Send + Sync + 'static,
    {
        self.aggregate(Sorted::of(key))
    }

    /// As [`sort_within_window`](Self::sort_within_window), by comparison. Records that are equal by it are in the order in which they
    /// came, as in [`collect`](Self::collect).
    #[track_caller]
    pub fn sort_within_window_by<F>(
        self,
        compare: F,
    ) -> WindowedAggregate<K, V, P, Y, W, Sorted<V, LeastBy<F>>>
    where
        V: Data + Clone,
        F: Fn(&V, &V) -> Ordering + Send + Sync + 'static,
    {
        self.aggregate(Sorted::by(compare))
    }
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    shortcuts!(T, TotalAggregate<T, P>);
}
