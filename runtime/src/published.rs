//! Tables that other threads read while the query runs.
//!
//! The workers *offer* what their part of a table is at the end of an epoch, as shared batches that no one changes any more. When the
//! driver commits the epoch, the parts of all tables on all workers become one *snapshot*, which readers find from then on. A reader
//! loads a pointer and takes no lock, so neither the driver nor a worker waits for it. A snapshot that a reader holds never changes.
//!
//! Types are erased here: [`table`](crate::table) offers and reads.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tidemill_operators::graph::NodeId;
use tidemill_operators::{Epoch, KeyGroups, turn};

/// The part of a table that is on a worker, at the end of an epoch.
pub(crate) type TablePart = Arc<dyn Any + Send + Sync>;

/// A table that is read under a name.
#[derive(Clone, Debug)]
pub(crate) struct PublishedTable {
    pub(crate) name: String,
    /// The type of its keys and rows, as a pair.
    pub(crate) of: TypeId,
    /// The names of these two types.
    pub(crate) types: (&'static str, &'static str),
    /// The user's file and line.
    pub(crate) location: String,
}

/// All tables of a query as of an epoch.
pub(crate) struct Snapshot {
    /// None before the first commit.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) tables: Arc<[PublishedTable]>,
    /// By table, then by worker.
    parts: Vec<Vec<Option<TablePart>>>,
    key_groups: KeyGroups,
}

impl Snapshot {
    fn empty(tables: Arc<[PublishedTable]>, key_groups: KeyGroups) -> Snapshot {
        let parts = vec![Vec::new(); tables.len()];
        Snapshot { epoch: None, tables, parts, key_groups }
    }

    /// The parts of a table, by worker; none if nothing has been committed.
    pub(crate) fn parts(&self, table: usize) -> &[Option<TablePart>] {
        self.parts.get(table).map_or(&[], Vec::as_slice)
    }

    /// The part of a table that has the key of a hash.
    pub(crate) fn part_of(&self, table: usize, hash: u64) -> Option<&TablePart> {
        let parts = self.parts(table);
        parts.get(self.key_groups.of(hash).worker(parts.len()))?.as_ref()
    }
}

/// The epochs that can be read, oldest first.
struct Retained {
    newest: Arc<Snapshot>,
    older: Vec<Arc<Snapshot>>,
}

/// Where workers offer their parts of tables, and readers find them.
pub(crate) struct Board {
    /// The nodes that publish, by table.
    nodes: Vec<NodeId>,
    key_groups: KeyGroups,
    /// The epoch whose content is restored at the beginning of the run.
    restored: Option<Epoch>,
    /// How many epochs can be read.
    retain: usize,
    slots: Mutex<Slots>,
    retained: ArcSwap<Retained>,
}

struct Slots {
    /// By table, then by worker.
    slots: Vec<Vec<Slot>>,
    /// How many parts of those restored have not been offered yet.
    loading: usize,
    /// What has been replaced. The next worker that offers something drops it: the `Drop` of keys and rows may be the user's.
    replaced: Vec<Arc<Retained>>,
}

#[derive(Clone, Default)]
struct Slot {
    committed: Option<TablePart>,
    /// Of epochs that are not committed yet, in order.
    offered: VecDeque<(Epoch, TablePart)>,
}

impl Board {
    /// None if no table is published.
    pub(crate) fn new(
        tables: Vec<(NodeId, PublishedTable)>,
        key_groups: KeyGroups,
        workers: usize,
        restored: Option<Epoch>,
        retain: usize,
    ) -> Option<Arc<Board>> {
        if tables.is_empty() {
            return None;
        }
        let nodes = tables.iter().map(|(node, _)| *node).collect();
        let slots = vec![vec![Slot::default(); workers]; tables.len()];
        let loading = slots.len() * workers;
        let tables: Arc<[PublishedTable]> = tables.into_iter().map(|(_, table)| table).collect();
        let newest = Arc::new(Snapshot::empty(tables, key_groups));
        Some(Arc::new(Board {
            nodes,
            key_groups,
            restored,
            retain,
            slots: Mutex::new(Slots { slots, loading, replaced: Vec::new() }),
            retained: ArcSwap::from_pointee(Retained { newest, older: Vec::new() }),
        }))
    }

