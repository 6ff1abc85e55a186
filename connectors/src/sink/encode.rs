//! Rows as bytes, for the sinks that write files.

use serde::Serialize;
use tidemill_operators::SinkError;

use super::non_finite::{NonFinite, write_json};

fn failed(sink: &str, error: impl std::fmt::Display) -> SinkError {
    SinkError::Encode { sink: sink.to_owned(), reason: error.to_string() }
}

/// What CSV cannot write, and what to do.
fn flat(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Serialize(reason) => format!(
            "a field of the row is a list, a map or a struct, and CSV has no column for it: `.map` the rows to structs of plain \
             fields, or write JSON Lines ({reason})"
        ),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "a row has {len} fields, and those before it {expected_len}: rows of one CSV file have the same fields; write JSON \
             Lines, or `.map` the rows to structs"
        ),
        _ => error.to_string(),
    }
}

/// How a row looks in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowFormat {
    JsonLines(NonFinite),
    Csv,
}

impl RowFormat {
    /// The ending of the names of files that hold such rows.
    pub(super) fn extension(self) -> &'static str {
        match self {
            RowFormat::JsonLines(_) => "jsonl",
            RowFormat::Csv => "csv",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            RowFormat::JsonLines(_) => "JSON Lines",
            RowFormat::Csv => "CSV",
        }
    }

    /// Takes the rows; `first` says whether a file begins with them. No rows are no bytes.
    pub(super) fn encode<T: Serialize>(
        self,
        rows: &mut Vec<T>,
        first: bool,
        sink: &str,
    ) -> Result<Vec<u8>, SinkError> {
        match self {
            RowFormat::JsonLines(non_finite) => {
                let mut bytes = Vec::new();
                for row in rows.drain(..) {
                    write_json(&mut bytes, &row, non_finite).map_err(|error| failed(sink, error))?;
                    bytes.push(b'\n');
                }
                Ok(bytes)
            }
            RowFormat::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(first).from_writer(Vec::new());
                for row in rows.drain(..) {
                    writer.serialize(row).map_err(|error| failed(sink, flat(&error)))?;
                }
                writer.into_inner().map_err(|error| failed(sink, error))
            }
        }
    }
}
