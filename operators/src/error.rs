//! Why an operator fails.

/// Why an operator has failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// A batch holds rows of another type than the operator's: a defect of the engine.
    #[error("expected rows of type {expected}: this is a defect of Tidemill, please report it")]
    WrongType {
        /// The type the operator takes.
        expected: &'static str,
    },
    /// State could not be read back.
    #[error("state cannot be decoded: {0}")]
    Codec(postcard::Error),
    /// State could not be written.
    #[error("state cannot be encoded: {0}")]
    Encode(crate::schema::EncodeError),
    /// State has not the shape that its type reads.
    #[error("state cannot be read back: {0}")]
    Schema(crate::schema::SchemaError),
    /// A delta of state cannot be decoded.
    #[error("corrupt state delta at byte {at}: {reason}")]
    Changes {
        /// Offset in the bytes of the key group.
        at: usize,
        /// What is there.
        reason: &'static str,
    },
    /// State was put under a key group that does not exist: a defect of the operator.
    #[error("key group {0} does not exist: derive it with `SnapshotWriter::key_groups().of(hash)`")]
    NoSuchGroup(u16),
    /// A state by name is declared in a way that cannot work, or does not fit the checkpoint.
    #[error("state `{name}`: {problem}")]
    State {
        /// The name of the state.
        name: String,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// State that exceeds the memory it may use cannot be kept elsewhere.
    #[error(transparent)]
    Spill(#[from] crate::spill::SpillError),
    /// A row is deleted from a table more often than it was inserted.
    #[error(
        "{copies} more copies of a row are deleted from the table than it has: {row}. A changelog may delete only what it has \
         inserted, and the functions of a table must return the same for the same row"
    )]
    NegativeRows {
        /// How many copies are missing.
        copies: u64,
        /// The key and the row.
        row: String,
    },
    /// A table has more copies of a row than it may have.
    #[error(
        "the table has more than {most} copies of a row: {row}. Check the numbers of copies in its changelog, or make rows distinct \
         (`distinct()`) before joins multiply their copies"
    )]
    TooManyRows {
        /// How many there may be.
        most: u64,
        /// The key and the row.
        row: String,
    },
    /// A loop of a table has not come to rest within its bound.
    #[error(
        "the loop is not at rest after {rounds} rounds: another one would change {row}. Raise the bound, see to it that the \
         function of the loop comes to an end, or stop there on purpose with `iterate_exactly`"
    )]
    NotAtRest {
        /// The bound.
        rounds: u64,
        /// A key and a row.
        row: String,
    },
    /// A table that was computed again from its inputs has other rows than before the restart.
    #[error(
        "computed again from its inputs after the restart, the table `{table}` has other rows than at the last commit (content {:032x}, \
         recorded {:032x}): its functions have changed, or do not return the same for the same row. Go back to the \
         functions of the earlier run, or give this output another uid and write it to another place",
        .contents.0,
        .contents.1
    )]
    OtherTable {
        /// The uid of the table.
        table: String,
        /// The checksums of its rows: as computed now, and in the checkpoint.
        contents: Box<(u128, u128)>,
    },
    /// A function of the user returned an error.
    #[error(transparent)]
    User(Box<dyn std::error::Error + Send + Sync>),
}

/// What it says to people: this is what `main` prints of an error that it returns.
impl std::fmt::Debug for OperatorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
