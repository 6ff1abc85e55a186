//! The sources: what each reads, in its own file.

mod channel;
mod files;
mod handover;
mod iterate;
mod memory;
mod parsed;
mod rate;
mod socket;
#[cfg(test)]
pub(crate) mod testing;

pub use channel::{ChannelReader, ChannelSender, ChannelSource, channel};
pub use files::{
    BadRecord, BadRecords, Checked, Csv, CsvFiles, FileOffset, FileReader, FileSource, Format, Json,
    JsonLines, Lines, Parse, Routed, TextBlocks, TextFiles, WholeBlocks, csv_files, json_lines, text_blocks,
    text_files,
};
pub use iterate::{IterReader, IterSource, iterate, iterate_partitions};
pub use memory::{MemoryReader, MemorySource, memory};
pub use parsed::{ParseLines, ParsedLines, ParsedReader};
pub use rate::{RateOffset, RateReader, RateRow, RateSource, rate};
pub use socket::{ListenerSource, OnDisconnect, SocketReader, SocketSource, socket, socket_listener};

/// How many records may be read now: at most `max`, and not beyond `until`.
fn room(at: u64, until: Option<&u64>, max: usize) -> usize {
    until.map_or(max, |&until| max.min(crate::length(until.saturating_sub(at))))
}

/// Adds to the reason why a record is bad what lets the query run all the same.
pub(crate) fn skippable(reason: impl std::fmt::Display) -> String {
    format!("{reason}; `.on_bad_record(BadRecords::Skip)` on the source skips and counts such records")
}

/// What is wrong with a line of more than `max` bytes.
fn too_long(max: usize) -> String {
    format!("the line is longer than {max} bytes; `.max_line(bytes)` on the source allows more")
}
