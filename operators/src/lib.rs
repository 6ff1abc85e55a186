//! What a Tidemill graph computes. The operators, windows and aggregates are here, and the graph that they form; how
//! it runs is the business of `tidemill-runtime`. This crate knows no engine, thread, file, socket or clock.
//!
//! A user meets [`Graph`], [`Stream`], [`KeyedStream`] and the aggregates. Those who write sources and sinks meet
//! [`Source`], [`Reader`] and [`Sink`]; those who write operators meet [`Operator`] and
//! [`testing::Harness`].

pub mod aggregate;
mod arrival;
mod assigners;
mod batch;
mod buffers;
pub mod build;
mod cancellation;
pub mod chain;
pub mod codec;
mod erased;
mod error;
#[doc(hidden)]
pub mod files;
pub mod graph;
mod group;
mod join;
mod journal;
#[doc(hidden)]
pub mod keeping;
mod key;
mod key_groups;
pub mod named;
mod operator;
mod parse_error;
mod row_change;
mod row_kind;
pub mod schema;
mod setting;
mod sink;
mod snapshot;
mod source;
mod span;
pub mod spill;
pub mod state;
pub mod stream;
pub mod testing;
mod time;
#[doc(hidden)]
pub mod turn;
mod window;

pub use aggregate::Aggregate;
pub use assigners::{
    SessionBy, SessionWindow, SlidingWindow, TumblingWindow, session, session_by, sliding, tumbling,
};
pub use batch::{Batch, Cloner, cloner};
pub use cancellation::Cancellation;
pub use either::Either;
pub use erased::{DynReader, DynSink, DynSource, ErasedOffset, Whose};
pub use error::OperatorError;
pub use graph::{Graph, GraphError, Plan};
pub use group::{RunningAggregate, TotalAggregate, WindowedAggregate, WindowedStream};
pub use join::{Bounds, IntervalJoin, Join};
pub use journal::JournalSlot;
pub use key::{Data, Key, Keyed, Row, hash_key};
pub use key_groups::{KeyGroup, KeyGroups};
pub use operator::{Context, Mode, Operator, rows};
pub use parse_error::ParseOptionError;
pub use row_change::RowChange;
pub use row_kind::RowKind;
pub use sink::{Committed, OutputClaim, Prepared, QueryIdentity, Sink, SinkContext, SinkError};
pub use snapshot::{Change, Difference, Folded, SnapshotReader, SnapshotWriter, decode, without_dropped};
pub use source::{
    Clock, Offset, PlanLimits, Poll, Polled, PrepareContext, Reader, ReaderContext, Source, SourceError,
    SourceInfo, SourceLog, Waker, WrapSource,
};
pub use stream::{Chain, EventStream, HasEventTime, KeyedStream, Keys, Stream, Timed, Untimed};
pub use time::{Epoch, EventTime, ParseTimeError, ProcessingTime, TimeRangeError, units};
pub use window::{Window, WindowResult};
