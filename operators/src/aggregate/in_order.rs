//! Aggregates that depend on the order of records.

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::Aggregate;
use crate::Data;
use crate::arrival::{self, Run};

/// Another aggregate, given the records of each partition in the order in which they arrived. Those of several partitions
/// interleave as they come.
///
/// That is the one rule for all windows, and for aggregates without windows; [`Collect`](super::Collect) follows it, and so does
/// `fold` of a stream. Any other aggregate may be given records in another order: by pane, by session and by worker.
/// A partition is one of a source; after a `rebalance` its records arrive in no order.
///
/// What the order costs: where records of a key go to several sliding panes or sessions in turn, each turn begins another
/// accumulator of the inner aggregate, and they are merged when the result is asked for. Records in order of time, tumbling
/// windows, and aggregates without windows need one.
///
/// ```
/// use tidemill::aggregate::InOrder;
/// use tidemill::prelude::*;
///
/// /// The path through a site.
/// #[derive(Clone)]
/// struct Path;
///
/// impl Aggregate for Path {
///     type In = char;
///     type Acc = String;
///     type Out = String;
///
///     fn create(&self, page: &char) -> String {
///         page.to_string()
///     }
///     fn add(&self, path: &mut String, page: &char) {
///         path.push(*page);
///     }
///     fn merge(&self, path: &mut String, later: String) {
///         path.push_str(&later);
///     }
///     fn finish(&self, path: &String) -> String {
///         path.clone()
///     }
/// }
///
/// let path = InOrder::of(Path);
/// let mut acc = path.create(&'a');
/// path.add(&mut acc, &'b');
/// assert_eq!(path.finish(&acc), "ab");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InOrder<A> {
    aggregate: A,
}

impl<A: Aggregate> InOrder<A> {
    /// Gives the aggregate its records in order.
    pub fn of(aggregate: A) -> Self {
        InOrder { aggregate }
    }
}

/// Accumulators by run, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "A: serde::de::DeserializeOwned"))]
pub struct Runs<A: Data> {
    list: SmallVec<[(Run, A); 1]>,
    /// Whether the next record begins a run.
    sealed: bool,
}

impl<A: Aggregate> InOrder<A> {
    fn put(&self, runs: &mut Runs<A::Acc>, run: Run, acc: A::Acc) {
        match runs.list.last_mut() {
            Some((last, mine)) if *last == run => return self.aggregate.merge(mine, acc),
            Some((last, _)) if *last > run => {}
            _ => return runs.list.push((run, acc)),
        }
        match runs.list.binary_search_by_key(&run, |(run, _)| *run) {
            Ok(place) => {
                if let Some((_, mine)) = runs.list.get_mut(place) {
                    self.aggregate.merge(mine, acc);
                }
            }
            Err(place) => runs.list.insert(place, (run, acc)),
        }
    }

    /// Merges the first runs into one.
    fn merge_first(&self, runs: &mut Runs<A::Acc>, count: usize) {
        if count > 1 {
            let mut others = runs.list.drain(..count).collect::<Vec<_>>().into_iter();
            if let Some((run, mut acc)) = others.next() {
                others.for_each(|(_, later)| self.aggregate.merge(&mut acc, later));
                runs.list.insert(0, (run, acc));
            }
        }
    }
}

impl<A: Aggregate> Aggregate for InOrder<A> {
    type In = A::In;
    type Acc = Runs<A::Acc>;
    type Out = A::Out;

    const SHRINKS: bool = A::SHRINKS;
    const RELIEVES: bool = A::RELIEVES;
    const ORDERED: bool = true;
    const OWNS: bool = A::OWNS;

    #[inline]
    fn create(&self, value: &A::In) -> Runs<A::Acc> {
        let run = arrival::run().unwrap_or_else(arrival::begin);
        Runs { list: smallvec![(run, self.aggregate.create(value))], sealed: false }
    }

    #[inline]
    fn add(&self, runs: &mut Runs<A::Acc>, value: &A::In) {
        let run = arrival::run();
        if let Some((last, acc)) = runs.list.last_mut()
            && run.map_or(!runs.sealed, |run| run == *last)
        {
            return self.aggregate.add(acc, value);
        }
        runs.sealed = false;
        self.put(runs, run.unwrap_or_else(arrival::begin), self.aggregate.create(value));
    }

    fn merge(&self, runs: &mut Runs<A::Acc>, other: Runs<A::Acc>) {
        other.list.into_iter().for_each(|(run, acc)| self.put(runs, run, acc));
        runs.sealed = true;
    }

    fn finish(&self, runs: &Runs<A::Acc>) -> A::Out {
        match runs.list.as_slice() {
            [(_, only)] => self.aggregate.finish(only),
            list => {
                let mut accs = list.iter().map(|(_, acc)| acc.clone());
                match accs.next() {
                    Some(mut whole) => {
                        accs.for_each(|later| self.aggregate.merge(&mut whole, later));
                        self.aggregate.finish(&whole)
                    }
                    None => unreachable!("an accumulator has seen a record"),
                }
            }
        }
    }

    fn describe(&self) -> String {
        self.aggregate.describe()
    }

    fn problem(&self) -> Option<String> {
        self.aggregate.problem()
    }

    fn relieve(&self, runs: &mut Runs<A::Acc>) {
        runs.list.iter_mut().for_each(|(_, acc)| self.aggregate.relieve(acc));
    }

    fn seal(&self, runs: &mut Runs<A::Acc>) {
        runs.sealed = true;
    }

    fn settle(&self, runs: &mut Runs<A::Acc>, epoch: u64) {
        let settled = runs.list.iter().take_while(|(run, _)| run.is_before(epoch)).count();
        self.merge_first(runs, settled);
    }
}
