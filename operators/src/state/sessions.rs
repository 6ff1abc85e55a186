//! State for session windows: per key the sessions that are open, few and in order.

use std::borrow::Borrow;
use std::hash::Hash;

use super::order::Order;
use super::session::{Content, Landed, Part, Session, Sessions, Spare, read};
use super::table::{Entry, Table, relieve};
use super::timers::Timers;
use super::{GroupState, Intake, Mark, Reach};
use crate::aggregate::kept;
use crate::arrival;
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
    /// When to look at the sessions of a hash. Every key has one, at the end of its first session or before; it is moved
    /// to that end when its time has come, not whenever the session grows. What is left of former ones finds nothing.
    timers: Timers,
    /// What has ended, while the others that have are looked for.
    ended: Vec<Ended<K, A::Acc, M>>,
    /// Keys without a session, on their way from the table to what has ended.
    over: Vec<Entry<K, Sessions<A::Acc, M>, Written>>,
    order: Order,
    spare: Spare<A::Acc, M>,
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
    /// Not its sessions as they are now. Without checkpoints it is not used.
    stale: bool,
}

impl Written {
    /// A session has changed; says whether that was not known.
    #[inline]
    fn outdate(&mut self) -> bool {
        !std::mem::replace(&mut self.stale, true)
    }
}

/// Where one timer in this many places of the table is due, the table is gone through.
const MANY: usize = 4;

/// A session that has ended, on its way out.
struct Ended<K, Acc, M> {
    session: Session<Acc, M>,
    hash: u64,
    key: K,
}

impl<K: Key, A: Aggregate, M: Mark, G: Gap<A::In>> SessionState<K, A, M, G> {
    pub(crate) fn new(gap: G) -> Self {
        SessionState {
            gap,
            table: Table::new(),
            timers: Timers::new(),
            ended: Vec::new(),
            over: Vec::new(),
            order: Order::new(),
            spare: Vec::new(),
            len: 0,
            changes: Vec::new(),
            tracked: false,
            unwritten: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Adds a record to its key's last session if it merely extends it, as nearly every record does.
    #[inline(always)]
    fn go_on<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, window: Window, value: &A::In) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Some(Entry { acc: sessions, mark, .. }) = self.table.find_mut(hash, key) else { return false };
        let last = &mut sessions.last;
        if window.start < last.window.start || last.window.end < window.start {
            return false;
        }
        kept::add(aggregate, &mut last.acc, value);
        last.window.end = last.window.end.max(window.end);
        if last.mark.set() {
            self.changes.push(hash);
        }
        if self.tracked && mark.outdate() {
            self.outdated(hash);
        }
        true
    }

    /// Notes a key that has to be written. Out of line, as it is so once a snapshot.
    #[cold]
    fn outdated(&mut self, hash: u64) {
        if self.tracked {
            self.unwritten.push(hash);
        }
    }

