//! The join of two streams in windows of event time: inner, the outer ones, and co-group.
//!
//! A window emits when the watermark reaches its end, with its last instant as event time. State: the rows of both sides, each
//! once, until their last window has closed; for sessions also the spans of those that are open. A row is late when all its
//! windows have closed: it is counted and emitted to the late output of its side.

use std::marker::PhantomData;
use std::sync::Arc;
use std::vec::Drain;

use super::tumbling_join::Tumbling;
use super::windows::{Gaps, WindowKind, first_ending, first_open, times};
use super::{JoinWindows, Sides};
use crate::build::{Dealt, Events, OperatorBuilder, StatefulOperator, Takes, To};
use crate::named::{HashedKey, MapState, States, TimedRows, Timer};
use crate::window::Grid;
use crate::{Data, EventStream, EventTime, Key, OperatorError, Window, WindowResult};

/// A join in windows that waits for its kind: see [`Join::window`](super::Join::window).
///
/// Rows match that have the same key and are in the same window.
///
/// | kind | emits, for each key and window |
/// |---|---|
/// | [`inner`](Self::inner) | each pair |
/// | [`left_outer`](Self::left_outer) | each pair, or the left rows if there is no right one |
/// | [`right_outer`](Self::right_outer) | each pair, or the right rows if there is no left one |
/// | [`full_outer`](Self::full_outer) | each pair, or the rows of the side that has any |
/// | [`co_group`](Self::co_group) | what a function makes of the rows of both sides |
///
/// A window emits when the watermark, the lesser one of both inputs, reaches its end. The event time of its rows is the window's
/// last instant. A session is one of both sides: a row of either one extends it. It emits when the watermark is beyond its end, since
/// a row at its very end belongs to it.
///
/// **Late rows.** A row is late if all its windows have closed. It is counted; the methods that end in `_with_late` return late
/// rows of each side as a stream of their own.
///
/// **State.** Each row once, until its last window closes.
///
/// The idea is Flink's window join and co-group.
#[must_use = "a join does nothing until it has a kind, `.inner()` or another, and ends in a sink"]
pub struct WindowJoin<K, L, R> {
    inputs: OperatorBuilder<Sides<K, L, R>>,
    windows: JoinWindows,
    gaps: Option<Gaps<K, L, R>>,
}

impl<K, L, R> std::fmt::Debug for WindowJoin<K, L, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowJoin").field("windows", &self.windows).finish_non_exhaustive()
    }
}

/// The result of a join and the late rows of its sides.
type WithLate<K, V, L, R> = (EventStream<WindowResult<K, V>>, EventStream<L>, EventStream<R>);

impl<K: Key, L: Data + Clone, R: Data + Clone> WindowJoin<K, L, R> {
    pub(super) fn new(inputs: OperatorBuilder<Sides<K, L, R>>, windows: JoinWindows) -> Self {
        WindowJoin { inputs, windows, gaps: None }
    }

    /// The join in sessions whose gap is taken from each row.
    pub(super) fn by_gaps(inputs: OperatorBuilder<Sides<K, L, R>>, gaps: Gaps<K, L, R>) -> Self {
        WindowJoin { inputs, windows: JoinWindows::session_by(), gaps: Some(gaps) }
    }

    /// Emits each pair of rows in a window.
    pub fn inner(self) -> EventStream<WindowResult<K, (L, R)>> {
        self.inner_with_late().0
    }

    /// As [`inner`](Self::inner), with the late rows of the left and of the right side.
    pub fn inner_with_late(self) -> WithLate<K, (L, R), L, R> {
        self.of(Inner)
    }

    /// Emits each pair, and left rows in whose window there is no right one.
    pub fn left_outer(self) -> EventStream<WindowResult<K, (L, Option<R>)>> {
        self.left_outer_with_late().0
    }

    /// As [`left_outer`](Self::left_outer), with the late rows of the left and of the right side.
    pub fn left_outer_with_late(self) -> WithLate<K, (L, Option<R>), L, R> {
        self.of(LeftOuter)
    }

    /// Emits each pair, and right rows in whose window there is no left one.
    pub fn right_outer(self) -> EventStream<WindowResult<K, (Option<L>, R)>> {
        self.right_outer_with_late().0
    }

    /// As [`right_outer`](Self::right_outer), with the late rows of the left and of the right side.
    pub fn right_outer_with_late(self) -> WithLate<K, (Option<L>, R), L, R> {
        self.of(RightOuter)
    }

    /// Emits each pair, and rows in whose window there is none of the other side.
    pub fn full_outer(self) -> EventStream<WindowResult<K, (Option<L>, Option<R>)>> {
        self.full_outer_with_late().0
    }

