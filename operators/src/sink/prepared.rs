//! What a sink wants to be told again after a crash.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::SinkError;
use crate::Epoch;

/// What must be known to finish the commit of an epoch after a crash: [`Sink::prepare`](super::Sink::prepare) returns
/// it, the checkpoint keeps it, [`Sink::recover`](super::Sink::recover) gets it. Most sinks need [nothing](Self::nothing).
///
/// It is written to the checkpoint with every epoch, so it should be short: names of files, lengths, an identifier
/// of a transaction.
///
/// ```
/// use tidemill::Prepared;
///
/// let prepared = Prepared::of(&("part-7", 4_096_u64))?;
/// assert_eq!(prepared.read::<(String, u64)>()?, ("part-7".to_owned(), 4_096));
/// # Ok::<(), tidemill::SinkError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prepared(Vec<u8>);

impl Prepared {
    /// A crash between the record of the commit and the commit needs no care.
    ///
    /// ```
    /// assert!(tidemill::Prepared::nothing().is_nothing());
    /// ```
    pub const fn nothing() -> Self {
        Prepared(Vec::new())
    }

    /// Keeps a value, in postcard's encoding. A value whose shape may change should be an enum of its versions.
    ///
    /// ```
    /// # use tidemill::Prepared;
    /// assert_eq!(Prepared::of(&300_u32)?.as_bytes(), [0xac, 0x02]);
    /// # Ok::<(), tidemill::SinkError>(())
    /// ```
    pub fn of(value: &impl Serialize) -> Result<Self, SinkError> {
        match postcard::to_allocvec(value) {
            Ok(bytes) => Ok(Prepared(bytes)),
            Err(error) => Err(SinkError::Other(error.into())),
        }
    }

    /// The value that was kept.
    ///
    /// ```
    /// # use tidemill::Prepared;
    /// assert!(Prepared::of(&300_u32)?.read::<String>().is_err());
    /// # Ok::<(), tidemill::SinkError>(())
    /// ```
    pub fn read<V: DeserializeOwned>(&self) -> Result<V, SinkError> {
        postcard::from_bytes(&self.0).map_err(|error| SinkError::Recovery {
            what: "what the sink prepared before the crash".to_owned(),
            reason: format!("{error}; was it written by another sink or a later version?"),
        })
    }

    /// Whether there is nothing to be known.
    ///
    /// ```
    /// # use tidemill::Prepared;
    /// assert!(!Prepared::from(vec![1]).is_nothing());
    /// ```
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// What the checkpoint writes.
    ///
    /// ```
    /// # use tidemill::Prepared;
    /// assert_eq!(Prepared::from(vec![1, 2]).as_bytes(), [1, 2]);
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Prepared {
    fn from(bytes: Vec<u8>) -> Self {
        Prepared(bytes)
    }
}

/// The last epoch that the checkpoint holds as committed, as a sink is told after a restart.
///
/// Several instances of a sink may have prepared it, and not as many may run now: the instance on worker `w` of `n` is
/// given what the former instances `i` with `i % n == w` returned, so that each of those has one heir.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::{Committed, Prepared};
///
/// let of_four = [1, 2, 3, 4].map(|byte| Prepared::from(vec![byte]));
/// let heir = Committed::of_instances(Epoch::new(9), &of_four, 1, 3);
/// assert_eq!(heir.prepared, [Prepared::from(vec![2])]);
/// assert_eq!(Committed::of_instances(Epoch::new(9), &of_four, 0, 3).prepared.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The epoch.
    pub epoch: Epoch,
    /// What the former instances returned from [`Sink::prepare`](super::Sink::prepare) for it.
    pub prepared: Vec<Prepared>,
}

impl Committed {
    /// The share of the instance on `worker` of `workers`, out of what all former instances returned, in their order.
    pub fn of_instances(epoch: Epoch, all: &[Prepared], worker: usize, workers: usize) -> Self {
        let prepared = all.iter().skip(worker).step_by(workers.max(1)).cloned().collect();
        Committed { epoch, prepared }
    }
}
