//! The states of an operator by name: how those who run it get at them.

use std::sync::Arc;
use std::time::Duration;

use super::NamedState;
use crate::schema::StateSchema;
use crate::{OperatorError, ProcessingTime, SnapshotReader, SnapshotWriter, decode};

/// What an operator names its states to.
///
/// The operator calls [`add`](Self::add) for each of its states, always the same ones under the same names. All other
/// functions are for those who run it: they take such a method of the operator as `declare`.
pub struct States<'a> {
    each: &'a mut dyn FnMut(&str, &mut dyn NamedState),
}

/// What there is to know of a state before it is used.
#[derive(Debug)]
pub struct StateInfo {
    /// The name, which is also the slot in snapshots.
    pub name: String,
    /// As [`NamedState::kind`].
    pub kind: &'static str,
    /// As [`NamedState::schema`].
    pub schema: StateSchema,
    /// As [`NamedState::is_shared`].
    pub is_shared: bool,
    /// As [`NamedState::ttl`].
    pub ttl: Option<Duration>,
}

impl States<'_> {
    /// Names a state. A name is part of the checkpoint: a state under another name starts empty.
    pub fn add(&mut self, name: &str, state: &mut dyn NamedState) {
        (self.each)(name, state);
    }

    /// Calls `each` for every state.
    pub fn visit(declare: impl FnOnce(&mut States<'_>), mut each: impl FnMut(&str, &mut dyn NamedState)) {
        declare(&mut States { each: &mut each });
    }

    /// Returns what the states are.
    ///
    /// # Errors
    ///
    /// [`OperatorError::State`] for a name that is given twice or cannot be used, and for a TTL of zero.
    pub fn describe(declare: impl FnOnce(&mut States<'_>)) -> Result<Vec<StateInfo>, OperatorError> {
        let mut infos: Vec<StateInfo> = Vec::new();
        let mut problem = None;
        States::visit(declare, |name, state| {
            let what = if infos.iter().any(|info| info.name == name) {
                "another state has this name: give each its own"
            } else if name.is_empty() || name.contains('/') {
                "the name of a state must not be empty or contain `/`"
            } else if state.ttl() == Some(Duration::ZERO) {
                "its TTL must be at least a microsecond"
            } else {
                infos.push(StateInfo {
                    name: name.to_owned(),
                    kind: state.kind(),
                    schema: state.schema(),
                    is_shared: state.is_shared(),
                    ttl: state.ttl(),
                });
                return;
            };
            problem.get_or_insert_with(|| OperatorError::State { name: name.to_owned(), problem: what });
        });
        problem.map_or(Ok(infos), Err)
    }

    /// [Tracks](NamedState::track) changes of all states.
    pub fn track(declare: impl FnOnce(&mut States<'_>)) {
        States::visit(declare, |_, state| state.track());
    }

    /// Says whether this worker owns key group 0, and so [writes](NamedState::set_writer) what is shared.
    pub fn set_writer(declare: impl FnOnce(&mut States<'_>), writes: bool) {
        States::visit(declare, |_, state| state.set_writer(writes));
    }

    /// [Moves the clock](NamedState::set_now) of all states, and [removes](NamedState::expire) some of what has expired.
    pub fn set_now(declare: impl FnOnce(&mut States<'_>), now: ProcessingTime) {
        States::visit(declare, |_, state| {
            state.set_now(now);
            state.expire();
        });
    }

    /// Writes what has changed in any state. `schema` returns what the entries of a state complete, if its types reject
    /// made-up values.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if something cannot be serialized.
    pub fn snapshot(
        declare: impl FnOnce(&mut States<'_>),
        writer: &mut SnapshotWriter,
        mut schema: impl FnMut(&str) -> Option<Arc<StateSchema>>,
    ) -> Result<(), OperatorError> {
        let mut result = Ok(());
        States::visit(declare, |name, state| {
            if result.is_ok() {
                writer.learn(schema(name));
                result = state.snapshot(name, writer);
            }
        });
        writer.learn(None);
        result
    }

    /// Applies the changes of a key group. Of a group that this worker does not own, only key group 0 is of use: it holds
    /// what is shared.
    ///
    /// # Errors
    ///
    /// [`OperatorError::State`] for a state that the operator does not name; others if the changes do not fit the state.
    pub fn restore(
        mut declare: impl FnMut(&mut States<'_>),
        bytes: &[u8],
        is_owned: bool,
    ) -> Result<(), OperatorError> {
        let mut reader = SnapshotReader::new(bytes);
        let mut next = reader.next_change()?;
        // Changes of one state follow each other: it is looked up once.
        while let Some(first) = next {
            let slot = first.slot();
            let wanted: &str = decode(slot)?;
            let mut result = Err(OperatorError::State {
                name: wanted.to_owned(),
                problem: "the checkpoint holds this state and the operator does not: declare it, or drop it (`--drop-state`)",
            });
            States::visit(&mut declare, |name, state| {
                if name != wanted {
                    return;
                }
                let applies = is_owned || state.is_shared();
                result = (|| {
                    while let Some(change) = next
                        && std::ptr::eq(change.slot(), slot)
                    {
                        if applies {
                            state.restore(change)?;
                        }
                        next = reader.next_change()?;
                    }
                    Ok(())
                })();
            });
            result?;
        }
        Ok(())
    }

    /// Returns how many entries of all states are in memory.
    pub fn rows(declare: impl FnOnce(&mut States<'_>)) -> usize {
        let mut rows = 0;
        States::visit(declare, |_, state| rows += state.rows());
        rows
    }

    /// Returns about how many entries the next snapshot will write.
    pub fn unsaved(declare: impl FnOnce(&mut States<'_>)) -> usize {
        let mut unsaved = 0;
        States::visit(declare, |_, state| unsaved += state.unsaved());
        unsaved
    }
}
