//! All rows of a table at the end of each epoch, from its changes.
//!
//! State: none in the checkpoint, since the changes begin with all rows in each run.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::vec::Drain;

use super::{InputPlace, copies_after};
use crate::build::{Snapshots, StatefulOperator, Takes, To};
use crate::{Data, EventTime, OperatorError, RowChange, RowKind, Stream};

/// How many copies of a row are emitted at most.
const MOST_EMITTED: i64 = 1 << 24;

/// Input 0: changes. Output 0: the table.
struct Complete<T> {
    /// Each row with the number of its copies.
    rows: BTreeMap<T, i64>,
}

/// Adds the operator to the graph.
pub fn complete<T: Data + Ord + Clone + Debug>(
    changes: Stream<RowChange<T>>,
    place: InputPlace,
) -> Stream<T> {
    let operator = changes.graph().operator(place.op).local(changes).at(place.location);
    operator.stateful(|_| Complete { rows: BTreeMap::new() })
}

impl<T: Data + Ord + Clone + Debug> StatefulOperator for Complete<T> {
    type Key = ();
    type Outputs = (Snapshots<T>,);

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (row, copies) in &self.rows {
            if *copies > MOST_EMITTED {
                return Err(OperatorError::TooManyRows {
                    most: MOST_EMITTED as u64,
                    row: format!("{row:?}"),
                });
            }
            (0..*copies).for_each(|_| to.out.0.push(row.clone()));
        }
        Ok(())
    }
}

impl<T: Data + Ord + Clone + Debug> Takes<0> for Complete<T> {
    type Row = (EventTime, RowChange<T>);
    const KINDS: &'static [RowKind] = &[RowKind::Changes];

    fn take(&mut self, changes: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (_, RowChange { row, diff }) in changes {
            let copies = self.rows.get(&row).copied().unwrap_or(0);
            match copies_after(copies, diff, || format!("{row:?}"))? {
                0 => self.rows.remove(&row),
                copies => self.rows.insert(row, copies),
            };
        }
        Ok(())
    }
}
