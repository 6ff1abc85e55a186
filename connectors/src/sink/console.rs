//! The terminal: a table for every epoch.

use std::io::Write;

use serde::Serialize;
use tidemill_operators::{Epoch, RowKind, Sink, SinkContext, SinkError};

use super::Pending;
use super::cells::{Row, flatten};

/// A sink onto the terminal; see [`console`].
pub struct ConsoleSink {
    rows: usize,
    writer: Box<dyn Write + Send>,
    pending: Pending<Row>,
}

/// Returns a sink that prints a table of each epoch.
///
/// It prints when the epoch commits, at most 20 rows or [another number](ConsoleSink::rows). In continuous mode it
/// prints each row at once, on a line. If a crash comes before rows are printed, they are not printed later.
///
/// ```
/// use tidemill::Sink;
/// use tidemill::prelude::*;
///
/// #[derive(serde::Serialize)]
/// struct Count { word: &'static str, count: u64 }
///
/// let mut sink = console().rows(10);
/// sink.write(Epoch::new(3), &mut vec![Count { word: "to", count: 2 }])?;
/// Sink::<Count>::commit(&mut sink, Epoch::new(3))?;
/// // epoch 3
/// // word | count
/// // -----+------
/// // to   | 2
/// # Ok::<(), tidemill::SinkError>(())
/// ```
pub fn console() -> ConsoleSink {
    ConsoleSink { rows: 20, writer: Box::new(std::io::stdout()), pending: Pending::new() }
}

impl ConsoleSink {
    /// Sets the maximum of rows that are printed per epoch; then the number of further rows is printed.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// Prints to `writer` instead of the standard output.
    #[must_use]
    pub fn to_writer(mut self, writer: impl Write + Send + 'static) -> Self {
        self.writer = Box::new(writer);
        self
    }

    fn print(&mut self, text: &str) -> Result<(), SinkError> {
        let printed = self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush());
        printed.map_err(|error| SinkError::io("cannot print", error))
    }
}

impl<T: Serialize + Send + 'static> Sink<T> for ConsoleSink {
    fn describe(&self) -> String {
        "console".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.pending.open(context);
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        let mut cells = rows.drain(..).map(|row| flatten(&row)).collect::<Result<Vec<_>, _>>()?;
        let mut text = String::new();
        for row in self.pending.add(epoch, &mut cells).into_iter().flatten() {
            let fields: Vec<_> = row.iter().map(|(name, value)| format!("{name}={value}")).collect();
            text += &format!("epoch {epoch}: {}\n", fields.join(" "));
        }
        if text.is_empty() { Ok(()) } else { self.print(&text) }
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        for (epoch, rows) in self.pending.commit(epoch) {
            if !rows.is_empty() {
                self.print(&table(epoch, &rows, self.rows))?;
            }
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

/// Lays rows out; a column is as wide as its longest cell.
fn table(epoch: Epoch, rows: &[Row], most: usize) -> String {
    let shown = rows.get(..most).unwrap_or(rows);
    let mut columns: Vec<(&str, usize)> = Vec::new();
    for (name, value) in shown.iter().flatten() {
        let width = value.chars().count().max(name.chars().count());
        match columns.iter_mut().find(|(column, _)| column == name) {
            Some((_, widest)) => *widest = width.max(*widest),
            None => columns.push((name, width)),
        }
    }
    let line = |cells: Vec<String>, between: &str| format!("{}\n", cells.join(between).trim_end());
    let mut text = format!("epoch {epoch}\n");
    if !columns.is_empty() {
        text += &line(columns.iter().map(|(name, width)| format!("{name:width$}")).collect(), " | ");
        text += &line(columns.iter().map(|(_, width)| "-".repeat(*width)).collect(), "-+-");
    }
    for row in shown {
        let cell = |column: &str| {
            row.iter().find(|(name, _)| name == column).map_or("", |(_, value)| value.as_str())
        };
        text += &line(columns.iter().map(|(name, width)| format!("{:width$}", cell(name))).collect(), " | ");
    }
    if rows.len() > shown.len() {
        text += &format!("… and {} more rows\n", rows.len() - shown.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tidemill_operators::RowKind;

    use super::super::testing::{open, write};
    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(crate::lock(&self.0).clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            crate::lock(&self.0).write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Serialize)]
    struct Count {
        word: String,
        span: (i64, i64),
        at: At,
    }

    #[derive(Serialize)]
    struct At {
        x: f64,
    }

    fn row(word: &str) -> Count {
        Count { word: word.to_owned(), span: (0, 10), at: At { x: 1.5 } }
    }

    #[test]
    fn an_epoch_is_a_table_and_an_empty_one_is_nothing() {
        let screen = Screen::default();
        let mut sink = console().rows(2).to_writer(screen.clone());
        open::<Count>(&mut sink, RowKind::Insert, false);
        write(&mut sink, 3, vec![row("to"), row(&"x".repeat(50)), row("not")]);
        assert_eq!(screen.text(), "");
        Sink::<Count>::commit(&mut sink, Epoch::new(3)).unwrap();
        Sink::<Count>::commit(&mut sink, Epoch::new(4)).unwrap();
        let (long, pad, rule) = ("x".repeat(39), " ".repeat(36), "-".repeat(40));
        let head = format!("epoch 3\nword{pad} | span    | at.x\n{rule}-+---------+-----\n");
        let body = format!("to  {pad} | [0, 10] | 1.5\n{long}… | [0, 10] | 1.5\n… and 1 more rows\n");
        assert_eq!(screen.text(), head + &body);
    }

    #[test]
    fn in_continuous_mode_every_row_is_a_line() {
        let screen = Screen::default();
        let mut sink = console().to_writer(screen.clone());
        open::<(&str, u8)>(&mut sink, RowKind::Insert, true);
        write(&mut sink, 7, vec![("a", 1), ("b", 2)]);
        write(&mut sink, 8, Vec::<(&str, u8)>::new());
        assert_eq!(screen.text(), "epoch 7: _1=a _2=1\nepoch 7: _1=b _2=2\n");
    }
}