    /// The number of the table that a node publishes.
    pub(crate) fn table_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|of| *of == node)
    }

    /// The epoch whose content the run has restored; none if it begins without.
    pub(crate) fn restored(&self) -> Option<Epoch> {
        self.restored
    }

    /// Offers the part of a table on a worker as of the end of an epoch. Parts that do not change need not be offered again.
    pub(crate) fn offer(&self, table: usize, worker: usize, epoch: Epoch, part: TablePart) {
        let mut slots = turn::lock(&self.slots);
        let replaced = std::mem::take(&mut slots.replaced);
        if let Some(slot) = slots.slots.get_mut(table).and_then(|of_table| of_table.get_mut(worker)) {
            slot.offered.push_back((epoch, part));
        }
        drop(slots);
        drop(replaced);
    }

    /// Offers the part of a table as the run has restored it. Once all parts have been, they can be read.
    pub(crate) fn offer_restored(&self, table: usize, worker: usize, part: TablePart) {
        let Some(epoch) = self.restored else { return };
        let mut slots = turn::lock(&self.slots);
        if let Some(slot) = slots.slots.get_mut(table).and_then(|of_table| of_table.get_mut(worker)) {
            slot.committed = Some(part);
        }
        slots.loading = slots.loading.saturating_sub(1);
        // Until then, those of the attempt before can be read.
        if slots.loading == 0 && self.retained.load().newest.epoch < Some(epoch) {
            self.publish(&mut slots, epoch);
        }
    }

    /// Publishes an epoch: it is durable, and all workers have offered what has changed in it.
    pub(crate) fn commit(&self, epoch: Epoch) {
        let mut slots = turn::lock(&self.slots);
        for slot in slots.slots.iter_mut().flatten() {
            while slot.offered.front().is_some_and(|(of, _)| *of <= epoch) {
                slot.committed = slot.offered.pop_front().map(|(_, part)| part);
            }
        }
        self.publish(&mut slots, epoch);
    }

    fn publish(&self, slots: &mut Slots, epoch: Epoch) {
        let before = self.retained.load();
        let parts = slots.slots.iter().map(|of| of.iter().map(|slot| slot.committed.clone()).collect());
        let newest = Arc::new(Snapshot {
            epoch: Some(epoch),
            tables: Arc::clone(&before.newest.tables),
            parts: parts.collect(),
            key_groups: self.key_groups,
        });
        let older = before.older.iter().chain([&before.newest]);
        let older = older.filter(|it| it.epoch.is_some() && it.epoch < Some(epoch));
        let too_many = older.clone().count().saturating_sub(self.retain.saturating_sub(1));
        let older = older.skip(too_many).map(Arc::clone).collect();
        slots.replaced.push(self.retained.swap(Arc::new(Retained { newest, older })));
    }

    /// What could be read of the attempt before can be read until this one publishes something.
    fn inherit(&self, before: &Board) {
        self.retained.store(before.retained.load_full());
    }
}

/// The board of the present attempt of a query; none if it publishes no tables.
#[derive(Default)]
pub(crate) struct CurrentBoard(ArcSwap<Option<Arc<Board>>>);

impl std::fmt::Debug for CurrentBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CurrentBoard").finish_non_exhaustive()
    }
}

impl CurrentBoard {
    /// An attempt begins.
    pub(crate) fn replace(&self, board: Option<Arc<Board>>) {
        let before = self.0.load();
        if let (Some(board), Some(before)) = (&board, before.as_ref()) {
            board.inherit(before);
        }
        self.0.store(Arc::new(board));
    }

    /// The last committed epoch.
    pub(crate) fn newest(&self) -> Arc<Snapshot> {
        match &**self.0.load() {
            Some(board) => Arc::clone(&board.retained.load().newest),
            None => Arc::new(Snapshot::empty(Arc::new([]), KeyGroups::default())),
        }
    }

