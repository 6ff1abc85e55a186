//! Operators that keep something for each key, in a hash table.
//!
//! They hold the changes of a tick until it is over, and then change what they keep, key by key. What they keep is not in the
//! checkpoint: it is computed again from the inputs.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use tidemill_operators::{OperatorError, hash_key, rows};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::handle::{TableKey, TableRow};
use super::pending::Pending;
use super::rows::{Update, Updates, edge_batch};
use super::time::Tick;
use crate::engine::{EdgeBatch, FragmentHost};

/// What an operator keeps for each key, and how that changes.
pub(super) trait Fold<K, V>: 'static {
    /// What it keeps for a key that has rows.
    type State: Default + 'static;
    /// A row of the result.
    type Row: TableRow;

    /// Applies the changes of a key in a tick, each row once and sorted, and pushes those of the result.
    fn apply(
        &self,
        key: &K,
        state: &mut Self::State,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<(Self::Row, i64)>,
    ) -> Result<(), OperatorError>;

    /// Whether nothing need be kept.
    fn is_empty(state: &Self::State) -> bool;
}

/// Builds the operator, from rows that are on the workers of their keys.
pub(super) fn fold<'i, K: TableKey, V: TableRow, F: Fold<K, V>>(
    updates: Updates<'i>,
    host: &FragmentHost,
    name: &str,
    logic: F,
) -> Updates<'i> {
    let mut builder = OperatorBuilder::new(name.to_owned(), updates.scope());
    let mut input = builder.new_input(updates, Pipeline);
    let (output, results) = builder.new_output::<EdgeBatch>();
    let mut output = OutputBuilder::<Tick, NoopBuilder<EdgeBatch>>::from(output);
    let host = host.clone();
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut pending = Pending::<(K, V)>::new();
        let mut keys = Keys { table: HashTable::new(), logic, changes: Vec::new(), out: Vec::new() };
        move |frontiers| {
            host.enter();
            input.for_each(|capability, edge_batch| match rows::<Update<K, V>>(host.receive(edge_batch)) {
                Ok(updates) => pending.take(&capability, updates),
                Err(error) => host.fail(error),
            });
            let frontier = frontiers.first().and_then(|frontier| frontier.frontier().first().copied());
            let mut output = output.activate();
            pending.release(frontier, |capability, tick, changes| match keys.apply(tick, changes) {
                Ok(results) if results.is_empty() => {}
                Ok(results) => {
                    output.session_with_builder(capability).give_container(&mut edge_batch(results));
                    host.report_state(keys.table.len());
                }
                Err(error) => host.fail(error),
            });
        }
    });
    results
}

struct Keys<K, V, F: Fold<K, V>> {
    table: HashTable<(K, F::State)>,
    logic: F,
    /// Of one key.
    changes: Vec<(V, i64)>,
    out: Vec<(F::Row, i64)>,
}

impl<K: TableKey, V: TableRow, F: Fold<K, V>> Keys<K, V, F> {
    /// Applies the changes of a tick, which are sorted by key; returns those of the result.
    fn apply(
        &mut self,
        tick: Tick,
        changes: Vec<((K, V), i64)>,
    ) -> Result<Vec<Update<K, F::Row>>, OperatorError> {
        let mut results = Vec::new();
        let mut rows = changes.into_iter().peekable();
        while let Some(((key, row), diff)) = rows.next() {
            self.changes.clear();
            self.changes.push((row, diff));
            while let Some(((_, row), diff)) = rows.next_if(|((next, _), _)| *next == key) {
                self.changes.push((row, diff));
            }
            let (changes, out) = (&mut self.changes, &mut self.out);
            match self.table.entry(hash_key(&key), |(of, _)| *of == key, |(of, _)| hash_key(of)) {
                Entry::Occupied(mut entry) => {
                    self.logic.apply(&key, &mut entry.get_mut().1, changes, out)?;
                    if F::is_empty(&entry.get().1) {
                        entry.remove();
                    }
                }
                Entry::Vacant(entry) => {
                    let mut state = F::State::default();
                    self.logic.apply(&key, &mut state, changes, out)?;
                    if !F::is_empty(&state) {
                        entry.insert((key.clone(), state));
                    }
                }
            }
            results.extend(self.out.drain(..).map(|(row, diff)| ((key.clone(), row), tick, diff)));
        }
        Ok(results)
    }
}
