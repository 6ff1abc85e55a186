//! Whose turn it is to be read: among the partitions of a source, and among the sources of a worker.
//!
//! Micro-batch: an epoch that is replayed has its rows in the same order. So a partition is read for [`QUANTUM`] rows before
//! the next one, and the sources of a worker take turns in rounds, in which each of their partitions has its turn: in however
//! many activations that is, the plan alone decides, never the clock. Continuous: partitions are read in rotation, each for
//! a share of what the worker reads in a step.

use std::cell::RefCell;
use std::rc::Rc;

use tidemill_operators::Epoch;

/// The rows of a turn.
const QUANTUM: usize = 16_384;

/// The rounds of the sources of a worker.
#[derive(Default)]
pub(crate) struct Rounds(RefCell<Vec<Round>>);

/// How far a source is.
struct Round {
    /// The epoch that it reads, or will read next; none once it has ended.
    epoch: Option<Epoch>,
    /// How many rounds of it are over.
    over: u64,
    /// Whether it was not its turn when it looked.
    waits: bool,
    /// Has it look again.
    wake: Box<dyn Fn()>,
}

impl Rounds {
    /// Adds a source. Returns its place: sources are read in the order in which they are added.
    fn join(&self, epoch: Epoch, wake: Box<dyn Fn()>) -> usize {
        let mut rounds = self.0.borrow_mut();
        rounds.push(Round { epoch: Some(epoch), over: 0, waits: false, wake });
        rounds.len() - 1
    }

    /// Whether a source must wait for its turn; it is woken when the turn comes.
    fn must_wait(&self, place: usize) -> bool {
        let mut rounds = self.0.borrow_mut();
        let waits = is_behind(&rounds, place);
        if let Some(round) = rounds.get_mut(place) {
            round.waits = waits;
        }
        waits
    }

    /// Changes how far a source is, and wakes those whose turn has come.
    fn advance(&self, place: usize, change: impl FnOnce(&mut Round)) {
        let mut rounds = self.0.borrow_mut();
        if let Some(round) = rounds.get_mut(place) {
            change(round);
        }
        for other in 0..rounds.len() {
            let is_behind = is_behind(&rounds, other);
            if let Some(round) = rounds.get_mut(other).filter(|round| round.waits && !is_behind) {
                round.waits = false;
                (round.wake)();
            }
        }
    }
}

/// Whether others come before a source: within an epoch, a source is one round ahead of those behind it at most, and of
/// none before it.
fn is_behind(rounds: &[Round], place: usize) -> bool {
    let Some(Round { epoch: Some(epoch), over, .. }) = rounds.get(place) else { return false };
    rounds.iter().enumerate().any(|(other, round)| {
        let needed = if other < place { over + 1 } else { *over };
        other != place && round.epoch.is_some_and(|of| of < *epoch || (of == *epoch && round.over < needed))
    })
}

/// The turns of a source's partitions.
pub(super) struct Turns {
    /// The rounds of all sources of the worker, and this one's place among them.
    rounds: Rc<Rounds>,
    source: usize,
    /// Whether turns have a fixed length.
    is_fixed: bool,
    /// Whether the partitions are slices of a sequence: these are read in its order, and have one turn together.
    is_sliced: bool,
    /// The place of the partition whose turn it is.
    at: usize,
    /// What is left of the turn; 0 before it begins.
    left: usize,
}

impl Turns {
    /// The turns of a source that begins with that epoch; `wake` has it look again.
    pub(super) fn new(
        rounds: Rc<Rounds>,
        epoch: Epoch,
        (is_fixed, is_sliced): (bool, bool),
        wake: Box<dyn Fn()>,
    ) -> Turns {
        let source = rounds.join(epoch, wake);
        Turns { rounds, source, is_fixed, is_sliced, at: 0, left: 0 }
    }

    /// Whether it is another source's turn. The source is woken when that has changed.
    pub(super) fn must_wait(&self) -> bool {
        self.is_fixed && self.rounds.must_wait(self.source)
    }

    /// The place to begin with.
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// Begins at that place the next time.
    pub(super) fn set_place(&mut self, place: usize) {
        if !self.is_fixed && !self.is_sliced {
            self.at = place;
        }
    }

    /// How many rows a partition may be read for now, when the source may read `budget` of all `open` partitions.
    pub(super) fn share(&self, budget: usize, open: usize) -> usize {
        match (self.is_fixed, self.left) {
            (true, 0) => QUANTUM,
            (true, left) => left,
            (false, _) if self.is_sliced => budget,
            (false, _) => (budget / open.max(1)).max(1),
        }
    }

