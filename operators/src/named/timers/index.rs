//! The timers of one clock in order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::calendar::{Calendar, FULL, Timed};
use crate::state::Reach;

/// The least number of timers in the heap that is worth moving to days.
const MANY: usize = 4 * FULL;

/// A timer as it lies ahead.
pub(super) trait Queued: Timed + Clone {
    /// What a timer has besides its time and the hash of its key.
    type Rest;

    /// Returns the hash of its key.
    fn hash(&self) -> u64;

    fn due(self, is_saved: bool) -> Due<Self::Rest>;

    /// The opposite of [`due`](Self::due).
    fn ahead(due: Due<Self::Rest>) -> (Self, bool);
}

/// The time of a timer and the hash of its key: the order in which timers fire.
pub(super) type Place = (i64, u64);

/// A timer that is not in a day, in order of its [`place`](Due::place).
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
    /// Later than all others. Without it, all are `near`.
    far: Option<Calendar<T>>,
    /// The earliest of these, if it is known.
    earliest: Option<i64>,
    /// The day that comes first, in order. Those before `at` have fired.
    day: Vec<T>,
    at: usize,
    is_day_saved: bool,
    /// Set for a time in that day or before it.
    near: BinaryHeap<Reverse<Due<T::Rest>>>,
    /// With more timers than these in the heap, those ahead move to days.
    many: usize,
    /// The time up to which advances have come.
    reached: i64,
    /// The last timer that has fired in the advance that is under way.
    fired: Option<Place>,
    /// Set in this advance for a time before that one.
    held: Vec<Due<T::Rest>>,
    len: usize,
    /// Where the state of keys is in memory.
    reaches: Vec<Reach>,
}

impl<T: Queued> Index<T> {
    /// An index in days.
    pub(super) fn in_days() -> Self {
        Index { far: Some(Calendar::new()), ..Index::in_heap() }
    }

    /// An index in a heap, which knows the [first](Self::first_near) timer at any time.
    pub(super) fn in_heap() -> Self {
        Index {
            far: None,
            earliest: None,
            day: Vec::new(),
            at: 0,
            is_day_saved: true,
            near: BinaryHeap::new(),
            many: MANY,
            reached: i64::MIN,
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

    /// Adds a timer. One that is not saved is passed to [`save_ahead`](Self::save_ahead) or to
    /// [`save_reached`](Self::save_reached).
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
            self.add_near(timer.due(is_saved));
        }
    }

    /// Puts a timer back that was taken out and has not fired.
    pub(super) fn put_back(&mut self, timer: Due<T::Rest>) {
        self.len += 1;
        self.near.push(Reverse(timer));
    }

    fn add_near(&mut self, timer: Due<T::Rest>) {
        match self.fired {
            Some(fired) if timer.place() <= fired => self.held.push(timer),
            Some(_) => self.near.push(Reverse(timer)),
            None => {
                self.near.push(Reverse(timer));
                self.relieve_heap();
            }
        }
    }

    /// Moves the timers ahead of all advances to days, if there are many in the heap: their times are those of a day that has
    /// turned out too long.
    fn relieve_heap(&mut self) {
        if self.near.len() <= self.many {
            return;
        }
        if let Some(far) = &mut self.far {
            far.set_now(self.reached);
            let day = self.day.drain(..).skip(self.at).map(|timer| timer.due(self.is_day_saved));
            for due in day.chain(std::mem::take(&mut self.near).into_iter().map(|Reverse(due)| due)) {
                if due.time > self.reached {
                    let (timer, is_saved) = T::ahead(due);
                    far.push(timer, is_saved);
                } else {
                    self.near.push(Reverse(due));
                }
            }
            (self.at, self.earliest) = (0, None);
        }
        self.many = MANY.max(2 * self.near.len());
    }

    /// Has state prefetched for the timers that are about to fire.
    pub(super) fn prefetch(&mut self, reaches: &[Reach]) {
        self.reaches.clear();
        self.reaches.extend_from_slice(reaches);
    }

    /// Takes out the first timer up to a limit; `None` ends the advance.
    #[inline]
    pub(super) fn next(&mut self, limit: i64) -> Option<Due<T::Rest>> {
        if self.near.is_empty()
            && let Some(first) = self.day.get(self.at)
            && first.time() <= limit
        {
            let due = first.clone().due(self.is_day_saved);
            self.leave_first();
            return Some(due);
        }
        self.next_of_all(limit)
    }

    /// The first timer of the day has been taken out.
    #[inline]
    fn leave_first(&mut self) {
        self.at += 1;
        self.len -= 1;
        if !self.reaches.is_empty()
            && let Some(timer) = self.day.get(self.at + (Reach::AHEAD - 1))
        {
            let hash = timer.hash();
            self.reaches.iter().for_each(|reach| reach.fetch(hash));
        }
    }