    /// As [`full_outer`](Self::full_outer), with the late rows of the left and of the right side.
    pub fn full_outer_with_late(self) -> WithLate<K, (Option<L>, Option<R>), L, R> {
        self.of(FullOuter)
    }

    /// Emits what `function` makes of the rows of both sides in a window, of which one may have none.
    ///
    /// The rows of each side are in order of event time; those of one time in the order in which they came.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let minutes = |n: u64| Duration::from_secs(60 * n);
    /// let graph = Graph::new("readings against their target");
    /// let at = |row: &(u32, i64, i64)| EventTime::from_secs(60 * row.1);
    /// let readings = graph.source(memory([(1, 0, 20), (1, 3, 24), (1, 12, 30)])).with_watermark(at, minutes(1));
    /// let targets = graph.source(memory([(1, 2, 21)])).with_watermark(at, minutes(1));
    /// let (sink, table) = memory_sink();
    /// readings
    ///     .key_by(|row| row.0)
    ///     .join(targets.key_by(|row| row.0))
    ///     .window(tumbling(minutes(10)))
    ///     .co_group(|_, readings, targets| {
    ///         let target = targets.last().map(|row| row.2);
    ///         readings.iter().filter(|row| target.is_some_and(|target| row.2 > target)).count()
    ///     })
    ///     .map(|it| it.value)
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [1, 0]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn co_group<U, F>(self, function: F) -> EventStream<WindowResult<K, U>>
    where
        U: Send + 'static,
        F: Fn(&K, &[&L], &[&R]) -> U + Send + Sync + 'static,
    {
        self.co_group_with_late(function).0
    }

    /// As [`co_group`](Self::co_group), with the late rows of the left and of the right side.
    pub fn co_group_with_late<U, F>(self, function: F) -> WithLate<K, U, L, R>
    where
        U: Send + 'static,
        F: Fn(&K, &[&L], &[&R]) -> U + Send + Sync + 'static,
    {
        self.of(CoGroup(Arc::new(function)))
    }

    fn of<G: Grouping<K, L, R>>(self, grouping: G) -> WithLate<K, G::Value, L, R> {
        let JoinWindows { kind, settings, problem } = self.windows;
        let mut operator = self.inputs.named("window_join");
        for (name, value) in settings {
            operator = operator.setting(name, value);
        }
        // A session that a row at its very end belongs to is open while such a row can come.
        operator = operator.behind(!matches!(kind, WindowKind::Grid(_)));
        let operator = match problem {
            Some(problem) => operator.problem(problem),
            None => operator,
        };
        if let WindowKind::Grid(grid) = kind
            && grid.is_tumbling()
        {
            return operator.stateful(move |_| Tumbling::new(grid, grouping.clone()));
        }
        let gaps = self.gaps;
        operator.stateful(move |_| Windowed {
            windows: kind,
            gaps: gaps.clone(),
            ends: Vec::new(),
            left: TimedRows::new(),
            right: TimedRows::new(),
            spans: MapState::new(),
            grouping: grouping.clone(),
            marker: PhantomData::<fn() -> K>,
        })
    }
}

/// How the rows of a window make results.
pub(super) trait Grouping<K, L, R>: Clone + Send + Sync + 'static {
    type Value: Send + 'static;

    /// At least one of the sides has rows.
    fn group(&self, key: &K, lefts: &[&L], rights: &[&R], emit: impl FnMut(Self::Value));
}

/// Pairs only.
#[derive(Clone, Copy)]
pub(super) struct Inner;
/// Pairs, or left rows without a right one.
#[derive(Clone, Copy)]
pub(super) struct LeftOuter;
/// Pairs, or right rows without a left one.
#[derive(Clone, Copy)]
pub(super) struct RightOuter;
/// Pairs, or the rows of the side that has any.
#[derive(Clone, Copy)]
pub(super) struct FullOuter;
/// What the function makes of them.
pub(super) struct CoGroup<F>(Arc<F>);

impl<F> Clone for CoGroup<F> {
    fn clone(&self) -> Self {
        CoGroup(Arc::clone(&self.0))
    }
}

