//! A checksum of an output of a table, which tells after a restart whether it was computed as before.
//!
//! State, on worker 0: the sum of the hashes of all rows; a row with several copies is added once for each. The sum does not depend on
//! the order of rows, nor on the workers on which they are. In its first epoch of a run it gets the sum of the rows as they were computed from the
//! inputs that were restored, and compares that with its own at the end of that epoch. An output that the checkpoint does not know
//! yet emits these rows, and begins with their sum.

use std::vec::Drain;

use serde::{Deserialize, Serialize};

use super::InputPlace;
use crate::build::{StatefulOperator, Takes, To};
use crate::graph::Place;
use crate::named::{SharedState, States};
use crate::{EventTime, OperatorError, Stream};

/// By how much the content of an output changes on a worker in an epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ContentChange {
    /// The sum of the hashes of the rows that are added, less that of those that are removed, modulo 2^128.
    pub sum: u128,
    /// Whether this is the content with which the run begins.
    pub is_load: bool,
}

/// Input 0: what changes, all on worker 0. No outputs.
struct Content {
    sum: SharedState<(), u128>,
    /// The uid of the table.
    table: String,
    /// In the first epoch, if the checkpoint has a sum: that of the rows as computed in this run, and that of the checkpoint.
    begun: Option<(u128, u128)>,
    /// Whether it is the one that gets the changes.
    is_first: bool,
}

/// Adds the operator to the graph.
pub fn content(changes: Stream<ContentChange>, place: InputPlace, table: String) {
    let operator = changes.graph().operator(place.op).single(changes).at(place.location);
    operator.stateful(move |place: Place| Content {
        sum: SharedState::new(),
        table: table.clone(),
        begun: None,
        is_first: place.worker == 0,
    });
}

impl StatefulOperator for Content {
    type Key = ();
    type Outputs = ();

    fn state(&mut self, states: &mut States<'_>) {
        states.add("sum", &mut self.sum);
    }

    fn on_start(&mut self, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.begun = self.sum.get(&()).filter(|_| self.is_first).map(|recorded| (0, *recorded));
        Ok(())
    }

    fn on_epoch_end(&mut self, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        match self.begun.take() {
            Some((found, recorded)) if found != recorded => Err(OperatorError::OtherTable {
                table: self.table.clone(),
                contents: Box::new((found, recorded)),
            }),
            _ => Ok(()),
        }
    }
}

impl Takes<0> for Content {
    type Row = (EventTime, ContentChange);

    fn take(&mut self, changes: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (_, change) in changes {
            match &mut self.begun {
                Some((found, _)) if change.is_load => *found = found.wrapping_add(change.sum),
                // An output that is new emits the rows with which the run begins.
                _ => {
                    let sum = self.sum.get(&()).copied().unwrap_or(0);
                    self.sum.insert((), sum.wrapping_add(change.sum));
                }
            }
        }
        Ok(())
    }
}
