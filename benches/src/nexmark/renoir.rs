//! Queries 0 to 5, 7 and 8 on Renoir, with the same meaning, over the same events, by the same functions per row.
//!
//! Events are copied out of memory on this side as on the other, and the rows go to the same tally. Renoir's own windows
//! of event time begin at the first record that a key shows and lose rows, so its windows are written here as what it
//! calls a custom operator ([`Panes`]): they are aligned, close when its watermark passes their end, and keep ties. Each
//! replica aggregates its own records before the exchange, as its `group_by_count` does. A watermark is emitted when an
//! event begins a new slide, which is as often as anything can close.

mod joins;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use renoir::operator::{ElementGenerator, Operator, StreamElement};
use renoir::{RuntimeConfig, StreamContext};

use super::answer::{Row, Rows};
use super::events::{Bid, Event, Feed, bid};
use super::{Outcome, q1, q2, q5, q7};

/// The queries that are there on Renoir.
pub const NUMBERS: [u32; 8] = [0, 1, 2, 3, 4, 5, 7, 8];

/// Runs a query on Renoir with as many replicas as the events have partitions, if it is there.
#[must_use]
pub fn run(number: u32, feed: &Feed) -> Option<Outcome> {
    Some(match number {
        0 => time(feed, pass_through),
        1 => time(feed, currency),
        2 => time(feed, selection),
        3 => time(feed, joins::suggestions),
        4 => time(feed, joins::category_means),
        5 => time(feed, hot_items),
        7 => time(feed, highest_bid),
        8 => time(feed, joins::new_users),
        _ => return None,
    })
}

/// From building the graph until all threads have ended, as on the other side.
fn time<R: Row>(feed: &Feed, query: fn(&StreamContext, Feed, Rows<R>)) -> Outcome {
    let rows = Rows::counted();
    let start = Instant::now();
    let config = RuntimeConfig::local(u64::from(feed.partitions())).expect("a number of replicas");
    let context = StreamContext::new(config);
    query(&context, feed.clone(), rows.clone());
    context.execute_blocking();
    Outcome { elapsed: start.elapsed(), answer: rows.answer() }
}

/// What ends a chain: each replica has a taker of its own, since a clone has taken nothing.
fn taken<R: Row>(rows: &Rows<R>) -> impl FnMut(R) + Clone + Send + 'static {
    let mut taker = rows.taker();
    move |row| taker.take(row)
}

fn pass_through(context: &StreamContext, feed: Feed, rows: Rows<Event>) {
    context.stream_par_iter(move |id, _| feed.read(id as u32)).for_each(taken(&rows));
}

fn currency(context: &StreamContext, feed: Feed, rows: Rows<q1::Converted>) {
    context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(bid)
        .map(q1::convert)
        .for_each(taken(&rows));
}

fn selection(context: &StreamContext, feed: Feed, rows: Rows<q2::Selected>) {
    context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(bid)
        .filter(q2::chosen)
        .map(q2::select)
        .for_each(taken(&rows));
}

fn hot_items(context: &StreamContext, feed: Feed, rows: Rows<q5::HotItem>) {
    context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(bid)
        .map(|bid| (bid.auction, bid.date_time))
        .add_timestamps(|bid| bid.1 as i64, at_slides(q5::SLIDE_MS as i64))
        // Each replica: bids by auction in each slide.
        .rich_map_custom(closing(CountBids::default()))
        .group_by(|count: &Count| count.auction)
        .drop_key()
        // The holder of an auction: of the slides of a window, the auctions with the most bids.
        .rich_map_custom(closing(SlideCounts::default()))
        .group_by(|window: &(i64, q5::Hottest)| window.0)
        .drop_key()
        // The holder of a window: the most of all.
        .rich_map_custom(closing(Merge::<q5::Hottest>::default()))
        .flat_map(|(end, hottest)| {
            let bids = hottest.bids;
            hottest.auctions.into_iter().map(move |auction| q5::HotItem { end: end as u64, auction, bids })
        })
        .for_each(taken(&rows));
}

fn highest_bid(context: &StreamContext, feed: Feed, rows: Rows<q7::HighBid>) {
    context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(bid)
        .add_timestamps(|bid: &Bid| bid.date_time as i64, at_slides(q7::SIZE_MS as i64))
        .rich_map_custom(closing(HighestBids::default()))
        .group_by(|window: &(i64, q7::Highest)| window.0)
        .drop_key()
        .rich_map_custom(closing(Merge::<q7::Highest>::default()))
        .flat_map(|(_, highest)| highest.bids)
        .for_each(taken(&rows));
}

