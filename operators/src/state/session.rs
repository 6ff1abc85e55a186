//! The open sessions of one key.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::ser::SerializeSeq;

use super::Mark;
use crate::aggregate::kept;
use crate::{Aggregate, EventTime, OperatorError, Window, decode};

/// A session that is open.
#[derive(Clone, Debug)]
pub(super) struct Session<Acc, M> {
    pub(super) window: Window,
    pub(super) acc: Acc,
    pub(super) mark: M,
}

/// What a session gets: a record, or what was aggregated elsewhere.
pub(super) enum Part<'a, A: Aggregate> {
    Record(&'a A::In),
    Aggregated(A::Acc),
}

impl<A: Aggregate> Part<'_, A> {
    /// A session that is marked, as it is new.
    pub(super) fn begin<M: Mark>(self, aggregate: &A, window: Window) -> Session<A::Acc, M> {
        let acc = match self {
            Part::Record(value) => kept::create(aggregate, value),
            Part::Aggregated(mut acc) => {
                aggregate.seal(&mut acc);
                acc
            }
        };
        let mut mark = M::default();
        mark.set();
        Session { window, acc, mark }
    }

    fn join(self, aggregate: &A, acc: &mut A::Acc) {
        match self {
            Part::Record(value) => kept::add(aggregate, acc, value),
            Part::Aggregated(other) => aggregate.merge(acc, other),
        }
    }
}

impl<Acc, M> Session<Acc, M> {
    /// Takes a part that spans `window`, which the session meets.
    fn take<A: Aggregate<Acc = Acc>>(&mut self, aggregate: &A, window: Window, part: Part<'_, A>) {
        part.join(aggregate, &mut self.acc);
        self.span(window);
    }

    /// Takes in a later session.
    fn merge<A: Aggregate<Acc = Acc>>(&mut self, aggregate: &A, other: Session<Acc, M>) {
        aggregate.merge(&mut self.acc, other.acc);
        self.span(other.window);
    }

    fn span(&mut self, window: Window) {
        self.window.start = self.window.start.min(window.start);
        self.window.end = self.window.end.max(window.end);
    }
}

/// Sessions before the last one, in order. Boxed in an entry, where this is a word instead of four.
type Earlier<Acc, M> = VecDeque<Session<Acc, M>>;

/// Lists that are empty, for keys that need one: with many keys some need one all the time, each for a short while.
pub(super) type Spare<Acc, M> = Vec<Box<Earlier<Acc, M>>>;

/// How many lists are kept, and for how many sessions each at most.
const SPARE: usize = 1024;
const SPARE_LEN: usize = 16;

/// The sessions of a key in order of time. They neither overlap nor touch.
///
/// The last one, which nearly every record extends, is in the table's entry itself. There is memory for others only
/// while there are any.
#[derive(Clone, Debug)]
pub(super) struct Sessions<Acc, M> {
    pub(super) last: Session<Acc, M>,
    earlier: Option<Box<Earlier<Acc, M>>>,
    /// When the key's timer is set for.
    pub(super) due: EventTime,
}

/// Where a part has gone.
pub(super) struct Landed {
    /// How many sessions it met, which are one now.
    pub(super) met: usize,
    /// Whether it is a session of its own, before all others: the timer has to be set again.
    pub(super) first: bool,
    /// Whether the session that it is in now was not marked before.
    pub(super) marked: bool,
}

impl Landed {
    /// In the first session of its key.
    pub(super) const FIRST: Landed = Landed { met: 0, first: true, marked: true };
}

impl<Acc, M: Mark> Sessions<Acc, M> {
    /// A key's only session, with a timer for its end.
    pub(super) fn of_one(last: Session<Acc, M>) -> Self {
        let due = last.window.end;
        Sessions { last, earlier: None, due }
    }

    /// Sessions in order, if there are any.
    fn in_order(sessions: Vec<(Window, Acc)>) -> Option<Self> {
        let of_row = |(window, acc)| Session { window, acc, mark: M::default() };
        let mut earlier: Earlier<Acc, M> = sessions.into_iter().map(of_row).collect();
        let mut sessions = Sessions::of_one(earlier.pop_back()?);
        if let Some(first) = earlier.front() {
            sessions.due = first.window.end;
            sessions.earlier = Some(Box::new(earlier));
        }
        Some(sessions)
    }

