//! The operator of windows that fire early, on time and late.
//!
//! Output 0: the firings; output 1: late rows. State: `windows`, an accumulator for each window of a key, until its end plus
//! the allowed lateness. Each window has a timer at its end, and with an allowed lateness one more when it is evicted.
//!
//! Sessions that grow do not move their timer: when it fires, it is set again at the end of the first session that has not closed.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use smallvec::SmallVec;

use super::Early;
use super::clock::WindowClock;
use super::pane::{Pane, Place, place, window};
use super::rows::{FiringRow, retraction};
use crate::aggregate::kept;
use crate::arrival;
use crate::assigners::WindowAssigner;
use crate::build::{Dealt, Emitted, Events, StatefulOperator, Takes, To};
use crate::named::{HashedKey, MapState, NamedState, States, Timer};
use crate::state::Reach;
use crate::window::{FiringKind, WindowFiring};
use crate::{Aggregate, Data, EventTime, Key, OperatorError, ProcessingTime, Window};

/// When windows fire and how long they are kept.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub(super) lateness: Duration,
    pub(super) early: Option<Early>,
}

/// What a window waits for that has got a record.
#[derive(Clone, Copy)]
enum Next {
    Nothing,
    Flush,
    Timer(ProcessingTime),
}

impl Policy {
    /// What is to be done about a window that has got a record; `is_new` if nothing has been done yet about one of its place.
    #[inline]
    fn next<T: Data>(&self, pane: &mut Pane<T>, is_new: bool, now: ProcessingTime) -> Next {
        let fires = |fresh: u64| match &self.early {
            _ if pane.is_closed => fresh > 0,
            Some(early) => early.fires_after(fresh),
            None => false,
        };
        if fires(pane.fresh) {
            return if is_new || !fires(pane.fresh - 1) { Next::Flush } else { Next::Nothing };
        }
        match self.early.and_then(|early| early.fires_at(now)) {
            Some(at) if pane.early_at.is_none() => {
                pane.early_at = Some(at);
                Next::Timer(at)
            }
            _ => Next::Nothing,
        }
    }
}

/// `C` is the clock, `R` the row of a firing, and `UPSERTS` says whether rows are upserts.
pub(super) struct Firings<K: Key, A: Aggregate, W, C, R, const UPSERTS: bool> {
    assigner: Arc<W>,
    merges: bool,
    aggregate: A,
    policy: Policy,
    windows: MapState<K, Place, Pane<A::Acc>>,
    /// Whether windows from before a restart fire by this policy.
    is_resumed: bool,
    /// Windows that may fire with the next flush.
    pending: Vec<(u64, K, Place)>,
    /// Rows whose own spans are late, and that another row of the epoch may connect with a session.
    held: Vec<(Window, Dealt<K, A::In>)>,
    /// What the clock had reached when they came.
    held_at: EventTime,
    /// Memory for the windows of a row.
    assigned: Vec<Window>,
    marker: PhantomData<fn() -> (C, R)>,
}

