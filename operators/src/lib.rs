//! What a Tidemill graph computes. The operators, windows and aggregates are here, and the graph that they form; how
//! it runs is the business of `tidemill-runtime`. This crate knows no engine, thread, file, socket or clock.

pub mod aggregate;
mod batch;
mod key;
mod operator;
mod sink;
mod source;
pub mod state;
mod time;
mod window;

pub use aggregate::Aggregate;
pub use batch::{Batch, Cloner, cloner};
pub use key::{Data, KEY_GROUPS, Key, KeyGroup, Keyed, hash_key};
pub use operator::{Context, Mode, Operator, OperatorError, SnapshotReader, SnapshotWriter, rows};
pub use sink::{DynSink, Sink, SinkContext, SinkError};
pub use source::{
    Clock, DynReader, DynSource, ErasedOffset, Offset, PlanLimits, Poll, Reader, ReaderContext, Source,
    SourceError, Waker,
};
pub use time::{Epoch, EventTime, ParseTimeError, ProcessingTime};
pub use window::{
    SessionBy, SessionWindow, SlidingWindow, TumblingWindow, Window, WindowResult, session, session_by,
    sliding, tumbling,
};

/// What a row that leaves an aggregation means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// Said once, never taken back: the rows of a stateless stream, a window when it has closed.
    #[default]
    Append,
    /// The current value of a key (and window): replaces the one said before.
    Update,
    /// One row of the whole table as it stands at the end of the epoch: the table replaces the last one.
    Complete,
}
