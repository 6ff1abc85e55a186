//! The timers of one clock in order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::wheel::{Timed, Wheel};
use crate::state::{Reach, relieve};

/// An advance sorts at least that many timers at a time, so that their entries are prefetched while others fire.
const PART: usize = 256;

/// The memory for due timers that is always kept, in timers.
const KEPT: usize = 1024;

/// A timer as it lies ahead.
pub(super) trait Queued: Timed {
    /// What a timer has besides its time and the hash of its key.
    type Rest;

    fn due(self, is_saved: bool) -> Due<Self::Rest>;
}

/// The time of a timer and the hash of its key: the order in which timers fire.
pub(super) type Place = (i64, u64);

/// A timer that an advance has reached, in order of its [`place`](Due::place).
pub(super) struct Due<R> {
    pub(super) time: i64,
    pub(super) hash: u64,
    pub(super) rest: R,
}

impl<R> Due<R> {
    #[inline]
    pub(super) fn place(&self) -> Place {
        (self.time, self.hash)
    }
}

impl<R> PartialEq for Due<R> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<R> Eq for Due<R> {}

impl<R> PartialOrd for Due<R> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Due<R> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// Timers in order.
pub(super) struct Index<T: Queued> {
    /// Ahead of all advances so far. Without it, all are `near`.
    far: Option<Wheel<T>>,
    /// The earliest of these, if it is known.
    earliest: Option<i64>,
    /// Reached by the advance that is under way, in descending order.
    due: Vec<Reverse<Due<T::Rest>>>,
    /// Set for a time that had been reached.
    near: BinaryHeap<Reverse<Due<T::Rest>>>,
    /// The last timer that has fired in the advance that is under way.
    fired: Option<Place>,
    /// Set in this advance for a time before that one.
    held: Vec<Due<T::Rest>>,
    len: usize,
    /// Where the state of keys is in memory.
    reaches: Vec<Reach>,
}

impl<T: Queued> Index<T> {
    /// An index in a wheel.
    pub(super) fn in_wheel() -> Self {
        Index { far: Some(Wheel::new()), ..Index::in_heap() }
    }

    /// An index in a heap, which knows the [first](Self::first_near) timer at any time.
    pub(super) fn in_heap() -> Self {
        Index {
            far: None,
            earliest: None,
            due: Vec::new(),
            near: BinaryHeap::new(),
            fired: None,
            held: Vec::new(),
            len: 0,
            reaches: Vec::new(),
        }
    }

    /// Returns the number of timers.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a timer. One that is not saved is passed to [`save_ahead`](Self::save_ahead).
    #[inline]
    pub(super) fn add(&mut self, timer: T, is_saved: bool) {
        self.len += 1;
        let time = timer.time();
        if let Some(far) = &mut self.far
            && time > far.now()
        {
            if self.earliest.is_some_and(|earliest| time < earliest) {
                self.earliest = Some(time);
            }
            far.push(timer, is_saved);
        } else {
            self.add_due(timer.due(is_saved));
        }
    }

    /// Puts a timer back that was taken out and has not fired.
    pub(super) fn put_back(&mut self, timer: Due<T::Rest>) {
        self.len += 1;
        self.near.push(Reverse(timer));
    }

    fn add_due(&mut self, timer: Due<T::Rest>) {
        match self.fired {
            Some(fired) if timer.place() <= fired => self.held.push(timer),
            _ => self.near.push(Reverse(timer)),
        }
    }

    /// Has state prefetched for the timers that are about to fire.
    pub(super) fn prefetch(&mut self, reaches: &[Reach]) {
        self.reaches.clear();
        self.reaches.extend_from_slice(reaches);
    }

    /// Takes out the first timer up to a limit; `None` ends the advance.
    #[inline]
    pub(super) fn next(&mut self, limit: i64) -> Option<Due<T::Rest>> {
        loop {
            let near = self.near.peek().map(|Reverse(near)| near.place());
            if let Some(Reverse(due)) = self.due.last()
                && near.is_none_or(|near| due.place() <= near)
            {
                if due.time > limit {
                    break;
                }
                self.len -= 1;
                let due = self.due.pop();
                self.look_ahead();
                return due.map(|Reverse(due)| due);
            }
            match near {
                Some((time, _)) if time > limit => break,
                Some(_) => {
                    self.len -= 1;
                    return self.near.pop().map(|Reverse(near)| near);
                }
                None if self.refill(limit) => {}
                None => break,
            }
        }
        self.end();
        None
    }

    /// Notes which timer fires: those that are set for a time before wait for the next advance.
    #[inline]
    pub(super) fn fires(&mut self, place: Place) {
        self.fired = Some(place);
    }

    /// Whether the timer that [`next`](Self::next) will return is at that place.
    #[inline]
    pub(super) fn is_next_at(&self, place: Place) -> bool {
        let due = self.due.last().is_some_and(|Reverse(due)| due.place() == place);
        due || self.near.peek().is_some_and(|Reverse(near)| near.place() == place)
    }

