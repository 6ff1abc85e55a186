//! State for session windows: per key the sessions that are open, few and in order.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::table::{Entry, Table};
use super::{GroupState, Mark};
use crate::{
    Aggregate, Change, EventTime, Key, KeyGroup, OperatorError, SnapshotReader, SnapshotWriter, Window,
    decode, hash_key,
};

/// How long a record keeps its session open; implemented by the session windows.
pub trait Gap<V>: Send + 'static {
    /// What a record spans: from its own time to the end of its gap, at least a microsecond unless time itself ends.
    fn span(&self, time: EventTime, value: &V) -> Window;
}

/// Accumulators by key and session.
///
/// Made by the `state` of a [`SessionWindow`](crate::SessionWindow) or [`SessionBy`](crate::SessionBy). A record is
/// late when its own span has ended by the watermark, even if it would have met a session that is still open.
pub struct SessionState<K, A: Aggregate, M, G> {
    gap: G,
    /// No key is there without a session.
    table: Table<K, Sessions<A::Acc, M>, Written>,
    /// When to look at the sessions of a hash. A session has one from when it began, at an instant within it or at its
    /// end; it is moved to the end when its time has come, not whenever the session grows.
    timers: BinaryHeap<Reverse<(EventTime, u64)>>,
    len: usize,
    /// The hash of every marked session.
    changes: Vec<u64>,
    tracked: bool,
    /// The hash of every key whose sessions have changed since the last snapshot.
    unwritten: Vec<u64>,
    /// Keys in the checkpoint that have no session any more.
    gone: Vec<K>,
}

/// What a checkpoint has of a key.
#[derive(Clone, Copy, Default)]
struct Written {
    /// Anything: when the last session closes, that must be written.
    before: bool,
    /// Not its sessions as they are now. Without checkpoints it is so for ever, and looked at no more.
    stale: bool,
}

impl Written {
    /// A session has changed; says whether that was not known.
    #[inline]
    fn outdate(&mut self) -> bool {
        !std::mem::replace(&mut self.stale, true)
    }
}

/// The sessions of a key in order of time. They neither overlap nor touch.
type Sessions<Acc, M> = SmallVec<[Session<Acc, M>; 1]>;

#[derive(Clone, Debug)]
struct Session<Acc, M> {
    window: Window,
    acc: Acc,
    mark: M,
}

/// What a session gets: a record, or what was aggregated elsewhere.
enum Part<'a, A: Aggregate> {
    Record(&'a A::In),
    Aggregated(A::Acc),
}

impl<A: Aggregate> Part<'_, A> {
    fn begin(self, aggregate: &A) -> A::Acc {
        match self {
            Part::Record(value) => aggregate.create(value),
            Part::Aggregated(acc) => acc,
        }
    }

    fn join(self, aggregate: &A, acc: &mut A::Acc) {
        match self {
            Part::Record(value) => aggregate.add(acc, value),
            Part::Aggregated(other) => aggregate.merge(acc, other),
        }
    }
}

/// Puts a part that spans `window` among the sessions: those it meets become one with it. Gives the place of the
/// session it is in now, and how many it met.
fn put<A: Aggregate, M: Mark>(
    aggregate: &A,
    sessions: &mut Sessions<A::Acc, M>,
    window: Window,
    part: Part<'_, A>,
) -> (usize, usize) {
    let place = sessions.partition_point(|session| session.window.end < window.start);
    let met = sessions.iter().skip(place).take_while(|session| session.window.start <= window.end).count();
    if met == 0 {
        sessions.insert(place, Session { window, acc: part.begin(aggregate), mark: M::default() });
        return (place, met);
    }
    let others: Sessions<A::Acc, M> =
        if met > 1 { sessions.drain(place + 1..place + met).collect() } else { SmallVec::new() };
    if let Some(session) = sessions.get_mut(place) {
        part.join(aggregate, &mut session.acc);
        session.window.start = session.window.start.min(window.start);
        session.window.end = session.window.end.max(window.end);
        for other in others {
            aggregate.merge(&mut session.acc, other.acc);
            session.window.end = session.window.end.max(other.window.end);
        }
    }
    (place, met)
}

