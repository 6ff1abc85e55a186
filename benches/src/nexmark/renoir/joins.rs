//! Queries 3, 4 and 8 on Renoir.
//!
//! Query 3 is its `join`; each event is reduced to what the query wants to know of it before it is routed to a side. For query 4 its
//! own example has state written by hand instead of its windows, and its windows of query 8 lose rows. So in these both kinds
//! of events stay in one stream, which goes to the replica of each key, and state there joins them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use renoir::StreamContext;
use tidemill::prelude::Either;

use super::super::answer::Rows;
use super::super::events::Feed;
use super::super::lots::{Lot, Move, Offer};
use super::super::{q3, q4, q8};
use super::{Panes, at_slides, closing, taken};

pub(super) fn suggestions(context: &StreamContext, feed: Feed, rows: Rows<q3::Suggestion>) {
    type Wanted = Either<q3::Seller, q3::Sale>;
    let mut routes = context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(q3::wanted)
        .route()
        .add_route(|row: &Wanted| row.is_left())
        .add_route(|row: &Wanted| row.is_right())
        .build()
        .into_iter();
    let (sellers, sales) = (routes.next().expect("two routes"), routes.next().expect("two routes"));
    sellers
        .filter_map(Either::left)
        .join(sales.filter_map(Either::right), |seller| seller.id, |sale| sale.seller)
        .drop_key()
        .map(|(seller, sale)| q3::suggest(seller, sale))
        .for_each(taken(&rows));
}

/// How often there is a watermark in query 4, in milliseconds.
const WATERMARK_MS: i64 = 100;

pub(super) fn category_means(context: &StreamContext, feed: Feed, rows: Rows<q4::Category>) {
    context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(|event| Move::of(event, |auction| auction.category, |_| ()))
        .add_timestamps(|row| row.at() as i64, at_slides(WATERMARK_MS))
        .group_by(Move::auction)
        .drop_key()
        .rich_map_custom(closing(Auctions::default()))
        .drop_timestamps()
        .group_by_fold(
            |(category, _): &(usize, u64)| *category,
            (0, 0),
            |sum: &mut (u64, u64), (_, price)| *sum = (sum.0 + 1, sum.1 + price),
            |sum, other| *sum = (sum.0 + other.0, sum.1 + other.1),
        )
        .unkey()
        .map(|(category, (auctions, total))| q4::Category { category, mean: total / auctions })
        .for_each(taken(&rows));
}

/// What is known of an auction.
#[derive(Clone)]
enum Auction {
    /// Bids that have come before it.
    Bids(Vec<Offer<()>>),
    Open(Lot<usize>, Option<Offer<()>>),
}

/// The auctions that are open, and bids whose auction is not known.
#[derive(Clone, Default)]
struct Auctions {
    known: HashMap<usize, Auction, FixedState>,
    /// When to look at an auction again: the earliest first.
    ends: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Panes for Auctions {
    type In = Move<usize, ()>;
    type Out = (usize, u64);

    #[inline]
    fn take(&mut self, row: Move<usize, ()>, time: i64) {
        match row {
            Move::Lot(id, lot) => {
                self.ends.push(Reverse((lot.expires as i64, id)));
                let early = match self.known.remove(&id) {
                    Some(Auction::Bids(bids)) => bids,
                    _ => Vec::new(),
                };
                let best = early.into_iter().filter(|offer| lot.takes(offer)).max_by_key(Offer::rank);
                self.known.insert(id, Auction::Open(lot, best));
            }
            Move::Offer(id, offer) => match self.known.get_mut(&id) {
                Some(Auction::Open(lot, best)) => {
                    let is_better = best.as_ref().is_none_or(|best| offer.rank() > best.rank());
                    if is_better && lot.takes(&offer) {
                        *best = Some(offer);
                    }
                }
                Some(Auction::Bids(bids)) => {
                    bids.push(offer);
                    self.ends.push(Reverse((time, id)));
                }
                None => {
                    self.known.insert(id, Auction::Bids(vec![offer]));
                    self.ends.push(Reverse((time, id)));
                }
            },
        }
    }

    fn close(&mut self, until: i64, out: &mut VecDeque<((usize, u64), i64)>) {
        while let Some(Reverse((time, id))) =
            self.ends.peek().copied().filter(|Reverse((time, _))| *time < until)
        {
            self.ends.pop();
            let is_over = match self.known.get(&id) {
                Some(Auction::Open(lot, _)) => lot.expires as i64 <= time,
                Some(Auction::Bids(bids)) => bids.iter().all(|offer| offer.at as i64 <= time),
                None => false,
            };
            if is_over && let Some(Auction::Open(lot, Some(best))) = self.known.remove(&id) {
                out.push_back(((lot.about, best.price), time));
            }
        }
    }
}

pub(super) fn new_users(context: &StreamContext, feed: Feed, rows: Rows<q8::NewUser>) {
    context
        .stream_par_iter(move |id, _| feed.read(id as u32))
        .filter_map(q8::entrance)
        .add_timestamps(|row| row.at as i64, at_slides(q8::SIZE_MS as i64))
        .group_by(|row: &q8::Entrance| row.id)
        .drop_key()
        .rich_map_custom(closing(Entrances::default()))
        .for_each(taken(&rows));
}

/// Who has entered in a window, and whether they have opened an auction in it.
type Window = HashMap<usize, (Option<String>, bool), FixedState>;

/// The windows that are open, by their ends.
#[derive(Clone, Default)]
struct Entrances {
    windows: BTreeMap<i64, Window>,
}

impl Panes for Entrances {
    type In = q8::Entrance;
    type Out = q8::NewUser;

    #[inline]
    fn take(&mut self, row: q8::Entrance, time: i64) {
        let size = q8::SIZE_MS as i64;
        let window = self.windows.entry(time.div_euclid(size) * size + size).or_default();
        let (name, has_sold) = window.entry(row.id).or_default();
        match row.name {
            Some(of_person) => *name = Some(of_person),
            None => *has_sold = true,
        }
    }

    fn close(&mut self, until: i64, out: &mut VecDeque<(q8::NewUser, i64)>) {
        while let Some(window) = self.windows.first_entry().filter(|window| *window.key() <= until) {
            let (end, users) = window.remove_entry();
            let start = end as u64 - q8::SIZE_MS;
            let new =
                users.into_iter().filter_map(|(id, (name, has_sold))| Some((id, name.filter(|_| has_sold)?)));
            out.extend(new.map(|(id, name)| (q8::NewUser { id, name, start }, end - 1)));
        }
    }
}
