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

/// The lists of a slot: of items that are saved, and of those that are not.
const LISTS: usize = 2;
const SAVED: usize = 0;
const UNSAVED: usize = 1;

/// Items ahead of the present.
pub(super) struct Wheel<T> {
    /// The present, as [`ordered`] makes it. All items are later.
    now: u64,
    /// For each level one bit for each slot, set if the slot has items.
    taken: [u64; LEVELS],
    /// The lists of the slots of each level; none until the level is used.
    lists: [Vec<Vec<T>>; LEVELS],
    len: usize,
    unsaved: usize,
    /// Emptied lists, and for how many items they have memory.
    spare: Vec<Vec<T>>,
    spare_items: usize,
}

impl<T: Timed> Wheel<T> {
    pub(super) fn new() -> Self {
        Wheel {
            now: 0,
            taken: [0; LEVELS],
            lists: std::array::from_fn(|_| Vec::new()),
            len: 0,
            unsaved: 0,
            spare: Vec::new(),
            spare_items: 0,
        }
    }

    /// Returns the present: the time up to which items were taken out.
    #[inline]
    pub(super) fn now(&self) -> i64 {
        (self.now ^ SIGN).cast_signed()
    }

    /// Returns the number of items that are not saved.
    pub(super) fn unsaved(&self) -> usize {
        self.unsaved
    }

    /// Adds an item later than [the present](Self::now).
    #[inline]
    pub(super) fn push(&mut self, item: T, is_saved: bool) {
        let time = ordered(item.time());
        let level = ((63 - ((time ^ self.now) | 1).leading_zeros()) / BITS) as usize;
        let slot = (time >> (level as u32 * BITS)) as usize % SLOTS;
        if let Some(lists) = self.lists.get_mut(level) {
            if lists.is_empty() {
                lists.resize_with(SLOTS * LISTS, Vec::new);
            }
            if let Some(list) = lists.get_mut(slot * LISTS + usize::from(!is_saved)) {
                if list.len() == list.capacity() {
                    make_room(list, &mut self.spare, &mut self.spare_items);
                }
                list.push(item);
            }
        }
        if let Some(taken) = self.taken.get_mut(level) {
            *taken |= 1 << slot;
        }
        self.len += 1;
        self.unsaved += usize::from(!is_saved);
    }

    /// Advances to the next items up to a limit, and passes some of them to `due`, in no order: none is left that is not later
    /// than the present. Returns whether there were any.
    pub(super) fn advance(&mut self, limit: i64, mut due: impl FnMut(T, bool)) -> bool {
        let limit = ordered(limit);
        while let Some((level, slot)) = self.first() {
            let shift = level as u32 * BITS;
            let higher = self.now.checked_shr(shift + BITS).unwrap_or(0);
            let start = higher.checked_shl(shift + BITS).unwrap_or(0) | (slot as u64) << shift;
            if start > limit {
                break;
            }
            let end = start | ((1 << shift) - 1);
            let mut lists = self.take_slot(level, slot);
            let len = lists.iter().map(Vec::len).sum::<usize>();
            let mut is_due = false;
            if end <= limit && (level == 0 || len <= LARGE) {
                self.now = end;
                is_due = true;
                for (list, items) in lists.iter_mut().enumerate() {
                    items.drain(..).for_each(|item| due(item, list == SAVED));
                }
            } else {
                self.now = start;
                for (list, items) in lists.iter_mut().enumerate() {
                    for item in items.drain(..) {
                        if ordered(item.time()) == start {
                            is_due = true;
                            due(item, list == SAVED);
                        } else {
                            self.push(item, list == SAVED);
                        }
                    }
                }
            }
            lists.into_iter().for_each(|list| self.recycle(list));
            if is_due {
                return true;
            }
        }
        self.now = self.now.max(limit);
        false
    }

    /// Passes the items to `save` that are not saved, and notes that they are.
    pub(super) fn save<E>(&mut self, mut save: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        if self.unsaved > 0 {
            for slot in self.lists.iter_mut().flat_map(|lists| lists.chunks_mut(LISTS)) {
                if let [saved, unsaved] = slot
                    && !unsaved.is_empty()
                {
                    unsaved.iter().try_for_each(&mut save)?;
                    if saved.is_empty() {
                        std::mem::swap(saved, unsaved);
                    } else {
                        saved.append(unsaved);
                    }
                }
            }
            self.unsaved = 0;
        }
        Ok(())
    }

