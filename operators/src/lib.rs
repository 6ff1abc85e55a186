//! The graph of Tidemill, its operators, windows and aggregates. `tidemill-runtime` runs it. This crate uses no engine,
//! threads, sockets or clocks.
//!
//! Programs use [`Graph`], [`Stream`], [`KeyedStream`] and the aggregates. Sources and sinks implement [`Source`],
//! [`Reader`] and [`Sink`]; operators implement [`StatefulOperator`](build::StatefulOperator), and are tested with
//! [`testing::Harness`].

// Shows on docs.rs which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod aggregate;
mod arrival;
mod assigners;
mod batch;
mod buffers;
pub mod build;
mod cancellation;
pub mod chain;
pub mod codec;
mod distinct;
pub mod dstream;
mod erased;
mod error;
#[doc(hidden)]
pub mod files;
pub mod firing;
#[doc(hidden)]
pub mod frequent;
pub mod graph;
mod group;
mod join;
mod journal;
#[doc(hidden)]
pub mod keeping;
mod key;
mod key_groups;
pub mod learn;
mod limit;
#[cfg(feature = "async")]
mod map_async;
pub mod named;
mod operator;
mod parse_error;
mod prefetch;
pub mod process;
mod row_change;
mod row_kind;
pub mod schema;
mod setting;
mod sink;
mod snapshot;
mod source;
mod span;
mod spawner;
pub mod spill;
pub mod state;
pub mod stream;
#[doc(hidden)]
pub mod table;
pub mod testing;
mod time;
#[doc(hidden)]
pub mod top_keys;
#[doc(hidden)]
pub mod turn;
mod window;

pub use aggregate::Aggregate;
pub use assigners::{
    CumulativeWindow, GlobalWindow, SessionBy, SessionWindow, SlidingWindow, TumblingWindow, WindowAssigner,
    cumulative, session, session_by, sliding, tumbling,
};
pub use batch::{Batch, Cloner, cloner};
pub use cancellation::Cancellation;
pub use either::Either;
pub use erased::{DynReader, DynSink, DynSource, ErasedOffset, Whose};
pub use error::OperatorError;
pub use firing::{
    CountResult, CountedAggregate, CountedStream, Early, EngineClock, EventClock, TriggeredAggregate,
    TriggeredStream,
};
pub use graph::{Graph, GraphError, Plan};
pub use group::{RunningAggregate, TotalAggregate, WindowedAggregate, WindowedStream};
pub use join::{
    Bounds, Enriched, EquiJoin, IntervalJoin, Join, JoinWindows, StaticJoin, StaticSide, TemporalJoin,
    WindowJoin,
};
pub use journal::JournalSlot;
#[doc(hidden)]
pub use key::StringInsteadOfBorrowedStr;
pub use key::{Data, Key, Keyed, Row, hash_key};
pub use key_groups::{KeyGroup, KeyGroups};
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub use map_async::{FailedRequest, RequestFailure, Requests, Retry};
pub use operator::{Context, Holding, Mode, Operator, rows};
pub use parse_error::ParseOptionError;
pub use row_change::RowChange;
pub use row_kind::RowKind;
pub use sink::{Committed, OutputClaim, Prepared, QueryIdentity, Sink, SinkContext, SinkError};
pub use snapshot::{Change, Difference, Folded, SnapshotReader, SnapshotWriter, decode, without_dropped};
pub use source::{
    Clock, Offset, PlanLimits, Poll, Polled, PrepareContext, Reader, ReaderContext, Source, SourceError,
    SourceInfo, SourceLog, Waker, WrapSource,
};
pub use spawner::{Spawner, Task};
pub use stream::{Chain, EventStream, HasEventTime, KeyedStream, Keys, Stream, Timed, Untimed};
pub use time::{Epoch, EventTime, ParseTimeError, ProcessingTime, TimeRangeError, units};
pub use window::{FiringKind, Window, WindowFiring, WindowResult};
