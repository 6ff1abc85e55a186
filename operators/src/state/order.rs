//! Putting what has ended in order of time.
//!
//! Sorting by comparison costs more than looking for what has ended. But the instants of one time lie about evenly
//! between the first and the last: distributed among as many compartments as there are of them, few meet in one.

use super::table::relieve;
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
        let instants = || items.iter().map(|item| when(item).0.as_micros());
        let (first, last) =
            instants().fold((i64::MAX, i64::MIN), |(first, last), at| (first.min(at), last.max(at)));
        let compartments = len.next_power_of_two();
        let width = last.wrapping_sub(first) as u64;
        let bits = u64::BITS - width.leading_zeros();
        let shift = bits.saturating_sub(compartments.trailing_zeros());
        let compartment = |item: &T| (when(item).0.as_micros().wrapping_sub(first) as u64 >> shift) as usize;

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

    /// The items in the order of the last [`arrange`](Self::arrange) that has put them in order.
    pub(super) fn of<'a, T>(&'a self, items: &'a [T]) -> impl Iterator<Item = &'a T> {
        self.items.iter().filter_map(|index| items.get(*index as usize))
    }

    /// Forgets the order, and gives memory back if it is much more than was needed for this many items.
    pub(super) fn relieve(&mut self, used: usize) {
        self.places.clear();
        self.items.clear();
        relieve(&mut self.places, used);
        relieve(&mut self.items, used);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::table::SMALL;
    use super::*;

    type Item = (i64, u64);

    fn when(item: &Item) -> (EventTime, u64) {
        (EventTime::from_micros(item.0), item.1)
    }

    #[test]
    fn what_lies_evenly_is_put_in_order() {
        let items: Vec<Item> = (0..1000).map(|n| (n * 7919 % 5000, n as u64)).collect();
        let mut order = Order::new();
        assert!(order.arrange(&items, when));
        let mut sorted = items.clone();
        sorted.sort_unstable();
        assert_eq!(order.of(&items).copied().collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn a_few_and_a_crowd_are_left_to_a_sort() {
        let mut order = Order::new();
        assert!(!order.arrange(&[(2, 0), (1, 0)], when));
        assert!(!order.arrange(&[(1, 0); 100], when));
        let mut outlier = vec![(0, 0); 100];
        outlier.push((i64::MAX, 0));
        assert!(!order.arrange(&outlier, when));
    }

    #[test]
    fn much_memory_is_not_kept_for_a_few() {
        let items: Vec<Item> = (0..100_000).map(|n| (n, 0)).collect();
        let mut order = Order::new();
        assert!(order.arrange(&items, when));
        order.relieve(items.len());
        assert!(order.items.capacity() >= items.len());
        order.relieve(10);
        assert!(order.items.capacity() <= SMALL && order.places.capacity() <= SMALL);
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let near = vec((-300..300i64, 0..4u64), 0..200);
        let far = vec((any::<i64>(), 0..4u64), 0..200);
        let ends = vec((prop_oneof![Just(i64::MIN), Just(i64::MAX), -9..9i64], 0..4u64), 0..50);
        prop_oneof![near, far, ends]
    }

    proptest! {
        #[test]
        fn an_order_is_that_of_a_sort(lists in vec(items(), 1..4)) {
            let mut order = Order::new();
            for items in lists {
                if order.arrange(&items, when) {
                    let mut sorted = items.clone();
                    sorted.sort_unstable();
                    prop_assert_eq!(order.of(&items).copied().collect::<Vec<_>>(), sorted);
                }
            }
        }
    }
}
