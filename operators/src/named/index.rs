//! Timers in order of time: instants and hashes, which are held against the truth when they are reached.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::EventTime;
use crate::state::{self, Reach, relieve};

/// When to look for a timer, and the hash of its key.
pub(super) type Item = (i64, u64);

/// Fewer deleted timers than these are not worth looking for.
const SMALL: usize = 1024;

/// The timers of one clock. A deleted timer stays until its time, or until there are many.
///
/// What lies ahead of the watermark is in a radix heap, which sets a timer by a push and returns what an advance has
/// reached as a whole; this is sorted, and the entries of the next few are fetched while one is looked up. A radix heap
/// does not know which timer is next, which has to be known of processing time: there everything is `near`.
pub(super) struct Index {
    /// Ahead of all advances so far.
    far: Option<state::Timers>,
    /// Reached by the last advance, in descending order.
    due: Vec<Reverse<Item>>,
    /// Set for what had been reached.
    near: BinaryHeap<Reverse<Item>>,
    /// The last timer that has fired in the advance that is under way.
    fired: Option<Item>,
    /// Set in this advance for a time before that one.
    held: Vec<Item>,
    /// How many items there are, and how many of them are of deleted timers.
    items: usize,
    stale: usize,
    /// Where the keys of timers are in memory.
    reach: Option<Reach>,
}

impl Index {
    /// An index that only knows what an advance has reached.
    pub(super) fn in_advances() -> Index {
        Index { far: Some(state::Timers::new()), ..Index::in_order() }
    }

    /// An index that knows the [earliest](Self::earliest) timer at any time.
    pub(super) fn in_order() -> Index {
        Index {
            far: None,
            due: Vec::new(),
            near: BinaryHeap::new(),
            fired: None,
            held: Vec::new(),
            items: 0,
            stale: 0,
            reach: None,
        }
    }

    /// Adds a timer. `count` returns how many keys of the hash have it.
    #[inline]
    pub(super) fn set(&mut self, item: Item, count: impl Fn(Item) -> usize) {
        if self.stale > self.items / 2 + SMALL {
            self.tidy(count);
        }
        self.add(item);
    }

    #[inline]
    pub(super) fn add(&mut self, item: Item) {
        self.items += 1;
        if self.fired.is_some_and(|fired| item <= fired) {
            self.held.push(item);
            return;
        }
        match &mut self.far {
            Some(far) if item.0 > far.now().as_micros() => far.set(EventTime::from_micros(item.0), item.1),
            _ => self.near.push(Reverse(item)),
        }
    }

    /// How many items there are, also of deleted timers.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// Notes that a timer was deleted, if it was.
    pub(super) fn deleted(&mut self, was_set: bool) {
        self.stale += usize::from(was_set);
    }

    /// Drops the items of deleted timers, which are more than half.
    #[cold]
    fn tidy(&mut self, count: impl Fn(Item) -> usize) {
        let mut items: Vec<Item> = self.take_all().collect();
        items.sort_unstable();
        items.dedup();
        for item in items {
            (0..count(item)).for_each(|_| self.add(item));
        }
    }

    /// Advances to a time, and takes out what is due then. `reach` returns where the keys are.
    #[inline]
    pub(super) fn advance(&mut self, limit: i64, reach: impl FnOnce() -> Option<Reach>) {
        if let Some(far) = &mut self.far
            && limit > far.now().as_micros()
        {
            let mut reached = far.take_due(EventTime::from_micros(limit));
            self.due.extend(reached.drain(..).map(|(time, hash)| Reverse((time.as_micros(), hash))));
            self.due.sort_unstable();
            far.recycle(reached);
            self.reach = reach();
        }
    }

    /// Takes out the first timer up to a limit that `take` finds.
    #[inline]
    pub(super) fn next<K>(
        &mut self,
        limit: i64,
        mut take: impl FnMut(Item) -> Option<K>,
    ) -> Option<(Item, K)> {
        while let Some(item) = self.pop(limit) {
            self.items -= 1;
            match take(item) {
                Some(key) => {
                    self.fired = Some(item);
                    return Some((item, key));
                }
                None => self.stale = self.stale.saturating_sub(1),
            }
        }
        self.end();
        None
    }

    #[inline]
    fn pop(&mut self, limit: i64) -> Option<Item> {
        let due = self.due.last().map(|Reverse(item)| *item);
        let near = self.near.peek().map(|Reverse(item)| *item);
        let is_due = match (due, near) {
            (Some(due), Some(near)) => due <= near,
            (due, _) => due.is_some(),
        };
        let first = if is_due { due } else { near }.filter(|item| item.0 <= limit)?;
        if is_due {
            self.due.pop();
            if let Some(reach) = self.reach
                && let Some(at) = self.due.len().checked_sub(Reach::AHEAD)
                && let Some(Reverse((_, hash))) = self.due.get(at)
            {
                reach.fetch(*hash);
            }
        } else {
            self.near.pop();
        }
        Some(first)
    }

    /// Ends an advance: what was held fires in the next one.
    fn end(&mut self) {
        self.fired = None;
        self.near.extend(self.held.drain(..).map(Reverse));
        if self.due.is_empty() {
            relieve(&mut self.due, 0);
        }
    }

    /// Returns the time of the first timer that is set.
    pub(super) fn earliest(&mut self, is_set: impl Fn(Item) -> bool) -> Option<i64> {
        while let Some(Reverse(item)) = self.near.peek().copied() {
            if is_set(item) {
                return Some(item.0);
            }
            self.near.pop();
            self.items -= 1;
            self.stale = self.stale.saturating_sub(1);
        }
        None
    }

    /// Takes all items out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Item> + use<> {
        (self.items, self.stale) = (0, 0);
        let far = self.far.as_mut().map(state::Timers::take_all).unwrap_or_default();
        let far = far.into_iter().map(|(time, hash)| (time.as_micros(), hash));
        let due = std::mem::take(&mut self.due).into_iter().chain(std::mem::take(&mut self.near));
        far.chain(due.map(|Reverse(item)| item)).chain(std::mem::take(&mut self.held))
    }
}
