//! Stream processing in Rust: one typed operator graph, run as micro-batches or record by record.
//!
//! ```
//! use std::time::Duration;
//! use tidemill::prelude::*;
//!
//! let graph = Graph::new("words");
//! let (sink, table) = memory_sink();
//! graph
//!     .source(memory(["to be or", "not to be"]))
//!     .flat_map(|line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .key_by(|word| word.clone())
//!     .count()
//!     .update()
//!     .sink(sink);
//! graph.run(Options::default())?;
//!
//! let mut counts = table.snapshot();
//! counts.sort();
//! assert_eq!(counts, [("be".into(), 2), ("not".into(), 1), ("or".into(), 1), ("to".into(), 2)]);
//! # Ok::<(), tidemill::RunError>(())
//! ```

pub use tidemill_connectors as connectors;
pub use tidemill_operators::{
    Aggregate, Batch, Clock, Context, Data, Either, Epoch, EventStream, EventTime, Graph, GraphError, Key,
    KeyGroup, KeyedStream, Mode, Offset, Operator, OperatorError, OutputMode, ParseTimeError, Plan, PlanLimits,
    Poll, ProcessingTime, Reader, ReaderContext, RunningAggregate, Sink, SinkContext, SinkError,
    SnapshotReader, SnapshotWriter, Source, SourceError, Stream, Waker, Window, WindowResult,
    WindowedAggregate, WindowedStream, aggregate, rows, session, session_by, sliding, tumbling,
};
pub use tidemill_runtime::{
    Durations, Fault, Idle, Options, Progress, QueryHandle, Run, RunError, Site, SourceProgress, StateProgress,
    Summary, Trigger, testing,
};

/// What nearly every program needs: `use tidemill::prelude::*;`.
pub mod prelude {
    pub use crate::connectors::*;
    pub use crate::{
        Either, Epoch, EventStream, EventTime, Graph, Mode, Options, Run, RunError, Stream, Trigger, Window,
        WindowResult, session, session_by, sliding, tumbling,
    };
}
