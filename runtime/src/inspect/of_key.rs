//! The state and the timers of one key, without the types of the query that wrote them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tidemill_operators::schema::Shape;
use tidemill_operators::{Epoch, EventTime};

use super::{find, open_all, read};
use crate::checkpoint::loader::{fold, pieces};
use crate::checkpoint::log::ReadLog;
use crate::checkpoint::records::{CommitRecord, OperatorRecord};
use crate::checkpoint::{CheckpointError, Storage};
use crate::recovery::owner;

/// What an operator keeps for a key.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct KeyState {
    /// The key.
    pub key: Value,
    /// If there is nothing of the key: another key of the operator, to compare its form with.
    pub other_key: Option<Value>,
    /// The epoch.
    pub epoch: Epoch,
    /// The operator's name and kind.
    pub label: String,
    /// The user's file and line.
    pub location: String,
    /// The entries by state, of those states that have any.
    pub states: BTreeMap<String, Vec<StateEntry>>,
    /// The timers of event time, in microseconds since 1970, in order.
    pub event_timers: Vec<i64>,
    /// The timers of processing time, likewise.
    pub processing_timers: Vec<i64>,
}

/// An entry of a state.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StateEntry {
    /// What tells it from the others of its key: the key of a map's entry, the number of a list's; none for a value.
    pub at: Option<Value>,
    /// What the state holds there.
    pub value: Value,
}

/// Returns what an operator with named states keeps for a key, in an epoch: in the last one, if none is given.
///
/// `key` is the key as JSON, with event times as numbers of microseconds; text needs no quotes.
///
/// # Errors
///
/// As [`show`](super::show); [`CheckpointError::Misuse`] if there is no such operator, or it keeps no state by name.
pub fn of_key(
    storage: &dyn Storage,
    epoch: Option<Epoch>,
    operator: &str,
    key: &str,
) -> Result<KeyState, CheckpointError> {
    let (_, ReadLog { history, .. }) = read(storage)?;
    let commit = find(storage, &history, epoch)?;
    let states = states_of(commit, operator)?;
    let (text, parsed) = (Value::String(key.to_owned()), serde_json::from_str::<Value>(key).ok());
    let record = commit.operators.get(operator);
    let mut found = KeyState {
        key: parsed.clone().unwrap_or_else(|| text.clone()),
        other_key: None,
        epoch: commit.epoch,
        label: record.map(|record| record.label.clone()).unwrap_or_default(),
        location: record.map(|record| record.location.clone()).unwrap_or_default(),
        states: BTreeMap::new(),
        event_timers: Vec::new(),
        processing_timers: Vec::new(),
    };
    let files = open_all(storage, commit, history.key_groups)?;
    for ((uid, _), parts) in pieces(&files, |_| true) {
        let Some(state) = states.get(uid) else { continue };
        let folded = fold(&parts)?;
        for (_, bytes, value) in folded.entries() {
            let (of, at) = state.split(state.json(state.key, bytes)?);
            if of != text && parsed.as_ref() != Some(&of) {
                found.other_key.get_or_insert(of);
                continue;
            }
            found.key = of;
            let value = written(state.json(state.value, value)?);
            match at {
                Some(at) if state.kind == "timers" => found.add_timer(&at),
                at => found.states.entry(state.name.to_owned()).or_default().push(StateEntry { at, value }),
            }
        }
    }
    found.event_timers.sort_unstable();
    found.processing_timers.sort_unstable();
    for entries in found.states.values_mut() {
        entries.sort_by_cached_key(position);
    }
    if !found.is_empty() {
        found.other_key = None;
    }
    Ok(found)
}

impl KeyState {
    fn is_empty(&self) -> bool {
        self.states.is_empty() && self.event_timers.is_empty() && self.processing_timers.is_empty()
    }

    fn add_timer(&mut self, timer: &Value) {
        let time = |clock: &str| timer.get(clock).and_then(Value::as_i64);
        self.event_timers.extend(time("Event"));
        self.processing_timers.extend(time("Processing"));
    }
}