impl<K: Key, A: Aggregate, M: Mark, G: Gap<A::In>> SessionState<K, A, M, G> {
    pub(crate) fn new(gap: G) -> Self {
        SessionState {
            gap,
            table: Table::new(),
            timers: BinaryHeap::new(),
            len: 0,
            changes: Vec::new(),
            tracked: false,
            unwritten: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Adds a record that does not merely go on with its key's last session.
    #[inline(never)]
    fn add_apart<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, window: Window, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Entry { acc: sessions, mark, .. } = self.table.upsert(hash, key, SmallVec::new, |_| ());
        let outdated = mark.outdate();
        let (place, met) = put(aggregate, sessions, window, Part::Record(value));
        if M::TRACKED && sessions.get_mut(place).is_some_and(|session| session.mark.set()) {
            self.changes.push(hash);
        }
        self.count(hash, window, met, outdated);
    }

    /// Counts a part that met so many sessions. Whether it began one, and whether it is the first since its key was
    /// written, is one test: neither is so most of the time.
    #[inline]
    fn count(&mut self, hash: u64, window: Window, met: usize, outdated: bool) {
        if outdated | (met == 0) {
            self.note(hash, (met == 0).then_some(window), outdated);
        }
        self.len = self.len + 1 - met;
    }

    /// Sets a timer for a session that has begun, and notes that the key has to be written.
    fn note(&mut self, hash: u64, begun: Option<Window>, outdated: bool) {
        self.timers.extend(begun.map(|window| Reverse((window.end, hash))));
        if outdated && self.tracked {
            self.unwritten.push(hash);
        }
    }

    /// Forgets a key, if it is there. Its timers stay, and will find nothing.
    fn forget(&mut self, hash: u64, key: &K) {
        if let Some(entry) = self.table.remove(hash, |entry| entry.key == *key) {
            self.len -= entry.acc.len();
        }
    }

    /// How many timers are set.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Closes a session of the hash that ends at that time, if there is one.
    fn close_one(&mut self, time: EventTime, hash: u64) -> Option<(K, Session<A::Acc, M>)> {
        let entry = self.table.of_hash_mut(hash).find(|entry| ending(&entry.acc, time).is_some())?;
        let session = entry.acc.remove(ending(&entry.acc, time)?);
        self.len -= 1;
        let key = if entry.acc.is_empty() {
            let entry = self.table.remove(hash, |entry| entry.acc.is_empty())?;
            if entry.mark.before {
                self.gone.push(entry.key.clone());
            }
            entry.key
        } else {
            let key = entry.key.clone();
            if entry.mark.outdate() && self.tracked {
                self.unwritten.push(hash);
            }
            key
        };
        Some((key, session))
    }
}

/// The place of the session that ends at that time.
fn ending<Acc, M>(sessions: &Sessions<Acc, M>, time: EventTime) -> Option<usize> {
    sessions.binary_search_by_key(&time, |session| session.window.end).ok()
}

impl<K: Key, A: Aggregate, M: Mark, G: Gap<A::In>> GroupState<K, A> for SessionState<K, A, M, G> {
    /// A session so far.
    type Slot = Window;
    type Place = Window;

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
        // Nearly every record goes on with its key's last session.
        if let Some(Entry { acc: sessions, mark, .. }) = self.table.find_mut(hash, key)
            && let Some(last) = sessions.last_mut()
            && last.window.start <= window.start
            && window.start <= last.window.end
        {
            aggregate.add(&mut last.acc, value);
            last.window.end = last.window.end.max(window.end);
            if last.mark.set() {
                self.changes.push(hash);
            }
            if mark.outdate() {
                self.note(hash, None, true);
            }
            return;
        }
        self.add_apart(aggregate, hash, key, window, value);
    }

    fn merge(&mut self, aggregate: &A, hash: u64, key: K, slot: Window, acc: A::Acc) {
        let Entry { acc: sessions, mark, .. } = self.table.merge(hash, key, SmallVec::new(), |_, _| ());
        let outdated = mark.outdate();
        let (place, met) = put(aggregate, sessions, slot, Part::Aggregated(acc));
        if M::TRACKED && sessions.get_mut(place).is_some_and(|session| session.mark.set()) {
            self.changes.push(hash);
        }
        self.count(hash, slot, met, outdated);
    }

    fn drain(&mut self, emit: &mut impl FnMut(u64, K, Window, A::Acc)) {
        self.changes.clear();
        self.timers.clear();
        self.len = 0;
        self.table.drain(|key, mut sessions| {
            let hash = hash_key(&key);
            let last = sessions.pop();
            for session in sessions {
                emit(hash, key.clone(), session.window, session.acc);
            }
            if let Some(session) = last {
                emit(hash, key, session.window, session.acc);
            }
        });
    }