    #[inline(never)]
    fn next_of_all(&mut self, limit: i64) -> Option<Due<T::Rest>> {
        loop {
            let first = self.day.get(self.at);
            if let Some(Reverse(near)) = self.near.peek()
                && first.is_none_or(|first| near.place() < (first.time(), first.hash()))
            {
                if near.time > limit {
                    break;
                }
                self.len -= 1;
                return self.near.pop().map(|Reverse(near)| near);
            }
            let Some(first) = first else {
                if self.open_day(limit) {
                    continue;
                }
                break;
            };
            if first.time() > limit {
                break;
            }
            let due = first.clone().due(self.is_day_saved);
            self.leave_first();
            return Some(due);
        }
        self.end(limit);
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
        let first = self.day.get(self.at);
        first.is_some_and(|first| first.time() == place.0 && first.hash() == place.1)
            || self.near.peek().is_some_and(|Reverse(near)| near.place() == place)
    }

    /// Puts the next day in order, if it begins up to the limit.
    #[inline(never)]
    fn open_day(&mut self, limit: i64) -> bool {
        let Some(far) = &mut self.far else { return false };
        if limit <= far.now() {
            return false;
        }
        let Some([saved, unsaved]) = far.take_day(limit) else { return false };
        self.is_day_saved = saved.len() >= unsaved.len();
        let (most, rest) = if self.is_day_saved { (saved, unsaved) } else { (unsaved, saved) };
        far.recycle(std::mem::replace(&mut self.day, most));
        self.at = 0;
        self.near.extend(rest.iter().map(|timer| Reverse(timer.clone().due(!self.is_day_saved))));
        far.recycle(rest);
        self.earliest = self.earliest.filter(|earliest| *earliest > far.now());
        // Of the timers that were set on one worker, each is mostly later than the one before.
        if !self.day.is_sorted_by(|a, b| a.time() < b.time()) {
            self.day.sort_by(|a, b| a.time().cmp(&b.time()).then_with(|| a.hash().cmp(&b.hash())));
        }
        if !self.reaches.is_empty() {
            for timer in self.day.iter().take(Reach::AHEAD) {
                let hash = timer.hash();
                self.reaches.iter().for_each(|reach| reach.fetch(hash));
            }
        }
        true
    }

    /// Ends an advance: what was held fires in the next one.
    fn end(&mut self, limit: i64) {
        self.fired = None;
        self.reached = self.reached.max(limit);
        self.near.extend(self.held.drain(..).map(Reverse));
        self.relieve_heap();
    }