    /// The epochs that can be read, oldest first.
    pub(crate) fn epochs(&self) -> Vec<Arc<Snapshot>> {
        let board = self.0.load();
        let Some(board) = &**board else { return Vec::new() };
        let retained = board.retained.load();
        let all = retained.older.iter().chain([&retained.newest]);
        all.filter(|it| it.epoch.is_some()).map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(workers: usize, restored: Option<Epoch>, retain: usize) -> Arc<Board> {
        let table = PublishedTable {
            name: "numbers".to_owned(),
            of: TypeId::of::<(u32, u32)>(),
            types: ("u32", "u32"),
            location: "main.rs:1".to_owned(),
        };
        Board::new(vec![(NodeId(3), table)], KeyGroups::default(), workers, restored, retain).unwrap()
    }

    fn current(board: &Arc<Board>) -> CurrentBoard {
        let current = CurrentBoard::default();
        current.replace(Some(Arc::clone(board)));
        current
    }

    /// The epoch that readers find, and the number that each worker has offered.
    fn read(snapshot: &Snapshot) -> (Option<u64>, Vec<Option<u32>>) {
        let number =
            |part: &Option<TablePart>| part.as_ref().map(|part| *part.downcast_ref::<u32>().unwrap());
        (snapshot.epoch.map(Epoch::number), snapshot.parts(0).iter().map(number).collect())
    }

    #[test]
    fn parts_of_uncommitted_epochs_are_not_read() {
        let board = board(2, None, 1);
        let current = current(&board);
        assert_eq!(read(&current.newest()), (None, vec![]));
        board.offer(0, 0, Epoch::new(0), Arc::new(10u32));
        board.offer(0, 0, Epoch::new(1), Arc::new(11u32));
        board.offer(0, 1, Epoch::new(1), Arc::new(21u32));
        assert_eq!(read(&current.newest()), (None, vec![]));
        board.commit(Epoch::new(0));
        assert_eq!(read(&current.newest()), (Some(0), vec![Some(10), None]));
        board.commit(Epoch::new(1));
        board.commit(Epoch::new(2));
        assert_eq!(read(&current.newest()), (Some(2), vec![Some(11), Some(21)]));
        assert_eq!((board.table_of(NodeId(3)), board.table_of(NodeId(0))), (Some(0), None));
    }

    #[test]
    fn only_retained_epochs_can_be_read() {
        let board = board(1, None, 3);
        let current = current(&board);
        for epoch in 0..5 {
            board.offer(0, 0, Epoch::new(epoch), Arc::new(epoch as u32));
            board.commit(Epoch::new(epoch));
        }
        let found: Vec<_> = current.epochs().iter().map(|it| read(it)).collect();
        let expected: Vec<_> = (2..5).map(|n| (Some(n), vec![Some(n as u32)])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn restored_parts_are_read_once_all_are_there() {
        let first = board(2, None, 2);
        let current = current(&first);
        first.offer(0, 1, Epoch::new(4), Arc::new(1u32));
        first.commit(Epoch::new(4));
        // The epoch that was committed last before the failure was not read yet.
        let second = board(2, Some(Epoch::new(5)), 2);
        current.replace(Some(Arc::clone(&second)));
        assert_eq!(read(&current.newest()), (Some(4), vec![None, Some(1)]));
        second.offer_restored(0, 1, Arc::new(21u32));
        assert_eq!(read(&current.newest()), (Some(4), vec![None, Some(1)]));
        second.offer_restored(0, 0, Arc::new(20u32));
        assert_eq!(read(&current.newest()), (Some(5), vec![Some(20), Some(21)]));
        second.offer(0, 0, Epoch::new(6), Arc::new(30u32));
        second.commit(Epoch::new(6));
        assert_eq!(read(&current.newest()), (Some(6), vec![Some(30), Some(21)]));
        let epochs: Vec<_> = current.epochs().iter().map(|it| it.epoch.map(Epoch::number)).collect();
        assert_eq!(epochs, [Some(5), Some(6)]);
    }
}
