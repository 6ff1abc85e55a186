//! How an entry is written: the time of its last write, then its value. The time costs one byte where there is no TTL;
//! so a state can be given a TTL, another one or none from one run to the next, and reads what it wrote before.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::life::Life;
use crate::schema::{Schema, StateSchema};
use crate::{Data, OperatorError, decode};

/// What is put for an entry.
pub(super) fn value<V>(life: Life, value: &V) -> (u64, &V) {
    (life.stamp(), value)
}

/// Reads what [`value`] made.
pub(super) fn read_value<V: Data>(bytes: &[u8]) -> Result<(Life, V), OperatorError> {
    let (stamp, value) = decode(bytes)?;
    Ok((Life::restored(stamp), value))
}

/// The schema of entries with that key.
pub(super) fn schema<K: Serialize + DeserializeOwned, V: Data>() -> StateSchema {
    StateSchema { key: Schema::of::<K>(), value: Schema::of::<(u64, V)>(), spills: false, own_slot: None }
}

/// Named state never drops a whole slot.
pub(super) fn dropped() -> OperatorError {
    OperatorError::Changes { at: 0, reason: "a state by name is dropped as a whole" }
}
