//! The source of lines over TCP, for both sides of a connection: its settings, and how the engine reads it.

use std::sync::{Arc, Mutex};

use tidemill_operators::{PlanLimits, PrepareContext, ReaderContext, Source, SourceError, SourceInfo};

use super::client::Client;
use super::lines::Lines;
use super::{OnDisconnect, Outlet, Slot, SocketReader, Stopper};
use crate::lock;
use crate::source::BadRecords;

/// What a user may set on a source of lines, whichever side connects.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) on_disconnect: OnDisconnect,
    pub(super) lines: Lines,
}

/// The side of the connections that a source is.
pub trait Side: Send + Sync + 'static {
    /// The name of the source in errors and plans.
    fn describe(&self) -> String;

    /// Refuses settings that cannot work, before anything runs.
    fn check(&self) -> Result<(), SourceError>;

    /// Starts the thread that connects or accepts.
    fn launch(&self, with: Launch) -> Result<(), SourceError>;
}

/// What the thread of a source works with.
pub struct Launch {
    pub(super) settings: Settings,
    pub(super) outlet: Outlet,
    pub(super) stopper: Arc<Stopper>,
}

/// A source of lines over TCP, without their terminators (LF or CRLF).
///
/// [`socket`](crate::socket) connects to a server; any number of peers connect to a
/// [`socket_listener`](crate::socket_listener). The lines of one peer stay in order; those of several are merged as
/// they arrive. The source has one partition, and cannot read a line again.
///
/// A line ends with LF or CRLF; an empty one is a record too. A line is bad if it is not UTF-8 (unless the source is
/// [`lossy`](SocketSource::lossy)), if it is longer than [`max_line`](SocketSource::max_line), or if the connection
/// ends before the line does, since the line may be incomplete. By default a bad line fails the query;
/// [`on_bad_record`](SocketSource::on_bad_record) can skip and count bad lines. They are never written to a journal.
/// [`json`](crate::ParseLines::json) parses lines as JSON.
///
/// Lines that no worker has read yet take at most 4 MiB of memory over all peers, or one longer line. Unfinished lines
/// of more than 16 KiB take at most as much again, and each peer takes a thread and 16 KiB. If this memory is full, the
/// source stops reading, which slows the peers.
///
/// With a checkpoint the source needs `.journaled()`, which writes each line to the checkpoint's journal. If the
/// process is killed, lines that are not yet synced in the journal are lost, and the peer cannot find out, since plain
/// lines have no acknowledgement.
///
/// ```no_run
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let lines = socket("localhost:9999")
///     .max_line(16 << 10)
///     .on_bad_record(BadRecords::Skip)
///     .on_disconnect(OnDisconnect::Reconnect { after: Duration::from_secs(1) });
/// ```
pub struct SocketSource<S = Client> {
    pub(super) side: S,
    pub(super) settings: Settings,
    slot: Mutex<Slot>,
}

impl<S: Side> SocketSource<S> {
    pub(super) fn new(side: S, on_disconnect: OnDisconnect) -> Self {
        let settings = Settings { on_disconnect, lines: Lines::default() };
        SocketSource { side, settings, slot: Mutex::default() }
    }

    /// Sets what happens when the other side closes a connection.
    ///
    /// By default the stream of [`socket`](crate::socket) ends, and [`socket_listener`](crate::socket_listener) waits
    /// for other peers. With [`OnDisconnect::End`] the stream of a listener ends when its last peer has closed the
    /// connection.
    #[must_use]
    pub fn on_disconnect(mut self, what: OnDisconnect) -> Self {
        self.settings.on_disconnect = what;
        self
    }

    /// Sets how many bytes a line may have, without its end: 1 MiB by default. A longer one is bad.
    #[must_use]
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.settings.lines.max = bytes;
        self
    }

    /// Sets whether a bad line fails the query, which is the default, or is skipped.
    ///
    /// `.json().on_bad_record(…)` sets it for lines and for records.
    #[must_use]
    pub fn on_bad_record(mut self, what: BadRecords) -> Self {
        self.settings.lines.skip = what == BadRecords::Skip;
        self
    }

    /// Replaces bytes that are not UTF-8 by U+FFFD, so that such a line is not bad.
    #[must_use]
    pub fn lossy(mut self) -> Self {
        self.settings.lines.lossy = true;
        self
    }

    fn launch(&self, outlet: Outlet, stopper: Arc<Stopper>) -> Result<(), SourceError> {
        self.side.launch(Launch { settings: self.settings, outlet, stopper })
    }
}

impl<S: Side> Source for SocketSource<S> {
    type Item = String;
    type Offset = u64;
    type Reader = SocketReader;

    fn describe(&self) -> String {
        self.side.describe()
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        self.side.check()?;
        Ok(SourceInfo::new(1, |_| 0))
    }

    fn refresh(&self, _limits: &PlanLimits) -> Result<(), SourceError> {
        lock(&self.slot).begin(|outlet, stopper| self.launch(outlet, stopper))
    }

    fn latest(&self, _partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let most = from.saturating_add(limits.records());
        Ok(lock(&self.slot).latest(*from).min(most))
    }

    fn open(&self, _partition: u32, from: &u64, context: ReaderContext) -> Result<SocketReader, SourceError> {
        lock(&self.slot).open(self.describe(), *from, context, |outlet, stopper| self.launch(outlet, stopper))
    }

    fn skip_bad_records(&mut self, skip: bool) {
        self.settings.lines.skip = skip;
    }
}
