//! Inputs that keep their promise: no row is later than the delay behind the rows before it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::EventTime;
use tidemill::testing::simulate::World;

/// A key, a time in microseconds and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: u8,
    pub(crate) time: i64,
    pub(crate) value: i64,
}

pub(crate) const DELAY: Duration = Duration::from_micros(20);
pub(crate) const WINDOW: i64 = 50;

pub(crate) fn time(event: &Event) -> EventTime {
    EventTime::from_micros(event.time)
}

pub(crate) fn micros(n: i64) -> Duration {
    Duration::from_micros(n as u64)
}

/// At most `most` rows in order of time, but for the delay.
pub(crate) fn events(world: &mut World, most: u64) -> Vec<Event> {
    let mut latest = 0;
    (0..world.rows(most))
        .map(|n| {
            let step = if world.choose(10) == 0 { 200 } else { 10 };
            latest += world.choose(step) as i64;
            let back = world.choose(DELAY.as_micros() as u64 / 2) as i64;
            Event { key: world.choose(5) as u8, time: latest - back, value: n as i64 }
        })
        .collect()
}

/// The same in partitions.
pub(crate) fn partitions(world: &mut World, most: u64) -> Vec<Vec<Event>> {
    let count = 1 + world.choose(4);
    let with_number = |(n, events): (u64, Vec<Event>)| {
        // So that no two rows are alike.
        events.into_iter().map(|event| Event { value: event.value + 1_000 * n as i64, ..event }).collect()
    };
    let all: Vec<Vec<Event>> = (0..count).map(|_| events(world, most / count)).collect();
    (0..).zip(all).map(with_number).collect()
}

/// What groups of rows come to: by key and window start, how many and their sum.
pub(crate) type Sums = BTreeMap<(u8, i64), (u64, i64)>;

/// The windows of that size, one beginning every `slide`.
pub(crate) fn windows(events: &[Event], size: i64, slide: i64) -> Sums {
    let mut sums = Sums::new();
    for event in events {
        let mut start = event.time.div_euclid(slide) * slide;
        while start + size > event.time {
            let sum = sums.entry((event.key, start)).or_default();
            *sum = (sum.0 + 1, sum.1 + event.value);
            start -= slide;
        }
    }
    sums
}

/// The sessions: by key and start.
pub(crate) fn sessions(events: &[Event], gap: i64) -> Sums {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| (event.key, event.time));
    let (mut sums, mut last) = (Sums::new(), None::<(u8, i64, i64)>);
    for event in sorted {
        let start = match last {
            Some((key, start, time)) if key == event.key && event.time <= time + gap => start,
            _ => event.time,
        };
        last = Some((event.key, start, event.time));
        let sum = sums.entry((event.key, start)).or_default();
        *sum = (sum.0 + 1, sum.1 + event.value);
    }
    sums
}