/// Says a watermark when an event begins a new slide: nothing will come from before it.
fn at_slides<T>(slide: i64) -> impl FnMut(&T, &i64) -> Option<i64> + Clone + Send + 'static {
    let mut current = i64::MIN;
    move |_, time| {
        // One comparison for nearly all events.
        if *time < current.saturating_add(slide) {
            return None;
        }
        current = time.div_euclid(slide) * slide;
        Some(current - 1)
    }
}

/// State by pane that is given out when a pane has ended.
trait Panes: Clone + Send + 'static {
    /// What is taken in.
    type In;
    /// What is given out, with the time it has then.
    type Out: Send;

    /// Takes an element in.
    fn take(&mut self, element: Self::In, time: i64);

    /// Gives out what ends no later than `until`.
    fn close(&mut self, until: i64, out: &mut VecDeque<(Self::Out, i64)>);
}

/// Makes a custom operator of such state: elements in, watermarks close, the end closes all.
fn closing<P: Panes, Op: Operator<Out = P::In>>(
    mut panes: P,
) -> impl FnMut(ElementGenerator<'_, Op>) -> StreamElement<P::Out> + Clone + Send + 'static
where
    P::Out: Clone + 'static,
{
    let mut ready = VecDeque::new();
    let mut after: Option<StreamElement<()>> = None;
    move |mut input| loop {
        if let Some((element, time)) = ready.pop_front() {
            return StreamElement::Timestamped(element, time);
        }
        match after.take() {
            Some(StreamElement::Watermark(time)) => return StreamElement::Watermark(time),
            Some(_) => return StreamElement::FlushAndRestart,
            None => {}
        }
        match input.next() {
            StreamElement::Timestamped(element, time) => panes.take(element, time),
            StreamElement::Item(_) => panic!("every element has a time"),
            StreamElement::Watermark(time) => {
                // Nothing will come at this time or before.
                panes.close(time + 1, &mut ready);
                after = Some(StreamElement::Watermark(time));
            }
            StreamElement::FlushAndRestart => {
                panes.close(i64::MAX, &mut ready);
                after = Some(StreamElement::FlushAndRestart);
            }
            StreamElement::FlushBatch => return StreamElement::FlushBatch,
            StreamElement::Terminate => return StreamElement::Terminate,
        }
    }
}

/// The bids of an auction in a slide.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Count {
    end: i64,
    auction: usize,
    bids: u64,
}

type Counts = HashMap<usize, u64, FixedState>;

/// Counts bids by auction in the slide that is open, and in those that are not closed yet.
#[derive(Clone, Default)]
struct CountBids {
    slides: BTreeMap<i64, Counts>,
    /// The slide of the last bid, taken out of the others.
    current: Counts,
    current_end: i64,
}

impl Panes for CountBids {
    type In = (usize, u64);
    type Out = Count;

    #[inline]
    fn take(&mut self, (auction, _): (usize, u64), time: i64) {
        let slide = q5::SLIDE_MS as i64;
        if time >= self.current_end || time < self.current_end - slide {
            let end = time.div_euclid(slide) * slide + slide;
            let next = self.slides.remove(&end).unwrap_or_default();
            let last = std::mem::replace(&mut self.current, next);
            if !last.is_empty() {
                self.slides.insert(self.current_end, last);
            }
            self.current_end = end;
        }
        *self.current.entry(auction).or_default() += 1;
    }

    fn close(&mut self, until: i64, out: &mut VecDeque<(Count, i64)>) {
        if !self.current.is_empty() {
            self.slides.insert(self.current_end, std::mem::take(&mut self.current));
            self.current_end = 0;
        }
        while let Some(slide) = self.slides.first_entry().filter(|slide| *slide.key() <= until) {
            let (end, counts) = slide.remove_entry();
            out.extend(counts.into_iter().map(|(auction, bids)| (Count { end, auction, bids }, end - 1)));
        }
    }
}

/// Adds up the counts of the slides of each window, and finds the greatest.
#[derive(Clone, Default)]
struct SlideCounts {
    slides: BTreeMap<i64, Counts>,
    /// The end of the next window to be given out.
    next: Option<i64>,
}

