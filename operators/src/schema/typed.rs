//! The schema of a type whose name is only known where the graph is built.

use std::any::type_name;
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::turn;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::probe::draft;
use super::refusal::Reason;
use super::walk::{Draft, walk};
use super::{Refusal, SchemaError, Shape, decode_as, encode};

/// What is known of a type: its shape, probed when it is first asked for, and what written values have added to it.
pub struct Schema {
    type_name: &'static str,
    probe: fn() -> Result<Draft, Refusal>,
    transcode: fn(&Schema, &[u8], &Shape) -> Result<Vec<u8>, SchemaError>,
    known: OnceLock<Result<Known, Refusal>>,
}

struct Known {
    is_partial: bool,
    draft: Mutex<Draft>,
}

impl Schema {
    /// The schema of `T`. Nothing is probed yet.
    pub fn of<T: Serialize + DeserializeOwned>() -> Schema {
        Schema {
            type_name: type_name::<T>(),
            probe: draft::<T>,
            transcode: transcode::<T>,
            known: OnceLock::new(),
        }
    }

    /// The name of the type.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// The shape, as far as it is known now.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if values of the type could not be read back.
    pub fn shape(&self) -> Result<Shape, Refusal> {
        self.known().as_ref().map(|known| known.draft().shape()).map_err(Clone::clone)
    }

    /// Checks that the type reads fields in the order in which it writes them.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if not: what is written now can be read by name only, by a type that has been put right.
    pub fn check_order(&self) -> Result<(), Refusal> {
        let known = self.known().as_ref().map_err(Clone::clone)?;
        let Some(path) = known.draft().reordered.clone() else { return Ok(()) };
        let what = "`Serialize` writes its fields in another order than `Deserialize` reads them".to_owned();
        Err(Refusal { type_name: self.type_name, path, reason: Reason::Asymmetric { what } })
    }

    /// Whether the type rejects made-up values, so that its shape has to be completed from what is written.
    pub fn is_partial(&self) -> bool {
        self.known.get().is_some_and(|known| known.as_ref().is_ok_and(|known| known.is_partial))
    }

    /// Completes a partial shape by a value that is written.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] if the value has another shape than the type reads.
    pub fn learn<V: Serialize + ?Sized>(&self, value: &V) -> Result<(), SchemaError> {
        match self.known() {
            Ok(known) if known.is_partial => walk(value, &mut known.draft(), false),
            _ => Ok(()),
        }
    }

    /// Rewrites a value of a recorded shape in the form of this type.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] with the path that does not fit.
    pub fn transcode(&self, bytes: &[u8], recorded: &Shape) -> Result<Vec<u8>, SchemaError> {
        (self.transcode)(self, bytes, recorded)
    }

    fn known(&self) -> &Result<Known, Refusal> {
        self.known.get_or_init(|| {
            let draft = (self.probe)()?;
            Ok(Known { is_partial: draft.shape().is_partial(), draft: Mutex::new(draft) })
        })
    }
}

impl Known {
    fn draft(&self) -> MutexGuard<'_, Draft> {
        // What is learnt of a value that panicked half-way is as true as before.
        turn::lock(&self.draft)
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Schema").field(&self.type_name).finish()
    }
}

fn transcode<T: Serialize + DeserializeOwned>(
    schema: &Schema,
    bytes: &[u8],
    recorded: &Shape,
) -> Result<Vec<u8>, SchemaError> {
    let value: T = decode_as(bytes, recorded)?;
    schema.learn(&value)?;
    let mut rewritten = Vec::new();
    encode(&value, &mut rewritten).map_err(|error| SchemaError::new(error.to_string()))?;
    Ok(rewritten)
}

/// The schema of a state by key.
#[derive(Debug)]
pub struct StateSchema {
    /// Of its keys.
    pub key: Schema,
    /// Of what is kept for a key and slot.
    pub value: Schema,
    /// Whether rows of the state may leave memory without a checkpoint.
    pub spills: bool,
    /// The written slot whose entries are the engine's own and have no type of the user.
    pub own_slot: Option<&'static [u8]>,
}

impl StateSchema {
    pub(crate) fn learn<K, V>(&self, key: &K, value: &V) -> Result<(), SchemaError>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        self.key.learn(key)?;
        self.value.learn(value)
    }

    /// Whether one of the shapes has to be completed from what is written.
    pub fn is_partial(&self) -> bool {
        self.key.is_partial() || self.value.is_partial()
    }
}
