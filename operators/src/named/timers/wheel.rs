//! A timing wheel: what lies ahead, by the highest digit in which its time differs from the present.
//!
//! Times are numbers of eleven digits of six bits. An item lies in the slot of that digit's level and value, so adding one is
//! a push. When the present reaches a slot, the items in it are due, or move to lower levels: at most ten times, and mostly
//! once or twice.

/// What a wheel holds.
pub(super) trait Timed {
    /// In microseconds.
    fn time(&self) -> i64;
}

const BITS: u32 = 6;
const LEVELS: usize = 11;
const SLOTS: usize = 1 << BITS;

/// A slot with more items moves to lower levels, even if all of them are due: the parts are sorted faster than the whole.
const LARGE: usize = 4096;

/// Spare memory up to that many items is always kept.
const SPARE: usize = 16 << 10;

/// Items ahead of the present.
pub(super) struct Wheel<T> {
    /// The present, as [`ordered`] makes it. All items are later.
    now: u64,
    /// For each level one bit for each slot, set if the slot has items.
    taken: [u64; LEVELS],
    /// The slots of each level; none until the level is used.
    slots: [Vec<Vec<T>>; LEVELS],
    len: usize,
    /// Emptied slots, and for how many items they have memory.
    spare: Vec<Vec<T>>,
    spare_items: usize,
}

impl<T: Timed> Wheel<T> {
    pub(super) fn new() -> Self {
        Wheel {
            now: 0,
            taken: [0; LEVELS],
            slots: std::array::from_fn(|_| Vec::new()),
            len: 0,
            spare: Vec::new(),
            spare_items: 0,
        }
    }

    /// Returns the present: the time up to which items were taken out.
    #[inline]
    pub(super) fn now(&self) -> i64 {
        (self.now ^ SIGN).cast_signed()
    }

    /// Adds an item later than [the present](Self::now).
    #[inline]
    pub(super) fn push(&mut self, item: T) {
        let time = ordered(item.time());
        let level = ((63 - ((time ^ self.now) | 1).leading_zeros()) / BITS) as usize;
        let digit = digit(time, level);
        if let Some(level) = self.slots.get_mut(level) {
            if level.is_empty() {
                level.resize_with(SLOTS, Vec::new);
            }
            if let Some(slot) = level.get_mut(digit) {
                if slot.len() == slot.capacity() {
                    make_room(slot, &mut self.spare, &mut self.spare_items);
                }
                slot.push(item);
            }
        }
        if let Some(taken) = self.taken.get_mut(level) {
            *taken |= 1 << digit;
        }
        self.len += 1;
    }

    /// Advances to the next items up to a limit, and passes some of them to `due`, in no order: none is left that is not later
    /// than the present. Returns whether there were any.
    pub(super) fn advance(&mut self, limit: i64, mut due: impl FnMut(T)) -> bool {
        let limit = ordered(limit);
        while let Some((level, slot)) = self.first() {
            let shift = level as u32 * BITS;
            let higher = self.now.checked_shr(shift + BITS).unwrap_or(0);
            let start = higher.checked_shl(shift + BITS).unwrap_or(0) | (slot as u64) << shift;
            if start > limit {
                break;
            }
            let end = start | ((1 << shift) - 1);
            let mut items = self.take_slot(level, slot);
            if end <= limit && (level == 0 || items.len() <= LARGE) {
                self.now = end;
                items.drain(..).for_each(&mut due);
                self.recycle(items);
                return true;
            }
            self.now = start;
            let mut is_due = false;
            for item in items.drain(..) {
                if ordered(item.time()) == start {
                    is_due = true;
                    due(item);
                } else {
                    self.push(item);
                }
            }
            self.recycle(items);
            if is_due {
                return true;
            }
        }
        self.now = self.now.max(limit);
        false
    }

    /// Returns the time of the first item. This looks at all items of its slot.
    pub(super) fn earliest(&self) -> Option<i64> {
        let (level, slot) = self.first()?;
        self.slots.get(level)?.get(slot)?.iter().map(Timed::time).min()
    }