/// Where an entry stands among those of its state: in the order of numbers, other keys of a map in that of their text.
fn position(entry: &StateEntry) -> (Option<i64>, String) {
    let at = entry.at.as_ref();
    (at.and_then(Value::as_i64), at.map(Value::to_string).unwrap_or_default())
}

/// What a state holds, without the time of the last write before it.
fn written(value: Value) -> Value {
    match value {
        Value::Array(mut parts) if parts.len() == 2 => parts.pop().unwrap_or_default(),
        value => value,
    }
}

/// A state by name.
struct Named<'a> {
    uid: &'a str,
    name: &'a str,
    kind: &'a str,
    key: Option<&'a Shape>,
    value: Option<&'a Shape>,
}

impl Named<'_> {
    fn json(&self, shape: Option<&Shape>, bytes: &[u8]) -> Result<Value, CheckpointError> {
        let shape = shape.ok_or_else(|| {
            CheckpointError::Misuse(format!("the checkpoint has no types of the state {}", self.uid))
        })?;
        shape.to_json(bytes).map_err(|error| CheckpointError::Misuse(format!("state {}: {error}", self.uid)))
    }

    /// The key, and what tells its entries apart where it may have several.
    fn split(&self, key: Value) -> (Value, Option<Value>) {
        match key {
            Value::Array(mut parts) if !matches!(self.kind, "value" | "reducing") && parts.len() == 2 => {
                let at = parts.pop();
                (parts.pop().unwrap_or_default(), at)
            }
            key => (key, None),
        }
    }
}

/// The states of an operator that belong to keys, by uid.
fn states_of<'a>(
    commit: &'a CommitRecord,
    operator: &str,
) -> Result<BTreeMap<&'a str, Named<'a>>, CheckpointError> {
    let all = commit.operators.iter().filter_map(|(uid, record)| {
        let (of, name) = owner(uid, record)?;
        Some((
            of,
            Named { uid, name, kind: kind(record), key: record.key.as_ref(), value: record.value.as_ref() },
        ))
    });
    let (states, others): (Vec<_>, Vec<_>) = all.partition(|(of, _)| *of == operator);
    if states.is_empty() {
        let mut known: Vec<&str> = others.into_iter().map(|(of, _)| of).collect();
        known.dedup();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(CheckpointError::Misuse(match commit.operators.contains_key(operator) {
            true => format!(
                "the operator {operator} keeps no state by name: only that is shown by key (there is: {known})"
            ),
            false => format!("no operator with the uid {operator} has state by name (there is: {known})"),
        }));
    }
    Ok(states
        .into_iter()
        .map(|(_, state)| (state.uid, state))
        .filter(|(_, it)| it.kind != "shared")
        .collect())
}

fn kind(record: &OperatorRecord) -> &str {
    record.settings.iter().find(|(name, _)| name == "kind").map_or("", |(_, kind)| kind.as_str())
}

impl std::fmt::Display for KeyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {} of {} ({}), epoch {}", self.key, self.label, self.location, self.epoch)?;
        if self.is_empty() {
            write!(f, ": no state and no timers")?;
            return match &self.other_key {
                Some(other) => write!(f, "; another key of the operator is {other}"),
                None => write!(f, "; no key of the operator has any"),
            };
        }
        for (name, entries) in &self.states {
            for StateEntry { at, value } in entries {
                match at {
                    Some(at) => write!(f, "\nstate {name}, {at}: {value}")?,
                    None => write!(f, "\nstate {name}: {value}")?,
                }
            }
        }
        // Both kinds of times are microseconds since 1970, and print alike.
        let time = |micros: &i64| EventTime::from_micros(*micros);
        self.event_timers.iter().try_for_each(|at| write!(f, "\ntimer at event time {}", time(at)))?;
        self.processing_timers.iter().try_for_each(|at| write!(f, "\ntimer at processing time {}", time(at)))
    }
}
