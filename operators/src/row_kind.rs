//! What the rows of a stream mean.

use std::fmt;

/// What a row of a stream means to those that read it.
///
/// A stream has one kind of rows. Sources and `.append()` emit inserts, `.update()` upserts, `.complete()` snapshots;
/// stateless steps keep the kind of their input, and [`as_inserts`](crate::Stream::as_inserts) makes inserts of any kind.
/// What would count a row that replaces another as one more row refuses it when the graph is
/// [validated](crate::Graph::validate):
///
/// | consumer | inserts | upserts | snapshots |
/// |---|---|---|---|
/// | `map`, `filter`, `flat_map`, `inspect`, `split`, `branch`, `broadcast` | yes | yes | yes |
/// | `rebalance`, which does not keep the order of a key's rows | yes | no | yes |
/// | `union` | with inserts | with upserts | with snapshots |
/// | an aggregate, by key, by window or of all records; an operator with state | yes | no | no |
/// | `with_watermark`, `with_punctuated_watermark` | yes | no | no |
/// | a sink | by its [`takes`](crate::Sink::takes) | | |
///
/// A `filter` drops rows, not keys: where the newest value of a key does not pass, a reader of upserts keeps the value that
/// passed before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RowKind {
    /// One more row, which is never retracted: a record of a source, the result of a window that has closed.
    #[default]
    Insert,
    /// The newest value of a key (and window): it replaces the key's earlier ones.
    Upsert,
    /// A row of the whole table at the end of an epoch: the table replaces that of the epoch before.
    Snapshot,
}

impl RowKind {
    /// What each row replaces, as a reason to refuse it.
    pub(crate) fn replaces(self) -> &'static str {
        match self {
            RowKind::Insert => "each row is one more",
            RowKind::Upsert => "each row replaces an earlier one of its key",
            RowKind::Snapshot => "the rows of each epoch replace those of the one before",
        }
    }
}

/// The plural, as in "emits upserts".
impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowKind::Insert => "inserts",
            RowKind::Upsert => "upserts",
            RowKind::Snapshot => "snapshots",
        })
    }
}
