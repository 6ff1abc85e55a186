//! The states of an operator, as a graph knows them.

use std::sync::Arc;

use crate::schema::StateSchema;

/// A named state of an operator: a checkpoint keeps it under `UID/NAME`.
#[derive(Clone, Debug)]
pub struct StateSpec {
    /// Its name.
    pub name: String,
    /// What kind of state it is: `value`, `list`, `map`.
    pub kind: &'static str,
    /// Its types.
    pub schema: Arc<StateSchema>,
}
