//! CSV: a row is a record, and the header names its fields.

use std::io::Cursor;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, ReaderBuilder, StringRecord};
use serde::de::DeserializeOwned;
use tidemill_operators::SourceError;

use super::format::{Piece, Splitting};
use super::name::shown;
use super::records::{Parse, Parsed, Parser, Wrong};
use crate::Text;

/// How many characters of a field an error shows.
const SHOWN: usize = 40;

/// CSV as RFC 4180 has it; fields may be quoted, and line breaks may stand in quotes.
pub struct Csv<T> {
    pub(super) delimiter: u8,
    pub(super) header: bool,
    record: PhantomData<fn() -> T>,
}

impl<T> Csv<T> {
    pub(super) fn new() -> Self {
        Csv { delimiter: b',', header: true, record: PhantomData }
    }
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Csv { delimiter: self.delimiter, header: self.header, record: PhantomData }
    }
}

impl<T: DeserializeOwned + Send + 'static> Parse for Csv<T> {
    type Record = T;
    type Parser = CsvParser<T>;
    const NAME: &'static str = "CSV files";

    fn splitting(&self) -> Splitting {
        Splitting::Csv { delimiter: self.delimiter, header: self.header }
    }

    fn parser(&self, max_line: usize) -> CsvParser<T> {
        let (text, row) = (Text::default(), StringRecord::new());
        CsvParser { format: self.clone(), rows: None, row, header: None, text, max_line }
    }
}

/// Reads CSV.
pub struct CsvParser<T> {
    format: Csv<T>,
    rows: Option<csv::Reader<Cursor<Text>>>,
    row: StringRecord,
    header: Option<(Arc<Path>, StringRecord)>,
    text: Text,
    max_line: usize,
}

impl<T> CsvParser<T> {
    fn builder(&self) -> ReaderBuilder {
        let mut builder = ReaderBuilder::new();
        // The number of fields is checked against the header, by us: also where a file is read in pieces.
        builder.delimiter(self.format.delimiter).has_headers(false).flexible(true);
        builder
    }

    /// Reads the header from the beginning of the file, wherever in it the piece stands.
    fn read_header(&mut self, path: &Arc<Path>) -> Result<(), SourceError> {
        if self.header.as_ref().is_some_and(|(known, _)| known == path) {
            return Ok(());
        }
        let mut header = ByteRecord::new();
        let mut rows = self.builder().from_path(path).map_err(|error| failed(path, error))?;
        rows.read_byte_record(&mut header).map_err(|error| failed(path, error))?;
        // Where bytes that are no text are not replaced, the piece that begins with them has failed already.
        self.header = Some((Arc::clone(path), StringRecord::from_byte_record_lossy(header)));
        Ok(())
    }
}

fn failed(path: &Path, error: csv::Error) -> SourceError {
    let place = format!("{}, line 1", shown(path));
    match error.into_kind() {
        csv::ErrorKind::Io(error) => SourceError::io(format!("cannot read {}", shown(path)), error),
        kind => SourceError::BadRecord { place, reason: format!("the header cannot be read: {kind:?}") },
    }
}

impl<T: DeserializeOwned + Send + 'static> Parser for CsvParser<T> {
    type Record = T;

    fn begin(&mut self, piece: &Piece) -> Result<(), SourceError> {
        self.text = piece.text.clone();
        let mut rows = self.builder().from_reader(Cursor::new(piece.text.clone()));
        if self.format.header {
            self.read_header(&piece.path)?;
            // At 3 stands what follows a byte order mark.
            if piece.at == 0 || (piece.at == 3 && first_piece(piece)) {
                rows.read_record(&mut self.row).map_err(|error| failed(&piece.path, error))?;
            }
        }
        self.rows = Some(rows);
        Ok(())
    }

    fn next(&mut self) -> Option<Parsed<T>> {
        let rows = self.rows.as_mut()?;
        let begin = at(rows);
        let read = rows.read_record(&mut self.row);
        let range = begin..at(rows);
        if range.len() > self.max_line {
            let raw = self.text.get(range.clone()).unwrap_or_default();
            if raw.trim_matches(['\r', '\n']).len() > self.max_line {
                return Some((range, Err(crate::source::too_long(self.max_line).into())));
            }
        }
        match read {
            Ok(false) => {
                self.rows = None;
                None
            }
            Err(error) => Some((range, Err(error.to_string().into()))),
            Ok(true) => {
                let header = self.header.as_ref().map(|(_, header)| header).filter(|_| self.format.header);
                let (fields, columns) = (self.row.len(), header.map(StringRecord::len));
                if columns.is_some_and(|columns| columns != fields) {
                    let columns = columns.unwrap_or_default();
                    return Some((
                        range,
                        Err(format!("{fields} fields, where the header has {columns}").into()),
                    ));
                }
                Some((range, self.row.deserialize(header).map_err(|error| wrong(&error, &self.row, header))))
            }
        }
    }

    fn consumed(&self) -> usize {
        self.rows.as_ref().map_or(self.text.len(), at)
    }
}

/// Whether a piece at byte 3 follows a byte order mark, which no record of three bytes looks like.
fn first_piece(piece: &Piece) -> bool {
    let mut mark = [0; 3];
    tidemill_operators::files::open_to_read(&piece.path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut mark))
        .is_ok_and(|()| mark == super::scan::MARK)
}

fn at(rows: &csv::Reader<Cursor<Text>>) -> usize {
    crate::length(rows.position().byte())
}

/// What is wrong with a row: the column and the text of the field, or the column that the header lacks.
fn wrong(error: &csv::Error, row: &StringRecord, header: Option<&StringRecord>) -> Wrong {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else { return error.to_string().into() };
    let problem = err.kind().to_string();
    if let Some(field) = err.field().and_then(|field| usize::try_from(field).ok()) {
        let column = header.and_then(|header| header.get(field)).map(|name| format!(" (`{name}`)"));
        let text = row.get(field).unwrap_or_default();
        let shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        let rest = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
        return format!("field {}{}: {problem}: `{shown}{rest}`", field + 1, column.unwrap_or_default())
            .into();
    }
    let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match (missing, header) {
        (Some(name), Some(header)) if header.iter().all(|column| column != name) => {
            let columns: Vec<String> = header.iter().map(|column| format!("`{column}`")).collect();
            let reason = format!(
                "the header has no column `{name}`, it has {}: `#[serde(rename = \"…\")]` on the field gives it the name of a \
                 column, and `#[serde(default)]` allows files without it",
                columns.join(", ")
            );
            Wrong { reason, in_all: true }
        }
        _ => problem.into(),
    }
}
