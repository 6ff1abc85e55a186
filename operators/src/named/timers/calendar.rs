//! What lies ahead, in lists by time: those of a day, a span of time, lie in the order in which they were added.
//!
//! A day that is full is split, so that days have about as many items, however far the times lie apart. Adding an item is a push
//! to the list of its day, which is mostly that of the item before. An item stays in its list until the present reaches the day.

use std::collections::BTreeMap;

/// What a calendar holds.
pub(super) trait Timed {
    /// In microseconds.
    fn time(&self) -> i64;
}

/// A list with that many items is full. In tests it is soon.
pub(super) const FULL: usize = if cfg!(test) { 16 } else { 2048 };

/// The smallest list, in items.
const SMALLEST: usize = 4;

/// Spare memory up to that many items is always kept.
const SPARE: usize = 16 << 10;

/// The lists of a day: of items that are saved, and of those that are not.
type Lists<T> = [Vec<T>; 2];

/// The items of a span of time, of which both ends belong to it.
struct Day<T> {
    first: i64,
    last: i64,
    lists: Lists<T>,
}

impl<T> Day<T> {
    /// A day to which no time belongs.
    fn none() -> Self {
        Day { first: i64::MAX, last: i64::MIN, lists: [Vec::new(), Vec::new()] }
    }
}

/// Items ahead of the present.
pub(super) struct Calendar<T> {
    /// The present. All items are later.
    now: i64,
    /// The first times of all days, and where the days are.
    places: BTreeMap<i64, usize>,
    days: Vec<Day<T>>,
    /// Places without a day.
    free: Vec<usize>,
    /// The day of the latest item: its place, and its span, which is empty if there is none.
    latest: usize,
    first: i64,
    last: i64,
    len: usize,
    unsaved: usize,
    /// Emptied lists, and for how many items they have memory.
    spare: Vec<Vec<T>>,
    spare_items: usize,
}

impl<T: Timed> Calendar<T> {
    pub(super) fn new() -> Self {
        Calendar {
            now: i64::MIN,
            places: BTreeMap::new(),
            days: Vec::new(),
            free: Vec::new(),
            latest: 0,
            first: i64::MAX,
            last: i64::MIN,
            len: 0,
            unsaved: 0,
            spare: Vec::new(),
            spare_items: 0,
        }
    }

    /// Returns the present.
    #[inline]
    pub(super) fn now(&self) -> i64 {
        self.now
    }

    /// Sets the present, before all items.
    pub(super) fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    /// Returns the number of items that are not saved.
    pub(super) fn unsaved(&self) -> usize {
        self.unsaved
    }

    /// Adds an item later than [the present](Self::now).
    #[inline]
    pub(super) fn push(&mut self, item: T, is_saved: bool) {
        let time = item.time();
        if time < self.first || time > self.last {
            self.turn_to(time);
        }
        if let Some(Day { lists: [saved, unsaved], .. }) = self.days.get_mut(self.latest) {
            let list = if is_saved { saved } else { unsaved };
            if list.len() == list.capacity() {
                return self.push_to_full(item, is_saved);
            }
            list.push(item);
        }
        self.len += 1;
        self.unsaved += usize::from(!is_saved);
    }

    #[cold]
    #[inline(never)]
    fn push_to_full(&mut self, item: T, is_saved: bool) {
        self.make_room(item.time(), is_saved);
        self.push(item, is_saved);
    }

    /// Makes room for an item in the latest day, or splits it.
    fn make_room(&mut self, time: i64, is_saved: bool) {
        let Some(Day { lists: [saved, unsaved], .. }) = self.days.get_mut(self.latest) else { return };
        let list = if is_saved { saved } else { unsaved };
        if list.len() >= FULL
            && let Some(pivot) = pivot(list, time)
        {
            return self.split(pivot);
        }
        if list.capacity() == 0
            && let Some(found) = self.spare.pop()
        {
            self.spare_items -= found.capacity();
            *list = found;
        }
        if list.len() == list.capacity() {
            list.reserve_exact(list.len().max(SMALLEST));
        }
    }

    /// Moves the items of the latest day from a time on to a day of their own.
    fn split(&mut self, pivot: i64) {
        let Some(day) = self.days.get_mut(self.latest) else { return };
        let mut later = Day { first: pivot, last: day.last, ..Day::none() };
        day.last = pivot - 1;
        self.last = day.last;
        for (from, to) in day.lists.iter_mut().zip(&mut later.lists) {
            to.extend(from.extract_if(.., |item| item.time() >= pivot));
        }
        self.add_day(later);
    }

