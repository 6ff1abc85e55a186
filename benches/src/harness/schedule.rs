//! Which event is due when: the open-loop load that every engine under measurement is offered.
//!
//! Event `k` is due at `k / rate`, whatever the engine does. A generator that comes late emits what is due at once and
//! with the old stamps, so a stall shows in every event that it delayed. Everything about an event is a function of
//! its number, and the number of a key's `n`-th event is known without a table: so a sink that is told "this key has
//! been counted `n` times" knows which event that was, when it was due, and which ones the same row speaks of besides.
//!
//! Keys come in rounds: each key once in every round, the round turned by a random number of places.

use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::generator::splitmix64;

const SECOND: u64 = 1_000_000_000;
/// A generator whose next event is further away than this sleeps, unless it is told otherwise.
pub const SPIN_BELOW: Duration = Duration::from_micros(100);
/// How long before the first event is due the workers are started.
const LEAD: Duration = Duration::from_millis(60);
/// How much earlier still, for every event that is to be in the state before.
const LEAD_FOR_EACH: Duration = Duration::from_micros(3);

/// How a generator waits for the next event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Awake if the event is due within [`SPIN_BELOW`], asleep if it is further away: so the rate decides.
    #[default]
    Auto,
    /// Always awake.
    Spin,
    /// Always asleep.
    Sleep,
}

impl FromStr for Pace {
    type Err = String;
    fn from_str(text: &str) -> Result<Pace, String> {
        match text {
            "auto" => Ok(Pace::Auto),
            "spin" => Ok(Pace::Spin),
            "sleep" => Ok(Pace::Sleep),
            other => Err(format!("`{other}` is neither `auto`, `spin` nor `sleep`")),
        }
    }
}

/// What a generator does until its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is polled again at once.
    Awake,
    /// It is polled again after this long.
    Asleep(Duration),
}

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Events a second, over all partitions.
    pub rate: u64,
    /// How many events, without those of `prefill`.
    pub events: u64,
    /// How many different keys.
    pub keys: u64,
    /// How many events make a line, and are due together with its first: a power of two. 1: each event stands alone.
    pub line: u64,
    /// How many events are due at once, in the middle of the others; 0: none.
    pub burst: u64,
    /// Whether each key is counted once before the first event is due, so that the state has its full size from the
    /// beginning. These events are not measured.
    pub prefill: bool,
    /// How generators wait.
    pub pace: Pace,
    /// Whether the run is a closed loop: events are emitted as fast as they are taken. Their stamps stay those of the rate, as
    /// event times; no latency can be told from them.
    pub closed: bool,
}

impl Load {
    /// An open load of `seconds` seconds with 1,000 keys.
    ///
    /// # Panics
    /// If the rate is 0.
    #[must_use]
    pub fn open(rate: u64, seconds: f64) -> Load {
        assert!(rate > 0, "a rate of 0 has no events");
        let events = (rate as f64 * seconds) as u64;
        Load { rate, events, keys: 1_000, line: 1, burst: 0, prefill: false, pace: Pace::Auto, closed: false }
    }
}

/// A load with a beginning, divided among partitions: partition `p` of `n` has the lines `p`, `p + n`, … (where a line is
/// one event, the events).
#[derive(Clone, Debug)]
pub struct Schedule {
    load: Load,
    partitions: u64,
    prefill: u64,
    /// Clears what an event's number has beyond that of its line's first event.
    line_mask: u64,
    /// How far it is from the last event of a line to the partition's next event.
    stride: u64,
    /// The number of the first event of the burst, without those of `prefill`.
    burst_at: u64,
    origin: Instant,
}

impl Schedule {
    /// Begins a little later than now, so that workers have time to start.
    ///
    /// # Panics
    /// If the last event is due later than 64 bits of nanoseconds can say; if a line's length is
    /// no power of two, or lines are combined with `prefill`.
    #[must_use]
    pub fn begin(load: Load, partitions: usize) -> Schedule {
        let prefill = if load.prefill { load.keys } else { 0 };
        let lead = LEAD + LEAD_FOR_EACH * u32::try_from(prefill).unwrap_or(u32::MAX);
        Schedule::beginning_at(load, partitions, Instant::now() + lead)
    }

