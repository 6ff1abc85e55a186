//! The sources and sinks that come with Tidemill.
//!
//! Sources: [`memory`] and [`iterate`] (collections, generators), [`rate`] (rows at a fixed rate), [`channel`] (records
//! from a thread of your own), [`socket`] and [`socket_listener`] (lines over TCP), [`text_files`], [`text_blocks`],
//! [`json_lines`] and [`csv_files`] (files). [`ParseLines`] parses the lines of any source as JSON.
//!
//! Sinks: [`console`], [`json_lines_dir`] and [`csv_dir`] (a directory of files, exactly once), [`json_lines_sink`] and
//! [`csv_sink`] (a single file), [`memory_sink`], [`channel_sink`], [`for_each`], [`try_for_each`] and
//! [`for_each_epoch`] (functions), [`discard`]. [`at_commit`] delays the rows of any sink until their commit.
//!
//! Each implements the public traits [`Source`](tidemill_operators::Source) or [`Sink`](tidemill_operators::Sink), as
//! sources and sinks of your own do.

// Shows on docs.rs which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "kafka")]
#[cfg_attr(docsrs, doc(cfg(feature = "kafka")))]
pub mod kafka;
mod sink;
mod source;
#[doc(hidden)]
pub mod steps;
mod text;
mod words;

pub use crossbeam_channel::{SendError, TrySendError};
pub use sink::{
    AtCommit, ChannelSink, ConsoleSink, DirSink, Discard, DiscardCount, EpochRows, FileSink, ForEach,
    ForEachEpoch, ForEachRow, MemorySink, MemoryTable, NonFinite, at_commit, channel_sink, console, csv_dir,
    csv_sink, discard, for_each, for_each_epoch, json_lines_dir, json_lines_sink, memory_sink, try_for_each,
};
#[cfg(feature = "latency")]
pub use sink::{Latency, LatencySummary, Measured};
pub use source::{
    BadRecord, BadRecords, ChannelReader, ChannelSender, ChannelSource, Checked, Csv, CsvFiles, FileOffset,
    FileReader, FileSource, Format, IterReader, IterSource, Json, JsonLines, Lines, ListenerSource,
    MemoryReader, MemorySource, OnDisconnect, Parse, ParseLines, ParsedLines, ParsedReader, RateOffset,
    RateReader, RateRow, RateSource, Routed, SocketReader, SocketSource, TextBlocks, TextFiles, WholeBlocks,
    channel, csv_files, iterate, iterate_partitions, json_lines, memory, rate, socket, socket_listener,
    text_blocks, text_files,
};
pub use text::Text;
pub use words::{Words, words};

use std::sync::{Mutex, MutexGuard};

/// Locks, also after a panic elsewhere: everything kept under a lock here is whole between two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    tidemill_operators::turn::lock(mutex)
}

/// A count of records as a length; what does not fit is more than memory holds.
fn length(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
