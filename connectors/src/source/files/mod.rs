//! Records from files: those of a directory or a glob, as they appear, read by several workers at once.
//!
//! - [`pattern`]: which files there are;
//! - [`watch`]: what changes in a large directory;
//! - [`catalogue`]: the files known so far, cut into numbered blocks, and how far epochs may read;
//! - [`follow`], [`segment`]: followed files, which grow, are rotated and truncated; [`identity`]: what makes one the same;
//! - [`sought`]: what earlier runs have looked for, and whether this one may resume from it;
//! - [`name`]: how their names are shown and logged;
//! - [`scan`]: the arithmetic of lines and records within a file;
//! - [`utf8`]: bytes as text;
//! - [`format`], [`records`], [`csv_format`]: what a piece of text is turned into;
//! - [`source`] and [`reader`]: the source itself.

mod catalogue;
mod csv_format;
mod follow;
#[cfg(test)]
mod follow_tests;
mod format;
mod identity;
#[cfg(test)]
mod long_tests;
#[cfg(test)]
mod lossy_tests;
mod name;
mod pattern;
mod reader;
mod records;
mod scan;
mod segment;
mod sought;
mod source;
#[cfg(test)]
mod tests;
mod utf8;
mod watch;
#[cfg(test)]
mod watch_tests;

pub use csv_format::Csv;
pub use format::{Format, Lines, WholeBlocks};
pub use reader::FileReader;
pub(super) use records::json_line;
pub use records::{BadRecord, BadRecords, Checked, Json, Parse, Routed};
pub use source::{
    CsvFiles, FileOffset, FileSource, JsonLines, TextBlocks, TextFiles, csv_files, json_lines, text_blocks,
    text_files,
};
