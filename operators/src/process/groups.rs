//! `map_groups_with_state`: a function over all rows of a key at once, with one value of state and a timeout.
//!
//! It is called for each key that got rows, in micro-batch once per epoch, in continuous mode once per activation; and without rows
//! when the timeout of a key has passed. Emits what the function returns. State: the value of each key and its timeout. With a timeout in
//! event time, rows older than the watermark are dropped and counted.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use serde::{Deserialize, Serialize};

use super::gathered::{Gathered, Group};
use crate::build::{Dealt, KeepsTime, StatefulOperator, Takes, To};
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::named::{HashedKey, States, Timer, ValueState};
use crate::stream::Keying;
use crate::{Data, EventTime, Key, KeyedStream, Mode, OperatorError, ProcessingTime, Row, Stream};

/// Whether the keys of [`KeyedStream::map_groups_with_state`] have a timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupTimeout {
    /// They have none.
    None,
    /// By the clock: [`GroupState::set_timeout_duration`].
    ProcessingTime,
    /// By the watermark: [`GroupState::set_timeout_timestamp`].
    EventTime,
}

/// The state of a key, for [`KeyedStream::map_groups_with_state`].
pub struct GroupState<'a, S> {
    value: &'a mut Option<S>,
    timeout: Option<i64>,
    kind: GroupTimeout,
    has_timed_out: bool,
    watermark: EventTime,
    now: ProcessingTime,
    misuse: Option<&'static str>,
}

impl<S> GroupState<'_, S> {
    /// Returns whether the key has a state.
    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// Returns the state.
    pub fn get(&self) -> Option<&S> {
        self.value.as_ref()
    }

    /// Returns the state to be changed.
    pub fn get_mut(&mut self) -> Option<&mut S> {
        self.value.as_mut()
    }

    /// Returns the state to be changed, made first if there is none.
    pub fn get_or_insert_with(&mut self, make: impl FnOnce() -> S) -> &mut S {
        self.value.get_or_insert_with(make)
    }

    /// Sets the state.
    pub fn update(&mut self, value: S) {
        *self.value = Some(value);
    }

    /// Removes the state and returns it. A timeout that is set stays.
    pub fn remove(&mut self) -> Option<S> {
        self.value.take()
    }

    /// Returns whether the function is called because the timeout has passed; there are no rows then.
    pub fn has_timed_out(&self) -> bool {
        self.has_timed_out
    }

    /// Sets the timeout of the key to so long after now, by the clock. It passes once the clock is later than that.
    ///
    /// A timeout holds until the next call of the function for the key, which has to set it again. For
    /// [`GroupTimeout::ProcessingTime`] only: otherwise the query fails.
    pub fn set_timeout_duration(&mut self, after: Duration) {
        match self.kind {
            GroupTimeout::ProcessingTime => self.timeout = Some((self.now + after).as_micros()),
            _ => self.misuse = Some("`set_timeout_duration` needs `GroupTimeout::ProcessingTime`"),
        }
    }

    /// Sets the timeout of the key to an event time. It passes once the watermark is later than that.
    ///
    /// As with [`set_timeout_duration`](Self::set_timeout_duration), the next call has to set it again. For
    /// [`GroupTimeout::EventTime`] only: otherwise the query fails.
    pub fn set_timeout_timestamp(&mut self, time: EventTime) {
        match self.kind {
            GroupTimeout::EventTime => self.timeout = Some(time.as_micros()),
            _ => self.misuse = Some("`set_timeout_timestamp` needs `GroupTimeout::EventTime`"),
        }
    }

    /// Returns the watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Returns the processing time.
    pub fn now(&self) -> ProcessingTime {
        self.now
    }
}