    /// Makes the day of a time the latest one.
    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, time: i64) {
        let before = self.places.range(..=time).next_back().map(|(_, place)| *place);
        let last = before.and_then(|place| self.days.get(place)).map_or(i64::MIN, |day| day.last);
        let place = match before {
            Some(place) if last >= time => place,
            _ => {
                let first = if before.is_some() { last + 1 } else { i64::MIN };
                let next = self.places.range(time..).next();
                let last = next.map_or(i64::MAX, |(next, _)| *next - 1);
                self.add_day(Day { first, last, ..Day::none() })
            }
        };
        if let Some(day) = self.days.get(place) {
            (self.latest, self.first, self.last) = (place, day.first, day.last);
        }
    }

    /// Adds a day, and returns its place.
    fn add_day(&mut self, day: Day<T>) -> usize {
        let place = self.free.pop().unwrap_or(self.days.len());
        self.places.insert(day.first, place);
        match self.days.get_mut(place) {
            Some(free) => *free = day,
            None => self.days.push(day),
        }
        place
    }

    /// Takes out the items of the first day if it begins up to a limit, and advances to the last of them. They are in no order,
    /// and may be later than the limit. Otherwise advances to the limit.
    pub(super) fn take_day(&mut self, limit: i64) -> Option<Lists<T>> {
        while let Some(first) = self.places.first_entry()
            && *first.key() <= limit
        {
            let place = first.remove();
            self.free.push(place);
            if place == self.latest {
                (self.first, self.last) = (i64::MAX, i64::MIN);
            }
            let day = self.days.get_mut(place).map(|day| std::mem::replace(day, Day::none()));
            let [saved, unsaved] = day.map(|day| day.lists).unwrap_or_default();
            self.len -= saved.len() + unsaved.len();
            self.unsaved -= unsaved.len();
            match saved.iter().chain(&unsaved).map(Timed::time).max() {
                Some(last) => {
                    self.now = self.now.max(last);
                    return Some([saved, unsaved]);
                }
                None => [saved, unsaved].into_iter().for_each(|list| self.recycle(list)),
            }
        }
        self.now = self.now.max(limit);
        None
    }

    /// Passes the items to `save` that are not saved, and notes that they are.
    pub(super) fn save<E>(&mut self, mut save: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        if self.unsaved > 0 {
            for Day { lists: [saved, unsaved], .. } in &mut self.days {
                unsaved.iter().try_for_each(&mut save)?;
                if saved.is_empty() {
                    std::mem::swap(saved, unsaved);
                } else {
                    saved.append(unsaved);
                }
            }
            self.unsaved = 0;
        }
        Ok(())
    }

    /// Returns the time of the first item. This looks at all items of its day.
    pub(super) fn earliest(&self) -> Option<i64> {
        let mut days = self.places.values().filter_map(|place| self.days.get(*place));
        days.find_map(|day| day.lists.iter().flatten().map(Timed::time).min())
    }

    /// Iterates over all items, in no order, and whether they are saved.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&T, bool)> {
        self.days.iter().flat_map(|Day { lists: [saved, unsaved], .. }| {
            saved.iter().map(|item| (item, true)).chain(unsaved.iter().map(|item| (item, false)))
        })
    }

    /// Takes all items out, in no order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (T, bool)> + use<T> {
        let now = self.now;
        let all = std::mem::replace(self, Calendar { now, ..Calendar::new() });
        all.days.into_iter().flat_map(|Day { lists: [saved, unsaved], .. }| {
            saved.into_iter().map(|item| (item, true)).chain(unsaved.into_iter().map(|item| (item, false)))
        })
    }

    /// Keeps the memory of a list, but not more than the items take that there are.
    pub(super) fn recycle(&mut self, mut list: Vec<T>) {
        if list.capacity() == 0 {
            return;
        }
        list.clear();
        self.spare_items += list.capacity();
        self.spare.push(list);
        while self.spare_items > self.len.max(SPARE) {
            let Some(spare) = self.spare.pop() else { break };
            self.spare_items -= spare.capacity();
        }
    }
}

