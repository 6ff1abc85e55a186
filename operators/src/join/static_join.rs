//! The join of a stream with a static side: inner, left outer, semi and anti.
//!
//! Each row of the stream is matched when it comes and emitted at once, with its own event time if it has one. No row is late
//! for it: rows that are older than the watermark are emitted too, and are late behind it. State: the rows of the static side.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use serde::{Deserialize, Serialize};

use super::StaticSide;
use super::static_side::{Loaded, Ticket};
use crate::build::{Append, ByKey, Dealt, KeepsTime, OperatorBuilder, StatefulOperator, Takes, To};
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::graph::Place;
use crate::named::{HashedKey, LoadedRows, SharedState, States};
use crate::stream::Keying;
use crate::{Data, EventTime, Key, KeyedStream, OperatorError, ProcessingTime, RowKind, Stream};

/// The result of a static join: a stream with the event times of the one that was joined, if that has any.
pub type Enriched<T, M> = Stream<T, FromEdge<T, M>>;

/// A join with a static side that waits for its kind: see [`KeyedStream::join_static`].
///
/// | kind | emits |
/// |---|---|
/// | [`inner`](Self::inner) | each pair |
/// | [`left_outer`](Self::left_outer) | also rows of the stream that nothing matches |
/// | [`semi`](Self::semi) | rows of the stream that something matches, once |
/// | [`anti`](Self::anti) | rows of the stream that nothing matches |
#[must_use = "a join does nothing until it has a kind, `.inner()` or another, and ends in a sink"]
pub struct StaticJoin<K, L, R, M> {
    input: OperatorBuilder<(ByKey<K, L>,)>,
    side: StaticSide<K, R>,
    times: PhantomData<fn() -> M>,
}

impl<K, L, R, M> std::fmt::Debug for StaticJoin<K, L, R, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticJoin").field("side", &self.side).finish_non_exhaustive()
    }
}

impl<K, L, P, Y> KeyedStream<K, L, P, Y>
where
    K: Key,
    L: Data + Clone,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = L>,
{
    /// Joins each row with the rows of a static side that have its key.
    ///
    /// The stream must be [inserts](crate::RowKind::Insert). It needs no event time; where it has one, so has the result.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("orders with names");
    /// let products = StaticSide::read(memory([(1u32, "tea"), (2, "salt")].map(|(id, name)| (id, name.to_owned()))), |it| it.0);
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(1u32, 20u64), (3, 5), (2, 7)]))
    ///     .key_by(|order| order.0)
    ///     .join_static(products)
    ///     .left_outer()
    ///     .map(|(_, (_, amount), product)| (product.map(|it| it.1), amount))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(None, 5), (Some("salt".to_owned()), 7), (Some("tea".to_owned()), 20)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn join_static<R>(self, side: StaticSide<K, R>) -> StaticJoin<K, L, R, P::Time>
    where
        R: Data + Clone,
        (): Append<ByKey<K, L>, All = (ByKey<K, L>,)>,
    {
        let location = Location::caller();
        let operator = self.port.graph.clone().operator("static_join");
        let (input, placement) = match side.is_broadcast {
            true => (operator.keyed_local(self), "broadcast"),
            false => (operator.keyed_stream(self), "by key"),
        };
        let input = input.at(location).setting("static side", placement);
        let input = match &side.problem {
            Some(problem) => input.problem(problem.clone()),
            None => input,
        };
        StaticJoin { input, side, times: PhantomData }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, M: TimeDomain> StaticJoin<K, L, R, M> {
    /// Emits each row of the stream with each row of the side that matches it.
    pub fn inner(self) -> Enriched<(K, L, R), M> {
        self.of::<Inner>()
    }

    /// Emits each pair that matches, and rows of the stream that nothing matches.
    pub fn left_outer(self) -> Enriched<(K, L, Option<R>), M> {
        self.of::<LeftOuter>()
    }

    /// Emits the rows of the stream that something matches, each once.
    pub fn semi(self) -> Enriched<(K, L), M> {
        self.of::<Semi<false>>()
    }

    /// Emits the rows of the stream that nothing matches.
    pub fn anti(self) -> Enriched<(K, L), M> {
        self.of::<Semi<true>>()
    }

    fn of<J: Kind<K, L, R>>(self) -> Enriched<J::Row, M> {
        let StaticJoin { input, mut side, .. } = self;
        let signal = side.signal.take();
        let (loads, key) = (side.loads(), side.key());
        let (every, is_broadcast, has_signal) = (side.every, side.is_broadcast, signal.is_some());
        let make = move |place: Place| Enrich::<K, L, R, J, M> {
            ticket: Ticket::new(&loads, place),
            key: Arc::clone(&key),
            rows: LoadedRows::new(is_broadcast),
            about: SharedState::new(),
            every,
            has_signal,
            is_broadcast,
            is_signalled: false,
            asked: None,
            marker: PhantomData,
        };
        match signal {
            Some(signal) => input.broadcast(signal).stateful(make),
            None => input.stateful(make),
        }
    }
}

/// Which rows a join with a static side emits.
pub(super) trait Kind<K, L, R>: 'static {
    /// A row of the result.
    type Row: Send + 'static;

    /// Emits the results of a row and of those that match it.
    fn join<'r>(key: K, left: L, rights: impl Iterator<Item = &'r R>, emit: impl FnMut(Self::Row))
    where
        R: 'r;
}

/// Only pairs.
pub(super) enum Inner {}
/// Pairs, and rows that nothing matches.
pub(super) enum LeftOuter {}
/// Rows that something matches; with `ANTI`, those that nothing matches.
pub(super) enum Semi<const ANTI: bool> {}

