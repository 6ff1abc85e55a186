//! The rows of two sides: single cases, and random steps against a naive model with snapshots and restarts between them.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use proptest::prelude::*;

use super::*;
use crate::{KeyGroup, SnapshotReader};

fn at(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

const ALL: RangeInclusive<EventTime> = EventTime::MIN..=EventTime::MAX;

fn text(side: OfSide<'_, char>, times: RangeInclusive<EventTime>) -> String {
    let mut text = String::new();
    side.matches::<false>(times, |_, row| text.push(*row));
    text
}

#[test]
fn rows_of_sides_and_times_are_kept_apart_and_in_order() {
    let (mut rows, key) = (SidedRows::<u32, char, char>::new(), HashedKey::of(&7));
    let mut of_key = rows.open(key);
    for (time, row) in [(5, 'a'), (5, 'b'), (1, 'c'), (9, 'd'), (5, 'e')] {
        of_key.left().push(at(time), row, false);
    }
    for (time, row) in [(4, 'x'), (9, 'y')] {
        of_key.right().push(at(time), row, true);
    }
    assert_eq!(text(of_key.left(), ALL), "cabed");
    assert_eq!(text(of_key.left(), at(1)..=at(5)), "cabe");
    assert_eq!(text(of_key.right(), ALL), "xy");
    assert!(of_key.right().any(at(5)..=at(9)) && !of_key.right().any(at(5)..=at(8)));
    of_key.left().matches::<true>(at(5)..=at(5), |time, _| assert_eq!(time, at(5)));
    let mut gone = Vec::new();
    of_key.left().evict(None, |_, row, is_matched| gone.push((row, is_matched)));
    of_key.left().evict(Some(at(4)), |_, row, is_matched| gone.push((row, is_matched)));
    of_key.left().take(at(5)..=at(5), |_, row, is_matched| gone.push((row, is_matched)));
    of_key.right().evict(Some(at(8)), |_, row, is_matched| gone.push((row, is_matched)));
    of_key.close();
    assert_eq!(gone, [('c', false), ('a', true), ('b', true), ('e', true), ('x', true)]);
    assert_eq!(rows.store().rows(), 2);
}

#[test]
fn first_row_of_a_side_lies_in_the_entry() {
    // Two rows of 24 bytes with their times, numbers and flags, the key and whether it is pinned.
    assert!(size_of::<KeyEntry<u64, [u64; 3], [u64; 3]>>() <= 128);
}

#[test]
fn row_of_the_wrong_side_is_refused() {
    let row = Buffered::<u32, u32> { row: Side::Left(1), is_matched: false };
    let key = postcard::to_allocvec(&(7u32, of_side(RIGHT, (at(1), 0)))).unwrap();
    let value = postcard::to_allocvec(&value(Life::default(), &row)).unwrap();
    let change = Change::Put { slot: &[], key: &key, value: &value };
    let refused = SidedRows::<u32, u32, u32>::new().store_mut().restore(change).unwrap_err();
    assert!(refused.to_string().contains("the id of the other side"), "{refused}");
}

#[test]
fn sweep_removes_what_is_old_in_pieces() {
    let mut rows = SidedRows::<u32, u32, u32>::new();
    for key in 0..1_000 {
        let mut of_key = rows.open(HashedKey::of(&key));
        of_key.left().push(at(i64::from(key)), key, false);
        of_key.right().push(at(i64::from(key)), key, false);
        of_key.close();
    }
    let (mut left, mut right, mut place, mut pieces) = (Vec::new(), Vec::new(), Some(0), 0);
    while let Some(from) = place {
        let last = [Some(at(599)), Some(at(299))];
        place = rows.sweep(from, 100, last, |row, _| left.push(row), |row, _| right.push(row));
        pieces += 1;
    }
    left.sort_unstable();
    right.sort_unstable();
    assert!(left.into_iter().eq(0..600) && right.into_iter().eq(0..300));
    assert!(pieces > 10, "{pieces}");
    assert_eq!(rows.store().rows(), 1_100);
    for (key, is_there) in [(100, false), (999, true)] {
        let mut of_key = rows.open(HashedKey::of(&key));
        assert_eq!(of_key.left().any(ALL) || of_key.right().any(ALL), is_there);
        of_key.close();
    }
}

/// A key whose hash others share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Id(u8);

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 3).hash(state);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(Id, u8, i64),
    Match(Id, u8, i64, i64),
    Take(Id, u8, i64, i64),
    Evict(Id, i64, i64),
    Sweep(usize, i64, i64),
    Snapshot,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (0..5u8).prop_map(Id);
    let (side, time) = (0..2u8, -5..60i64);
    let step = prop_oneof![
        12 => (key(), side.clone(), time.clone()).prop_map(|(key, side, at)| Step::Push(key, side, at)),
        4 => (key(), side.clone(), time.clone(), 0..20i64)
            .prop_map(|(key, side, at, span)| Step::Match(key, side, at, at + span)),
        2 => (key(), side, time.clone(), 0..9i64)
            .prop_map(|(key, side, at, span)| Step::Take(key, side, at, at + span)),
        3 => (key(), time.clone(), time.clone()).prop_map(|(key, left, right)| Step::Evict(key, left, right)),
        1 => (0..9usize, time.clone(), time).prop_map(|(place, left, right)| Step::Sweep(place, left, right)),
        3 => Just(Step::Snapshot),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..300)
}

