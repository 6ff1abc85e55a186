//! What a worker has aggregated of sessions, before it is exchanged.
//!
//! A worker sees only some of a key's records, so gaps are longer here than they are in the stream, and what looks like
//! many sessions is one. Only the latest part of each key is therefore kept where records can find it; the others wait in a
//! row to be emitted. A record that would have met one of those becomes a part of its own, and the worker that holds the
//! key joins them.

use std::borrow::Borrow;
use std::hash::Hash;

use super::table::{Entry, Table};
use super::{Gap, Intake, PartialState};
use crate::aggregate::kept;
use crate::keeping::keep;
use crate::{Aggregate, EventTime, Key, Window, hash_key};

/// Accumulators by key and part of a session.
///
/// Made by the `partials` of a [`SessionWindow`](crate::SessionWindow) or [`SessionBy`](crate::SessionBy). Lateness is that
/// of a [`SessionState`](super::SessionState).
pub struct SessionParts<K, A: Aggregate, G> {
    gap: G,
    /// The latest part of each key.
    table: Table<K, Part<A::Acc>, ()>,
    /// Those that no record will be added to.
    done: Vec<(u64, K, Part<A::Acc>)>,
}

/// A part of a session.
struct Part<Acc> {
    window: Window,
    acc: Acc,
}

impl<K: Key, A: Aggregate, G: Gap<A::In>> SessionParts<K, A, G> {
    pub(crate) fn new(gap: G) -> Self {
        SessionParts { gap, table: Table::new(), done: Vec::new() }
    }

    /// Adds a record that spans `window`.
    #[inline(always)]
    fn add_at<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, window: Window, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        match self.table.find_mut(hash, key) {
            Some(Entry { acc: part, .. })
                if window.start <= part.window.end && part.window.start <= window.end =>
            {
                kept::add(aggregate, &mut part.acc, value);
                part.window.start = part.window.start.min(window.start);
                part.window.end = part.window.end.max(window.end);
            }
            _ => self.add_apart(aggregate, hash, key, Part { window, acc: kept::create(aggregate, value) }),
        }
    }

    /// Adds a part that does not meet its key's latest. Out of line, as most records are added to one.
    #[inline(never)]
    fn add_apart<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, part: Part<A::Acc>)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Some(entry) = self.table.find_mut(hash, key) else {
            self.table.insert(hash, keep(|| key.to_owned()), part);
            return;
        };
        let earlier = match part.window.start > entry.acc.window.start {
            true => std::mem::replace(&mut entry.acc, part),
            false => {
                aggregate.seal(&mut entry.acc.acc);
                part
            }
        };
        self.done.push((hash, entry.key.clone(), earlier));
    }
}

impl<K: Key, A: Aggregate, G: Gap<A::In>> Intake<K, A> for SessionParts<K, A, G> {
    /// A session so far.
    type Slot = Window;

    #[inline]
    fn is_late(&self, time: EventTime, value: &A::In, watermark: EventTime) -> bool {
        self.gap.span(time, value).end <= watermark
    }

    fn slot(&mut self, time: EventTime, value: &A::In) -> Window {
        self.gap.span(time, value)
    }

    #[inline(always)]
    fn add<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, time: EventTime, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let window = self.gap.span(time, value);
        self.add_at(aggregate, hash, key, window, value);
    }

    /// Works the record's span out once, for both the late test and the parts.
    #[inline(always)]
    fn offer<Q>(
        &mut self,
        aggregate: &A,
        hash: u64,
        key: &Q,
        time: EventTime,
        value: A::In,
        watermark: EventTime,
    ) -> Option<A::In>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let window = self.gap.span(time, &value);
        if window.end <= watermark {
            return Some(value);
        }
        self.add_at(aggregate, hash, key, window, &value);
        None
    }

    fn is_one_place(&self) -> bool {
        false
    }

    fn len(&self) -> usize {
        self.table.len() + self.done.len()
    }
}

impl<K: Key, A: Aggregate, G: Gap<A::In>> PartialState<K, A> for SessionParts<K, A, G> {
    fn drain(&mut self, emit: &mut impl FnMut(u64, K, Window, A::Acc)) {
        for (hash, key, part) in self.done.drain(..) {
            emit(hash, key, part.window, part.acc);
        }
        self.table.drain(|key, part| emit(hash_key(&key), key, part.window, part.acc));
    }
}