/// Passes each right row with a key and a left row, of which the last ones are not copied; returns those if there is no right row.
#[inline]
fn pairs<'r, K: Clone, L: Clone, R: 'r>(
    key: K,
    left: L,
    mut rights: impl Iterator<Item = &'r R>,
    mut emit: impl FnMut(K, L, &'r R),
) -> Option<(K, L)> {
    let Some(mut right) = rights.next() else { return Some((key, left)) };
    for next in rights {
        emit(key.clone(), left.clone(), right);
        right = next;
    }
    emit(key, left, right);
    None
}

impl<K: Key, L: Data + Clone, R: Data + Clone> Kind<K, L, R> for Inner {
    type Row = (K, L, R);

    #[inline]
    fn join<'r>(key: K, left: L, rights: impl Iterator<Item = &'r R>, mut emit: impl FnMut(Self::Row)) {
        pairs(key, left, rights, |key, left, right| emit((key, left, right.clone())));
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone> Kind<K, L, R> for LeftOuter {
    type Row = (K, L, Option<R>);

    #[inline]
    fn join<'r>(key: K, left: L, rights: impl Iterator<Item = &'r R>, mut emit: impl FnMut(Self::Row)) {
        let alone = pairs(key, left, rights, |key, left, right| emit((key, left, Some(right.clone()))));
        if let Some((key, left)) = alone {
            emit((key, left, None));
        }
    }
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Kind<K, L, R> for Semi<ANTI> {
    type Row = (K, L);

    #[inline]
    fn join<'r>(key: K, left: L, mut rights: impl Iterator<Item = &'r R>, mut emit: impl FnMut(Self::Row)) {
        if rights.next().is_none() == ANTI {
            emit((key, left));
        }
    }
}

/// What is known of the rows that are loaded.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct About {
    loaded_at: ProcessingTime,
}

/// Input 0: the stream; input 1, if there is one: the signal. Output 0: the result.
struct Enrich<K, L, R, J, M> {
    ticket: Ticket<R>,
    key: Arc<dyn Fn(&R) -> K + Send + Sync>,
    rows: LoadedRows<K, R>,
    /// One entry, once there has been a load.
    about: SharedState<(), About>,
    every: Option<Duration>,
    has_signal: bool,
    is_broadcast: bool,
    /// Whether a signal has come in this epoch.
    is_signalled: bool,
    /// The epoch that was asked for last.
    asked: Option<ProcessingTime>,
    marker: PhantomData<fn() -> (L, J, M)>,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>, M: TimeDomain> Enrich<K, L, R, J, M> {
    /// Loads the rows unless there are any. With a checkpoint a micro-batch run begins with an epoch without rows for that.
    fn begin(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if self.about.get(&()).is_some() {
            return Ok(());
        }
        to.await_commit();
        let Enrich { ticket, rows, about, key, is_broadcast, .. } = self;
        let take =
            |loaded: &Loaded<R>| take(loaded, &**key, rows, about, |hash| *is_broadcast || to.holds(hash));
        ticket.first(to.now(), take)?.unwrap_or(Ok(()))
    }

    /// Loads them again if they are due.
    fn refresh(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if self.every.is_none() && !self.has_signal {
            return Ok(());
        }
        let now = to.now();
        let is_due = self.due().is_some_and(|due| due <= now) || self.is_signalled;
        self.is_signalled = false;
        let Enrich { ticket, rows, about, key, is_broadcast, .. } = self;
        let take =
            |loaded: &Loaded<R>| take(loaded, &**key, rows, about, |hash| *is_broadcast || to.holds(hash));
        if let Some(taken) = ticket.at_end(to.epoch(), now, is_due, take)? {
            taken?;
            to.await_commit();
        }
        if let Some(due) = self.due()
            && self.asked != Some(due)
        {
            self.asked = Some(due);
            to.wake_at(due);
        }
        Ok(())
    }

    fn due(&self) -> Option<ProcessingTime> {
        Some(self.about.get(&())?.loaded_at + self.every?)
    }
}

/// Takes the rows of a load whose keys this worker holds.
fn take<K: Key, R: Data + Clone>(
    loaded: &Loaded<R>,
    key: &(dyn Fn(&R) -> K + Send + Sync),
    rows: &mut LoadedRows<K, R>,
    about: &mut SharedState<(), About>,
    holds: impl Fn(u64) -> bool,
) -> Result<(), OperatorError> {
    let keys: Vec<K> = loaded.rows.iter().map(key).collect();
    let keyed = keys.iter().map(HashedKey::of).zip(&loaded.rows);
    rows.replace(keyed.filter(|(key, _)| holds(key.hash)))?;
    about.insert((), About { loaded_at: loaded.at });
    Ok(())
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>, M: TimeDomain> StatefulOperator
    for Enrich<K, L, R, J, M>
{
    type Key = K;
    type Outputs = (KeepsTime<J::Row, M>,);

    const AWAITS_COMMITS: bool = true;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
        states.add("loaded", &mut self.about);
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.begin(to)?;
        self.refresh(to)
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>, M: TimeDomain> Takes<0>
    for Enrich<K, L, R, J, M>
{
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.begin(to)?;
        for Dealt { hash, key, time, value } in rows {
            let of_key = HashedKey { hash, key: &key };
            let matches = self.rows.get(of_key);
            J::join(key.clone(), value, matches, |row| to.out.0.push(time, row));
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>, M: TimeDomain> Takes<1>
    for Enrich<K, L, R, J, M>
{
    type Row = (EventTime, ());
    const KINDS: &'static [RowKind] =
        &[RowKind::Insert, RowKind::Upsert, RowKind::Snapshot, RowKind::Changes];

    fn take(&mut self, signals: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.is_signalled |= signals.len() > 0;
        Ok(())
    }
}