    /// Adds a record that does not merely extend its key's last session.
    ///
    /// A key that is plain is copied for it: what is lent to a call has to lie in memory, and the loop over records would
    /// put every key there before it is looked up.
    #[inline(always)]
    fn add_beside<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, window: Window, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if const { !std::mem::needs_drop::<K>() } {
            let key = key.to_owned();
            self.add_apart::<Q>(aggregate, hash, key.borrow(), window, value);
        } else {
            self.add_apart(aggregate, hash, key, window, value);
        }
    }

    /// As [`add_beside`](Self::add_beside), by a call.
    #[inline(never)]
    fn add_apart<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, window: Window, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // A key that is new has a session that is put nowhere.
        let mut landed = Landed::FIRST;
        let Entry { mark, .. } = self.table.upsert(
            hash,
            key,
            || Sessions::of_one(Part::<A>::Record(value).begin(aggregate, window)),
            |sessions| landed = sessions.put(aggregate, window, Part::Record(value), &mut self.spare),
        );
        let outdated = mark.outdate();
        self.note(hash, window, &landed, outdated);
    }

    /// Sets a timer for what has to have one, and notes what is changed.
    #[inline]
    fn note(&mut self, hash: u64, window: Window, landed: &Landed, outdated: bool) {
        if landed.first {
            self.timers.set(window.end, hash);
        }
        if M::TRACKED && landed.marked {
            self.changes.push(hash);
        }
        if outdated {
            self.outdated(hash);
        }
        self.len = self.len + 1 - landed.met;
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

    /// A timer's time has come: takes out what has ended, and sets a new one for a key with an open session.
    #[inline(always)]
    fn look_at(&mut self, time: EventTime, hash: u64, watermark: EventTime) {
        let is_due = |entry: &Entry<K, Sessions<A::Acc, M>, Written>| {
            entry.acc.due == time && hash_key(&entry.key) == hash
        };
        let Some(mut slot) = self.table.slot(hash, is_due) else { return };
        let SessionState { timers, ended, spare, unwritten, tracked, gone, .. } = self;
        let unwritten = tracked.then_some(unwritten);
        if !settle(slot.get_mut(), hash, watermark, timers, ended, spare, unwritten) {
            end(slot.remove().0, hash, ended, gone);
        }
    }

    /// This many timers are due that going through the table is faster than looking each key up.
    fn look_at_all(&mut self, watermark: EventTime) {
        let SessionState { table, timers, ended, over, spare, unwritten, tracked, gone, .. } = self;
        let now = timers.now();
        let is_over = |entry: &mut Entry<K, Sessions<A::Acc, M>, Written>| {
            if entry.acc.due > now {
                return false;
            }
            let hash = hash_key(&entry.key);
            !settle(entry, hash, watermark, timers, ended, spare, tracked.then_some(&mut *unwritten))
        };
        over.extend(table.extract_if(is_over));
        for entry in over.drain(..) {
            let hash = hash_key(&entry.key);
            end(entry, hash, ended, gone);
        }
    }
}

/// Takes out what has ended of a key and sets a timer for the rest; says whether there is any.
#[inline(always)]
fn settle<K: Key, Acc, M: Mark>(
    entry: &mut Entry<K, Sessions<Acc, M>, Written>,
    hash: u64,
    watermark: EventTime,
    timers: &mut Timers,
    ended: &mut Vec<Ended<K, Acc, M>>,
    spare: &mut Spare<Acc, M>,
    unwritten: Option<&mut Vec<u64>>,
) -> bool {
    let Entry { key, acc: sessions, mark } = entry;
    if sessions.has_earlier() {
        let each = |session| ended.push(Ended { session, hash, key: key.clone() });
        let taken = sessions.take_earlier(watermark, spare, each);
        if sessions.is_over(watermark) {
            return false;
        }
        if taken
            && mark.outdate()
            && let Some(unwritten) = unwritten
        {
            unwritten.push(hash);
        }
    } else if sessions.is_over(watermark) {
        return false;
    }
    sessions.due = sessions.first_end();
    timers.set(sessions.due, hash);
    true
}

/// A key's last session has ended.
#[inline(always)]
fn end<K: Key, Acc, M>(
    entry: Entry<K, Sessions<Acc, M>, Written>,
    hash: u64,
    ended: &mut Vec<Ended<K, Acc, M>>,
    gone: &mut Vec<K>,
) {
    let Entry { key, acc: sessions, mark } = entry;
    if mark.before {
        gone.push(key.clone());
    }
    ended.push(Ended { session: sessions.last, hash, key });
}

