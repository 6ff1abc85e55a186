//! Accumulators in two tables: those that have been written to a snapshot, and what came since.
//!
//! Records are added to the fresh table only, as if there were no other, so that tracking costs them nothing. What a
//! key has in both is merged where it is asked for, the settled part first, and for good when it is written.

use std::borrow::Borrow;

use super::Mark;
use super::table::{Entry, Table};
use crate::{Aggregate, Key, OperatorError, hash_key};

/// Moves everything that is fresh over to what is settled, and writes the whole accumulators of these keys.
pub(super) fn settle<K: Key, A: Aggregate, M: Mark>(
    aggregate: &A,
    settled: &mut Table<K, A::Acc, M>,
    fresh: &mut Table<K, A::Acc, M>,
    mut write: impl FnMut(u64, &K, &A::Acc) -> Result<(), OperatorError>,
) -> Result<(), OperatorError> {
    if fresh.len() == 0 {
        return Ok(());
    }
    if settled.len() == 0 {
        std::mem::swap(settled, fresh);
        return settled.iter().try_for_each(|entry| write(hash_key(&entry.key), &entry.key, &entry.acc));
    }
    let mut outcome = Ok(());
    fresh.drain(|key, acc| {
        let hash = hash_key(&key);
        let entry = settled.merge(hash, key, acc, |acc, later| aggregate.merge(acc, later));
        if outcome.is_ok() {
            outcome = write(hash, &entry.key, &entry.acc);
        }
    });
    outcome
}

/// The whole accumulators of all keys; both tables stay as they are.
pub(super) fn each<K: Key, A: Aggregate, M: Mark>(
    aggregate: &A,
    settled: &Table<K, A::Acc, M>,
    fresh: &Table<K, A::Acc, M>,
    mut each: impl FnMut(&K, &A::Acc),
) {
    for Entry { key, acc, .. } in settled.iter() {
        match find(fresh, key) {
            Some(later) => {
                let mut whole = acc.clone();
                aggregate.merge(&mut whole, later.acc.clone());
                each(key, &whole);
            }
            None => each(key, acc),
        }
    }
    for Entry { key, acc, .. } in fresh.iter() {
        if find(settled, key).is_none() {
            each(key, acc);
        }
    }
}

/// The whole accumulator of a key.
pub(super) fn whole<K, Q, A, M>(
    aggregate: &A,
    settled: &Table<K, A::Acc, M>,
    fresh: &Table<K, A::Acc, M>,
    hash: u64,
    key: &Q,
) -> Option<A::Acc>
where
    K: Key + Borrow<Q>,
    Q: Eq + ?Sized,
    A: Aggregate,
    M: Mark,
{
    let [settled, fresh] = [settled, fresh].map(|table| table.find(hash, key).map(|entry| entry.acc.clone()));
    match (settled, fresh) {
        (Some(mut whole), Some(later)) => {
            aggregate.merge(&mut whole, later);
            Some(whole)
        }
        (settled, fresh) => settled.or(fresh),
    }
}

/// How many keys there are in the two tables.
pub(super) fn len<K: Key, Acc, M: Mark>(settled: &Table<K, Acc, M>, fresh: &Table<K, Acc, M>) -> usize {
    if settled.len() == 0 {
        return fresh.len();
    }
    settled.len() + fresh.iter().filter(|entry| find(settled, &entry.key).is_none()).count()
}

/// The entry of a key, which is not hashed for a table that is empty.
fn find<'a, K: Key, Acc, M: Mark>(table: &'a Table<K, Acc, M>, key: &K) -> Option<&'a Entry<K, Acc, M>> {
    if table.len() == 0 { None } else { table.find(hash_key(key), key) }
}
