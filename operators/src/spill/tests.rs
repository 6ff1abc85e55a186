//! Rows that are moved out and back: by one limit or another, the same as a vector.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;

use super::*;
use crate::codec::Postcard;

type Texts = Rows<String, Postcard>;

/// Files in memory: how often each block is held, and what is in it.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Blocks>>);

#[derive(Default)]
struct Blocks {
    next: u64,
    kept: BTreeMap<u64, (usize, Vec<u8>)>,
    full: bool,
}

impl Shelf {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap()
    }
}

impl SpillSpace for Shelf {
    fn write(&self, bytes: &[u8]) -> Result<SpillHandle, SpillError> {
        let mut blocks = self.blocks();
        if blocks.full {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(SpillError::Disk { path: "shelf".into(), doing: "written to", error });
        }
        let at = blocks.next;
        blocks.next += 1;
        blocks.kept.insert(at, (1, bytes.to_vec()));
        Ok(SpillHandle { file: 0, length: bytes.len() as u32, at })
    }

    fn read(&self, handle: SpillHandle, bytes: &mut Vec<u8>) -> Result<(), SpillError> {
        bytes.clone_from(&self.blocks().kept.get(&handle.at).ok_or(SpillError::Lost)?.1);
        Ok(())
    }

    fn retain(&self, handle: SpillHandle) {
        self.blocks().kept.get_mut(&handle.at).unwrap().0 += 1;
    }

    fn free(&self, handle: SpillHandle) {
        let mut blocks = self.blocks();
        let held = &mut blocks.kept.get_mut(&handle.at).unwrap().0;
        *held -= 1;
        if *held == 0 {
            blocks.kept.remove(&handle.at);
        }
    }
}

fn memory(limit: usize) -> (Arc<StateMemory>, Shelf) {
    let shelf = Shelf::default();
    (StateMemory::new(limit, Box::new(shelf.clone())), shelf)
}

fn text(n: usize) -> String {
    format!("{n:->width$}", width = n % 90)
}

fn gather(texts: impl IntoIterator<Item = String>) -> Texts {
    let mut texts = texts.into_iter();
    let mut rows = Rows::of(texts.next().unwrap());
    texts.for_each(|text| rows.push(text));
    rows
}

#[test]
fn without_a_limit_nothing_is_counted() {
    let rows = gather((0..1_000).map(text));
    assert!(rows.blocks().is_none());
    assert_eq!(rows.len(), 1_000);
}

#[test]
fn one_large_group_stays_within_the_limit_and_comes_back_whole() {
    let (memory, shelf) = memory(1 << 20);
    let entered = memory.enter();
    let rows = gather((0..100_000).map(text));
    assert!(memory.spilled() > 2 << 20);
    assert!(memory.most() <= 1 << 20, "held {} at most", memory.most());
    assert_eq!(rows.len(), 100_000);
    assert!(rows.to_vec().into_iter().eq((0..100_000).map(text)));
    drop(rows);
    drop(entered);
    assert_eq!(memory.held(), 0);
    assert!(shelf.blocks().kept.is_empty());
}

#[test]
fn many_small_groups_stay_near_the_limit() {
    const KEYS: usize = 10_000;
    let (memory, shelf) = memory(1 << 20);
    let _entered = memory.enter();
    let mut groups: Vec<Rows<(u64, u64), Postcard>> =
        (0..KEYS).map(|key| Rows::of((key as u64, 0))).collect();
    for round in 1..60 {
        for (key, rows) in groups.iter_mut().enumerate() {
            rows.push((key as u64, round));
            if key % 1_000 == 0 && StateMemory::is_short() {
                // Done after each batch by the operators.
                StateMemory::looked_through();
            }
        }
        if memory.held() > memory.limit() {
            groups.iter_mut().for_each(Rows::relieve);
        }
    }
    assert!(memory.most() < 3 << 20, "held {} at most", memory.most());
    for (key, rows) in groups.iter().enumerate() {
        assert!(rows.to_vec().into_iter().eq((0..60).map(|round| (key as u64, round))));
        assert!(rows.blocks() <= Some(SMALL_BLOCKS));
    }
    drop(groups);
    assert_eq!((memory.held(), shelf.blocks().kept.len()), (0, 0));
}

/// No key has more small blocks than that.
const SMALL_BLOCKS: usize = 9;

#[test]
fn what_is_written_down_is_what_a_vector_would_be() {
    let expected: Vec<String> = (0..5_000).map(text).collect();
    let bytes = postcard::to_allocvec(&expected).unwrap();
    let (memory, _shelf) = memory(64 << 10);
    let _entered = memory.enter();
    let rows = gather(expected.clone());
    assert!(memory.spilled() > 0);
    assert_eq!(postcard::to_allocvec(&rows).unwrap(), bytes);
    let back: Texts = postcard::from_bytes(&bytes).unwrap();
    assert!(memory.most() < 128 << 10);
    assert_eq!(back.to_vec(), expected);
}

#[test]
fn a_full_disk_is_told_and_no_row_is_lost_before_the_query_ends() {
    let (memory, shelf) = memory(32 << 10);
    let _entered = memory.enter();
    shelf.blocks().full = true;
    let rows = gather((0..5_000).map(text));
    assert_eq!(rows.to_vec().len(), 5_000);
    let error = memory.take_failure().unwrap().to_string();
    assert!(error.starts_with("state that exceeds `--state-memory` cannot be written to shelf: "), "{error}");
}

#[test]
fn a_block_that_is_gone_is_told() {
    let (memory, shelf) = memory(32 << 10);
    let _entered = memory.enter();
    let rows = gather((0..5_000).map(text));
    let kept = std::mem::take(&mut shelf.blocks().kept);
    assert!(postcard::to_allocvec(&rows).is_err());
    assert!(matches!(memory.take_failure(), Some(SpillError::Lost)));
    shelf.blocks().kept = kept;
}

proptest! {
    #[test]
    fn rows_are_a_vector_whatever_is_elsewhere(
        limit in 0..60_000usize,
        steps in proptest::collection::vec((0..5u8, 1..400usize), 1..20),
    ) {
        let (memory, shelf) = memory(limit);
        let entered = memory.enter();
        let mut rows = gather([text(0)]);
        let mut expected = vec![text(0)];
        for (step, count) in steps {
            let more = (0..count).map(text);
            match step {
                0 => more.for_each(|text| { expected.push(text.clone()); rows.push(text) }),
                1 => { expected.extend(more.clone()); rows.append(gather(more)) }
                2 => {
                    let mut other = gather(more.clone());
                    other.relieve();
                    expected.extend(more);
                    rows.append(other);
                }
                3 => {
                    let other = rows.clone();
                    expected.extend(expected.clone());
                    rows.append(other);
                    expected.truncate(20_000);
                    if expected.len() == 20_000 {
                        rows = gather(expected.clone());
                    }
                }
                _ => rows.relieve(),
            }
            prop_assert_eq!(rows.len(), expected.len());
        }
        prop_assert_eq!(rows.to_vec(), expected);
        prop_assert!(memory.take_failure().is_none());
        drop((rows, entered));
        prop_assert_eq!((memory.held(), shelf.blocks().kept.len()), (0, 0));
    }
}