impl<K, A, W, C, R, const UPSERTS: bool> Firings<K, A, W, C, R, UPSERTS>
where
    K: Key,
    A: Aggregate<In: Data>,
    W: WindowAssigner<A::In>,
    C: WindowClock,
    R: FiringRow<K, A::Out>,
{
    pub(super) fn new(assigner: Arc<W>, aggregate: A, policy: Policy) -> Self {
        Firings {
            merges: assigner.merges(),
            assigner,
            aggregate,
            policy,
            windows: MapState::new(),
            is_resumed: false,
            pending: Vec::new(),
            held: Vec::new(),
            held_at: EventTime::MIN,
            assigned: Vec::new(),
            marker: PhantomData,
        }
    }

    /// Has the windows from before a restart fire by this policy: the restart may have changed when they fire early.
    ///
    /// Where it has not, no window is written.
    fn resume(&mut self, to: &mut To<'_, Self>) {
        if std::mem::replace(&mut self.is_resumed, true) {
            return;
        }
        let early = self.policy.early;
        let next = early.and_then(|early| early.fires_at(to.now()));
        let is_due = |pane: &Pane<A::Acc>| early.is_some_and(|early| early.fires_after(pane.fresh));
        let early_at = |pane: &Pane<A::Acc>| match (pane.early_at, next) {
            (Some(at), Some(next)) => Some(at.min(next)),
            (None, next) if pane.fresh > 0 && !is_due(pane) => next,
            _ => None,
        };
        let open = self.windows.iter().filter(|(.., pane)| !pane.is_closed);
        let differ = open.filter(|(.., pane)| is_due(pane) || early_at(pane) != pane.early_at);
        let differ: Vec<(K, Place)> = differ.map(|(key, place, _)| (key.clone(), *place)).collect();
        for (key, place) in differ {
            let hashed = HashedKey::of(&key);
            let Some(pane) = self.windows.get_mut(hashed, &place) else { continue };
            let is_due = is_due(pane);
            let (was, is) = (pane.early_at, early_at(pane));
            pane.early_at = is;
            if let (Some(was), true) = (was, was != is) {
                self.drop_early(hashed, was, to);
            }
            if let (Some(at), true) = (is, was != is) {
                to.timers.set_processing(hashed, at);
            }
            if is_due {
                self.pending.push((hashed.hash, key, place));
            }
        }
    }

    /// Whether a window is not kept any more.
    fn is_over(&self, window: Window, reached: EventTime) -> bool {
        window.end + self.policy.lateness <= reached
    }

    /// Sets the timer of a window that is new, or has closed.
    fn set_timer(&self, key: HashedKey<'_, K>, end: EventTime, is_closed: bool, to: &mut To<'_, Self>) {
        C::set_timer(to.timers, key, if is_closed { end + self.policy.lateness } else { end });
    }

    fn late(row: Dealt<K, A::In>, to: &mut To<'_, Self>) {
        to.count_late(1);
        to.out.1.push(row.time, row.value);
    }

    /// Adds a row to a window that merges with no other.
    fn add(
        &mut self,
        key: HashedKey<'_, K>,
        at: Window,
        value: &A::In,
        reached: EventTime,
        to: &mut To<'_, Self>,
    ) {
        let (place, now) = (place(at), to.now());
        if let Some(pane) = self.windows.get_mut(key, &place) {
            kept::add(&self.aggregate, &mut pane.acc, value);
            pane.fresh += 1;
            let next = self.policy.next(pane, false, now);
            self.prepare(key, place, next, to);
        } else {
            let mut pane = Pane::new(kept::create(&self.aggregate, value), at.end <= reached);
            let next = self.policy.next(&mut pane, true, now);
            self.set_timer(key, at.end, pane.is_closed, to);
            self.windows.insert(key, place, pane);
            self.prepare(key, place, next, to);
        }
    }

    /// Sees to it that a window fires.
    #[inline]
    fn prepare(&mut self, key: HashedKey<'_, K>, place: Place, next: Next, to: &mut To<'_, Self>) {
        match next {
            Next::Nothing => {}
            Next::Flush => self.pending.push((key.hash, key.cloned(), place)),
            Next::Timer(at) => to.timers.set_processing(key, at),
        }
    }

    /// Adds a row to the session that its span is in or that it begins, and merges the sessions that it connects. Says whether
    /// it did: a row whose span is over and meets no session is late.
    fn extend(
        &mut self,
        key: HashedKey<'_, K>,
        span: Window,
        value: &A::In,
        reached: EventTime,
        to: &mut To<'_, Self>,
    ) -> bool {
        let from = (span.start, EventTime::MIN);
        let met = self.windows.range(key, from..).map(|(place, _)| *place);
        let met: SmallVec<[Place; 4]> = met.take_while(|(_, start)| *start <= span.end).collect();
        if met.is_empty() && self.is_over(span, reached) {
            return false;
        }
        let whole = met.iter().map(|met| window(*met)).fold(span, |whole, met| Window {
            start: whole.start.min(met.start),
            end: whole.end.max(met.end),
        });
        let (place, now) = (place(whole), to.now());
        if let [one] = met.as_slice()
            && *one == place
            && let Some(pane) = self.windows.get_mut(key, one)
            && (!A::ORDERED || pane.is_latest)
        {
            kept::add(&self.aggregate, &mut pane.acc, value);
            pane.fresh += 1;
            let next = self.policy.next(pane, false, now);
            self.prepare(key, place, next, to);
            return true;
        }
        let mut merged: Option<Pane<A::Acc>> = None;
        let mut is_armed = false;
        for at in met {
            let Some(mut pane) = self.windows.remove(key, &at) else { continue };
            is_armed |= !pane.is_closed || at.0 == whole.end;
            if at != place && std::mem::take(&mut pane.is_shown) {
                pane.replaces.push(window(at));
            }
            let Some(first) = &mut merged else {
                kept::add(&self.aggregate, &mut pane.acc, value);
                pane.fresh += 1;
                merged = Some(pane);
                continue;
            };
            self.aggregate.merge(&mut first.acc, pane.acc);
            first.fresh += pane.fresh;
            first.fired = first.fired.max(pane.fired);
            first.is_shown |= pane.is_shown;
            first.replaces.append(&mut pane.replaces);
            if let Some(at) = pane.early_at {
                let own = first.early_at.unwrap_or(at);
                first.early_at = Some(own.min(at));
                if own != at {
                    self.drop_early(key, own.max(at), to);
                }
            }
        }
        let mut pane = merged.unwrap_or_else(|| Pane::new(kept::create(&self.aggregate, value), false));
        pane.is_closed = whole.end <= reached;
        if !is_armed {
            self.set_timer(key, whole.end, pane.is_closed, to);
        }
        if A::ORDERED {
            self.seal_others(key, &mut pane);
        }
        let next = self.policy.next(&mut pane, true, now);
        self.windows.insert(key, place, pane);
        self.prepare(key, place, next, to);
        true
    }

    /// A record has gone to a session, so that the next one of another session begins a run.
    fn seal_others(&mut self, key: HashedKey<'_, K>, latest: &mut Pane<A::Acc>) {
        latest.is_latest = true;
        let former = self.windows.iter_of(key).find(|(_, pane)| pane.is_latest).map(|(place, _)| *place);
        if let Some(former) = former.and_then(|former| self.windows.get_mut(key, &former)) {
            self.aggregate.seal(&mut former.acc);
            former.is_latest = false;
        }
    }

    /// Deletes the timer of an early firing, unless another window of the key has it too. With windows of the clock, it may also be
    /// the timer of an end, so that it stays and fires without an effect.
    fn drop_early(&self, key: HashedKey<'_, K>, at: ProcessingTime, to: &mut To<'_, Self>) {
        if C::IS_EVENT && !self.windows.iter_of(key).any(|(_, pane)| pane.early_at == Some(at)) {
            to.timers.delete_processing(key, at);
        }
    }

    /// Emits the value of a window, after retractions of the windows that it has replaced.
    fn emit(
        aggregate: &A,
        key: &K,
        at: Window,
        pane: &mut Pane<A::Acc>,
        kind: FiringKind,
        out: &mut Emitted<R, C::Out, UPSERTS>,
    ) {
        let (time, revision) = (at.last_instant(), pane.fired);
        let mut push = |firing| {
            if let Some(row) = R::of(firing) {
                out.push(time, row);
            }
        };
        for replaced in pane.replaces.drain(..) {
            push(retraction(replaced, key.clone(), kind, revision));
        }
        let value = Some(aggregate.finish(&pane.acc));
        push(WindowFiring { window: at, key: key.clone(), value, kind, revision });
        (pane.fresh, pane.fired, pane.is_shown) = (0, revision + 1, true);
    }

    /// Fires a window that is kept afterwards, if it has got rows since it last fired.
    fn fire(&mut self, key: HashedKey<'_, K>, place: Place, kind: FiringKind, to: &mut To<'_, Self>) {
        let Some(pane) = self.windows.get_mut(key, &place) else { return };
        let early_at = pane.early_at.take();
        Self::emit(&self.aggregate, key.key, window(place), pane, kind, &mut to.out.0);
        if let Some(at) = early_at {
            self.drop_early(key, at, to);
        }
    }

    /// Closes and evicts the windows of a key that the clock has passed.
    fn advance(&mut self, key: HashedKey<'_, K>, reached: EventTime, to: &mut To<'_, Self>) {
        let is_last = reached == EventTime::MAX;
        let keeps = !self.policy.lateness.is_zero() && !is_last;
        let ended = self.windows.range(key, ..=(reached, EventTime::MAX)).rev();
        let due: Vec<Place> =
            ended.take_while(|(_, pane)| !pane.is_closed).map(|(place, _)| *place).collect();
        for place in due.into_iter().rev() {
            if keeps {
                self.fire(key, place, FiringKind::OnTime, to);
                if let Some(pane) = self.windows.get_mut(key, &place) {
                    pane.is_closed = true;
                }
                self.set_timer(key, place.0, true, to);
            } else if let Some(mut pane) = self.windows.remove(key, &place) {
                Self::emit(
                    &self.aggregate,
                    key.key,
                    window(place),
                    &mut pane,
                    FiringKind::OnTime,
                    &mut to.out.0,
                );
                if let Some(at) = pane.early_at {
                    self.drop_early(key, at, to);
                }
            }
        }
        if !self.policy.lateness.is_zero() {
            let over = if is_last { reached } else { reached - self.policy.lateness };
            self.windows.retain_range(key, ..=(over, EventTime::MAX), |_, _| false);
        }
        if self.merges && !is_last {
            let after = self.windows.range(key, (reached, EventTime::MAX)..).next().map(|(place, _)| place.0);
            if let Some(end) = after {
                C::set_timer(to.timers, key, end);
            }
        }
    }

    /// Before the clock advances, and at the end of an epoch: all rows up to here have come.
    fn release(&mut self, to: &mut To<'_, Self>) {
        if !self.held.is_empty() {
            let (mut held, reached) = (std::mem::take(&mut self.held), self.held_at);
            // A span that meets a session through others meets it after them.
            held.sort_by_key(|(span, _)| std::cmp::Reverse(span.end));
            for (span, row) in held {
                if !self.extend(row.hashed(), span, &row.value, reached, to) {
                    Self::late(row, to);
                }
            }
        }
        let reached = C::reached(to);
        for (hash, key, place) in std::mem::take(&mut self.pending) {
            let key = HashedKey { hash, key: &key };
            let Some(pane) = self.windows.get(key, &place).filter(|pane| pane.fresh > 0) else { continue };
            if pane.is_closed {
                self.fire(key, place, FiringKind::Late, to);
            } else if place.0 > reached
                && self.policy.early.is_some_and(|early| early.fires_after(pane.fresh))
            {
                // Where the clock has passed the end, it fires on time at once.
                self.fire(key, place, FiringKind::Early, to);
            }
        }
    }

    /// Fires the windows of a key whose interval has passed.
    fn early(&mut self, key: HashedKey<'_, K>, at: ProcessingTime, to: &mut To<'_, Self>) {
        let open = self.windows.iter_of(key).rev().take_while(|(_, pane)| !pane.is_closed);
        let due: Vec<Place> =
            open.filter(|(_, pane)| pane.early_at == Some(at)).map(|(place, _)| *place).collect();
        for place in due.into_iter().rev() {
            self.fire(key, place, FiringKind::Early, to);
        }
    }
}

