//! When to look at what: instants with hashes, taken out when the watermark has reached them.
//!
//! A radix heap. A timer lies under the highest bit in which its instant differs from the present, so setting one is a
//! push. When the present advances, everything under lower bits than the highest that has changed is due, what lies
//! under that bit is due or goes under lower ones, and the rest stays where it is. A timer is moved 64 times at most;
//! nothing need be known of how far ahead they are set.

use super::table::relieve;
use crate::EventTime;

/// An instant, and whose it is.
pub(crate) type Timer = (EventTime, u64);

/// Timers by how far ahead they are.
#[derive(Debug)]
pub(crate) struct Timers {
    /// How far the timers have been taken out.
    now: EventTime,
    /// Under 0 what is due already, under `n` what differs from the present in bit `n - 1` and in none above.
    buckets: [Vec<Timer>; 65],
    /// Memory for a bucket, and for what is due.
    spare: Vec<Timer>,
    due: Vec<Timer>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Timers {
            now: EventTime::MIN,
            buckets: std::array::from_fn(|_| Vec::new()),
            spare: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Sets a timer, even for an instant that has been.
    #[inline]
    pub(crate) fn set(&mut self, time: EventTime, hash: u64) {
        if let Some(bucket) = self.buckets.get_mut(place(self.now, time)) {
            if bucket.capacity() == 0 {
                std::mem::swap(bucket, &mut self.spare);
            }
            bucket.push((time, hash));
        }
    }

    /// Moves the present on and takes out what is due, in no order. Who has seen to it [gives the list
    /// back](Self::recycle).
    pub(crate) fn take_due(&mut self, now: EventTime) -> Vec<Timer> {
        let highest = place(self.now, now);
        self.now = self.now.max(now);
        let now = self.now;
        let mut due = std::mem::take(&mut self.due);
        let (lower, rest) = self.buckets.split_at_mut(highest);
        for bucket in lower.iter_mut() {
            due.append(bucket);
        }
        let Some(split) = rest.first_mut() else { return due };
        if split.is_empty() {
            return due;
        }
        for (time, hash) in split.drain(..) {
            match lower.get_mut(place(now, time)) {
                Some(bucket) if time > now => bucket.push((time, hash)),
                _ => due.push((time, hash)),
            }
        }
        let emptied = std::mem::take(split);
        if emptied.capacity() > self.spare.capacity() {
            self.spare = emptied;
        }
        due
    }

    /// How far the timers have been taken out.
    pub(crate) fn now(&self) -> EventTime {
        self.now
    }

    /// Whether anything may be due at an instant: surely if it is, and hardly if it is not.
    pub(crate) fn may_be_due(&self, now: EventTime) -> bool {
        let highest = place(self.now, now);
        self.buckets.iter().take(highest + 1).any(|bucket| !bucket.is_empty())
    }

    /// Takes the list's memory back, unless it is much more than was needed this time.
    pub(crate) fn recycle(&mut self, mut due: Vec<Timer>) {
        let used = due.len();
        due.clear();
        relieve(&mut due, used);
        self.due = due;
    }

    /// How many are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }
}

/// Under what a timer lies. The sign bit is no exception: who is of the other sign than the present is due, or farther
/// ahead than all of its sign.
#[inline]
fn place(now: EventTime, time: EventTime) -> usize {
    if time <= now { 0 } else { (64 - (now.as_micros() ^ time.as_micros()).leading_zeros()) as usize }
}

#[cfg(test)]
mod tests {
    use super::super::table::SMALL;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn due(timers: &mut Timers, now: i64) -> Vec<i64> {
        let list = timers.take_due(EventTime::from_micros(now));
        let mut times: Vec<i64> = list.iter().map(|(time, _)| time.as_micros()).collect();
        timers.recycle(list);
        times.sort_unstable();
        times
    }

    #[test]
    fn what_is_set_for_the_past_is_due_next_time() {
        let mut timers = Timers::new();
        assert!(due(&mut timers, 10).is_empty());
        timers.set(EventTime::from_micros(5), 0);
        timers.set(EventTime::from_micros(10), 0);
        timers.set(EventTime::from_micros(11), 0);
        assert_eq!(due(&mut timers, 10), [5, 10]);
        assert_eq!(due(&mut timers, 11), [11]);
    }

    #[test]
    fn timers_reach_from_one_end_of_time_to_the_other() {
        let mut timers = Timers::new();
        let all = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        all.iter().for_each(|time| timers.set(EventTime::from_micros(*time), 0));
        for now in all {
            assert_eq!(due(&mut timers, now), [now]);
        }
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn much_memory_is_not_kept_for_few_timers() {
        let mut timers = Timers::new();
        (0..100_000).for_each(|time| timers.set(EventTime::from_micros(time), 0));
        assert_eq!(due(&mut timers, 50_000).len(), 50_001);
        assert_eq!(due(&mut timers, 100_000).len(), 49_999);
        timers.set(EventTime::from_micros(200_000), 0);
        assert_eq!(due(&mut timers, 200_000), [200_000]);
        assert!(timers.due.capacity() <= SMALL);
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![-50..50i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn timers_are_due_when_a_plain_list_says_so(steps in vec((time(), vec(time(), 0..20)), 0..30)) {
            let (mut timers, mut list, mut now) = (Timers::new(), Vec::new(), i64::MIN);
            for (next, set) in steps {
                set.iter().for_each(|time| timers.set(EventTime::from_micros(*time), 0));
                list.extend(set);
                now = now.max(next);
                let mut expected: Vec<i64> = list.extract_if(.., |time| *time <= now).collect();
                expected.sort_unstable();
                prop_assert!(expected.is_empty() || timers.may_be_due(EventTime::from_micros(next)));
                prop_assert_eq!(due(&mut timers, next), expected);
                prop_assert_eq!(timers.len(), list.len());
            }
        }
    }
}
