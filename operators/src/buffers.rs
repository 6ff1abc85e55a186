//! Memory for batches, used again.
//!
//! A batch is as large as what allocators take from the system and give back at once. Left to them, every batch of a
//! wide record is new pages to be filled with zeros first, which may cost more than all that is done with its rows.
//! So each worker keeps a few emptied vectors of each type.

use std::any::{Any, TypeId};
use std::cell::RefCell;

/// What takes less is left to the allocator, which is good at it.
const SMALL: usize = 16 << 10;
/// What takes more is not kept.
const LARGE: usize = 1 << 20;
/// How many vectors of a type are kept.
const KEPT: usize = 8;

/// Emptied vectors of a type. Which one is known to those who ask: all else is compiled once, not for every type.
type Kept = (TypeId, Vec<Box<dyn Any>>);

thread_local! {
    static SPARE: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Calls back with the vectors of a type that are kept; not while a thread ends.
fn spare<R>(of: TypeId, call: impl FnOnce(&mut Vec<Box<dyn Any>>) -> R) -> Option<R> {
    let with = |all: &RefCell<Vec<Kept>>| {
        let mut all = all.try_borrow_mut().ok()?;
        let place = match all.iter().position(|(other, _)| *other == of) {
            Some(place) => place,
            None => {
                all.push((of, Vec::new()));
                all.len() - 1
            }
        };
        all.get_mut(place).map(|(_, kept)| call(kept))
    };
    SPARE.try_with(with).ok().flatten()
}

#[inline(never)]
fn take(of: TypeId) -> Option<Box<dyn Any>> {
    spare(of, Vec::pop).flatten()
}

/// Whether there is room for one more vector of a type.
#[inline(never)]
fn has_room(of: TypeId) -> bool {
    spare(of, |kept| kept.len() < KEPT).unwrap_or(false)
}

#[inline(never)]
fn keep(of: TypeId, vector: Box<dyn Any>) {
    spare(of, |kept| kept.push(vector));
}

/// How many rows of a type make a batch: about 128 KiB, so that a batch stays in the cache of the core that made it.
pub(crate) const fn batch_capacity<T>() -> usize {
    rows_in::<T>(131_072, 64, 8_192)
}

/// How many rows of a type are read at a time within a loop: about 8 KiB, so that they stay in the innermost cache.
pub(crate) const fn chunk_capacity<T>() -> usize {
    rows_in::<T>(8_192, 8, 256)
}

/// How many rows of a type are handed to a sink at a time: half a batch. Much fewer would be hotter in the cache, but a sink
/// may ask the system for something each time, which should stay cheap beside what the rows cost.
pub(crate) const fn write_capacity<T>() -> usize {
    rows_in::<T>(65_536, 32, 4_096)
}

const fn rows_in<T>(bytes: usize, least: usize, most: usize) -> usize {
    let size = if std::mem::size_of::<T>() == 0 { 1 } else { std::mem::size_of::<T>() };
    let rows = bytes / size;
    if rows < least {
        least
    } else if rows > most {
        most
    } else {
        rows
    }
}

/// An empty vector with room for this many rows.
#[inline(never)]
pub(crate) fn with_room<T: 'static>(rows: usize) -> Vec<T> {
    if rows * size_of::<T>() >= SMALL
        && let Some(Ok(vector)) = take(TypeId::of::<T>()).map(|kept| kept.downcast::<Vec<T>>())
        // One that is too small goes: it is not worth growing.
        && vector.capacity() >= rows
    {
        return *vector;
    }
    Vec::with_capacity(rows)
}

/// Moves a vector's rows to where there is room for this many in all.
///
/// The allocator would let it grow in the place where it is, and that place belongs to another thread's memory where the
/// first small piece of it came from a record that this thread has freed and another had made. Growing there waits for
/// that thread, and tidies up after it: among a million freed strings that took ten times as long as all else.
#[inline(never)]
pub(crate) fn grow<T: 'static>(vector: &mut Vec<T>, rows: usize) {
    if rows > vector.capacity() {
        let mut larger = with_room(rows);
        larger.append(vector);
        give_back(std::mem::replace(vector, larger));
    }
}

/// Takes a vector that is needed no more.
#[inline(never)]
pub(crate) fn give_back<T: 'static>(mut vector: Vec<T>) {
    if (SMALL..=LARGE).contains(&(vector.capacity() * size_of::<T>())) {
        vector.clear();
        let of = TypeId::of::<T>();
        if has_room(of) {
            keep(of, Box::new(vector));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_vector_is_used_again_and_a_small_one_is_not() {
        let mut large = with_room::<u64>(4_096);
        large.push(1);
        let memory = large.as_ptr();
        give_back(large);
        let again = with_room::<u64>(4_000);
        assert_eq!((again.as_ptr(), again.len()), (memory, 0));
        give_back(Vec::<u64>::with_capacity(10));
        assert_eq!(spare(TypeId::of::<u64>(), |kept| kept.len()), Some(0));
    }

    #[test]
    fn vectors_of_another_type_are_left_alone() {
        give_back(Vec::<u32>::with_capacity(10_000));
        assert_eq!(with_room::<i32>(10_000).capacity(), 10_000);
        assert_eq!(spare(TypeId::of::<u32>(), |kept| kept.len()), Some(1));
    }

    #[test]
    fn only_so_many_are_kept() {
        for _ in 0..2 * KEPT {
            give_back(Vec::<u8>::with_capacity(SMALL));
        }
        assert_eq!(spare(TypeId::of::<u8>(), |kept| kept.len()), Some(KEPT));
    }

    #[test]
    fn a_vector_that_has_grown_holds_what_it_held() {
        let mut vector = vec![1u64, 2, 3];
        grow(&mut vector, 2);
        assert_eq!(vector, [1, 2, 3]);
        for rows in [16, 4_096, 10_000] {
            grow(&mut vector, rows);
            assert_eq!(vector, [1, 2, 3]);
            assert!(vector.capacity() >= rows);
        }
        // What it was in before can be used again.
        assert_eq!(spare(TypeId::of::<u64>(), |kept| kept.len()), Some(1));
        assert_eq!(with_room::<u64>(4_000).capacity(), 4_096);
    }

    #[test]
    fn a_vector_grows_to_what_is_asked_for() {
        give_back(Vec::<u16>::with_capacity(SMALL));
        assert!(with_room::<u16>(4 * SMALL).capacity() >= 4 * SMALL);
    }
}