fn pairs<'r, L, R>(lefts: &'r [&'r L], rights: &'r [&'r R]) -> impl Iterator<Item = (&'r L, &'r R)> {
    lefts.iter().flat_map(move |left| rights.iter().map(move |right| (*left, *right)))
}

impl<K: Key, L: Data + Clone, R: Data + Clone> Grouping<K, L, R> for Inner {
    type Value = (L, R);

    fn group(&self, _: &K, lefts: &[&L], rights: &[&R], emit: impl FnMut(Self::Value)) {
        pairs(lefts, rights).map(|(left, right)| (left.clone(), right.clone())).for_each(emit);
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone> Grouping<K, L, R> for LeftOuter {
    type Value = (L, Option<R>);

    fn group(&self, _: &K, lefts: &[&L], rights: &[&R], emit: impl FnMut(Self::Value)) {
        if rights.is_empty() {
            lefts.iter().map(|left| ((*left).clone(), None)).for_each(emit);
        } else {
            pairs(lefts, rights).map(|(left, right)| (left.clone(), Some(right.clone()))).for_each(emit);
        }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone> Grouping<K, L, R> for RightOuter {
    type Value = (Option<L>, R);

    fn group(&self, _: &K, lefts: &[&L], rights: &[&R], emit: impl FnMut(Self::Value)) {
        if lefts.is_empty() {
            rights.iter().map(|right| (None, (*right).clone())).for_each(emit);
        } else {
            pairs(lefts, rights).map(|(left, right)| (Some(left.clone()), right.clone())).for_each(emit);
        }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone> Grouping<K, L, R> for FullOuter {
    type Value = (Option<L>, Option<R>);

    fn group(&self, _: &K, lefts: &[&L], rights: &[&R], emit: impl FnMut(Self::Value)) {
        if rights.is_empty() {
            lefts.iter().map(|left| (Some((*left).clone()), None)).for_each(emit);
        } else if lefts.is_empty() {
            rights.iter().map(|right| (None, Some((*right).clone()))).for_each(emit);
        } else {
            let pair = |(left, right): (&L, &R)| (Some(left.clone()), Some(right.clone()));
            pairs(lefts, rights).map(pair).for_each(emit);
        }
    }
}

impl<K, L, R, U, F> Grouping<K, L, R> for CoGroup<F>
where
    K: Key,
    L: Data,
    R: Data,
    U: Send + 'static,
    F: Fn(&K, &[&L], &[&R]) -> U + Send + Sync + 'static,
{
    type Value = U;

    fn group(&self, key: &K, lefts: &[&L], rights: &[&R], mut emit: impl FnMut(U)) {
        emit((self.0)(key, lefts, rights));
    }
}

/// Input 0: the left side; input 1: the right side. Output 0: the result; 1 and 2: late rows of the left and of the right side.
///
/// Each key with rows has a timer at the end of the first window that has rows of it and has not closed, and maybe timers at
/// later ends. A timer emits the window that ends there and sets the next one.
struct Windowed<K, L, R, G> {
    windows: WindowKind,
    /// Where each row has a gap of its own.
    gaps: Option<Gaps<K, L, R>>,
    /// Memory for the ends of the spans of a batch.
    ends: Vec<EventTime>,
    left: TimedRows<K, L>,
    right: TimedRows<K, R>,
    /// The open sessions of each key, from start to end; empty for other windows.
    spans: MapState<K, EventTime, EventTime>,
    grouping: G,
    marker: PhantomData<fn() -> K>,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> Windowed<K, L, R, G> {
    /// Emits a window of a key, if it has rows.
    fn emit(&self, key: HashedKey<'_, K>, window: Window, to: &mut To<'_, Self>) {
        let lefts: Vec<&L> = self.left.range(key, times(window)).map(|(_, row)| row).collect();
        let rights: Vec<&R> = self.right.range(key, times(window)).map(|(_, row)| row).collect();
        if lefts.is_empty() && rights.is_empty() {
            return;
        }
        let out = &mut to.out.0;
        self.grouping.group(key.key, &lefts, &rights, |value| {
            out.push(window.last_instant(), WindowResult { window, key: key.key.clone(), value });
        });
    }

    /// The first row of a key, of either side.
    fn first(&self, key: HashedKey<'_, K>) -> Option<EventTime> {
        let (left, right) = (self.left.first(key), self.right.first(key));
        left.map_or(right, |left| Some(right.map_or(left, |right| left.min(right))))
    }

    /// Emits the window that ends at that time, and evicts the rows that are in no later one.
    fn close_grid(&mut self, grid: Grid, key: HashedKey<'_, K>, end: EventTime, to: &mut To<'_, Self>) {
        let mut start = first_ending(grid, end);
        let is_last = to.watermark() == EventTime::MAX;
        loop {
            self.emit(key, grid.window(start), to);
            let next = grid.next(start);
            if let Ok(before) = i64::try_from(next) {
                let before = EventTime::from_micros(before);
                self.left.take_before(key, ..before, |_, _| ());
                self.right.take_before(key, ..before, |_, _| ());
            } else {
                // Nothing is later than the end of time.
                self.left.take(key, EventTime::MIN..=EventTime::MAX, |_, _| ());
                self.right.take(key, EventTime::MIN..=EventTime::MAX, |_, _| ());
            }
            let Some(first) = self.first(key) else { return };
            start = next.max(grid.first(first));
            if !is_last {
                to.timers.set_event(key, grid.window(start).end);
                return;
            }
            // At the end of the input no timer can be set: all windows that are left close now.
        }
    }

    /// Emits the sessions of a key that have ended, with their rows.
    fn close_sessions(&mut self, key: HashedKey<'_, K>, to: &mut To<'_, Self>) {
        let watermark = to.watermark();
        let ended: Vec<Window> = self
            .spans
            .iter_of(key)
            .filter(|(_, end)| **end <= watermark)
            .map(|(start, end)| Window { start: *start, end: *end })
            .collect();
        for window in ended {
            self.emit(key, window, to);
            self.left.take(key, times(window), |_, _| ());
            self.right.take(key, times(window), |_, _| ());
            self.spans.remove(key, &window.start);
        }
    }

    /// Counts a row among the sessions of its key: those that it meets become one.
    fn extend(&mut self, key: HashedKey<'_, K>, mut span: Window, to: &mut To<'_, Self>) {
        let met: Vec<Window> = self
            .spans
            .range(key, ..=span.end)
            .rev()
            .take_while(|(_, end)| **end >= span.start)
            .map(|(start, end)| Window { start: *start, end: *end })
            .collect();
        if let [one] = met.as_slice()
            && one.start <= span.start
            && one.end >= span.end
        {
            return;
        }
        for one in &met {
            span = Window { start: span.start.min(one.start), end: span.end.max(one.end) };
        }
        for one in met {
            if one.start != span.start {
                self.spans.remove(key, &one.start);
            }
            if one.end != span.end {
                to.timers.delete_event(key, one.end);
            }
        }
        self.spans.insert(key, span.start, span.end);
        to.timers.set_event(key, span.end);
    }

    /// Sees to it that the windows of a row are emitted. `latest` is the latest row that its side had before.
    #[inline]
    fn arm(
        &mut self,
        key: HashedKey<'_, K>,
        (time, end): (EventTime, Option<EventTime>),
        latest: Option<EventTime>,
        to: &mut To<'_, Self>,
    ) {
        match self.windows {
            WindowKind::Grid(grid) => {
                let watermark = to.watermark();
                let start = first_open(grid, time, watermark);
                // A row that is there has a timer, at the end of its first open window or before.
                if latest.is_none_or(|latest| first_open(grid, latest, watermark) != start) {
                    to.timers.set_event(key, grid.window(start).end);
                }
            }
            WindowKind::Session(session) => self.extend(key, session.span_of(time), to),
            WindowKind::SessionBy => {
                self.extend(key, Window { start: time, end: end.unwrap_or(EventTime::MAX) }, to);
            }
        }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> StatefulOperator
    for Windowed<K, L, R, G>
{
    type Key = K;
    type Outputs = (Events<WindowResult<K, G::Value>>, Events<L>, Events<R>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("left", &mut self.left);
        states.add("right", &mut self.right);
        if matches!(self.windows, WindowKind::Session(_) | WindowKind::SessionBy) {
            states.add("sessions", &mut self.spans);
        }
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        match (self.windows, timer) {
            (WindowKind::Grid(grid), Timer::Event(end)) => self.close_grid(grid, key, end, to),
            (WindowKind::Session(_) | WindowKind::SessionBy, _) => self.close_sessions(key, to),
            (WindowKind::Grid(_), Timer::Processing(_)) => {}
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> Takes<0> for Windowed<K, L, R, G> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let mut ends = std::mem::take(&mut self.ends);
        if let Some(gaps) = &self.gaps {
            (gaps.left)(rows.as_slice(), &mut ends);
        }
        for (at, Dealt { hash, key, time, value }) in rows.enumerate() {
            let end = ends.get(at).copied();
            if self.windows.is_late(time, end, watermark) {
                to.count_late(1);
                to.out.1.push(time, value);
                continue;
            }
            let key = HashedKey { hash, key: &key };
            let latest = self.left.push(key, time, value);
            self.arm(key, (time, end), latest, to);
        }
        ends.clear();
        self.ends = ends;
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> Takes<1> for Windowed<K, L, R, G> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let mut ends = std::mem::take(&mut self.ends);
        if let Some(gaps) = &self.gaps {
            (gaps.right)(rows.as_slice(), &mut ends);
        }
        for (at, Dealt { hash, key, time, value }) in rows.enumerate() {
            let end = ends.get(at).copied();
            if self.windows.is_late(time, end, watermark) {
                to.count_late(1);
                to.out.2.push(time, value);
                continue;
            }
            let key = HashedKey { hash, key: &key };
            let latest = self.right.push(key, time, value);
            self.arm(key, (time, end), latest, to);
        }
        ends.clear();
        self.ends = ends;
        Ok(())
    }
}
