use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{KeyGroup, KeyGroups, OperatorError};

type Map = BTreeMap<(u8, String), Vec<u8>>;

fn in_group(number: u16) -> KeyGroup {
    KeyGroups::default().group(number).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, String, Vec<u8>),
    Remove(u8, String),
    DropSlot(u8),
    /// What was written so far becomes a part of its own.
    Cut,
    /// The parts so far are folded into one.
    Compact,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = "[a-d]{0,2}";
    // Now and then a value whose length takes more than a byte.
    let value = prop_oneof![8 => proptest::collection::vec(any::<u8>(), 0..4), 1 => proptest::collection::vec(any::<u8>(), 120..300)];
    let op = prop_oneof![
        8 => (0..4u8, key, value).prop_map(|(slot, key, value)| Op::Put(slot, key, value)),
        3 => (0..4u8, key).prop_map(|(slot, key)| Op::Remove(slot, key)),
        1 => (0..4u8).prop_map(Op::DropSlot),
        2 => Just(Op::Cut),
        1 => Just(Op::Compact),
    ];
    proptest::collection::vec(op, 0..60)
}

/// The parts that the operations come to, and the map.
fn run(ops: &[Op]) -> (Vec<Vec<u8>>, Map) {
    let (mut parts, mut map, mut writer) = (Vec::new(), Map::new(), SnapshotWriter::new());
    for op in ops.iter().chain([&Op::Cut]) {
        match op {
            Op::Put(slot, key, value) => {
                writer.put(in_group(5), slot, key, value).unwrap();
                map.insert((*slot, key.clone()), value.clone());
            }
            Op::Remove(slot, key) => {
                writer.remove(in_group(5), slot, key).unwrap();
                map.remove(&(*slot, key.clone()));
            }
            Op::DropSlot(slot) => {
                writer.drop_slot(in_group(5), slot).unwrap();
                map.retain(|(of, _), _| of != slot);
            }
            Op::Cut | Op::Compact => {
                let written = std::mem::take(&mut writer).into_groups();
                parts.extend(written.map(|(group, bytes)| {
                    assert_eq!(group, in_group(5));
                    bytes
                }));
                if matches!(op, Op::Compact) {
                    let compacted = fold(&parts).write();
                    parts = vec![compacted];
                }
            }
        }
    }
    (parts, map)
}

fn fold(parts: &[Vec<u8>]) -> Folded<'_> {
    let mut folded = Folded::new();
    parts.iter().for_each(|part| folded.apply(part).unwrap());
    folded
}

fn typed(folded: &Folded<'_>) -> Map {
    let entry = |(slot, key, value)| ((decode(slot).unwrap(), decode(key).unwrap()), decode(value).unwrap());
    folded.entries().map(entry).collect()
}

/// How an operator applies changes.
fn apply(map: &mut Map, bytes: &[u8]) -> Result<(), OperatorError> {
    let mut reader = SnapshotReader::new(bytes);
    while let Some(change) = reader.next_change()? {
        let slot: u8 = decode(change.slot())?;
        match change {
            Change::Put { key, value, .. } => drop(map.insert((slot, decode(key)?), decode(value)?)),
            Change::Remove { key, .. } => drop(map.remove(&(slot, decode(key)?))),
            Change::DropSlot { .. } => map.retain(|(of, _), _| *of != slot),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn changes_come_to_the_same_however_they_are_cut_and_compacted(ops in ops()) {
        let (parts, map) = run(&ops);
        let folded = fold(&parts);
        prop_assert_eq!(&typed(&folded), &map);
        prop_assert_eq!((folded.len(), folded.is_empty()), (map.len(), map.is_empty()));

        let mut applied = Map::new();
        parts.iter().for_each(|part| apply(&mut applied, part).unwrap());
        prop_assert_eq!(&applied, &map);

        let mut applied = Map::new();
        let views: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        for part in without_dropped(&views).unwrap() {
            let drops = SnapshotReader::new(&part).any(|c| matches!(c, Ok(Change::DropSlot { .. })));
            prop_assert!(!drops, "nothing is dropped any more");
            apply(&mut applied, &part).unwrap();
        }
        prop_assert_eq!(&applied, &map);
    }

    #[test]
    fn a_difference_is_what_loops_count(before in ops(), after in ops()) {
        let ((old, old_map), (new, new_map)) = (run(&before), run(&after));
        let expected = Difference {
            added: new_map.keys().filter(|key| !old_map.contains_key(*key)).count() as u64,
            changed: new_map.iter().filter(|(key, value)| old_map.get(*key).is_some_and(|v| v != *value)).count() as u64,
            removed: old_map.keys().filter(|key| !new_map.contains_key(*key)).count() as u64,
        };
        prop_assert_eq!(fold(&new).difference(&fold(&old)), expected);
    }

    #[test]
    fn damaged_changes_never_panic(ops in ops(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        for part in run(&ops).0.iter().filter(|part| !part.is_empty()) {
            let at = at.index(part.len());
            let mut flipped = part.clone();
            flipped[at] ^= flip;
            for bytes in [&part[..at], &flipped] {
                let read: Vec<_> = SnapshotReader::new(bytes).collect();
                prop_assert!(read.iter().rev().skip(1).all(Result::is_ok), "it ends after the first error");
                let mut folded = Folded::new();
                prop_assert_eq!(folded.apply(bytes).is_ok(), read.iter().all(Result::is_ok));
                let _ = apply(&mut Map::new(), bytes);
            }
        }
    }
}

#[test]
fn a_slot_is_written_when_it_changes_and_not_before() {
    let mut writer = SnapshotWriter::new();
    for (group, slot) in [(0, 1u8), (1, 2), (0, 1), (0, 3), (1, 2)] {
        writer.put(in_group(group), &slot, &(), &()).unwrap();
    }
    let groups: Vec<_> = writer.into_groups().collect();
    assert_eq!(groups[0], (in_group(0), vec![0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 3, 1, 0, 0]));
    assert_eq!(groups[1], (in_group(1), vec![0, 1, 2, 1, 0, 0, 1, 0, 0]));
}

#[test]
fn buffers_are_used_again() {
    let buffer = vec![9u8; 4096];
    let address = buffer.as_ptr();
    let mut writer = SnapshotWriter::reusing(vec![buffer]);
    writer.put(in_group(3), &(), &1u8, &2u8).unwrap();
    let (group, bytes) = writer.into_groups().next().unwrap();
    assert_eq!((group, bytes.as_ptr()), (in_group(3), address));
    assert_eq!(bytes, [0, 0, 1, 1, 1, 1, 2]);
}

#[test]
fn a_group_that_there_is_not_is_refused() {
    let error = SnapshotWriter::new()
        .put(KeyGroups::new(256).unwrap().group(128).unwrap(), &(), &(), &())
        .unwrap_err();
    assert!(matches!(error, OperatorError::NoSuchGroup(128)), "{error}");
}

#[test]
fn bytes_left_over_are_no_value() {
    assert!(decode::<u8>(&[1, 2]).is_err());
    assert!(decode::<u8>(&[]).is_err());
    assert_eq!(decode::<u8>(&[1]).unwrap(), 1);
}
