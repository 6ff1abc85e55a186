//! Updates that an operator holds until their tick is over.

use std::collections::BTreeMap;

use differential_dataflow::consolidation::consolidate_updates;
use timely::dataflow::operators::{Capability, InputCapability};

use super::time::Tick;

/// Updates of rows `D`, and the capability to emit what comes of them.
pub(super) struct Pending<D> {
    updates: Vec<(D, Tick, i64)>,
    held: Option<Capability<Tick>>,
}

impl<D: Ord> Pending<D> {
    pub(super) fn new() -> Self {
        Pending { updates: Vec::new(), held: None }
    }

    /// Holds the updates of a message.
    pub(super) fn take(&mut self, capability: &InputCapability<Tick>, mut updates: Vec<(D, Tick, i64)>) {
        let least = capability.least();
        if self.held.as_ref().is_none_or(|held| least.is_some_and(|least| least < held.time())) {
            self.held = capability.retain_least(0);
        }
        if self.updates.is_empty() {
            self.updates = updates;
        } else {
            self.updates.append(&mut updates);
        }
    }

    /// Calls `emit` for each tick before the frontier, in order, with the capability at that tick and what has changed in it: each
    /// row once, sorted.
    pub(super) fn release(
        &mut self,
        frontier: Option<Tick>,
        mut emit: impl FnMut(&Capability<Tick>, Tick, Vec<(D, i64)>),
    ) {
        let Some(held) = &mut self.held else { return };
        if frontier.is_some_and(|frontier| frontier <= *held.time()) {
            return;
        }
        consolidate_updates(&mut self.updates);
        // Nearly always there is one tick, and it is over.
        let first = self.updates.first().map(|(_, tick, _)| *tick);
        if let Some(tick) = first.filter(|tick| frontier.is_none_or(|it| *tick < it))
            && self.updates.iter().all(|(_, of, _)| *of == tick)
        {
            held.downgrade(&tick);
            let changes = std::mem::take(&mut self.updates).into_iter();
            emit(held, tick, changes.map(|(row, _, diff)| (row, diff)).collect());
            self.held = None;
            return;
        }
        let mut ticks: BTreeMap<Tick, Vec<(D, i64)>> = BTreeMap::new();
        for (row, tick, diff) in
            self.updates.extract_if(.., |(_, tick, _)| frontier.is_none_or(|it| *tick < it))
        {
            ticks.entry(tick).or_default().push((row, diff));
        }
        for (tick, changes) in ticks {
            held.downgrade(&tick);
            emit(held, tick, changes);
        }
        match self.updates.iter().map(|(_, tick, _)| *tick).min() {
            Some(least) => held.downgrade(&least),
            None => self.held = None,
        }
    }
}