impl Panes for SlideCounts {
    type In = Count;
    type Out = (i64, q5::Hottest);

    fn take(&mut self, count: Count, _time: i64) {
        *self.slides.entry(count.end).or_default().entry(count.auction).or_default() += count.bids;
    }

    fn close(&mut self, until: i64, out: &mut VecDeque<((i64, q5::Hottest), i64)>) {
        let (size, slide) = (q5::SIZE_MS as i64, q5::SLIDE_MS as i64);
        while let Some(first) = self.slides.keys().next().copied() {
            // No window before the first slide's has anything in it.
            let end = self.next.map_or(first, |next| next.max(first));
            if end > until {
                return;
            }
            let mut totals = Counts::default();
            for counts in self.slides.range(end - size + slide..=end).map(|(_, counts)| counts) {
                counts.iter().for_each(|(auction, bids)| *totals.entry(*auction).or_default() += bids);
            }
            let mut hottest = q5::Hottest::default();
            totals.into_iter().for_each(|(auction, bids)| hottest.add(auction, bids));
            if !hottest.auctions.is_empty() {
                out.push_back(((end, hottest), end - 1));
            }
            self.next = Some(end + slide);
            // What is in no later window goes.
            self.slides = self.slides.split_off(&(end - size + 2 * slide));
        }
    }
}

/// The bids of the greatest price in each window.
#[derive(Clone, Default)]
struct HighestBids {
    windows: BTreeMap<i64, q7::Highest>,
}

impl Panes for HighestBids {
    type In = Bid;
    type Out = (i64, q7::Highest);

    #[inline]
    fn take(&mut self, bid: Bid, time: i64) {
        let size = q7::SIZE_MS as i64;
        self.windows.entry(time.div_euclid(size) * size + size).or_default().add(&bid);
    }

    fn close(&mut self, until: i64, out: &mut VecDeque<((i64, q7::Highest), i64)>) {
        while let Some(window) = self.windows.first_entry().filter(|window| *window.key() <= until) {
            let (end, highest) = window.remove_entry();
            out.push_back(((end, highest), end - 1));
        }
    }
}

/// What replicas have found of a window, joined.
trait Joined: Default + Clone + Send + 'static {
    fn join(&mut self, other: Self);
}

impl Joined for q5::Hottest {
    fn join(&mut self, other: Self) {
        self.merge(other);
    }
}

impl Joined for q7::Highest {
    fn join(&mut self, other: Self) {
        self.merge(other);
    }
}

/// Joins what the replicas have found of each window.
#[derive(Clone, Default)]
struct Merge<T> {
    windows: BTreeMap<i64, T>,
}

impl<T: Joined> Panes for Merge<T> {
    type In = (i64, T);
    type Out = (i64, T);

    fn take(&mut self, (end, found): (i64, T), _time: i64) {
        self.windows.entry(end).or_default().join(found);
    }

    fn close(&mut self, until: i64, out: &mut VecDeque<((i64, T), i64)>) {
        while let Some(window) = self.windows.first_entry().filter(|window| *window.key() <= until) {
            let (end, found) = window.remove_entry();
            out.push_back(((end, found), end - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QUERIES;
    use super::super::events::Settings;
    use super::*;

    #[test]
    fn every_query_agrees_with_its_reference() {
        let settings = Settings { events: 20_000, rate: 400 };
        let all: Vec<Event> = settings.all();
        for number in NUMBERS {
            let query = QUERIES.iter().find(|query| query.number == number).unwrap();
            let expected = query.reference(&all);
            for replicas in [1, 2] {
                let outcome = run(number, &settings.feed(replicas)).unwrap();
                assert!(outcome.answer.agrees(&expected), "query {number}, {replicas} replicas");
            }
        }
    }

    #[test]
    fn windows_close_before_the_input_ends() {
        let mut highest = HighestBids::default();
        let mut out = VecDeque::new();
        let mut watermarks = at_slides::<()>(q7::SIZE_MS as i64);
        let settings = Settings { events: 20_000, rate: 400 };
        for bid in settings.all().into_iter().filter_map(bid) {
            let time = bid.date_time as i64;
            highest.take(bid, time);
            if let Some(watermark) = watermarks(&(), &time) {
                highest.close(watermark + 1, &mut out);
            }
        }
        // Fifty seconds have six windows at most, the last of which is open.
        assert!(out.len() >= 4, "{}", out.len());
    }
}
