//! State for tumbling and sliding windows: accumulators by pane, so that a record is added once however many windows
//! it is in.

use std::borrow::Borrow;
use std::hash::Hash;

use super::pane::{Pane, close_window, next_window, show_changed, show_window};
use super::pane_runs::PaneRuns;
use super::pane_snapshot::Record;
use super::table::{Table, relieve};
use super::totals::Totals;
use super::{GroupState, Intake, Mark, PartialState, Reach};
use crate::aggregate::kept;
use crate::window::Grid;
use crate::{Aggregate, EventTime, Key, KeyGroup, OperatorError, SnapshotWriter, Window, hash_key};

/// Accumulators by key and pane. A window is the merge of its panes, made when it is asked for; or, where there are many
/// and the aggregate can be retracted, the totals of the panes, which the next window starts from.
///
/// Made by the `state` of a [`TumblingWindow`](crate::TumblingWindow) or [`SlidingWindow`](crate::SlidingWindow).
/// Records that are late must not be added: no window that they are in will close any more, so they are forgotten.
pub struct PaneState<K, A: Aggregate, M> {
    grid: Grid,
    /// In order of time.
    pub(super) panes: Vec<Pane<K, A::Acc, M>>,
    /// The place of the pane used last: most records fall in the same one as the record before.
    recent: usize,
    /// The first and the last instant of the pane that was named last; none at first.
    named: (EventTime, EventTime),
    /// The watermark by which windows were last closed.
    pub(super) closed: EventTime,
    /// An emptied table, for the next pane.
    spare: Table<K, A::Acc, M>,
    /// The pane and hash of every marked entry.
    pub(super) changes: Vec<(EventTime, u64)>,
    pub(super) record: Record,
    hot: Hot<K, A::Acc, M>,
    /// Of the panes of the window that was closed last, those that a later one has. Not in snapshots: the first window
    /// to close after a restart makes them again.
    totals: Totals<K, A::Acc>,
    /// For aggregates that are in order.
    runs: PaneRuns,
}

/// The pane used last, at hand while a batch of records is added: nearly every record falls in it, and one comparison
/// tells.
struct Hot<K, Acc, M> {
    start: EventTime,
    /// How many instants from its start are in the pane; 0 if none is at hand.
    instants: u64,
    /// Its table, which is missing in the pane for as long.
    table: Table<K, Acc, M>,
}

impl<K: Key, A: Aggregate, M: Mark> PaneState<K, A, M> {
    pub(crate) fn new(grid: Grid) -> Self {
        PaneState {
            grid,
            panes: Vec::new(),
            recent: 0,
            named: (EventTime::MAX, EventTime::MIN),
            closed: EventTime::MIN,
            spare: Table::new(),
            changes: Vec::new(),
            record: Record::default(),
            hot: Hot { start: EventTime::from_micros(0), instants: 0, table: Table::new() },
            totals: Totals::new(grid.panes()),
            runs: PaneRuns::default(),
        }
    }

    /// Adds a record to another pane than the one at hand, whose place it takes, unless the record is late.
    #[inline(never)]
    fn turn(
        &mut self,
        aggregate: &A,
        hash: u64,
        key: K,
        time: EventTime,
        value: A::In,
        watermark: EventTime,
    ) -> Option<A::In> {
        self.end();
        let late = if self.is_late(time, &value, watermark) {
            Some(value)
        } else {
            self.add(aggregate, hash, &key, time, &value);
            None
        };
        self.begin(watermark);
        late
    }

    /// Merges into another pane than the one at hand, whose place it takes.
    #[inline(never)]
    fn merge_elsewhere(&mut self, aggregate: &A, hash: u64, key: K, slot: EventTime, acc: A::Acc) {
        let at_hand = self.hot.instants > 0;
        self.end();
        let pane = self.pane(slot);
        if A::RETRACTS && pane.summed.is_some() {
            let copy = key.clone();
            self.put_in_both(aggregate, hash, &copy, slot, |table| {
                table.merge(hash, key, acc, |acc, other| aggregate.merge(acc, other)).mark.set()
            });
        } else {
            let entry = pane.table.merge(hash, key, acc, |acc, other| aggregate.merge(acc, other));
            if entry.mark.set() {
                self.changes.push((slot, hash));
            }
        }
        if at_hand {
            self.begin(EventTime::MIN);
        }
    }