    /// Begins at an instant.
    ///
    /// # Panics
    /// As [`begin`](Self::begin).
    #[must_use]
    pub fn beginning_at(load: Load, partitions: usize, origin: Instant) -> Schedule {
        assert!(
            load.rate > 0 && load.keys > 0 && partitions > 0,
            "there must be events, keys and partitions"
        );
        assert!(load.events.checked_mul(SECOND).is_some(), "too many events");
        assert!(load.line.is_power_of_two(), "a line has a power of two of events");
        assert!(load.line == 1 || !load.prefill, "lines are not counted in advance");
        let prefill = if load.prefill { load.keys } else { 0 };
        let line_mask = !(load.line - 1);
        // All lines are complete.
        let (events, burst) = (load.events & line_mask, load.burst & line_mask);
        assert!(burst <= events, "the burst is a part of the events");
        let burst_at = ((events - burst) / 2) & line_mask;
        let load = Load { events, burst, ..load };
        let partitions = partitions as u64;
        let stride = 1 + (partitions - 1) * load.line;
        Schedule { load, partitions, prefill, line_mask, stride, burst_at, origin }
    }

    /// What is offered.
    #[must_use]
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u64 {
        self.partitions
    }

    /// How many events there are, those before the beginning included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.prefill + self.load.events
    }

    /// How many come before the beginning and are not measured.
    #[must_use]
    pub fn prefill(&self) -> u64 {
        self.prefill
    }

    /// When event `index` is due, in nanoseconds after the beginning. Its event time is this, in microseconds.
    #[inline]
    #[must_use]
    pub fn due(&self, index: u64) -> u64 {
        let index = index.saturating_sub(self.prefill) & self.line_mask;
        // Those of the burst are due with the first of them, and those after it as if there were none.
        let beyond = index.saturating_sub(self.burst_at).min(self.load.burst);
        (index - beyond) * SECOND / self.load.rate
    }

    /// Whether event `index` is one of the burst.
    #[inline]
    #[must_use]
    pub fn is_in_burst(&self, index: u64) -> bool {
        index.wrapping_sub(self.prefill + self.burst_at) < self.load.burst
    }

    /// How many events are due before `nanos`: the number of the first that is not.
    #[must_use]
    pub fn due_before(&self, nanos: u64) -> u64 {
        if nanos == 0 {
            return 0;
        }
        let events = (u128::from(nanos) * u128::from(self.load.rate)).div_ceil(u128::from(SECOND));
        let mut events = u64::try_from(events).unwrap_or(u64::MAX);
        if events > self.burst_at {
            events = events.saturating_add(self.load.burst);
        }
        let events = events.min(self.load.events);
        // The rest of a line is due with its first event.
        self.prefill + events.next_multiple_of(self.load.line)
    }

    /// The number of the first event of a partition.
    #[must_use]
    pub fn first(&self, partition: u64) -> u64 {
        partition * self.load.line
    }

    /// How far the first events of a partition's lines lie apart.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.partitions * self.load.line
    }

    /// How many lines of a partition, the next of which begins with event `from`, begin before event `end`.
    #[must_use]
    pub fn lines(&self, from: u64, end: u64) -> u64 {
        end.saturating_sub(from).div_ceil(self.step())
    }

    /// How many events may be emitted now.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.look().0
    }

    /// How many events may be emitted now, and when that is, in nanoseconds after the beginning.
    #[inline]
    #[must_use]
    pub fn look(&self) -> (u64, u64) {
        match self.now() {
            _ if self.load.closed => (self.total(), 0),
            Some(now) => (self.due_before(now + 1), now),
            None => (self.prefill, 0),
        }
    }

    /// How long the whole is, in nanoseconds.
    #[must_use]
    pub fn duration(&self) -> u64 {
        (self.load.events - self.load.burst) * SECOND / self.load.rate
    }

    /// When the burst is due, in nanoseconds after the beginning; none without one.
    #[must_use]
    pub fn burst(&self) -> Option<u64> {
        (self.load.burst > 0).then(|| self.due(self.prefill + self.burst_at))
    }

    /// When the first event is due.
    #[must_use]
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Nanoseconds since then; none before.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        Instant::now().checked_duration_since(self.origin).map(|since| since.as_nanos() as u64)
    }

    /// The same, 0 before.
    #[inline]
    #[must_use]
    pub fn elapsed(&self) -> u64 {
        self.now().unwrap_or(0)
    }

    /// What a generator does whose next event has the number `next`. Every engine's generator asks here, so none of
    /// them wakes up by another rule.
    #[must_use]
    pub fn wait(&self, next: u64) -> Wait {
        if self.load.closed || next < self.prefill {
            return Wait::Awake;
        }
        let at = self.origin + Duration::from_nanos(self.due(next));
        self.wait_for(at.saturating_duration_since(Instant::now()))
    }

    fn wait_for(&self, time: Duration) -> Wait {
        match self.load.pace {
            _ if time.is_zero() => Wait::Awake,
            Pace::Spin => Wait::Awake,
            Pace::Auto if time <= SPIN_BELOW => Wait::Awake,
            Pace::Auto | Pace::Sleep => Wait::Asleep(time),
        }
    }

    /// The key of event `index`.
    #[must_use]
    pub fn key(&self, index: u64) -> u64 {
        let (round, place) = (index / self.load.keys, index % self.load.keys);
        turn(place, self.turned_by(round), self.load.keys)
    }

    /// The number of a key's event in round `round`, from 0.
    #[inline]
    #[must_use]
    pub fn index(&self, key: u64, round: u64) -> u64 {
        let keys = self.load.keys;
        let by = self.turned_by(round);
        round * keys + if key >= by { key - by } else { key + keys - by }
    }

    /// How many of the events before number `end` have the key.
    #[inline]
    #[must_use]
    pub fn of_key_before(&self, key: u64, end: u64) -> u64 {
        let round = end / self.load.keys;
        round + u64::from(self.index(key, round) < end)
    }

    #[inline]
    fn turned_by(&self, round: u64) -> u64 {
        ((u128::from(splitmix64(round)) * u128::from(self.load.keys)) >> 64) as u64
    }

    /// All events in the order of their numbers, as `(key, when it is due)`.
    pub fn events(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let whole = Schedule { partitions: 1, stride: 1, ..self.clone() };
        let mut walk = whole.walk(0);
        (0..whole.total()).map(move |_| walk.step(&whole))
    }

    /// The events of one partition from number `first` on, without a division for each.
    #[must_use]
    pub fn walk(&self, first: u64) -> Walk {
        let keys = self.load.keys;
        let (round, place) = (first / keys, first % keys);
        Walk { index: first, round, place, by: self.turned_by(round) }
    }
}