    pub(super) fn len(&self) -> usize {
        1 + self.earlier.as_ref().map_or(0, |earlier| earlier.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<Acc, M>> {
        self.earlier.iter().flat_map(|earlier| earlier.iter()).chain(std::iter::once(&self.last))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session<Acc, M>> {
        self.earlier.iter_mut().flat_map(|earlier| earlier.iter_mut()).chain(std::iter::once(&mut self.last))
    }

    /// The end of the first session.
    pub(super) fn first_end(&self) -> EventTime {
        self.earlier.as_ref().and_then(|earlier| earlier.front()).unwrap_or(&self.last).window.end
    }

    /// Takes out every session but the last one that has ended by the watermark; says whether there was one.
    pub(super) fn take_earlier(
        &mut self,
        watermark: EventTime,
        spare: &mut Spare<Acc, M>,
        mut ended: impl FnMut(Session<Acc, M>),
    ) -> bool {
        let Some(earlier) = &mut self.earlier else { return false };
        let before = earlier.len();
        while earlier.front().is_some_and(|session| session.window.end <= watermark)
            && let Some(session) = earlier.pop_front()
        {
            ended(session);
        }
        let taken = earlier.len() < before;
        self.tidy(spare);
        taken
    }

    /// Whether there is any but the last one.
    #[inline]
    pub(super) fn has_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// Whether there is only one, which has ended by the watermark.
    pub(super) fn is_over(&self, watermark: EventTime) -> bool {
        self.earlier.is_none() && self.last.window.end <= watermark
    }

    /// Puts a part that spans `window` among the sessions: those it meets become one with it.
    ///
    /// All sessions but the last are sealed, and so is the last one if a later record went to another. So records that extend it
    /// with the last session, as nearly all do, need not look.
    pub(super) fn put<A: Aggregate<Acc = Acc>>(
        &mut self,
        aggregate: &A,
        window: Window,
        part: Part<'_, A>,
        spare: &mut Spare<Acc, M>,
    ) -> Landed {
        if self.last.window.end < window.start {
            let mut before = std::mem::replace(&mut self.last, part.begin(aggregate, window));
            aggregate.seal(&mut before.acc);
            self.earlier.get_or_insert_with(|| spare.pop().unwrap_or_default()).push_back(before);
            return Landed { met: 0, first: false, marked: true };
        }
        let meets_last = self.last.window.start <= window.end;
        let (place, met) = self.earlier.as_ref().map_or((0, 0), |earlier| met(earlier, window));
        if met == 0 && meets_last {
            self.last.take(aggregate, window, part);
            return Landed { met: 1, first: false, marked: self.last.mark.set() };
        }
        if met == 0 {
            let earlier = self.earlier.get_or_insert_with(|| spare.pop().unwrap_or_default());
            let mut one = part.begin(aggregate, window);
            aggregate.seal(&mut one.acc);
            aggregate.seal(&mut self.last.acc);
            earlier.insert(place, one);
            if place == 0 {
                self.due = window.end;
            }
            return Landed { met, first: place == 0, marked: true };
        }
        // The first of those it meets becomes the one, so that what came earlier stands before what came later.
        let mut landed = Landed { met, first: false, marked: false };
        if let Some(earlier) = &mut self.earlier {
            let others: Earlier<Acc, M> = earlier.drain(place + 1..place + met).collect();
            let one = if meets_last { earlier.pop_back() } else { None };
            if let Some(one) = one {
                let last = std::mem::replace(&mut self.last, one);
                self.last.take(aggregate, window, part);
                others.into_iter().for_each(|other| self.last.merge(aggregate, other));
                self.last.merge(aggregate, last);
                landed.met += 1;
                landed.marked = self.last.mark.set();
            } else if let Some(one) = earlier.get_mut(place) {
                one.take(aggregate, window, part);
                others.into_iter().for_each(|other| one.merge(aggregate, other));
                aggregate.seal(&mut one.acc);
                aggregate.seal(&mut self.last.acc);
                landed.marked = one.mark.set();
            }
        }
        self.tidy(spare);
        landed
    }

    /// Gives the memory for earlier sessions away if there are none.
    fn tidy(&mut self, spare: &mut Spare<Acc, M>) {
        if let Some(list) = self.earlier.take_if(|earlier| earlier.is_empty())
            && spare.len() < SPARE
            && list.capacity() <= SPARE_LEN
        {
            spare.push(list);
        }
    }
}

/// The place of the first session that ends no earlier than the window begins, and how many from there on it meets.
fn met<Acc, M>(sessions: &Earlier<Acc, M>, window: Window) -> (usize, usize) {
    let place = sessions.partition_point(|session| session.window.end < window.start);
    let met = sessions.range(place..).take_while(|session| session.window.start <= window.end).count();
    (place, met)
}

/// The sessions of a key on their way into a checkpoint.
pub(super) struct Content<'a, Acc, M>(pub(super) &'a Sessions<Acc, M>);

impl<Acc: Serialize, M: Mark> Serialize for Content<'_, Acc, M> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.0.len()))?;
        for session in self.0.iter() {
            rows.serialize_element(&(session.window, &session.acc))?;
        }
        rows.end()
    }
}

/// The sessions of a key from a checkpoint; none if it has no session any more.
pub(super) fn read<Acc: DeserializeOwned, M: Mark>(
    bytes: &[u8],
) -> Result<Option<Sessions<Acc, M>>, OperatorError> {
    let sessions: Vec<(Window, Acc)> = decode(bytes)?;
    if sessions.is_sorted_by(|(earlier, _), (later, _)| earlier.end < later.start) {
        Ok(Sessions::in_order(sessions))
    } else {
        Err(OperatorError::Codec(postcard::Error::DeserializeBadEncoding))
    }
}