    /// Puts something into the table of a pane that is in the totals already, and into them; or takes the pane out of
    /// them first. `put` says whether the entry was not marked before.
    #[cold]
    fn put_in_both<Q>(
        &mut self,
        aggregate: &A,
        hash: u64,
        key: &Q,
        time: EventTime,
        put: impl FnOnce(&mut Table<K, A::Acc, M>) -> bool,
    ) where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.pane(time);
        let Some(pane) = self.panes.get_mut(self.recent) else { return };
        let stays = self.totals.stray(aggregate, pane);
        let before = if stays { pane.whole(aggregate, hash, key) } else { None };
        if put(&mut pane.table) {
            self.changes.push((pane.start, hash));
        }
        if stays && let Some(after) = pane.whole(aggregate, hash, key) {
            self.totals.change(aggregate, hash, key, before.as_ref(), &after);
        }
    }

    /// Forgets the totals, which are about panes that are no longer what they were.
    pub(super) fn forget_totals(&mut self) {
        self.totals.clear();
        self.panes.iter_mut().for_each(|pane| pane.summed = None);
    }

    /// The pane around an instant, opened if it is not open. Divides only when the pane is another than last time.
    #[inline]
    pub(super) fn pane(&mut self, time: EventTime) -> &mut Pane<K, A::Acc, M> {
        if !self.panes.get(self.recent).is_some_and(|pane| pane.holds(time)) {
            self.recent = self.seek(time);
        }
        match self.panes.get_mut(self.recent) {
            Some(pane) => {
                pane.touched = true;
                pane
            }
            None => unreachable!("a pane was found or put at this place"),
        }
    }

    #[cold]
    fn seek(&mut self, time: EventTime) -> usize {
        let (start, _) = self.grid.pane(time);
        self.panes.binary_search_by_key(&start, |pane| pane.start).unwrap_or_else(|place| {
            let mut table = std::mem::replace(&mut self.spare, Table::new());
            let as_before = |pane: &Pane<K, A::Acc, M>| pane.table.len().max(pane.settled.len());
            table.reserve(self.panes.get(self.recent).map_or(0, as_before));
            self.panes.insert(place, Pane::around(&self.grid, time, table));
            place
        })
    }

    /// Forgets the pane at an instant if it is empty.
    pub(super) fn tidy(&mut self, time: EventTime) {
        if self.pane(time).len() == 0 {
            self.panes.remove(self.recent);
            self.recent = 0;
        }
    }

    /// The changes where every pane is a window.
    fn changed_panes(&mut self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        let mut changes = std::mem::take(&mut self.changes);
        let told = changes.len();
        for (start, hash) in changes.drain(..) {
            let Ok(place) = self.panes.binary_search_by_key(&start, |pane| pane.start) else { continue };
            let Some(pane) = self.panes.get_mut(place) else { continue };
            let window = self.grid.window(pane.last_window());
            for entry in pane.table.near_hash_mut(hash) {
                if !entry.mark.clear() {
                    continue;
                }
                if self.record.tracked && entry.mark.keep() {
                    self.record.kept.push((start, hash_key(&entry.key)));
                }
                if window.end > self.closed {
                    emit(entry.key.clone(), window, aggregate.finish(&entry.acc));
                }
            }
        }
        relieve(&mut changes, told);
        self.changes = changes;
    }

    /// The changes where a change of a pane changes every window that it is in.
    fn changed_windows(&mut self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        let mut places = std::mem::take(&mut self.changes);
        places.sort_unstable_by_key(|(start, hash)| (*hash, *start));
        for of_hash in places.chunk_by(|a, b| a.1 == b.1) {
            let mut cursor = self.grid.open(self.closed);
            for (start, hash) in of_hash {
                let Ok(place) = self.panes.binary_search_by_key(start, |pane| pane.start) else { continue };
                while let Some(window) = self.panes.get(place).and_then(|pane| pane.next_window(cursor)) {
                    let bounds = self.grid.window(window);
                    show_changed(aggregate, &self.panes, window, *hash, |key, out| emit(key, bounds, out));
                    cursor = self.grid.next(window);
                }
            }
            for (start, hash) in of_hash {
                if let Ok(place) = self.panes.binary_search_by_key(start, |pane| pane.start)
                    && let Some(pane) = self.panes.get_mut(place)
                {
                    for entry in pane.table.of_hash_mut(*hash) {
                        if entry.mark.clear() && self.record.tracked && entry.mark.keep() {
                            self.record.kept.push((*start, *hash));
                        }
                    }
                }
            }
        }
    }
}