    /// Returns the time of the first item. This looks at all items of its slot.
    pub(super) fn earliest(&self) -> Option<i64> {
        let (level, slot) = self.first()?;
        let lists = self.lists.get(level)?.get(slot * LISTS..)?.iter().take(LISTS);
        lists.flatten().map(Timed::time).min()
    }

    /// Iterates over all items, in no order, and whether they are saved.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&T, bool)> {
        let lists = self.lists.iter().flat_map(|lists| lists.iter().enumerate());
        lists.flat_map(|(list, items)| items.iter().map(move |item| (item, list % LISTS == SAVED)))
    }

    /// Takes all items out, in no order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (T, bool)> + use<T> {
        let now = self.now;
        let all = std::mem::replace(self, Wheel { now, ..Wheel::new() });
        let lists = all.lists.into_iter().flat_map(|lists| lists.into_iter().enumerate());
        lists.flat_map(|(list, items)| items.into_iter().map(move |item| (item, list % LISTS == SAVED)))
    }

    /// The level and the number of the first slot with items.
    #[inline]
    fn first(&self) -> Option<(usize, usize)> {
        let level = self.taken.iter().position(|taken| *taken != 0)?;
        Some((level, self.taken.get(level)?.trailing_zeros() as usize))
    }

    fn take_slot(&mut self, level: usize, slot: usize) -> [Vec<T>; LISTS] {
        if let Some(taken) = self.taken.get_mut(level) {
            *taken &= !(1 << slot);
        }
        let mut take = |list: usize| {
            let items = self.lists.get_mut(level).and_then(|lists| lists.get_mut(slot * LISTS + list));
            items.map(std::mem::take).unwrap_or_default()
        };
        let lists = [take(SAVED), take(UNSAVED)];
        let [saved, unsaved] = &lists;
        self.len -= saved.len() + unsaved.len();
        self.unsaved -= unsaved.len();
        lists
    }

    /// Keeps the memory of a list, but not more than the items take that there are.
    fn recycle(&mut self, emptied: Vec<T>) {
        if emptied.capacity() == 0 {
            return;
        }
        self.spare_items += emptied.capacity();
        self.spare.push(emptied);
        while self.spare_items > self.len.max(SPARE) {
            let Some(spare) = self.spare.pop() else { break };
            self.spare_items -= spare.capacity();
        }
    }
}

/// Makes room in a list that is full: takes spare memory for one that has none.
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
        while wheel.advance(limit, |time, _| part.push(time)) {
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
        all.into_iter().for_each(|time| wheel.push(time, true));
        for now in all {
            assert_eq!(wheel.earliest(), Some(now));
            assert_eq!(due(&mut wheel, now), [now]);
        }
        assert_eq!(wheel.earliest(), None);
    }

    #[test]
    fn large_slots_come_in_sorted_parts() {
        let mut wheel = Wheel::new();
        (1..100_000).rev().for_each(|time| wheel.push(time, true));
        assert!(due(&mut wheel, 70_000).into_iter().eq(1..=70_000));
        assert_eq!(wheel.iter().count(), 29_999);
        assert!(due(&mut wheel, i64::MAX).into_iter().eq(70_001..100_000));
    }

    #[test]
    fn much_memory_is_not_kept_for_few_items() {
        let mut wheel = Wheel::new();
        (1..1_000_000).for_each(|time| wheel.push(time, true));
        due(&mut wheel, 2_000_000);
        let capacity = wheel.lists.iter().flatten().chain(&wheel.spare).map(Vec::capacity).sum::<usize>();
        assert!(capacity <= SPARE + LARGE, "{capacity}");
    }

    #[test]
    fn each_item_is_saved_once() {
        let mut wheel = Wheel::new();
        let save = |wheel: &mut Wheel<i64>| {
            let mut saved = vec![];
            wheel
                .save(|time| {
                    saved.push(*time);
                    Ok::<_, ()>(())
                })
                .unwrap();
            saved.sort_unstable();
            saved
        };
        (1..10_000).for_each(|time| wheel.push(time, time % 3 == 0));
        let mut part = vec![];
        while wheel.advance(5_000, |time, is_saved| part.push((time, is_saved))) {}
        assert!(part.len() == 5_000 && part.into_iter().all(|(time, is_saved)| is_saved == (time % 3 == 0)));
        assert!(save(&mut wheel).into_iter().eq((5_001..10_000).filter(|time| time % 3 != 0)));
        wheel.push(20_000, false);
        assert_eq!((wheel.unsaved(), save(&mut wheel), wheel.unsaved()), (1, vec![20_000], 0));
        assert!(wheel.iter().count() == 5_000 && wheel.take_all().all(|(_, is_saved)| is_saved));
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
                    wheel.push(time, true);
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
