//! `key_by`: assigns a key to each record. Keeps no state; the key is hashed here, once.

use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::Location;

use super::Stream;
use crate::chain::{Chain, sealed};
use crate::graph::{Port, StepInfo};
use crate::{Key, hash_key};

/// A stream whose records have a key, for aggregates, windows and joins.
///
/// `P` is the chain of steps, and `Y` computes the key of a record.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct KeyedStream<K, V, P, Y> {
    pub(crate) port: Port,
    pub(crate) chain: P,
    pub(crate) keying: Y,
    pub(crate) steps: Vec<StepInfo>,
    pub(crate) marker: PhantomData<fn() -> (K, V)>,
}

impl<K, V, P, Y> std::fmt::Debug for KeyedStream<K, V, P, Y> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedStream").field("key", &std::any::type_name::<K>()).finish_non_exhaustive()
    }
}

/// How keys are taken from records. Named in types, implemented only here.
pub trait Keying<T>: sealed::Sealed + Send + Sync + 'static {
    /// The key as state keeps it.
    type Key: Key + Borrow<Self::Query>;
    /// The key as the record shows it, which may be borrowed.
    type Query: Hash + Eq + ToOwned<Owned = Self::Key> + ?Sized;
    /// What is aggregated.
    type Value: Send + 'static;

    /// Calls back with the hash, the key and the value for each key of the record.
    fn each<E: FnMut(u64, &Self::Query, Self::Value)>(&self, record: T, emit: &mut E);

    /// As [`each`](Self::each), with the key as state keeps it.
    #[inline(always)]
    fn each_owned<E: FnMut(u64, Self::Key, Self::Value)>(&self, record: T, emit: &mut E) {
        self.each(record, &mut |hash, key, value| emit(hash, key.to_owned(), value));
    }
}

/// The keying of [`Stream::key_by`].
#[derive(Debug, Clone)]
pub struct KeyBy<F, K> {
    function: F,
    marker: PhantomData<fn() -> K>,
}

impl<F, K> sealed::Sealed for KeyBy<F, K> {}

impl<T: Send + 'static, K: Key, F: Fn(&T) -> K + Send + Sync + 'static> Keying<T> for KeyBy<F, K> {
    type Key = K;
    type Query = K;
    type Value = T;

    #[inline(always)]
    fn each<E: FnMut(u64, &K, T)>(&self, record: T, emit: &mut E) {
        let key = (self.function)(&record);
        emit(hash_key(&key), &key, record);
    }

    #[inline(always)]
    fn each_owned<E: FnMut(u64, K, T)>(&self, record: T, emit: &mut E) {
        let key = (self.function)(&record);
        emit(hash_key(&key), key, record);
    }
}

/// The keying where there are no keys: of all records as one.
#[derive(Debug, Clone, Copy)]
pub struct Unkeyed;

impl sealed::Sealed for Unkeyed {}

impl<T: Send + 'static> Keying<T> for Unkeyed {
    type Key = ();
    type Query = ();
    type Value = T;

    #[inline(always)]
    fn each<E: FnMut(u64, &(), T)>(&self, record: T, emit: &mut E) {
        emit(hash_key(&()), &(), record);
    }
}

/// The keying of [`Stream::flat_key_by`].
pub struct FlatKeyBy<F, Q: ?Sized> {
    function: F,
    marker: PhantomData<fn(&Q)>,
}

impl<F, Q: ?Sized> std::fmt::Debug for FlatKeyBy<F, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlatKeyBy")
    }
}

impl<F, Q: ?Sized> sealed::Sealed for FlatKeyBy<F, Q> {}

impl<T, Q, F> Keying<T> for FlatKeyBy<F, Q>
where
    Q: Hash + Eq + ToOwned + ?Sized + 'static,
    Q::Owned: Key,
    F: for<'r> Fn(&'r T, &mut Keys<'r, '_, Q>) + Send + Sync + 'static,
{
    type Key = Q::Owned;
    type Query = Q;
    type Value = ();

    #[inline(always)]
    fn each<E: FnMut(u64, &Q, ())>(&self, record: T, emit: &mut E) {
        let mut take = |key: &Q| emit(hash_key(key), key, ());
        (self.function)(&record, &mut Keys { take: &mut take, record: PhantomData });
    }
}

/// A function from a record to keys borrowed from it: what [`Stream::keys_by`] takes. Implemented for all of them.
pub trait KeysOf<'r, T: 'r, Q: ?Sized + 'r>: Fn(&'r T) -> Self::Keys {
    /// The keys.
    type Keys: IntoIterator<Item = &'r Q>;
}

impl<'r, T: 'r, Q: ?Sized + 'r, I: IntoIterator<Item = &'r Q>, F: Fn(&'r T) -> I> KeysOf<'r, T, Q> for F {
    type Keys = I;
}

/// The keying of [`Stream::keys_by`].
pub struct KeysBy<F, Q: ?Sized> {
    function: F,
    marker: PhantomData<fn(&Q)>,
}

impl<F, Q: ?Sized> std::fmt::Debug for KeysBy<F, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeysBy")
    }
}

