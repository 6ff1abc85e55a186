//! The events: people, auctions and bids as the suite's generator makes them, with every setting in this file.
//!
//! The generator is the crate `nexmark`. Event `k` is a function of `k` and the settings alone, so several threads can
//! make parts of one sequence, and every run sees the same events. [`CHECKSUM`] is kept here and looked at before
//! anything is measured: another version of the generator cannot change the input unseen.
//!
//! Events are made before the clock starts. Under measurement the thread that reads one makes a copy of it, as a source
//! makes a record of what it reads, and the operator that takes it frees it: for a bid, memory for three strings, all in one loop.
//! Handed over by moving, events had been made by one thread and were freed by another that made none, so millions of
//! freed strings lay about in the allocator's lists. Whichever thread next let a vector grow in such memory was made to tidy
//! up among them all, which took several times as long as the query, and who it was depended on trifles.

use std::sync::Arc;
use std::thread;

pub use nexmark::event::{Auction, Bid, Event, Person};

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use serde::{Deserialize, Serialize};
use tidemill::EventTime;
use tidemill::connectors::{IterSource, iterate_partitions};

use super::answer::Digest;

/// The time of the first event: 2015-07-15T23:59:50Z. A run of more than ten seconds of event time sees two days.
pub const BASE_TIME_MS: u64 = 1_437_004_790_000;

/// The checksum of the first [`CHECKED`] events at the suite's rate, over all fields of every event.
pub const CHECKSUM: u64 = 0xaa07_9b15_16ad_c406;

/// How many events [`CHECKSUM`] is of.
pub const CHECKED: u64 = 20_000;

/// How many events there are, and how close together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many events.
    pub events: u64,
    /// Events in a second of event time. The suite's default is 10,000.
    pub rate: u64,
}

impl Settings {
    /// This many events at the suite's rate.
    #[must_use]
    pub const fn suite(events: u64) -> Settings {
        Settings { events, rate: 10_000 }
    }

    /// What the generator is told. All values but the base time and the rate are the suite's defaults, repeated so that
    /// they cannot change unseen.
    fn config(self) -> NexmarkConfig {
        let rate = usize::try_from(self.rate).unwrap_or(usize::MAX);
        NexmarkConfig {
            base_time: BASE_TIME_MS,
            first_rate: rate,
            next_rate: rate,
            person_proportion: 1,
            auction_proportion: 3,
            bid_proportion: 46,
            active_people: 1_000,
            in_flight_auctions: 100,
            out_of_order_group_size: 1,
            hot_seller_ratio: 4,
            hot_auction_ratio: 2,
            hot_bidder_ratio: 4,
            hot_channel_ratio: 2,
            avg_person_byte_size: 200,
            avg_auction_byte_size: 500,
            avg_bid_byte_size: 100,
            ..NexmarkConfig::default()
        }
    }