    /// Returns the time of the first timer of an index in days.
    #[inline]
    pub(super) fn earliest(&mut self) -> Option<i64> {
        if self.len == 0 {
            return None;
        }
        let day = self.day.get(self.at).map(Timed::time);
        let near = self.near.peek().map(|Reverse(near)| near.time);
        let held = self.held.iter().map(|held| held.time).min();
        if let Some(first) = day.into_iter().chain(near).chain(held).min() {
            // All others are later.
            return Some(first);
        }
        if self.earliest.is_none() {
            self.earliest = self.far.as_ref().and_then(Calendar::earliest);
        }
        self.earliest
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

    /// Passes the timers to `save` that lie in days and are not saved, and notes that they are.
    pub(super) fn save_ahead<E>(&mut self, mut save: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        if !self.is_day_saved {
            self.day.iter().skip(self.at).try_for_each(&mut save)?;
            self.is_day_saved = true;
        }
        self.far.as_mut().map_or(Ok(()), |far| far.save(save))
    }

    /// Passes the other timers to `save`: normally few.
    pub(super) fn save_reached<E>(
        &mut self,
        save: impl FnMut(&mut Due<T::Rest>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut near = std::mem::take(&mut self.near).into_vec();
        let saved = near.iter_mut().map(|Reverse(timer)| timer).chain(&mut self.held).try_for_each(save);
        self.near = near.into();
        saved
    }

    /// Returns the number of timers that are not saved; `is_saved` knows it of those that do not lie in days.
    pub(super) fn unsaved(&self, is_saved: impl Fn(&T::Rest) -> bool) -> usize {
        let day = if self.is_day_saved { 0 } else { self.day.len() - self.at };
        let reached = self.reached().filter(|due| !is_saved(&due.rest)).count();
        self.far.as_ref().map_or(0, Calendar::unsaved) + day + reached
    }

    /// Iterates over the timers in days, in no order, and whether they are saved.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (&T, bool)> {
        let day = self.day.iter().skip(self.at).map(|timer| (timer, self.is_day_saved));
        self.far.iter().flat_map(Calendar::iter).chain(day)
    }

    /// Iterates over the timers that are not in days, in no order: normally few.
    pub(super) fn reached(&self) -> impl Iterator<Item = &Due<T::Rest>> {
        self.near.iter().map(|Reverse(timer)| timer).chain(&self.held)
    }

    /// Moves the timers that `convert` returns to another index, at the same point of an advance.
    pub(super) fn convert<U: Queued>(
        mut self,
        mut other: Index<U>,
        mut convert: impl FnMut(Due<T::Rest>) -> Option<U>,
    ) -> Index<U> {
        if let (Some(from), Some(to)) = (&self.far, &mut other.far) {
            to.set_now(from.now());
        }
        (other.fired, other.reached) = (self.fired, self.reached);
        let mut due = |timer| convert(timer).map(|timer| timer.due(true));
        let day = self.day.drain(..).skip(self.at).map(|timer| timer.due(self.is_day_saved));
        let near = day.chain(self.near.drain().map(|Reverse(timer)| timer));
        other.near = near.filter_map(&mut due).map(Reverse).collect();
        other.held = self.held.drain(..).filter_map(due).collect();
        other.len = other.reached().count();
        for (timer, is_saved) in self.far.iter_mut().flat_map(Calendar::take_all) {
            if let Some(timer) = convert(timer.due(is_saved)) {
                other.add(timer, true);
            }
        }
        other
    }

    /// Takes all timers out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Due<T::Rest>> + use<T> {
        let day =
            std::mem::take(&mut self.day).into_iter().skip(self.at).map(|timer| (timer, self.is_day_saved));
        let all: Vec<_> = self.far.iter_mut().flat_map(Calendar::take_all).chain(day).collect();
        (self.len, self.at, self.earliest) = (0, 0, None);
        let near = std::mem::take(&mut self.near).into_iter().map(|Reverse(timer)| timer);
        let near = near.chain(std::mem::take(&mut self.held));
        all.into_iter().map(|(timer, is_saved)| timer.due(is_saved)).chain(near)
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyed::Pointer;
    use super::*;

    fn fire(index: &mut Index<Pointer>, limit: i64) -> Vec<Place> {
        let mut fired = vec![];
        while let Some(due) = index.next(limit) {
            index.fires(due.place());
            fired.push(due.place());
        }
        fired
    }

    fn add(index: &mut Index<Pointer>, places: &[Place]) {
        places.iter().for_each(|place| index.add(Pointer(*place), true));
    }

    #[test]
    fn timers_of_a_day_that_is_too_long_leave_the_heap() {
        let mut index = Index::in_days();
        let mut all: Vec<Place> = (1..5).map(|n| (n * 1_000_000, 0)).collect();
        add(&mut index, &all);
        // All of them are in the day that comes first.
        assert_eq!(fire(&mut index, 10), []);
        let more: Vec<Place> = (0..10_000).map(|n| (n * 7_919 % 4_000_000, 1)).collect();
        add(&mut index, &more);
        assert!(index.near.len() <= MANY, "{}", index.near.len());
        all.extend(more);
        all.sort_unstable();
        assert_eq!((index.earliest(), index.len()), (Some(all[0].0), all.len()));
        let (first, rest) = all.split_at(all.partition_point(|place| place.0 <= 2_500_000));
        assert_eq!(fire(&mut index, 2_500_000), first);
        assert!(index.near.len() <= MANY);
        assert_eq!(fire(&mut index, 5_000_000), rest);
    }

    #[test]
    fn many_timers_that_are_reached_stay_in_the_heap() {
        let mut index = Index::in_days();
        add(&mut index, &[(5_000, 0)]);
        assert_eq!(fire(&mut index, 1_000), []);
        let reached: Vec<Place> = (0..1_000).map(|time| (time, 1)).collect();
        add(&mut index, &reached);
        add(&mut index, &[(4_000, 2)]);
        assert_eq!((index.near.len(), index.day.len()), (1_000, 0));
        assert_eq!(fire(&mut index, 1_000), reached);
        assert_eq!(fire(&mut index, 9_999), [(4_000, 2), (5_000, 0)]);
    }

    #[test]
    fn timers_at_one_time_are_in_order_of_their_hashes() {
        let mut index = Index::in_days();
        let mut all: Vec<Place> = (0..100u64).map(|hash| (hash as i64 % 3, hash * 7 % 50)).collect();
        add(&mut index, &all);
        all.sort_unstable();
        assert_eq!(fire(&mut index, 2), all);
    }
}