impl<S> std::fmt::Debug for GroupState<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("GroupState");
        text.field("exists", &self.exists())
            .field("has_timed_out", &self.has_timed_out)
            .finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Maps the rows of each key at once, with the key's state and a timeout.
    ///
    /// The function is called for each key that got rows, with all of them in the order in which they came: in micro-batch once per
    /// epoch, in continuous mode once per activation, which may be a single row. It is called without rows once the key's timeout has
    /// passed, after the rows of the epoch. A result has the latest event time of its rows, or that of the timeout.
    ///
    /// It is Spark's `mapGroupsWithState`, with its rules: a timeout passes when the watermark or clock is *later*; it is gone then,
    /// and each call sets it again; rows older than the watermark are dropped (and counted) with a timeout in event time only. There
    /// may be several in a query, before and behind anything.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    /// use tidemill::process::{GroupState, GroupTimeout};
    ///
    /// let graph = Graph::new("sessions");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(1u32, 0i64), (2, 10), (1, 30), (3, 100), (2, 200)]))
    ///     .with_watermark(|click| EventTime::from_secs(click.1), Duration::ZERO)
    ///     .key_by(|click| click.0)
    ///     .map_groups_with_state(GroupTimeout::EventTime, |user, clicks, state: &mut GroupState<'_, usize>| {
    ///         if state.has_timed_out() {
    ///             return (*user, state.remove());
    ///         }
    ///         *state.get_or_insert_with(|| 0) += clicks.len();
    ///         let last = clicks.iter().map(|click| click.1).max().unwrap_or_default();
    ///         state.set_timeout_timestamp(EventTime::from_secs(last + 60));
    ///         (*user, None)
    ///     })
    ///     .filter_map(|(user, clicks)| Some((user, clicks?)))
    ///     .sink(sink);
    /// graph.run(Options::default().with_max_records_per_epoch(1))?;
    /// let mut sessions = table.snapshot();
    /// sessions.sort();
    /// assert_eq!(sessions, [(1, 2), (2, 1), (2, 1), (3, 1)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn map_groups_with_state<S, U, F>(
        self,
        timeout: GroupTimeout,
        function: F,
    ) -> Stream<U, FromEdge<U, P::Time>>
    where
        S: Data,
        U: Row,
        F: Fn(&K, Vec<V>, &mut GroupState<'_, S>) -> U + Send + Sync + 'static,
    {
        let function =
            move |key: &K, rows: Vec<V>, state: &mut GroupState<'_, S>| Some(function(key, rows, state));
        self.groups("map_groups_with_state", timeout, Location::caller(), function)
    }

    /// As [`map_groups_with_state`](Self::map_groups_with_state), with any number of results for each call.
    #[track_caller]
    pub fn flat_map_groups_with_state<S, I, F>(
        self,
        timeout: GroupTimeout,
        function: F,
    ) -> Stream<I::Item, FromEdge<I::Item, P::Time>>
    where
        S: Data,
        I: IntoIterator<Item: Row> + 'static,
        F: Fn(&K, Vec<V>, &mut GroupState<'_, S>) -> I + Send + Sync + 'static,
    {
        self.groups("flat_map_groups_with_state", timeout, Location::caller(), function)
    }

    fn groups<S, I, F>(
        self,
        name: &'static str,
        timeout: GroupTimeout,
        location: &'static Location<'static>,
        function: F,
    ) -> Stream<I::Item, FromEdge<I::Item, P::Time>>
    where
        S: Data,
        I: IntoIterator<Item: Row> + 'static,
        F: Fn(&K, Vec<V>, &mut GroupState<'_, S>) -> I + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        let mut input = self.into_process(location).named(name);
        if timeout == GroupTimeout::EventTime && !<P::Time as TimeDomain>::CARRIED {
            let problem = "its timeout is in event time, which the stream does not have: put `.with_watermark(…)` before `.key_by(…)`";
            input = input.problem(problem.to_owned());
        }
        input.stateful(move |_| Groups::<K, V, S, I, P::Time, F> {
            groups: ValueState::new(),
            rows: Gathered::new(),
            due: Vec::new(),
            timeout,
            function: Arc::clone(&function),
            marker: PhantomData,
        })
    }
}

/// What is kept of a key: its state, and its timeout in microseconds of event time or by the clock.
#[derive(Serialize, Deserialize)]
struct Kept<S> {
    value: Option<S>,
    timeout: Option<i64>,
}

struct Groups<K, V, S, I, M, F> {
    groups: ValueState<K, Kept<S>>,
    rows: Gathered<K, V>,
    /// Timeouts by the clock that have passed, until the rows of the epoch have been taken.
    due: Vec<(K, i64)>,
    timeout: GroupTimeout,
    function: Arc<F>,
    marker: PhantomData<fn() -> (I, M)>,
}

/// The timer of a timeout, which passes when the time is later than that.
fn timer(kind: GroupTimeout, timeout: i64) -> Timer {
    let time = timeout.saturating_add(1);
    match kind {
        GroupTimeout::ProcessingTime => Timer::Processing(ProcessingTime::from_micros(time)),
        _ => Timer::Event(EventTime::from_micros(time)),
    }
}

impl<K, V, S, I, M, F> Groups<K, V, S, I, M, F>
where
    K: Key,
    V: Data,
    S: Data,
    I: IntoIterator<Item: Row> + 'static,
    M: TimeDomain,
    F: Fn(&K, Vec<V>, &mut GroupState<'_, S>) -> I + Send + Sync + 'static,
{
    fn call(
        &mut self,
        key: HashedKey<'_, K>,
        rows: Vec<V>,
        time: EventTime,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let kept = self.groups.get_or_insert_with(key, || Kept { value: None, timeout: None });
        let before = kept.timeout.take();
        let mut state = GroupState {
            has_timed_out: rows.is_empty(),
            value: &mut kept.value,
            timeout: None,
            kind: self.timeout,
            watermark: to.watermark(),
            now: to.now(),
            misuse: None,
        };
        let results = (self.function)(key.key, rows, &mut state);
        let (timeout, misuse) = (state.timeout, state.misuse);
        kept.timeout = timeout;
        if kept.value.is_none() && timeout.is_none() {
            self.groups.remove(key);
        }
        if let Some(misuse) = misuse {
            return Err(super::failure::of_key(key.key, misuse.into()));
        }
        results.into_iter().for_each(|result| to.out.0.push(time, result));
        if before != timeout {
            match before.map(|before| timer(self.timeout, before)) {
                Some(Timer::Event(time)) => _ = to.timers.delete_event(key, time),
                Some(Timer::Processing(time)) => _ = to.timers.delete_processing(key, time),
                None => {}
            }
        }
        match timeout.map(|timeout| timer(self.timeout, timeout)) {
            Some(Timer::Event(time)) => to.timers.set_event(key, time),
            Some(Timer::Processing(time)) => to.timers.set_processing(key, time),
            None => {}
        }
        Ok(())
    }

    /// Calls the function for the groups that have rows, and then for those whose timeout by the clock has passed.
    fn release(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for Group { hash, key, latest, rows } in self.rows.take_all() {
            self.call(HashedKey { hash, key: &key }, rows, latest, to)?;
        }
        for (key, timeout) in std::mem::take(&mut self.due) {
            let key = HashedKey::of(&key);
            // Rows may have set another one.
            if self.groups.get(key).is_some_and(|kept| kept.timeout == Some(timeout)) {
                self.call(key, Vec::new(), to.watermark(), to)?;
            }
        }
        Ok(())
    }
}

impl<K, V, S, I, M, F> StatefulOperator for Groups<K, V, S, I, M, F>
where
    K: Key,
    V: Data,
    S: Data,
    I: IntoIterator<Item: Row> + 'static,
    M: TimeDomain,
    F: Fn(&K, Vec<V>, &mut GroupState<'_, S>) -> I + Send + Sync + 'static,
{
    type Key = K;
    type Outputs = (KeepsTime<I::Item, M>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("groups", &mut self.groups);
    }

    fn before_timers(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.release(to)
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        due: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let Some(timeout) = self.groups.get(key).and_then(|kept| kept.timeout) else { return Ok(()) };
        match due {
            _ if timer(self.timeout, timeout) != due => {}
            Timer::Event(_) => self.call(key, Vec::new(), EventTime::from_micros(timeout), to)?,
            Timer::Processing(_) => self.due.push((key.cloned(), timeout)),
        }
        // In micro-batch the rows of the epoch come later, and before the timeouts.
        if to.mode() == Mode::Continuous && !self.due.is_empty() { self.release(to) } else { Ok(()) }
    }

    fn on_flush(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.release(to)
    }
}

impl<K, V, S, I, M, F> Takes<0> for Groups<K, V, S, I, M, F>
where
    K: Key,
    V: Data,
    S: Data,
    I: IntoIterator<Item: Row> + 'static,
    M: TimeDomain,
    F: Fn(&K, Vec<V>, &mut GroupState<'_, S>) -> I + Send + Sync + 'static,
{
    type Row = Dealt<K, V>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let drops_late = self.timeout == GroupTimeout::EventTime;
        let mut late = 0;
        for row in rows {
            if drops_late && row.time < watermark {
                late += 1;
            } else {
                self.rows.push(row);
            }
        }
        to.count_late(late);
        Ok(())
    }
}