/// Rows by key, side, time and the order in which they came, and whether they have been matched.
type Model = BTreeMap<(Id, u8, i64, usize), bool>;

/// What is there, in the order of the model.
fn contents(rows: &mut SidedRows<Id, usize, usize>) -> Vec<((Id, u8, i64, usize), bool)> {
    let mut all = Vec::new();
    for key in (0..5).map(Id) {
        let mut of_key = rows.open(HashedKey::of(&key));
        for side in [LEFT, RIGHT] {
            let rows = if side == LEFT { of_key.left().rows } else { of_key.right().rows };
            let found =
                rows.iter().map(|(id, cell)| ((key, side, id.0.as_micros(), cell.row), cell.is_matched));
            all.extend(found);
        }
        of_key.close();
    }
    all
}

proptest! {
    #[test]
    fn sided_rows_agree_with_a_sorted_map(steps in steps()) {
        let mut rows = SidedRows::<Id, usize, usize>::new();
        rows.store_mut().track();
        let (mut model, mut chain) = (Model::new(), Vec::<(KeyGroup, Vec<u8>)>::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(key, side, time) => {
                    let mut of_key = rows.open(HashedKey::of(&key));
                    if side == LEFT {
                        of_key.left().push(at(time), number, false);
                    } else {
                        of_key.right().push(at(time), number, false);
                    }
                    of_key.close();
                    model.insert((key, side, time, number), false);
                }
                Step::Match(key, side, from, to) => {
                    let (mut of_key, mut found) = (rows.open(HashedKey::of(&key)), Vec::new());
                    let matched = |time: EventTime, row: &usize| found.push((time.as_micros(), *row));
                    if side == LEFT {
                        of_key.left().matches::<true>(at(from)..=at(to), matched);
                    } else {
                        of_key.right().matches::<true>(at(from)..=at(to), matched);
                    }
                    of_key.close();
                    let range = (key, side, from, 0)..=(key, side, to, usize::MAX);
                    let expected = model.range_mut(range).map(|((_, _, time, row), is_matched)| {
                        *is_matched = true;
                        (*time, *row)
                    });
                    prop_assert_eq!(found, expected.collect::<Vec<_>>());
                }
                Step::Take(key, side, from, to) => {
                    let (mut of_key, mut gone) = (rows.open(HashedKey::of(&key)), Vec::new());
                    let taken = |time: EventTime, row: usize, is_matched: bool| {
                        gone.push(((key, side, time.as_micros(), row), is_matched));
                    };
                    if side == LEFT {
                        of_key.left().take(at(from)..=at(to), taken);
                    } else {
                        of_key.right().take(at(from)..=at(to), taken);
                    }
                    of_key.close();
                    let is_taken = |id: &(Id, u8, i64, usize)| id.0 == key && id.1 == side && (from..=to).contains(&id.2);
                    let expected: Vec<_> = model.extract_if(.., |id, _| is_taken(id)).collect();
                    prop_assert_eq!(gone, expected);
                }
                Step::Evict(key, left, right) => {
                    let mut of_key = rows.open(HashedKey::of(&key));
                    of_key.left().evict(Some(at(left)), |_, _, _| ());
                    of_key.right().evict(Some(at(right)), |_, _, _| ());
                    of_key.close();
                    model.retain(|id, _| id.0 != key || id.2 > if id.1 == LEFT { left } else { right });
                }
                Step::Sweep(pieces, left, right) => {
                    let (mut place, mut gone) = (Some(0), 0);
                    while let Some(from) = place {
                        let (count, places) = (std::cell::Cell::new(0), pieces + 1);
                        let last = [Some(at(left)), Some(at(right))];
                        place = rows.sweep(from, places, last, |_, _| count.set(count.get() + 1), |_, _| count.set(count.get() + 1));
                        gone += count.get();
                    }
                    let before = model.len();
                    model.retain(|id, _| id.2 > if id.1 == LEFT { left } else { right });
                    prop_assert_eq!(gone, before - model.len());
                }
                Step::Snapshot => {
                    let mut writer = SnapshotWriter::new();
                    rows.store_mut().snapshot("rows", &mut writer).unwrap();
                    chain.extend(writer.into_groups());
                    prop_assert_eq!(rows.store().unsaved(), 0);
                }
                Step::Restart => {
                    let mut writer = SnapshotWriter::new();
                    rows.store_mut().snapshot("rows", &mut writer).unwrap();
                    chain.extend(writer.into_groups());
                    rows = SidedRows::new();
                    for (_, bytes) in &chain {
                        let mut reader = SnapshotReader::new(bytes);
                        while let Some(change) = reader.next_change().unwrap() {
                            rows.store_mut().restore(change).unwrap();
                        }
                    }
                    if number.is_multiple_of(2) {
                        // All of it in one snapshot, as a compaction by another run writes it.
                        let mut writer = SnapshotWriter::new();
                        rows.store_mut().snapshot("rows", &mut writer).unwrap();
                        chain = writer.into_groups().collect();
                    }
                    rows.store_mut().track();
                }
            }
            prop_assert_eq!(rows.store().rows(), model.len());
            prop_assert_eq!(contents(&mut rows), model.clone().into_iter().collect::<Vec<_>>());
        }
    }
}