    /// Notes that the partition at `place` of `places` has given this many rows, and whether it has more at once. Returns
    /// the place to read next; none where the activation should end.
    pub(super) fn took(&mut self, place: usize, places: usize, rows: usize, has_more: bool) -> Option<usize> {
        let left = self.share(0, 1).saturating_sub(rows);
        let next = Some(place + 1).filter(|next| *next < places);
        if self.is_sliced {
            if self.is_fixed && rows > 0 {
                self.left = left;
            }
            // A slice with nothing to give lets the next one give.
            return next.filter(|_| rows == 0 && !has_more);
        }
        if !self.is_fixed {
            return Some(next.unwrap_or(0));
        }
        if left > 0 && rows > 0 && has_more {
            (self.at, self.left) = (place, left);
            return Some(place);
        }
        (self.at, self.left) = (next.unwrap_or(0), 0);
        next
    }

    /// Whether the next activation begins in the middle of a round, and so does not look at every partition.
    pub(super) fn begins_in_middle(&self) -> bool {
        self.is_fixed && self.at > 0
    }

    /// Whether no partition is in the middle of a round.
    pub(super) fn is_round_over(&self) -> bool {
        !self.is_fixed || (self.left == 0 && self.at == 0)
    }

    /// It is the other sources' turn: all partitions have had theirs, or have nothing to read.
    pub(super) fn end_round(&self) {
        if self.is_fixed {
            self.rounds.advance(self.source, |round| round.over += 1);
        }
    }

    /// An epoch has been read, and `next` comes: it begins with the first partition. None: no more comes.
    pub(super) fn end_epoch(&mut self, next: Option<Epoch>) {
        if self.is_fixed {
            (self.at, self.left) = (0, 0);
            self.rounds.advance(self.source, |round| (round.epoch, round.over) = (next, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rounds: &Rc<Rounds>, is_fixed: bool) -> Turns {
        Turns::new(Rc::clone(rounds), Epoch::new(7), (is_fixed, false), Box::new(|| {}))
    }

    /// The order in which partitions with this many rows give them, as runs of (partition, rows).
    fn order(sizes: &[usize], mut portion: impl FnMut() -> usize) -> Vec<(usize, usize)> {
        let mut turns = turns(&Rc::default(), true);
        let (mut rest, mut order) = (sizes.to_vec(), Vec::<(usize, usize)>::new());
        while rest.iter().any(|rest| *rest > 0) {
            let (mut place, mut budget) = (Some(turns.place()), portion());
            while let Some(at) = place.filter(|_| budget > 0) {
                let rows = turns.share(budget, 1).min(budget).min(rest[at]);
                (budget, rest[at]) = (budget - rows, rest[at] - rows);
                match order.last_mut().filter(|(last, _)| *last == at) {
                    Some((_, before)) => *before += rows,
                    None => order.push((at, rows)),
                }
                place = turns.took(at, sizes.len(), rows, rest[at] > 0);
            }
        }
        order.retain(|(_, rows)| *rows > 0);
        order
    }

    #[test]
    fn order_of_partitions_does_not_depend_on_portions() {
        let sizes = [50_000, 3, 20_000];
        let whole = order(&sizes, || usize::MAX);
        assert_eq!(
            whole[..4],
            [(0, QUANTUM), (1, 3), (2, QUANTUM), (0, QUANTUM)],
            "each partition has its turn"
        );
        for portion in [1, 7, 1_000, QUANTUM, 20_000] {
            assert_eq!(order(&sizes, || portion), whole, "{portion}");
        }
        let mut portions = [5, 16_379, 1, 40_000, 12].into_iter().cycle();
        assert_eq!(order(&sizes, || portions.next().unwrap()), whole);
    }

    #[test]
    fn sources_take_turns_within_an_epoch() {
        let rounds = Rc::default();
        let (mut first, mut second) = (turns(&rounds, true), turns(&rounds, true));
        let waits = |first: &Turns, second: &Turns| (first.must_wait(), second.must_wait());
        assert_eq!(waits(&first, &second), (false, true), "in their order");
        assert_eq!(first.took(0, 2, 10, true), Some(0));
        assert!(!first.is_round_over(), "in the middle of a turn");
        assert_eq!(first.took(0, 2, QUANTUM - 10, true), Some(1));
        assert_eq!(first.took(1, 2, 5, false), None);
        assert!(first.is_round_over());
        first.end_round();
        assert_eq!(waits(&first, &second), (true, false));
        second.end_round();
        assert_eq!(waits(&first, &second), (false, true));
        first.end_epoch(Some(Epoch::new(8)));
        assert_eq!(waits(&first, &second), (true, false), "the oldest epoch comes first");
        second.end_epoch(None);
        assert_eq!(waits(&first, &second), (false, false));
    }

    #[test]
    fn partitions_of_continuous_query_share_a_portion() {
        let mut turns = turns(&Rc::default(), false);
        assert_eq!((turns.share(100, 4), turns.share(2, 4)), (25, 1));
        assert_eq!((turns.took(0, 2, 1, true), turns.took(1, 2, 1, true)), (Some(1), Some(0)));
        assert!(turns.is_round_over());
    }
}