    /// Takes timers from the wheel. Returns whether there are any up to the limit.
    fn refill(&mut self, limit: i64) -> bool {
        let Some(far) = &mut self.far else { return false };
        if limit <= far.now() {
            return false;
        }
        while self.due.len() < PART
            && far.advance(limit, |timer, is_saved| self.due.push(Reverse(timer.due(is_saved))))
        {}
        self.earliest = self.earliest.filter(|earliest| *earliest > far.now());
        self.due.sort_unstable();
        let first = self.due.len().saturating_sub(Reach::AHEAD);
        for Reverse(due) in self.due.get(first..).unwrap_or_default() {
            self.reaches.iter().for_each(|reach| reach.fetch(due.hash));
        }
        !self.due.is_empty()
    }

    #[inline]
    fn look_ahead(&self) {
        if !self.reaches.is_empty()
            && let Some(at) = self.due.len().checked_sub(Reach::AHEAD)
            && let Some(Reverse(due)) = self.due.get(at)
        {
            self.reaches.iter().for_each(|reach| reach.fetch(due.hash));
        }
    }

    /// Ends an advance: what was held fires in the next one.
    fn end(&mut self) {
        self.fired = None;
        self.near.extend(self.held.drain(..).map(Reverse));
        if self.due.is_empty() {
            relieve(&mut self.due, KEPT);
        }
    }

    /// Returns the time of the first timer of an index in a wheel.
    #[inline]
    pub(super) fn earliest(&mut self) -> Option<i64> {
        if self.len == 0 {
            return None;
        }
        if self.earliest.is_none() {
            self.earliest = self.far.as_ref().and_then(Wheel::earliest);
        }
        let reached = self.reached().map(|timer| timer.time).min();
        reached.into_iter().chain(self.earliest).min()
    }

    /// Returns the time of the first timer of an index in a heap that `is_set`, and drops those before it.
    #[inline]
    pub(super) fn first_near(&mut self, mut is_set: impl FnMut(Place) -> bool) -> Option<i64> {
        while let Some(Reverse(near)) = self.near.peek() {
            if is_set(near.place()) {
                return Some(near.time);
            }
            self.near.pop();
            self.len -= 1;
        }
        None
    }

    /// Passes the timers to `save` that lie ahead and are not saved, and notes that they are.
    pub(super) fn save_ahead<E>(&mut self, save: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        self.far.as_mut().map_or(Ok(()), |far| far.save(save))
    }

    /// Passes the timers to `save` that do not lie ahead: normally few.
    pub(super) fn save_reached<E>(
        &mut self,
        save: impl FnMut(&mut Due<T::Rest>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut near = std::mem::take(&mut self.near).into_vec();
        let due = self.due.iter_mut().chain(&mut near).map(|Reverse(timer)| timer);
        due.chain(&mut self.held).try_for_each(save)?;
        self.near = near.into();
        Ok(())
    }

    /// Returns the number of timers that are not saved; `is_saved` knows it of those that do not lie ahead.
    pub(super) fn unsaved(&self, is_saved: impl Fn(&T::Rest) -> bool) -> usize {
        let reached = self.reached().filter(|due| !is_saved(&due.rest)).count();
        self.far.as_ref().map_or(0, Wheel::unsaved) + reached
    }

    /// Iterates over the timers ahead, in no order, and whether they are saved.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (&T, bool)> {
        self.far.iter().flat_map(Wheel::iter)
    }

    /// Iterates over the timers that are not ahead, in no order: normally few.
    pub(super) fn reached(&self) -> impl Iterator<Item = &Due<T::Rest>> {
        let near = self.due.iter().chain(&self.near).map(|Reverse(timer)| timer);
        near.chain(&self.held)
    }

    /// Moves the timers that `convert` returns to another index, at the same point of an advance.
    pub(super) fn convert<U: Queued>(
        mut self,
        mut other: Index<U>,
        mut convert: impl FnMut(Due<T::Rest>) -> Option<U>,
    ) -> Index<U> {
        if let (Some(from), Some(to)) = (&self.far, &mut other.far) {
            to.advance(from.now(), |_, _| ());
        }
        other.fired = self.fired;
        let mut due = |timer| convert(timer).map(|timer| timer.due(true));
        other.due = self.due.drain(..).filter_map(|Reverse(timer)| due(timer).map(Reverse)).collect();
        other.near = self.near.drain().filter_map(|Reverse(timer)| due(timer).map(Reverse)).collect();
        other.held = self.held.drain(..).filter_map(due).collect();
        other.len = other.reached().count();
        for (timer, is_saved) in self.far.iter_mut().flat_map(Wheel::take_all) {
            if let Some(timer) = convert(timer.due(is_saved)) {
                other.add(timer, true);
            }
        }
        other
    }

    /// Takes all timers out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Due<T::Rest>> + use<T> {
        (self.len, self.earliest) = (0, None);
        let far: Vec<_> = self
            .far
            .iter_mut()
            .flat_map(Wheel::take_all)
            .map(|(timer, is_saved)| timer.due(is_saved))
            .collect();
        let due = std::mem::take(&mut self.due).into_iter().chain(std::mem::take(&mut self.near));
        far.into_iter().chain(due.map(|Reverse(timer)| timer)).chain(std::mem::take(&mut self.held))
    }
}