    /// Events `first`, `first + step` and so on, below the number of events.
    fn range(self, first: u64, step: u64) -> impl Iterator<Item = Event> {
        let generator = EventGenerator::new(self.config()).with_offset(first).with_step(step);
        let count = self.events.saturating_sub(first).div_ceil(step);
        generator.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// All events in their order, for a reference.
    #[must_use]
    pub fn all(self) -> Vec<Event> {
        self.range(0, 1).collect()
    }

    /// The events distributed to `partitions` in turn.
    #[must_use]
    pub fn feed(self, partitions: u32) -> Feed {
        let partitions = partitions.max(1);
        let make =
            |partition: u32| self.range(u64::from(partition), u64::from(partitions)).collect::<Vec<Event>>();
        let parts = thread::scope(|scope| {
            let makers: Vec<_> = (0..partitions).map(|p| scope.spawn(move || make(p))).collect();
            makers
                .into_iter()
                .map(|maker| Arc::new(maker.join().expect("the generator does not fail")))
                .collect()
        });
        Feed { parts }
    }
}

/// The checksum of the first events at the suite's rate, as the generator makes them now; it should be [`CHECKSUM`].
#[must_use]
pub fn checksum() -> u64 {
    let events = Settings::suite(CHECKED).all();
    events.iter().fold(Digest::new(), |digest, event| digest.number(whole_digest(event))).finish()
}

/// A digest of all fields of an event.
fn whole_digest(event: &Event) -> u64 {
    let digest = Digest::new().number(event.timestamp());
    match event {
        Event::Person(p) => digest
            .number(p.id as u64)
            .text(&p.name)
            .text(&p.email_address)
            .text(&p.credit_card)
            .text(&p.city)
            .text(&p.state)
            .text(&p.extra),
        Event::Auction(a) => digest
            .number(a.id as u64)
            .text(&a.item_name)
            .text(&a.description)
            .number(a.initial_bid as u64)
            .number(a.reserve as u64)
            .number(a.expires)
            .number(a.seller as u64)
            .number(a.category as u64)
            .text(&a.extra),
        Event::Bid(b) => digest
            .number(b.auction as u64)
            .number(b.bidder as u64)
            .number(b.price as u64)
            .text(&b.channel)
            .text(&b.url)
            .text(&b.extra),
    }
    .finish()
}

/// Events that have been made, by partition.
#[derive(Clone, Debug)]
pub struct Feed {
    parts: Vec<Arc<Vec<Event>>>,
}

/// Copies of the events of a partition, each made when it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    events: Arc<Vec<Event>>,
    next: usize,
}

impl Iterator for Copies {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        let event = self.events.get(self.next)?.clone();
        self.next += 1;
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.events.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl Feed {
    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }

    /// The events of a partition.
    #[must_use]
    pub fn read(&self, partition: u32) -> Copies {
        Copies { events: self.parts.get(partition as usize).cloned().unwrap_or_default(), next: 0 }
    }

    /// A source of these events.
    #[must_use]
    pub fn source(&self) -> IterSource<Copies> {
        let feed = self.clone();
        iterate_partitions(self.partitions(), move |partition| feed.read(partition))
    }
}

/// The bid that an event is, if it is one.
#[inline]
#[must_use]
pub fn bid(event: Event) -> Option<Bid> {
    match event {
        Event::Bid(bid) => Some(bid),
        Event::Person(_) | Event::Auction(_) => None,
    }
}

/// The bids of some events, for the references.
pub(super) fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        Event::Person(_) | Event::Auction(_) => None,
    })
}

/// The generator's milliseconds as the engine's microseconds.
#[inline]
#[must_use]
pub fn time(date_time: u64) -> EventTime {
    EventTime::from_micros(date_time as i64 * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_repeats_events_of_recorded_checksum() {
        assert_eq!(checksum(), CHECKSUM, "{:#018x}", checksum());
    }

    #[test]
    fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
        let mut kinds = [0; 3];
        for event in Settings::suite(5_000).all() {
            kinds[match event {
                Event::Person(_) => 0,
                Event::Auction(_) => 1,
                Event::Bid(_) => 2,
            }] += 1;
        }
        assert_eq!(kinds, [100, 300, 4_600]);
    }

    #[test]
    fn partitions_hold_every_event_once_and_in_order() {
        let settings = Settings { events: 10_001, rate: 500 };
        let feed = settings.feed(3);
        let mut parts: Vec<_> = (0..3).map(|p| feed.read(p)).collect();
        for (k, event) in settings.all().into_iter().enumerate() {
            assert_eq!(parts[k % 3].next(), Some(event));
        }
        assert!(parts.iter_mut().all(|part| part.next().is_none()));
        assert_eq!(feed.read(3).count(), 0);
    }

    #[test]
    fn event_time_does_not_go_back_and_has_the_rate() {
        let settings = Settings { events: 50_000, rate: 2_000 };
        let times: Vec<u64> = settings.all().iter().map(Event::timestamp).collect();
        assert_eq!(times[0], BASE_TIME_MS);
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(times[49_999], BASE_TIME_MS + 25_000);
    }
}
