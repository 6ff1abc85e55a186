//! The place where a source that keeps a journal finds out where to keep it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::Data;
use crate::schema::Schema;
use crate::turn;

/// What a source that journals its records gets from the runtime: the storage, the name and the clock.
///
/// A source is made before anybody knows where its query keeps its checkpoint. So it has this slot, which the runtime
/// fills each time before the query starts. What is in it is the runtime's business; this crate knows no storage. A
/// source of your own that wraps another passes the slot of the inner one on, in [`Source::journal`].
///
/// ```
/// use std::sync::Arc;
/// use tidemill::JournalSlot;
///
/// let slot = JournalSlot::default();
/// assert!(slot.get::<String>().is_none());
/// slot.set(Some(Arc::new("a place".to_owned())));
/// assert_eq!(*slot.get::<String>().unwrap(), "a place");
/// ```
///
/// [`Source::journal`]: crate::Source::journal
#[derive(Default)]
pub struct JournalSlot {
    content: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
    records: Option<Arc<Schema>>,
}

impl JournalSlot {
    /// The slot of a journal of such records.
    pub fn of<T: Data>() -> Self {
        JournalSlot { content: Mutex::default(), records: Some(Arc::new(Schema::of::<T>())) }
    }

    /// The schema of the records, if the journal has said what they are.
    pub fn records(&self) -> Option<&Arc<Schema>> {
        self.records.as_ref()
    }

    /// Puts something else into the slot, or nothing.
    pub fn set(&self, content: Option<Arc<dyn Any + Send + Sync>>) {
        *turn::lock(&self.content) = content;
    }

    /// What is in the slot, if it is of that type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let content = turn::lock(&self.content).clone();
        content.and_then(|content| content.downcast().ok())
    }
}

impl fmt::Debug for JournalSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JournalSlot")
    }
}