    fn close(&mut self, aggregate: &A, watermark: EventTime, emit: &mut impl FnMut(K, Window, A::Out)) {
        while let Some(Reverse((time, hash))) = self.timers.peek().copied()
            && time <= watermark
        {
            // Sessions that became one leave more than one timer for the same end.
            while self.timers.peek() == Some(&Reverse((time, hash))) {
                self.timers.pop();
            }
            while let Some((key, session)) = self.close_one(time, hash) {
                emit(key, session.window, aggregate.finish(&session.acc));
            }
            for entry in self.table.of_hash(hash) {
                let grown = entry.acc.iter().find(|s| s.window.start <= time && time < s.window.end);
                self.timers.extend(grown.map(|session| Reverse((session.window.end, hash))));
            }
        }
    }

    fn changed(&mut self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        for hash in std::mem::take(&mut self.changes) {
            for entry in self.table.of_hash_mut(hash) {
                for session in entry.acc.iter_mut().filter(|session| session.mark.is_set()) {
                    session.mark.clear();
                    emit(entry.key.clone(), session.window, aggregate.finish(&session.acc));
                }
            }
        }
    }

    fn all(&self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        for entry in self.table.iter() {
            for session in &entry.acc {
                emit(entry.key.clone(), session.window, aggregate.finish(&session.acc));
            }
        }
    }

    fn relieve(&mut self, aggregate: &A) {
        self.table.each_mut(|sessions| sessions.iter_mut().for_each(|s| aggregate.relieve(&mut s.acc)));
    }

    fn len(&self) -> usize {
        self.len
    }

    fn unsaved(&self) -> usize {
        self.unwritten.len()
    }

    fn track(&mut self) {
        self.tracked = true;
    }

    /// The value of a key is all its sessions, in order: as they grow into each other, none is the same for long.
    fn snapshot(&mut self, _aggregate: &A, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        if !self.tracked {
            return self.table.iter().try_for_each(|Entry { key, acc, .. }| {
                writer.put(KeyGroup::of(hash_key(key)), &(), key, &Content(acc))
            });
        }
        // First: a key may have come again.
        for key in self.gone.drain(..) {
            writer.remove(KeyGroup::of(hash_key(&key)), &(), &key)?;
        }
        for hash in self.unwritten.drain(..) {
            for entry in self.table.of_hash_mut(hash).filter(|entry| entry.mark.stale) {
                entry.mark = Written { before: true, stale: false };
                writer.put(KeyGroup::of(hash), &(), &entry.key, &Content(&entry.acc))?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        let mut reader = SnapshotReader::new(bytes);
        while let Some(change) = reader.next_change()? {
            match change {
                Change::Put { key, value, .. } => {
                    let key: K = decode(key)?;
                    let hash = hash_key(&key);
                    let sessions = read::<A::Acc, M>(value)?;
                    self.len += sessions.len();
                    self.timers.extend(sessions.iter().map(|session| Reverse((session.window.end, hash))));
                    if sessions.is_empty() {
                        self.forget(hash, &key);
                        continue;
                    }
                    let entry = self.table.merge(hash, key, SmallVec::new(), |_, _| ());
                    entry.mark = Written { before: self.tracked, stale: false };
                    self.len -= std::mem::replace(&mut entry.acc, sessions).len();
                }
                Change::Remove { key, .. } => {
                    let key: K = decode(key)?;
                    self.forget(hash_key(&key), &key);
                }
                Change::DropSlot { .. } => {
                    self.table.drop_group(group, |sessions| self.len -= sessions.len())
                }
            }
        }
        Ok(())
    }
}

/// The sessions of a key on their way into a checkpoint.
struct Content<'a, Acc, M>(&'a Sessions<Acc, M>);

impl<Acc: Serialize, M> Serialize for Content<'_, Acc, M> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|session| (session.window, &session.acc)))
    }
}

/// The sessions of a key from a checkpoint.
fn read<Acc: DeserializeOwned, M: Mark>(bytes: &[u8]) -> Result<Sessions<Acc, M>, OperatorError> {
    let sessions: Vec<(Window, Acc)> = decode(bytes)?;
    if sessions.is_sorted_by(|(earlier, _), (later, _)| earlier.end < later.start) {
        let session = |(window, acc)| Session { window, acc, mark: M::default() };
        Ok(sessions.into_iter().map(session).collect())
    } else {
        Err(OperatorError::Codec(postcard::Error::DeserializeBadEncoding))
    }
}
