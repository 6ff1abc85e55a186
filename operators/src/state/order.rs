//! Putting what has ended in order of time.
//!
//! Sorting by comparison costs more than looking for what has ended. But the instants of one time lie about evenly
//! between the first and the last: dealt out among as many compartments as there are of them, few meet in one.

use super::table::SMALL;
use crate::EventTime;

/// With fewer, a sort by comparison is as fast.
const FEW: usize = 24;

/// How many may meet in one compartment.
const CROWD: u32 = 16;

/// An order of items: by instants, and among equal ones by numbers. Kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// For each compartment where its next item goes.
    places: Vec<u32>,
    /// The items in order.
    items: Vec<u32>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Puts items in order, if there are enough of them, and they lie evenly enough, that it is faster than sorting;
    /// says whether.
    pub(super) fn arrange<T>(&mut self, items: &[T], when: impl Fn(&T) -> (EventTime, u64)) -> bool {
        let len = items.len();
        if len < FEW || u32::try_from(len).is_err() {
            return false;
        }
        let instants = || items.iter().map(|item| when(item).0.0);
        let (first, last) = instants().fold((i64::MAX, i64::MIN), |(first, last), at| (first.min(at), last.max(at)));
        let compartments = len.next_power_of_two();
        let width = last.wrapping_sub(first) as u64;
        let bits = u64::BITS - width.leading_zeros();
        let shift = bits.saturating_sub(compartments.trailing_zeros());
        let compartment = |item: &T| (when(item).0.0.wrapping_sub(first) as u64 >> shift) as usize;

        self.places.clear();
        self.places.resize(compartments, 0);
        for item in items {
            if let Some(count) = self.places.get_mut(compartment(item)) {
                *count += 1;
            }
        }
        let (mut before, mut most) = (0, 0);
        for place in &mut self.places {
            let count = std::mem::replace(place, before);
            before += count;
            most = most.max(count);
        }
        if most > CROWD {
            return false;
        }
        self.items.clear();
        self.items.resize(len, 0);
        for (index, item) in items.iter().enumerate() {
            if let Some(place) = self.places.get_mut(compartment(item)) {
                if let Some(at) = self.items.get_mut(*place as usize) {
                    *at = index as u32;
                }
                *place += 1;
            }
        }
        self.settle(|index| items.get(index as usize).map(&when));
        true
    }

    /// Puts those in order that have met in a compartment, by insertion: none is far from its place.
    fn settle(&mut self, when: impl Fn(u32) -> Option<(EventTime, u64)>) {
        let mut before = None;
        for at in 0..self.items.len() {
            let Some(item) = self.items.get(at).copied() else { return };
            let own = when(item);
            if own >= before {
                before = own;
                continue;
            }
            let earlier = self.items.get(..at).unwrap_or_default();
            let place = at - earlier.iter().rev().take_while(|other| when(**other) > own).count();
            if let Some(moved) = self.items.get_mut(place..=at) {
                moved.rotate_right(1);
            }
        }
    }

    /// The items in the order of the last [`arrange`](Self::arrange), which gives memory back that is much more than needed.
    pub(super) fn of<'a, T>(&'a self, items: &'a [T]) -> impl Iterator<Item = &'a T> {
        self.items.iter().filter_map(|index| items.get(*index as usize))
    }

    /// Gives memory back if it is much more than was needed this time.
    pub(super) fn relieve(&mut self) {
        if self.items.capacity() > SMALL && self.items.capacity() / 8 > self.items.len() {
            *self = Self::default();
        }
    }
}
