//! The keyed exchange of operators with state: takes the key of every row, hashes it once, and deals the rows out.

use std::sync::Arc;

use either::Either;
use serde::{Deserialize, Serialize};

use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, ObservedWatermark};
use crate::group::KeyRouter;
use crate::named::HashedKey;
use crate::stream::Keying;
use crate::{Batch, Context, Data, EventTime, Key, Operator, OperatorError, hash_key};

/// A row with its key, on the worker that holds the key's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealt<K, T> {
    /// The hash of the key, from [`hash_key`].
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The row's event time; [`EventTime::MIN`] where the stream has none.
    pub time: EventTime,
    /// The row.
    pub value: T,
}

impl<K: Key, T> Dealt<K, T> {
    /// A row with its key.
    pub fn new(key: K, time: EventTime, value: T) -> Self {
        Dealt { hash: hash_key(&key), key, time, value }
    }

    /// The key with its hash: what states and timers ask for.
    #[inline]
    pub fn hashed(&self) -> HashedKey<'_, K> {
        HashedKey { hash: self.hash, key: &self.key }
    }
}

/// Output 0: [`Dealt`] rows, labelled with the worker that they are for. State: none.
pub(super) struct Deal<P, Y> {
    shared: Arc<(P, Y)>,
    /// Whether they stay on the worker on which they are.
    is_local: bool,
}

impl<P, Y> Deal<P, Y> {
    pub(super) fn new(shared: Arc<(P, Y)>, is_local: bool) -> Self {
        Deal { shared, is_local }
    }
}

impl<P: Chain, Y: Keying<P::Out, Value: Data>> Deal<P, Y> {
    fn deal(&self, rows: impl Rows<P::In>, origin: u32, context: &mut Context) {
        let (chain, keying) = &*self.shared;
        let mut out = match self.is_local {
            true => KeyRouter::local(0, context),
            false => KeyRouter::new(0, context),
        };
        let mut observed = ObservedWatermark::new();
        chain.run(rows, &mut observed, &mut |time, value| {
            keying.each_owned(value, &mut |hash, key, value| {
                out.push(hash, Dealt { hash, key, time, value }, context);
            });
        });
        out.send(context);
        if observed.seen {
            context.observe(origin, observed.watermark);
        }
    }
}

impl<P: Chain, Y: Keying<P::Out, Value: Data>> Operator for Deal<P, Y> {
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        let origin = batch.origin();
        match incoming::<P>(batch)? {
            Either::Left(rows) => self.deal(rows, origin, context),
            Either::Right(feed) => self.deal(feed, origin, context),
        }
        Ok(())
    }
}
