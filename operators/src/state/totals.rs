//! Running totals of a sliding window.
//!
//! Where an aggregate can be retracted, a window need not be made from all its panes: what the last window had is kept,
//! the panes that have come in are added, and those that no later window has are taken off. So a window costs what comes
//! and goes, and its results, however many panes it has. The totals are a table more, of the keys of one window.

use std::borrow::Borrow;
use std::hash::Hash;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::Mark;
use super::pane::Pane;
use super::table::{SMALL, Table};
use crate::{Aggregate, Key, hash_key};

/// Windows of fewer panes are merged from them: a key is then merged about as often as it would be added and taken off.
const MANY: u64 = 4;

/// The panes that are [`summed`](Pane::summed), put together by key.
pub(super) struct Totals<K, Acc> {
    entries: HashTable<Total<K, Acc>>,
    /// How many panes a window has.
    panes: u64,
}

/// What the panes have of a key.
struct Total<K, Acc> {
    key: K,
    /// The merge of the accumulators that can be retracted. Without meaning while there are none.
    acc: Acc,
    /// In how many panes the key is with an accumulator that can be retracted.
    added: u32,
    /// In how many it is with one that cannot.
    apart: u32,
}

impl<K: Key, Acc: Clone> Totals<K, Acc> {
    pub(super) fn new(panes: u64) -> Self {
        Totals { entries: HashTable::new(), panes }
    }

    /// Whether to keep totals costs less than to merge the panes of every window.
    pub(super) fn pay(&self) -> bool {
        self.panes >= MANY
    }

    pub(super) fn clear(&mut self) {
        self.entries = HashTable::new();
    }

    /// The results of a window that begins in the first of the panes. No window before it, but the last, has had any of
    /// them. Panes that no later window needs are emptied; gives back an emptied table if there was such a pane.
    pub(super) fn close_window<A: Aggregate<Acc = Acc>, M: Mark>(
        &mut self,
        aggregate: &A,
        panes: &mut [Pane<K, Acc, M>],
        window: i128,
        emit: impl FnMut(K, A::Out),
    ) -> Option<Table<K, Acc, M>> {
        for pane in panes.iter_mut().take_while(|pane| pane.is_in(window)) {
            if pane.summed.is_none() {
                pane.summed = Some(0);
                pane.each(aggregate, |key, acc| self.enter(aggregate, hash_key(key), key, acc));
            }
        }
        self.show(aggregate, panes, window, emit);
        // The pane that is needed longest is the last.
        let gone = panes.iter_mut().take_while(|pane| pane.last_window() == window);
        let emptied = gone.map(|pane| {
            let mut table = pane.take(aggregate);
            table.drain(|key, acc| self.leave(aggregate, hash_key(&key), &key, &acc));
            table
        });
        let emptied = emptied.last();
        if self.entries.capacity() > SMALL && self.entries.capacity() / 8 > self.entries.len() {
            self.entries.shrink_to(2 * self.entries.len(), rehash);
        }
        emptied
    }

    fn show<A: Aggregate<Acc = Acc>, M: Mark>(
        &self,
        aggregate: &A,
        panes: &[Pane<K, Acc, M>],
        window: i128,
        mut emit: impl FnMut(K, A::Out),
    ) {
        for Total { key, acc, apart, .. } in &self.entries {
            if *apart == 0 {
                emit(key.clone(), aggregate.finish(acc));
                continue;
            }
            let hash = hash_key(key);
            let panes = panes.iter().take_while(|pane| pane.is_in(window));
            let mut accs = panes.filter_map(|pane| pane.whole(aggregate, hash, key));
            if let Some(mut acc) = accs.next() {
                accs.for_each(|other| aggregate.merge(&mut acc, other));
                emit(key.clone(), aggregate.finish(&acc));
            }
        }
    }

    /// A record comes for a pane that is in here; whether the pane stays. If more come than half as many as it has keys,
    /// it is cheaper to take it out until the next window closes.
    pub(super) fn stray<A: Aggregate<Acc = Acc>, M: Mark>(
        &mut self,
        aggregate: &A,
        pane: &mut Pane<K, Acc, M>,
    ) -> bool {
        let strays = pane.summed.map_or(0, |strays| strays.saturating_add(1));
        if strays as usize <= pane.table.len().max(pane.settled.len()) / 2 {
            pane.summed = Some(strays);
            return true;
        }
        pane.summed = None;
        pane.each(aggregate, |key, acc| self.leave(aggregate, hash_key(key), key, acc));
        false
    }

    /// The accumulator of a key in a pane that is summed is another than before; none if it is new there.
    pub(super) fn change<Q, A>(
        &mut self,
        aggregate: &A,
        hash: u64,
        key: &Q,
        before: Option<&Acc>,
        after: &Acc,
    ) where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Aggregate<Acc = Acc>,
    {
        if let Some(before) = before {
            self.leave(aggregate, hash, key, before);
        }
        self.enter(aggregate, hash, key, after);
    }

    /// A pane with this accumulator has come in.
    #[inline]
    fn enter<Q, A>(&mut self, aggregate: &A, hash: u64, key: &Q, acc: &Acc)
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        A: Aggregate<Acc = Acc>,
    {
        let can = aggregate.can_retract(acc, self.panes);
        match self.entries.entry(hash, |total| total.key.borrow() == key, rehash) {
            Slot::Occupied(slot) => {
                let total = slot.into_mut();
                if !can {
                    total.apart += 1;
                    return;
                }
                if total.added == 0 {
                    total.acc = acc.clone();
                } else {
                    aggregate.merge(&mut total.acc, acc.clone());
                }
                total.added += 1;
            }
            Slot::Vacant(slot) => {
                let (added, apart) = if can { (1, 0) } else { (0, 1) };
                slot.insert(Total { key: key.to_owned(), acc: acc.clone(), added, apart });
            }
        }
    }

    /// A pane with this accumulator goes out.
    #[inline]
    fn leave<Q, A>(&mut self, aggregate: &A, hash: u64, key: &Q, acc: &Acc)
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        A: Aggregate<Acc = Acc>,
    {
        let can = aggregate.can_retract(acc, self.panes);
        let Ok(mut slot) = self.entries.find_entry(hash, |total| total.key.borrow() == key) else { return };
        let total = slot.get_mut();
        if !can {
            total.apart = total.apart.saturating_sub(1);
        } else {
            total.added = total.added.saturating_sub(1);
            if total.added > 0 {
                aggregate.retract(&mut total.acc, acc);
            }
        }
        if total.added == 0 && total.apart == 0 {
            slot.remove();
        }
    }
}

fn rehash<K: Hash, Acc>(total: &Total<K, Acc>) -> u64 {
    hash_key(&total.key)
}