impl<F, Q: ?Sized> sealed::Sealed for KeysBy<F, Q> {}

impl<T: 'static, Q, F> Keying<T> for KeysBy<F, Q>
where
    Q: Hash + Eq + ToOwned + ?Sized + 'static,
    Q::Owned: Key,
    F: for<'r> KeysOf<'r, T, Q> + Send + Sync + 'static,
{
    type Key = Q::Owned;
    type Query = Q;
    type Value = ();

    #[inline(always)]
    fn each<E: FnMut(u64, &Q, ())>(&self, record: T, emit: &mut E) {
        for key in (self.function)(&record) {
            emit(hash_key(key), key, ());
        }
    }
}

/// Takes the keys of a record: see [`Stream::flat_key_by`].
pub struct Keys<'r, 'e, Q: ?Sized> {
    // Handing keys on many at a time was tried and was slower: taking one in and finding the next overlap.
    take: &'e mut dyn FnMut(&Q),
    record: PhantomData<&'r Q>,
}

impl<'r, Q: ?Sized> Keys<'r, '_, Q> {
    /// Adds a key to the record.
    #[inline]
    pub fn push(&mut self, key: &'r Q) {
        (self.take)(key);
    }

    /// Adds several keys to the record.
    #[inline]
    pub fn extend(&mut self, keys: impl IntoIterator<Item = &'r Q>) {
        keys.into_iter().for_each(|key| self.push(key));
    }
}

impl<Q: ?Sized> std::fmt::Debug for Keys<'_, '_, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Assigns to each record the key that `function` returns.
    ///
    /// To aggregate all records into one value no key is needed: see [`aggregate`](Self::aggregate).
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("parity");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..5u64)).key_by(|n| n % 2).count().update().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(0, 3), (1, 2)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn key_by<K, F>(self, function: F) -> KeyedStream<K, T, P, KeyBy<F, K>>
    where
        K: Key,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        self.keyed(Location::caller(), "key_by", KeyBy { function, marker: PhantomData })
    }

    /// Assigns any number of keys to each record, borrowed from the record.
    ///
    /// Each key becomes a record without a value. A key is copied only when it gets new state, so counting words
    /// allocates nothing per word.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("words");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(["tide 0", "tide 1"]))
    ///     .flat_key_by(|line, keys| keys.extend(line.split_whitespace()))
    ///     .count()
    ///     .update()
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [("0".to_owned(), 1), ("1".to_owned(), 1), ("tide".to_owned(), 2)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn flat_key_by<Q, F>(self, function: F) -> KeyedStream<Q::Owned, (), P, FlatKeyBy<F, Q>>
    where
        Q: Hash + Eq + ToOwned + ?Sized + 'static,
        Q::Owned: Key,
        F: for<'r> Fn(&'r T, &mut Keys<'r, '_, Q>) + Send + Sync + 'static,
    {
        self.keyed(Location::caller(), "flat_key_by", FlatKeyBy { function, marker: PhantomData })
    }

    /// Assigns any number of keys to each record, returned by a named function.
    ///
    /// It does the same as [`flat_key_by`](Self::flat_key_by) and is slightly faster, since the iterator of keys is
    /// inlined into the loop that counts them. `function` cannot be a closure: Rust cannot infer the type of a closure
    /// that returns borrowed values.
    ///
    /// ```
    /// use std::str::SplitWhitespace;
    /// use tidemill::prelude::*;
    ///
    /// fn words(line: &String) -> SplitWhitespace<'_> {
    ///     line.split_whitespace()
    /// }
    ///
    /// let graph = Graph::new("words");
    /// let (sink, table) = memory_sink();
    /// let lines = ["tide 0".to_owned(), "tide 1".to_owned()];
    /// graph.source(memory(lines)).keys_by(words).count().update().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [("0".to_owned(), 1), ("1".to_owned(), 1), ("tide".to_owned(), 2)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn keys_by<Q, F>(self, function: F) -> KeyedStream<Q::Owned, (), P, KeysBy<F, Q>>
    where
        Q: Hash + Eq + ToOwned + ?Sized + 'static,
        Q::Owned: Key,
        F: for<'r> KeysOf<'r, T, Q> + Send + Sync + 'static,
    {
        self.keyed(Location::caller(), "keys_by", KeysBy { function, marker: PhantomData })
    }

    /// All records under one key. The step is called as if the user had given it.
    pub(crate) fn unkeyed(self, location: &'static Location<'static>) -> KeyedStream<(), T, P, Unkeyed> {
        self.keyed(location, "key_by", Unkeyed)
    }

    fn keyed<K, V, Y>(
        self,
        location: &'static Location<'static>,
        op: &'static str,
        keying: Y,
    ) -> KeyedStream<K, V, P, Y> {
        let mut steps = self.steps;
        steps.push(StepInfo::new(op, location));
        KeyedStream { port: self.port, chain: self.chain, keying, steps, marker: PhantomData }
    }
}