/// A window that the user's assigner has made.
fn check(window: Window) -> Result<(), OperatorError> {
    // The last instant belongs to a window that ends there, too.
    if window.start < window.end || window.start == EventTime::MAX && window.end == EventTime::MAX {
        return Ok(());
    }
    let Window { start, end } = window;
    let problem =
        format!("the assigner returned a window from {start} to {end}: a window must end after its start");
    Err(OperatorError::User(problem.into()))
}

impl<K, A, W, C, R, const UPSERTS: bool> StatefulOperator for Firings<K, A, W, C, R, UPSERTS>
where
    K: Key,
    A: Aggregate<In: Data>,
    W: WindowAssigner<A::In>,
    C: WindowClock,
    R: FiringRow<K, A::Out>,
{
    type Key = K;
    type Outputs = (Emitted<R, C::Out, UPSERTS>, Events<A::In>);

    // A late firing has the time of its window, which the watermark has passed.
    const DERIVES_WATERMARK: bool = C::IS_EVENT;

    fn output_watermark(&self, watermark: EventTime) -> EventTime {
        watermark - self.policy.lateness
    }

    fn state(&mut self, states: &mut States<'_>) {
        states.add("windows", &mut self.windows);
    }

    fn before_timers(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.resume(to);
        self.release(to);
        Ok(())
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        match timer {
            // At the end of the input no timer can be set: all windows of the key close now.
            Timer::Event(_) if to.watermark() == EventTime::MAX => self.advance(key, EventTime::MAX, to),
            Timer::Event(at) => self.advance(key, at, to),
            Timer::Processing(at) => {
                if !C::IS_EVENT {
                    self.advance(key, EventTime::from_micros(at.as_micros()), to);
                }
                self.early(key, at, to);
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if !C::IS_EVENT && to.watermark() == EventTime::MAX {
            let keys: std::collections::HashSet<K> =
                self.windows.iter().map(|(key, ..)| key.clone()).collect();
            for key in &keys {
                self.advance(HashedKey::of(key), EventTime::MAX, to);
            }
            // Those of windows that have closed before their time.
            to.timers.forget_processing();
        }
        Ok(())
    }

    fn on_flush(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.release(to);
        Ok(())
    }
}

impl<K, A, W, C, R, const UPSERTS: bool> Takes<0> for Firings<K, A, W, C, R, UPSERTS>
where
    K: Key,
    A: Aggregate<In: Data>,
    W: WindowAssigner<A::In>,
    C: WindowClock,
    R: FiringRow<K, A::Out>,
{
    type Row = Dealt<K, A::In>;

    fn take(&mut self, mut rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.resume(to);
        let reached = C::reached(to);
        // Prefetches the entries of the next rows' keys, where the table is larger than the caches.
        let reach = if rows.len() >= Reach::AHEAD { self.windows.reach() } else { None };
        if A::ORDERED {
            arrival::enter(to.split().2, None, !self.merges);
        }
        let mut assigned = std::mem::take(&mut self.assigned);
        while let Some(row) = rows.next() {
            if let Some(reach) = &reach
                && let Some(ahead) = rows.as_slice().get(Reach::AHEAD - 1)
            {
                reach.fetch(ahead.hash);
            }
            assigned.clear();
            let time = if C::IS_EVENT { row.time } else { reached };
            self.assigner.assign(time, &row.value, &mut assigned);
            assigned.iter().try_for_each(|window| check(*window))?;
            let key = row.hashed();
            let mut is_late = true;
            if self.merges {
                for span in &assigned {
                    is_late &= !self.extend(key, *span, &row.value, reached, to);
                }
                if let ([span], true, true) = (assigned.as_slice(), is_late, C::IS_EVENT) {
                    self.held_at = reached;
                    self.held.push((*span, row));
                    continue;
                }
            } else {
                for window in &assigned {
                    if !self.is_over(*window, reached) {
                        self.add(key, *window, &row.value, reached, to);
                        is_late = false;
                    }
                }
            }
            if is_late {
                Self::late(row, to);
            }
        }
        self.assigned = assigned;
        Ok(())
    }
}
