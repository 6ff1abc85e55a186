//! The kinds of rows: how a row relates to earlier rows of its stream.

use std::fmt;

/// How a row of a stream relates to earlier rows.
///
/// A stream has one kind of rows. Sources and `.append()` emit inserts, `.update()` upserts, `.complete()` snapshots;
/// an operator of your own emits [the kinds of its outputs](crate::build::Output::KIND). Stateless steps keep the kind
/// of their input, [`as_inserts`](crate::Stream::as_inserts) declares rows of any kind to be inserts, and
/// [`as_changes`](crate::Stream::as_changes) declares inserts to be changes. A consumer that would compute wrong
/// results from a kind refuses it when the graph is [validated](crate::Graph::validate):
///
/// | consumer | inserts | upserts | snapshots | changes |
/// |---|---|---|---|---|
/// | `filter`, `inspect`, `branch`, `broadcast` | yes | yes | yes | yes |
/// | `map`, `flat_map`, `filter_map`, `split`, whose results need not be a [`RowChange`](crate::RowChange) | yes | yes | yes | no |
/// | `rebalance`, which does not keep the order of a key's rows | yes | no | yes | yes |
/// | `union` | with inserts | with upserts | with snapshots | with changes |
/// | an aggregate, by key, by window or of all records | yes | no | no | no |
/// | an operator of your own | unless its [`KINDS`](crate::build::Takes::KINDS) say otherwise | by `KINDS` | by `KINDS` | by `KINDS` |
/// | `with_watermark`, `with_punctuated_watermark` | yes | no | no | no |
/// | a sink | by its [`takes`](crate::Sink::takes) | | | |
///
/// A `filter` drops rows, not keys: if it drops the newest value of a key, a reader of upserts still has the older
/// value that passed the filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RowKind {
    /// A row that is added and never replaced: a record of a source, the result of a closed window.
    #[default]
    Insert,
    /// The newest value of a key (and window): it replaces the key's earlier ones.
    Upsert,
    /// A row of the whole table at the end of an epoch: the table replaces that of the epoch before.
    Snapshot,
    /// A row that is added to a table or removed from it: a [`RowChange`](crate::RowChange), which adds `diff` copies
    /// of its row.
    Changes,
}

impl RowKind {
    /// What each row replaces, as a reason to refuse it.
    pub(crate) fn replaces(self) -> &'static str {
        match self {
            RowKind::Insert => "each row is added to those before",
            RowKind::Upsert => "each row replaces an earlier one of its key",
            RowKind::Snapshot => "the rows of each epoch replace those of the one before",
            RowKind::Changes => "each adds a row to a table or takes it away",
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
            RowKind::Changes => "changes",
        })
    }
}