impl<K: Key, A: Aggregate, M: Mark> Intake<K, A> for PaneState<K, A, M> {
    /// The first instant of a pane.
    type Slot = EventTime;

    #[inline]
    fn is_late(&self, time: EventTime, _value: &A::In, watermark: EventTime) -> bool {
        let watermark = watermark.max(self.closed);
        // A window ends after every instant in it, except at the end of time, where it is cut off.
        if time >= watermark {
            return time == EventTime::MAX && watermark == EventTime::MAX;
        }
        let last = match self.panes.get(self.recent) {
            Some(pane) if pane.holds(time) => pane.last_window(),
            _ => self.grid.last(time),
        };
        self.grid.window(last).end <= watermark
    }

    /// Divides only when the pane is another than last time.
    #[inline]
    fn slot(&mut self, time: EventTime, _value: &A::In) -> EventTime {
        let (start, last) = self.named;
        if time < start || last < time {
            self.named = self.grid.pane(time);
        }
        if A::ORDERED && !self.is_one_place() {
            self.runs.enter(self.named.0);
        }
        self.named.0
    }

    #[inline(always)]
    fn add<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, time: EventTime, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if A::ORDERED && !self.is_one_place() {
            let start = self.pane(time).start;
            self.runs.enter(start);
        }
        let pane = self.pane(time);
        if A::RETRACTS && pane.summed.is_some() {
            return self.put_in_both(aggregate, hash, key, time, |table| {
                table.bump(
                    hash,
                    key,
                    || kept::create(aggregate, value),
                    |acc| kept::add(aggregate, acc, value),
                )
            });
        }
        let start = pane.start;
        if pane.table.bump(
            hash,
            key,
            || kept::create(aggregate, value),
            |acc| kept::add(aggregate, acc, value),
        ) {
            self.changes.push((start, hash));
        }
    }

    /// Where every pane is a window.
    #[inline]
    fn is_one_place(&self) -> bool {
        self.grid.is_tumbling()
    }

    /// Takes the pane used last at hand. Its records are either all late or none is; late ones go the long way, as do
    /// those of a pane that is in the totals.
    fn begin(&mut self, watermark: EventTime) {
        let closed = watermark.max(self.closed);
        let one_place = self.is_one_place();
        if let Some(pane) = self.panes.get_mut(self.recent)
            && (!A::ORDERED || one_place || self.runs.continues(pane.start))
            && pane.summed.is_none()
            && self.grid.window(pane.last_window()).end > closed
        {
            let instants = pane.instants();
            pane.touched = true;
            std::mem::swap(&mut self.hot.table, &mut pane.table);
            (self.hot.start, self.hot.instants) = (pane.start, instants);
        }
    }

    // Left to itself the compiler puts it out of line in some builds, where a record takes a third longer.
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
        // A time before the start wraps round to a great number.
        if time.as_micros().wrapping_sub(self.hot.start.as_micros()).cast_unsigned() >= self.hot.instants {
            // The key is copied, small as it mostly is, so that in the loop it need not be in memory.
            return self.turn(aggregate, hash, key.to_owned(), time, value, watermark);
        }
        if self.hot.table.bump(
            hash,
            key,
            || kept::create(aggregate, &value),
            |acc| kept::add(aggregate, acc, &value),
        ) {
            self.changes.push((self.hot.start, hash));
        }
        None
    }

    fn end(&mut self) {
        if self.hot.instants > 0
            && let Some(pane) = self.panes.get_mut(self.recent)
        {
            std::mem::swap(&mut self.hot.table, &mut pane.table);
            self.hot.instants = 0;
        }
    }

    fn len(&self) -> usize {
        self.panes.iter().map(Pane::len).sum()
    }
}

impl<K: Key, A: Aggregate, M: Mark> PartialState<K, A> for PaneState<K, A, M> {
    fn drain(&mut self, emit: &mut impl FnMut(u64, K, EventTime, A::Acc)) {
        self.changes.clear();
        self.totals.clear();
        for mut pane in self.panes.drain(..) {
            pane.table.drain(|key, acc| emit(hash_key(&key), key, pane.start, acc));
            self.spare = pane.table;
        }
    }
}

