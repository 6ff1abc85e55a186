//! `distinct_for`: drops rows whose key has been there, for a TTL by the engine's clock.
//!
//! Emits rows at once, with the event time that they have. State: each key, with the time at which its first row came. No row is late
//! for it.

use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;
use std::vec::Drain;

use super::remembered::fetch;
use crate::build::{Dealt, KeepsTime, StatefulOperator, Takes, To};
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::named::{HashedKey, NamedState, States, ValueState};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, OperatorError, Stream};

impl<K, T, P, Y> KeyedStream<K, T, P, Y>
where
    K: Key,
    T: Data,
    P: Chain<Out = T>,
    Y: Keying<T, Key = K, Value = T>,
{
    /// Drops rows whose key another row has had within `ttl`, by the engine's clock.
    ///
    /// The first row of a key that comes passes, and its key is remembered for `ttl` from then on. Duplicates do not prolong it: the
    /// first row after `ttl` passes again. The stream needs no event time; if it has one, late rows pass like others. Among rows of
    /// different workers it is chance which one comes first.
    ///
    /// In micro-batch all rows of an epoch come at the time of its clock. The clock includes the time in which the query did not run. A
    /// restart may change the TTL, which then also applies to keys that are remembered already.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("messages, once each");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(1u64, 'a'), (2, 'b'), (1, 'a')])) // (id, text)
    ///     .key_by(|message| message.0)
    ///     .distinct_for(Duration::from_secs(600))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(1, 'a'), (2, 'b')]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn distinct_for(self, ttl: Duration) -> Stream<T, FromEdge<T, P::Time>> {
        let operator =
            self.into_distinct("distinct_for", "by key, within a TTL".to_owned(), Location::caller());
        let operator = match ttl {
            Duration::ZERO => {
                operator.problem("the TTL is zero: no key would be remembered; make it longer".to_owned())
            }
            _ => operator,
        };
        operator
            .stateful(move |_| ForTtl::<K, T, P::Time> { keys: ValueState::with_ttl(ttl), rows: PhantomData })
    }
}

/// Input 0: rows. Output 0: those that pass.
struct ForTtl<K, T, M> {
    /// A key is written when its first row comes.
    keys: ValueState<K, ()>,
    rows: PhantomData<fn() -> (T, M)>,
}

impl<K: Key, T: Data, M: TimeDomain> StatefulOperator for ForTtl<K, T, M> {
    type Key = K;
    type Outputs = (KeepsTime<T, M>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("seen", &mut self.keys);
    }
}

impl<K: Key, T: Data, M: TimeDomain> Takes<0> for ForTtl<K, T, M> {
    type Row = Dealt<K, T>;

    fn take(&mut self, mut rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        while let fetched @ 1.. = fetch(self.keys.reach(), rows.as_slice()) {
            for Dealt { hash, key, time, value } in rows.by_ref().take(fetched) {
                if self.keys.add(HashedKey { hash, key: &key }, ()) {
                    to.out.0.push(time, value);
                }
            }
        }
        Ok(())
    }
}