impl<K: Key, A: Aggregate, M: Mark, G: Gap<A::In>> Intake<K, A> for SessionState<K, A, M, G> {
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
        if !self.go_on(aggregate, hash, key, window, value) {
            self.add_beside(aggregate, hash, key, window, value);
        }
    }

    /// Works the record's span out once, for both the late test and the sessions.
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
        if !self.go_on(aggregate, hash, key, window, &value) {
            // Moved before it is lent, as the key is copied.
            let apart = value;
            self.add_beside(aggregate, hash, key, window, &apart);
        }
        None
    }

    fn is_one_place(&self) -> bool {
        false
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl<K: Key, A: Aggregate, M: Mark, G: Gap<A::In>> GroupState<K, A> for SessionState<K, A, M, G> {
    type Scope = Window;
    type Stored = Vec<(Window, A::Acc)>;
    const TOUCHES: bool = true;

    #[inline]
    fn reach(&self) -> Option<Reach> {
        self.table.reach()
    }

    fn merge(&mut self, aggregate: &A, hash: u64, key: K, slot: Window, acc: A::Acc) {
        let mut landed = Landed::FIRST;
        let sessions = Sessions::of_one(Part::<A>::Aggregated(acc).begin(aggregate, slot));
        let Entry { mark, acc: sessions, .. } = self.table.merge(hash, key, sessions, |sessions, other| {
            landed = sessions.put(aggregate, slot, Part::Aggregated(other.last.acc), &mut self.spare);
        });
        if A::ORDERED && !sessions.has_earlier() {
            aggregate.settle(&mut sessions.last.acc, arrival::epoch());
        }
        let outdated = mark.outdate();
        self.note(hash, slot, &landed, outdated);
    }

    fn closes(&self, watermark: EventTime) -> bool {
        self.timers.may_be_due(watermark)
    }

    /// All that has ended is looked up before any of it is emitted: in that order the look-ups wait for nothing but
    /// memory.
    fn close(&mut self, aggregate: &A, watermark: EventTime, emit: &mut impl FnMut(K, Window, A::Out)) {
        let due = self.timers.take_due(watermark);
        if due.len() > self.table.buckets() / MANY {
            self.look_at_all(watermark);
        } else {
            for due in due.chunks(Reach::AHEAD) {
                if let Some(reach) = self.table.reach() {
                    due.iter().for_each(|(_, hash)| reach.fetch(*hash));
                }
                due.iter().for_each(|(time, hash)| self.look_at(*time, *hash, watermark));
            }
        }
        self.timers.recycle(due);
        self.len -= self.ended.len();
        let mut ended = std::mem::take(&mut self.ended);
        let used = ended.len();
        let when = |ended: &Ended<K, A::Acc, M>| (ended.session.window.end, ended.hash);
        if const { !std::mem::needs_drop::<K>() } && self.order.arrange(&ended, when) {
            for Ended { session, key, .. } in self.order.of(&ended) {
                emit(key.clone(), session.window, aggregate.finish(&session.acc));
            }
            ended.clear();
        } else {
            ended.sort_unstable_by_key(when);
            for Ended { session, key, .. } in ended.drain(..) {
                emit(key, session.window, aggregate.finish_owned(session.acc));
            }
        }
        self.ended = ended;
        relieve(&mut self.ended, used);
        relieve(&mut self.over, used);
        self.order.relieve(used);
    }

    fn changed(&mut self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        let mut changes = std::mem::take(&mut self.changes);
        let told = changes.len();
        for hash in changes.drain(..) {
            for entry in self.table.of_hash_mut(hash) {
                for session in entry.acc.iter_mut().filter(|session| session.mark.is_set()) {
                    session.mark.clear();
                    emit(entry.key.clone(), session.window, aggregate.finish(&session.acc));
                }
            }
        }
        relieve(&mut changes, told);
        self.changes = changes;
    }

    fn all(&self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        for entry in self.table.iter() {
            for session in entry.acc.iter() {
                emit(entry.key.clone(), session.window, aggregate.finish(&session.acc));
            }
        }
    }

    fn relieve(&mut self, aggregate: &A) {
        self.table.each_mut(|sessions| sessions.iter_mut().for_each(|s| aggregate.relieve(&mut s.acc)));
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
                writer.put(writer.key_groups().of(hash_key(key)), &(), key, &Content(acc))
            });
        }
        // First: a key may have come again.
        for key in self.gone.drain(..) {
            writer.remove(writer.key_groups().of(hash_key(&key)), &(), &key)?;
        }
        for hash in self.unwritten.drain(..) {
            for entry in self.table.of_hash_mut(hash).filter(|entry| entry.mark.stale) {
                entry.mark = Written { before: true, stale: false };
                writer.put(writer.key_groups().of(hash), &(), &entry.key, &Content(&entry.acc))?;
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
                    let Some(sessions) = read::<A::Acc, M>(value)? else {
                        self.forget(hash, &key);
                        continue;
                    };
                    self.len += sessions.len();
                    self.timers.set(sessions.first_end(), hash);
                    let mut before = 0;
                    let entry = self.table.merge(hash, key, sessions, |sessions, newer| {
                        before = std::mem::replace(sessions, newer).len();
                    });
                    entry.mark = Written { before: self.tracked, stale: false };
                    self.len -= before;
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