    /// Iterates over all items, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().flatten()
    }

    /// Takes all items out, in no order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.taken = [0; LEVELS];
        (self.len, self.spare_items) = (0, 0);
        self.spare = Vec::new();
        std::mem::replace(&mut self.slots, std::array::from_fn(|_| Vec::new()))
            .into_iter()
            .flatten()
            .flatten()
    }

    /// The level and the number of the first slot with items.
    #[inline]
    fn first(&self) -> Option<(usize, usize)> {
        let level = self.taken.iter().position(|taken| *taken != 0)?;
        Some((level, self.taken.get(level)?.trailing_zeros() as usize))
    }

    fn take_slot(&mut self, level: usize, slot: usize) -> Vec<T> {
        if let Some(taken) = self.taken.get_mut(level) {
            *taken &= !(1 << slot);
        }
        let items = self.slots.get_mut(level).and_then(|slots| slots.get_mut(slot));
        let items = items.map(std::mem::take).unwrap_or_default();
        self.len -= items.len();
        items
    }

    /// Keeps the memory of a slot, but not more than the items take that there are.
    fn recycle(&mut self, emptied: Vec<T>) {
        self.spare_items += emptied.capacity();
        self.spare.push(emptied);
        while self.spare_items > self.len.max(SPARE) {
            let Some(spare) = self.spare.pop() else { break };
            self.spare_items -= spare.capacity();
        }
    }
}

/// Makes room in a slot that is full: takes spare memory for one that has none.
#[cold]
#[inline(never)]
fn make_room<T>(slot: &mut Vec<T>, spare: &mut Vec<Vec<T>>, spare_items: &mut usize) {
    if slot.capacity() == 0
        && let Some(found) = spare.pop()
    {
        *spare_items -= found.capacity();
        *slot = found;
    }
    if slot.len() == slot.capacity() {
        slot.reserve(1);
    }
}

const SIGN: u64 = 1 << 63;

/// A time as a number without sign, in the same order.
#[inline]
const fn ordered(time: i64) -> u64 {
    time.cast_unsigned() ^ SIGN
}

#[inline]
const fn digit(time: u64, level: usize) -> usize {
    (time >> (level as u32 * BITS)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    impl Timed for i64 {
        fn time(&self) -> i64 {
            *self
        }
    }

    fn due(wheel: &mut Wheel<i64>, limit: i64) -> Vec<i64> {
        let mut times = vec![];
        let mut part = vec![];
        while wheel.advance(limit, |time| part.push(time)) {
            part.sort_unstable();
            assert!(times.last() < part.first() && part.last() <= Some(&wheel.now()));
            times.append(&mut part);
        }
        assert_eq!(wheel.now(), limit);
        times
    }

    #[test]
    fn items_reach_from_one_end_of_time_to_the_other() {
        let mut wheel = Wheel::new();
        let all = [i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        all.into_iter().for_each(|time| wheel.push(time));
        for now in all {
            assert_eq!(wheel.earliest(), Some(now));
            assert_eq!(due(&mut wheel, now), [now]);
        }
        assert_eq!(wheel.earliest(), None);
    }

    #[test]
    fn large_slots_come_in_sorted_parts() {
        let mut wheel = Wheel::new();
        (1..100_000).rev().for_each(|time| wheel.push(time));
        assert!(due(&mut wheel, 70_000).into_iter().eq(1..=70_000));
        assert_eq!(wheel.iter().count(), 29_999);
        assert!(due(&mut wheel, i64::MAX).into_iter().eq(70_001..100_000));
    }

    #[test]
    fn much_memory_is_not_kept_for_few_items() {
        let mut wheel = Wheel::new();
        (1..1_000_000).for_each(|time| wheel.push(time));
        due(&mut wheel, 2_000_000);
        let capacity = wheel.slots.iter().flatten().chain(&wheel.spare).map(Vec::capacity).sum::<usize>();
        assert!(capacity <= SPARE + LARGE, "{capacity}");
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![-50..50i64, -5_000..5_000i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn items_are_due_when_a_plain_list_says_so(steps in vec((time(), vec(time(), 0..20)), 0..30)) {
            let (mut wheel, mut list) = (Wheel::new(), Vec::new());
            for (next, add) in steps {
                let now = wheel.now();
                for time in add.into_iter().filter(|time| *time > now) {
                    wheel.push(time);
                    list.push(time);
                }
                let next = next.max(wheel.now());
                let mut expected: Vec<i64> = list.extract_if(.., |time| *time <= next).collect();
                expected.sort_unstable();
                prop_assert_eq!(due(&mut wheel, next), expected);
                prop_assert_eq!(wheel.earliest(), list.iter().min().copied());
                prop_assert_eq!(wheel.len, list.len());
            }
        }
    }
}
