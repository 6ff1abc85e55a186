//! The states of an operator by name: how those who run it get at them.

#[cfg(test)]
use std::sync::Arc;
use std::time::Duration;

use super::NamedState;
use crate::OperatorError;
use crate::schema::StateSchema;
#[cfg(test)]
use crate::{ProcessingTime, SnapshotReader, SnapshotWriter, decode};

/// What an operator names its states to.
///
/// The operator calls [`add`](Self::add) for each of its states, always the same ones under the same names. The other
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
}

/// What the adapter does with each state apart, for tests of the states themselves: all of them in one writer, told apart by
/// their slots.
#[cfg(test)]
impl States<'_> {
    /// [Tracks](NamedState::track) changes of all states.
    pub(crate) fn track(declare: impl FnOnce(&mut States<'_>)) {
        States::visit(declare, |_, state| state.track());
    }

    /// Says whether this worker owns key group 0, and so [writes](NamedState::set_writer) what is shared.
    pub(crate) fn set_writer(declare: impl FnOnce(&mut States<'_>), writes: bool) {
        States::visit(declare, |_, state| state.set_writer(writes));
    }

    /// [Moves the clock](NamedState::set_now) of all states, and [removes](NamedState::expire) some of what has expired.
    pub(crate) fn set_now(declare: impl FnOnce(&mut States<'_>), now: ProcessingTime) {
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
    pub(crate) fn snapshot(
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
    pub(crate) fn restore(
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
    pub(crate) fn rows(declare: impl FnOnce(&mut States<'_>)) -> usize {
        let mut rows = 0;
        States::visit(declare, |_, state| rows += state.rows());
        rows
    }

    /// Returns about how many entries the next snapshot will write.
    pub(crate) fn unsaved(declare: impl FnOnce(&mut States<'_>)) -> usize {
        let mut unsaved = 0;
        States::visit(declare, |_, state| unsaved += state.unsaved());
        unsaved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::{HashedKey, ListState, MapState, ReducingState, SharedState, Timers, ValueState};
    use crate::{EventTime, KeyGroup};

    fn written(declare: impl FnOnce(&mut States<'_>)) -> Vec<(KeyGroup, Vec<u8>)> {
        let mut writer = SnapshotWriter::new();
        States::snapshot(declare, &mut writer, |_| None).unwrap();
        writer.into_groups().collect()
    }

    #[test]
    fn states_are_described_with_shapes_that_can_be_recorded() {
        let infos = States::describe(|states| {
            states.add("value", &mut ValueState::<String, Option<u32>>::with_ttl(Duration::from_secs(1)));
            states.add("reducing", &mut ReducingState::<u8, u64>::new(|sum, n| *sum += n));
            states.add("list", &mut ListState::<u8, (String, f64)>::new());
            states.add("map", &mut MapState::<u8, EventTime, Vec<u8>>::new());
            states.add("shared", &mut SharedState::<String, f64>::new());
            states.add("timers", &mut Timers::<String>::new());
        });
        let infos = infos.unwrap();
        let kinds: Vec<_> =
            infos.iter().map(|info| (info.name.as_str(), info.kind, info.is_shared)).collect();
        let expected = ["value", "reducing", "list", "map", "shared", "timers"];
        assert_eq!(kinds, expected.map(|kind| (kind, kind, kind == "shared")));
        for info in &infos {
            assert!(info.schema.key.shape().is_ok() && info.schema.value.shape().is_ok(), "{info:?}");
            assert!(!info.schema.is_partial(), "{info:?}");
        }
        assert_eq!(infos[0].ttl, Some(Duration::from_secs(1)));
        assert_eq!(infos[3].schema.key.shape().unwrap().to_string(), "(u8, i64)");
    }

    #[test]
    fn wrong_declaration_is_refused_by_name() {
        let problem = |name: &str, ttl: u64| {
            let (mut a, mut b) =
                (Timers::<u8>::new(), ValueState::<u8, u8>::with_ttl(Duration::from_secs(ttl)));
            let infos = States::describe(|states| {
                states.add("a", &mut a);
                states.add(name, &mut b);
            });
            infos.unwrap_err().to_string()
        };
        assert_eq!(problem("a", 1), "state `a`: another state has this name: give each its own");
        assert_eq!(problem("b", 0), "state `b`: its TTL must be at least a microsecond");
        assert!(problem("", 1).contains("must not be empty") && problem("b/c", 1).starts_with("state `b/c`"));
    }

    #[test]
    fn state_added_later_starts_empty_and_unknown_one_is_refused() {
        let (mut old, mut new) = (ValueState::<u8, u8>::new(), ListState::<u8, u8>::new());
        old.insert(HashedKey::of(&1), 2);
        let groups = written(|states| states.add("old", &mut old));
        let mut back = ValueState::<u8, u8>::new();
        let both = |states: &mut States<'_>| {
            states.add("new", &mut new);
            states.add("old", &mut back);
        };
        States::restore(both, &groups[0].1, true).unwrap();
        assert_eq!((back.get(HashedKey::of(&1)), new.len()), (Some(&2), 0));
        let error = States::restore(|states| states.add("new", &mut new), &groups[0].1, true).unwrap_err();
        assert!(error.to_string().starts_with("state `old`: the checkpoint holds this state"), "{error}");
    }

    #[test]
    fn shared_state_is_written_by_one_worker_and_restored_on_all() {
        let mut workers = [(); 2].map(|()| (SharedState::<u8, u8>::new(), ValueState::<u8, u8>::new()));
        let mut groups = vec![];
        for (number, (shared, value)) in workers.iter_mut().enumerate() {
            let mut declare = |states: &mut States<'_>| {
                states.add("shared", shared);
                states.add("value", value);
            };
            States::set_writer(&mut declare, number == 0);
            States::track(&mut declare);
            shared.insert(1, 10);
            shared.insert(2, 20);
            shared.remove(&2);
            let mut declare = |states: &mut States<'_>| states.add("shared", shared);
            groups.extend(written(&mut declare));
            assert_eq!(States::unsaved(&mut declare), 0);
        }
        assert_eq!(groups.iter().map(|(group, _)| group.number()).collect::<Vec<_>>(), [0]);
        // A value of group 0 on the same worker is of no use to the others.
        let mut writer = SnapshotWriter::new();
        writer.put(writer.key_groups().of(0), "value", &9u8, &(0u64, 9u8)).unwrap();
        groups.extend(writer.into_groups());
        for is_owned in [true, false] {
            let (mut shared, mut value) = (SharedState::<u8, u8>::new(), ValueState::<u8, u8>::new());
            let mut declare = |states: &mut States<'_>| {
                states.add("value", &mut value);
                states.add("shared", &mut shared);
            };
            groups.iter().for_each(|(_, bytes)| States::restore(&mut declare, bytes, is_owned).unwrap());
            assert_eq!(States::rows(&mut declare), 1 + usize::from(is_owned));
            assert!(shared.iter().eq([(&1, &10)]));
        }
    }

    #[test]
    fn changes_that_are_not_of_the_state_are_refused() {
        let mut value = ValueState::<u8, u8>::new();
        let mut writer = SnapshotWriter::new();
        writer.drop_slot(writer.key_groups().of(0), "value").unwrap();
        let (_, bytes) = writer.into_groups().next().unwrap();
        let restored = States::restore(|states| states.add("value", &mut value), &bytes, true);
        assert!(matches!(restored, Err(OperatorError::Changes { .. })));
        let mut list = ListState::<u8, String>::new();
        list.push(HashedKey::of(&1), "long".to_owned());
        let groups = written(|states| states.add("value", &mut list));
        let restored = States::restore(|states| states.add("value", &mut value), &groups[0].1, true);
        assert!(matches!(restored, Err(OperatorError::Codec(_))));
    }
}