impl<K: Key, A: Aggregate, M: Mark> GroupState<K, A> for PaneState<K, A, M> {
    type Scope = Window;
    type Stored = A::Acc;

    /// The watermark by which panes have closed.
    const OWN_SLOT: Option<&'static [u8]> = Some(&[0]);

    /// Into the pane at hand.
    #[inline]
    fn reach(&self) -> Option<Reach> {
        self.hot.table.reach()
    }

    #[inline]
    fn fetch_next(&self, aggregate: &A, hash: u64, key: &K) {
        if let Some(entry) = self.hot.table.find(hash, key) {
            aggregate.fetch_next(&entry.acc);
        }
    }

    #[inline]
    fn merge(&mut self, aggregate: &A, hash: u64, key: K, slot: EventTime, acc: A::Acc) {
        if slot != self.hot.start || self.hot.instants == 0 {
            return self.merge_elsewhere(aggregate, hash, key, slot, acc);
        }
        let entry = self.hot.table.merge(hash, key, acc, |acc, other| aggregate.merge(acc, other));
        if entry.mark.set() {
            self.changes.push((slot, hash));
        }
    }

    fn closes(&self, watermark: EventTime) -> bool {
        let next = next_window(&self.panes, 0, self.grid.open(self.closed));
        next.is_some_and(|(_, start)| self.grid.window(start).end <= watermark)
    }

    fn close(&mut self, aggregate: &A, watermark: EventTime, emit: &mut impl FnMut(K, Window, A::Out)) {
        if watermark <= self.closed {
            return;
        }
        let mut cursor = self.grid.open(self.closed);
        self.closed = watermark;
        // The panes before this place are in no window that is still open.
        let mut done = 0;
        loop {
            let next = next_window(&self.panes, done, cursor);
            done = next.map_or(self.panes.len(), |(place, _)| place);
            let (Some((_, start)), Some(panes)) = (next, self.panes.get_mut(done..)) else { break };
            let window = self.grid.window(start);
            if window.end > watermark {
                break;
            }
            let emit = |key, out| emit(key, window, out);
            let emptied = if A::RETRACTS && !A::RELIEVES && self.totals.pay() {
                self.totals.close_window(aggregate, panes, start, emit)
            } else {
                close_window(aggregate, panes, start, emit)
            };
            if let Some(table) = emptied {
                self.spare = table;
            }
            cursor = self.grid.next(start);
        }
        self.record.closed(self.panes.drain(..done));
        self.recent = self.recent.saturating_sub(done);
    }

    /// No window is put together for it.
    fn forget(&mut self, _aggregate: &A, watermark: EventTime) {
        if watermark <= self.closed {
            return;
        }
        self.closed = watermark;
        self.forget_totals();
        let open = self.grid.open(watermark);
        let done = self.panes.partition_point(|pane| pane.last_window() < open);
        if let Some(pane) = done.checked_sub(1).and_then(|last| self.panes.get_mut(last)) {
            self.spare = std::mem::replace(&mut pane.table, Table::new());
            self.spare.drain(|_, _| ());
        }
        self.record.closed(self.panes.drain(..done));
        self.recent = self.recent.saturating_sub(done);
    }

    fn changed(&mut self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        if self.grid.is_tumbling() {
            self.changed_panes(aggregate, emit);
        } else {
            self.changed_windows(aggregate, emit);
        }
    }

    fn all(&self, aggregate: &A, emit: &mut impl FnMut(K, Window, A::Out)) {
        let mut cursor = self.grid.open(self.closed);
        let mut done = 0;
        while let Some((place, start)) = next_window(&self.panes, done, cursor) {
            let window = self.grid.window(start);
            show_window(aggregate, &self.panes, start, |key, out| emit(key, window, out));
            cursor = self.grid.next(start);
            done = place;
        }
    }

    fn relieve(&mut self, aggregate: &A) {
        self.panes.iter_mut().for_each(|pane| pane.table.each_mut(|acc| aggregate.relieve(acc)));
    }

    fn unsaved(&self) -> usize {
        if M::TRACKED {
            return self.record.kept.len() + self.changes.len();
        }
        self.panes.iter().map(|pane| pane.table.len()).sum()
    }

    fn track(&mut self) {
        self.record.tracked = true;
    }

    fn snapshot(&mut self, aggregate: &A, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        self.write(aggregate, writer)
    }

    fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        self.forget_totals();
        self.read(group, bytes)
    }
}