#[inline]
fn turn(place: u64, by: u64, keys: u64) -> u64 {
    let key = place + by;
    if key >= keys { key - keys } else { key }
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    index: u64,
    round: u64,
    place: u64,
    by: u64,
}

impl Walk {
    /// The number of the event.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The event as `(key, when it is due)`; goes to the partition's next one.
    #[inline]
    pub fn step(&mut self, schedule: &Schedule) -> (u64, u64) {
        let keys = schedule.load.keys;
        let event = (turn(self.place, self.by, keys), schedule.due(self.index));
        let ends_line = (self.index + 1) & !schedule.line_mask == 0;
        let stride = if ends_line { schedule.stride } else { 1 };
        self.index += stride;
        self.place += stride;
        if self.place >= keys {
            self.round += self.place / keys;
            self.place %= keys;
            self.by = schedule.turned_by(self.round);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: u64, events: u64, keys: u64, partitions: usize) -> Schedule {
        let load = Load { events, keys, ..Load::open(rate, 1.0) };
        Schedule::beginning_at(load, partitions, Instant::now())
    }

    #[test]
    fn events_are_due_at_the_rate() {
        let schedule = schedule(3, 100, 7, 1);
        assert_eq!([0, 1, 3].map(|k| schedule.due(k)), [0, 333_333_333, SECOND]);
        assert_eq!([0, 1, 333_333_333, 333_333_334, SECOND].map(|t| schedule.due_before(t)), [0, 1, 1, 2, 3]);
        assert_eq!(schedule.due_before(u64::MAX), 100);
    }

    #[test]
    fn each_key_comes_once_in_a_round_and_is_found_again() {
        let schedule = schedule(1_000, 50, 7, 1);
        let mut seen = [0; 7];
        for index in 0..50 {
            let key = schedule.key(index);
            assert_eq!(schedule.of_key_before(key, index), seen[key as usize]);
            assert_eq!(schedule.index(key, seen[key as usize]), index);
            seen[key as usize] += 1;
            assert_eq!(seen.iter().sum::<u64>(), index + 1);
        }
        assert!(seen.iter().all(|n| (7..=8).contains(n)), "{seen:?}");
    }

    #[test]
    fn partitions_share_the_events() {
        for (keys, partitions) in [(7, 1), (7, 3), (2, 5), (1, 2)] {
            let schedule = schedule(1_000, 60, keys, partitions);
            for partition in 0..partitions as u64 {
                let mut walk = schedule.walk(partition);
                for index in (partition..60).step_by(partitions) {
                    assert_eq!(walk.index(), index);
                    assert_eq!(walk.step(&schedule), (schedule.key(index), schedule.due(index)));
                    assert_eq!(walk, schedule.walk(walk.index()));
                }
            }
        }
    }

    #[test]
    fn lines_are_due_together_and_stay_in_one_partition() {
        for (partitions, keys) in [(1, 7), (3, 7), (2, 1_000)] {
            let load = Load { events: 101, keys, line: 8, ..Load::open(1_000, 1.0) };
            let schedule = Schedule::beginning_at(load, partitions, Instant::now());
            assert_eq!(schedule.total(), 96);
            assert_eq!([0, 7, 8].map(|k| schedule.due(k)), [0, 0, SECOND / 125]);
            assert_eq!([0, 1, SECOND / 125, SECOND / 125 + 1].map(|t| schedule.due_before(t)), [0, 8, 8, 16]);
            assert_eq!(schedule.due_before(u64::MAX), 96);
            let mut seen = Vec::new();
            for partition in 0..partitions as u64 {
                let first = schedule.first(partition);
                let mut walk = schedule.walk(first);
                for line in 0..schedule.lines(first, schedule.total()) {
                    for place in 0..8 {
                        let index = first + line * schedule.step() + place;
                        assert_eq!(walk.index(), index);
                        assert_eq!(walk.step(&schedule), (schedule.key(index), schedule.due(index)));
                        seen.push(index);
                    }
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..96).collect::<Vec<_>>());
        }
    }

    #[test]
    fn burst_is_due_at_once_and_later_events_as_before() {
        for (line, burst) in [(1, 50), (8, 56)] {
            let load = Load { events: 150, line, burst, ..Load::open(1_000, 1.0) };
            let schedule = Schedule::beginning_at(load, 1, Instant::now());
            let total = schedule.total();
            let at = ((total - burst) / 2) & !(line - 1);
            let milli = SECOND / 1_000;
            assert_eq!(schedule.burst(), Some(at * milli));
            for index in 0..total {
                let place = if index < at { index } else { index.saturating_sub(burst).max(at) };
                assert_eq!(schedule.due(index), (place & !(line - 1)) * milli, "{index}");
            }
            for nanos in (0..150).map(|n| n * milli / 2 + 1) {
                let due = (0..total).filter(|index| schedule.due(*index) < nanos).count() as u64;
                assert_eq!(schedule.due_before(nanos), due, "{nanos}");
            }
            assert_eq!(schedule.duration(), (total - burst) * milli);
        }
        assert_eq!(schedule(1_000, 10, 7, 1).burst(), None);
    }

    #[test]
    fn what_fills_the_state_comes_before_the_beginning() {
        let load = Load { keys: 10, prefill: true, ..Load::open(100, 1.0) };
        let schedule = Schedule::begin(load, 1);
        assert_eq!(schedule.available(), 10);
        assert_eq!(schedule.total(), 110);
        assert_eq!([9, 10, 11].map(|k| schedule.due(k)), [0, 0, SECOND / 100]);
        assert_eq!(schedule.wait(9), Wait::Awake);
        assert!(matches!(schedule.wait(10), Wait::Asleep(_)));
    }

    #[test]
    fn distance_of_next_event_decides_how_to_wait() {
        let (near, far) = (Duration::from_micros(50), Duration::from_millis(1));
        let with = |pace| {
            let load = Load { pace, ..Load::open(1_000, 1.0) };
            let schedule = Schedule::beginning_at(load, 1, Instant::now());
            [near, far].map(|time| schedule.wait_for(time))
        };
        assert_eq!(with(Pace::Auto), [Wait::Awake, Wait::Asleep(far)]);
        assert_eq!(with(Pace::Spin), [Wait::Awake, Wait::Awake]);
        assert_eq!(with(Pace::Sleep), [Wait::Asleep(near), Wait::Asleep(far)]);
    }
}
