//! A borrowed key with its hash.

use std::fmt;
use std::hash::Hash;

use crate::hash_key;

/// A key and its hash: what all keyed state is addressed by, so that a record's key is hashed once.
///
/// A record that has arrived through a keyed exchange carries the hash already.
pub struct HashedKey<'a, K> {
    /// [`hash_key`] of the key.
    pub hash: u64,
    /// The key.
    pub key: &'a K,
}

impl<'a, K: Hash> HashedKey<'a, K> {
    /// Hashes a key.
    #[inline]
    pub fn of(key: &'a K) -> Self {
        HashedKey { hash: hash_key(key), key }
    }
}

impl<K: Clone> HashedKey<'_, K> {
    /// Returns a copy of the key.
    pub fn cloned(self) -> K {
        self.key.clone()
    }
}

impl<K> std::ops::Deref for HashedKey<'_, K> {
    type Target = K;

    fn deref(&self) -> &K {
        self.key
    }
}

impl<K> Clone for HashedKey<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for HashedKey<'_, K> {}

impl<K: fmt::Debug> fmt::Debug for HashedKey<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}