/// Where to split a full list to which an item of some time is to be added: at that time, unless most are later, and otherwise
/// in the middle. Times that follow each other then fill one list after the other, and no item is moved. `None` if all times are
/// equal.
fn pivot<T: Timed>(list: &[T], time: i64) -> Option<i64> {
    let later = list.iter().filter(|item| item.time() >= time).count();
    if later <= list.len() / 2 {
        return Some(time);
    }
    let mut times: Vec<i64> = list.iter().map(Timed::time).collect();
    let middle = times.len() / 2;
    let middle = *times.select_nth_unstable(middle).1;
    let first = times.iter().copied().min()?;
    if middle > first { Some(middle) } else { times.into_iter().filter(|time| *time > first).min() }
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

    /// Advances to a limit: the items up to it, in order. Those of a day that are later are added again.
    fn due(calendar: &mut Calendar<i64>, limit: i64) -> Vec<i64> {
        let mut times: Vec<i64> = vec![];
        let mut later = vec![];
        while let Some(lists) = calendar.take_day(limit) {
            let (before, taken) = (times.last().copied(), times.len());
            for (list, items) in lists.into_iter().enumerate() {
                assert!(items.iter().all(|time| before < Some(*time) && *time <= calendar.now()));
                later.extend(items.iter().filter(|time| **time > limit).map(|time| (*time, list == 0)));
                times.extend(items.iter().filter(|time| **time <= limit));
                calendar.recycle(items);
            }
            times[taken..].sort_unstable();
        }
        calendar.set_now(limit);
        later.into_iter().for_each(|(time, is_saved)| calendar.push(time, is_saved));
        times
    }

    fn longest(calendar: &Calendar<i64>) -> usize {
        calendar.days.iter().flat_map(|day| &day.lists).map(Vec::len).max().unwrap_or(0)
    }

    #[test]
    fn items_reach_from_one_end_of_time_to_the_other() {
        let mut calendar = Calendar::new();
        let all = [i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        all.into_iter().for_each(|time| calendar.push(time, true));
        for now in all {
            assert_eq!(calendar.earliest(), Some(now));
            assert_eq!(due(&mut calendar, now), [now]);
        }
        assert_eq!(calendar.earliest(), None);
    }

    #[test]
    fn full_days_are_split_in_whatever_order_times_come() {
        let ascending = (1..100_000).collect::<Vec<i64>>();
        let descending = ascending.iter().rev().copied().collect();
        let mixed = ascending.iter().map(|time| time * 7_919 % 100_003).collect();
        let halves = ascending.iter().map(|time| time / 2 + time % 2 * 50_000).collect();
        for mut times in [ascending, descending, mixed, halves] {
            let mut calendar = Calendar::new();
            times.iter().for_each(|time| calendar.push(*time, true));
            assert!(longest(&calendar) <= FULL && calendar.places.len() < 4 * 100_000 / FULL);
            assert!(calendar.spare_items <= SPARE);
            times.sort_unstable();
            let (first, rest) = times.split_at(70_000);
            assert_eq!(due(&mut calendar, first[first.len() - 1]), first);
            assert_eq!(calendar.iter().count(), rest.len());
            assert_eq!(due(&mut calendar, i64::MAX), rest);
        }
    }

    #[test]
    fn items_of_one_time_stay_in_one_day() {
        let mut calendar = Calendar::new();
        (0..100_000).for_each(|n| calendar.push(if n % 10 == 0 { 6 } else { 5 }, n % 3 == 0));
        assert_eq!(due(&mut calendar, 5).len(), 90_000);
        assert_eq!(due(&mut calendar, 6).len(), 10_000);
    }

    #[test]
    fn much_memory_is_not_kept_for_few_items() {
        let mut calendar = Calendar::new();
        (1..200_000).for_each(|time| calendar.push(time, true));
        due(&mut calendar, 2_000_000);
        let lists = calendar.days.iter().flat_map(|day| &day.lists).chain(&calendar.spare);
        let capacity = lists.map(Vec::capacity).sum::<usize>();
        assert!(capacity <= SPARE, "{capacity}");
    }

    #[test]
    fn each_item_is_saved_once() {
        let mut calendar = Calendar::new();
        let save = |calendar: &mut Calendar<i64>| {
            let mut saved = vec![];
            calendar
                .save(|time| {
                    saved.push(*time);
                    Ok::<_, ()>(())
                })
                .unwrap();
            saved.sort_unstable();
            saved
        };
        (1..10_000).for_each(|time| calendar.push(time, time % 3 == 0));
        let mut taken = 0;
        while let Some([saved, unsaved]) = calendar.take_day(5_000) {
            taken = calendar.now();
            assert!(saved.iter().all(|time| time % 3 == 0) && unsaved.iter().all(|time| time % 3 != 0));
        }
        assert!((5_000..9_000).contains(&taken));
        let rest = taken + 1..10_000;
        assert!(save(&mut calendar).into_iter().eq(rest.clone().filter(|time| time % 3 != 0)));
        calendar.push(20_000, false);
        assert_eq!((calendar.unsaved(), save(&mut calendar), calendar.unsaved()), (1, vec![20_000], 0));
        assert_eq!(calendar.iter().count(), rest.count() + 1);
        assert!(calendar.take_all().all(|(_, is_saved)| is_saved));
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![-50..50i64, -5_000..5_000i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn items_are_due_when_a_plain_list_says_so(steps in vec((time(), vec((time(), 0..900i64), 0..9)), 0..9)) {
            let (mut calendar, mut list) = (Calendar::new(), Vec::new());
            for (next, add) in steps {
                let now = calendar.now();
                let add = add.into_iter().flat_map(|(from, n)| (0..n).map(move |n| from.saturating_add(n / 2)));
                for time in add.filter(|time| *time > now) {
                    calendar.push(time, true);
                    list.push(time);
                }
                let next = next.max(calendar.now());
                let mut expected: Vec<i64> = list.extract_if(.., |time| *time <= next).collect();
                expected.sort_unstable();
                prop_assert_eq!(due(&mut calendar, next), expected);
                prop_assert_eq!(calendar.earliest(), list.iter().min().copied());
                prop_assert_eq!(calendar.len, list.len());
            }
        }
    }
}
