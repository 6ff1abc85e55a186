//! Keys: hashed once where the key is taken, and the same hash serves routing, look-up and key group.

use std::hash::{BuildHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

/// The hash of a key: of fixed seed, so that every worker and every run agrees.
///
/// A borrowed form hashes as its owned one does (`str` as `String`).
#[inline(always)]
#[allow(
    clippy::manual_hash_one,
    reason = "that one is not always inlined, and then hashing a number is a call"
)]
pub fn hash_key<Q: Hash + ?Sized>(key: &Q) -> u64 {
    // The seed is arbitrary and must never change: key groups on disk depend on it.
    let mut hasher = foldhash::fast::FixedState::with_seed(0x7469_6465_6d69_6c6c).build_hasher();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Whether copying a value costs next to nothing.
pub(crate) const fn is_plain<T>() -> bool {
    !std::mem::needs_drop::<T>() && size_of::<T>() <= 32
}

/// A record with its key and the key's hash, on its way to the worker that holds the key's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed<K, V> {
    /// [`hash_key`] of the key.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The record.
    pub value: V,
}

/// What a key must be: compared, hashed, copied, sent between workers and kept in checkpoints.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    note = "a key is `#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]`, `Send` and without borrows: it \
            is sent between workers and kept in checkpoints",
    note = "floats have no equality: round floats to an integer, or take their `to_bits()`"
)]
pub trait Key: Clone + Eq + Hash + Data {}
#[diagnostic::do_not_recommend]
impl<K: Clone + Eq + Hash + Data> Key for K {}

/// What a record must be to leave a step: rows are sent between threads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a row: rows are sent between threads",
    note = "a row is `Send` and owns what it holds: `Arc` in place of `Rc`, `String` in place of a borrowed `&str`"
)]
pub trait Row: Send + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Send + 'static> Row for T {}

/// What a record must be to be sent between workers or kept in state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent between workers or kept in state",
    note = "such a record is `#[derive(serde::Serialize, serde::Deserialize)]`, `Send` and without borrows: `String` in place of `&str`"
)]
pub trait Data: Send + Serialize + serde::de::DeserializeOwned + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Send + Serialize + for<'de> StringInsteadOfBorrowedStr<'de> + 'static> Data for T {}

/// `serde::de::DeserializeOwned` under another name, for records.
///
/// A `&str` can be deserialised, but only for as long as its input lives. For this the compiler has no message but "implementation
/// of `…` is not general enough", with the name of the trait: so its name is what to do.
#[doc(hidden)]
pub trait StringInsteadOfBorrowedStr<'de>: Deserialize<'de> {}
#[diagnostic::do_not_recommend]
impl<'de, T: Deserialize<'de>> StringInsteadOfBorrowedStr<'de> for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borrowed_key_hashes_as_the_owned_one() {
        assert_eq!(hash_key("tide"), hash_key(&"tide".to_owned()));
    }
}
