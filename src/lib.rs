//! Stream processing in Rust: one typed operator graph, run as micro-batches or record by record.
//!
//! [The map](#the-map) leads from a task to the item for it. The guide, in the repository, explains the ideas in order.
//!
//! # A first graph
//!
//! A [`Graph`] is built from streams, and run with [`Options`]:
//!
//! ```
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
//!
//! Streams are values without lifetimes, so a function can take a stream and return one. The type of a stream contains
//! its chain of steps, as the type of an iterator does; [`boxed`](Stream::boxed) closes the chain and gives the stream
//! its short type:
//!
//! ```
//! use tidemill::prelude::*;
//!
//! fn loud(words: Stream<String>) -> Stream<String> {
//!     words.map(|word| word.to_uppercase()).filter(|word| word.len() > 2).boxed()
//! }
//! # let graph = Graph::new("loud");
//! # let (sink, table) = memory_sink();
//! loud(graph.source(memory(["to".to_owned(), "sea".to_owned()])).boxed()).sink(sink);
//! # graph.run(Options::default())?;
//! # assert_eq!(table.snapshot(), ["SEA"]);
//! # Ok::<(), tidemill::RunError>(())
//! ```
//!
//! A function that takes and returns an open chain keeps it open, so that its steps are fused with those before and
//! after the call:
//!
//! ```
//! use tidemill::{Chain, prelude::*};
//!
//! fn loud<P: Chain<Out = String>>(words: Stream<String, P>) -> Stream<String, impl Chain<Out = String>> {
//!     words.map(|word| word.to_uppercase()).filter(|word| word.len() > 2)
//! }
//! # let graph = Graph::new("loud");
//! # let (sink, table) = memory_sink();
//! loud(graph.source(memory(["to".to_owned(), "sea".to_owned()]))).map(|word| word + "!").sink(sink);
//! # graph.run(Options::default())?;
//! # assert_eq!(table.snapshot(), ["SEA!"]);
//! # Ok::<(), tidemill::RunError>(())
//! ```
//!
//! The type of the chain also contains whether records have event times: [`Untimed`] before `with_watermark`, [`Timed`]
//! after it. A function that takes both kinds of streams returns one with `Time = P::Time`. `with_watermark` needs an
//! untimed stream, a window a timed one:
//!
//! ```
//! use std::time::Duration;
//! use tidemill::{Chain, Timed, Untimed, prelude::*};
//!
//! fn lengths<P>(words: Stream<String, P>) -> Stream<i64, impl Chain<Out = i64, Time = P::Time>>
//! where
//!     P: Chain<Out = String>,
//! {
//!     words.map(|word| word.len() as i64)
//! }
//!
//! fn timed(numbers: Stream<i64, impl Chain<Out = i64, Time = Untimed>>) -> Stream<i64, impl Chain<Out = i64, Time = Timed>> {
//!     numbers.with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO)
//! }
//!
//! fn counts(numbers: Stream<i64, impl Chain<Out = i64, Time = Timed>>) -> EventStream<WindowResult<(), u64>> {
//!     numbers.window(tumbling(Duration::from_micros(3))).count().append()
//! }
//! # let graph = Graph::new("lengths");
//! # let (sink, table) = memory_sink();
//! counts(timed(lengths(graph.source(memory(["to".to_owned(), "sea".to_owned()]))))).map(|row| row.value).sink(sink);
//! # graph.run(Options::default())?;
//! # assert_eq!(table.snapshot(), [1, 1]);
//! # Ok::<(), tidemill::RunError>(())
//! ```
//!
//! A second output ([`split`](Stream::split), late records) and a second consumer close a chain: the steps before it
//! are one loop, and the steps after it another, with batches between them.
//!
//! # The map
//!
//! | I want to … | items |
//! |---|---|
//! | build a graph | [`Graph`], [`Graph::source`], [`Stream`] |
//! | transform records | [`map`](Stream::map), [`filter`](Stream::filter), [`filter_map`](Stream::filter_map), [`flat_map`](Stream::flat_map), [`inspect`](Stream::inspect) |
//! | divide or merge streams | [`partition`](Stream::partition), [`split`](Stream::split), [`branch`](Stream::branch), [`union`](Stream::union) |
//! | use a stream twice, or name its type | [`boxed`](Stream::boxed) |
//! | move records between workers | [`rebalance`](Stream::rebalance), [`broadcast`](Stream::broadcast) |
//! | assign keys | [`key_by`](Stream::key_by), [`keys_by`](Stream::keys_by), [`flat_key_by`](Stream::flat_key_by) |
//! | assign event times | [`with_watermark`](Stream::with_watermark), [`with_punctuated_watermark`](Stream::with_punctuated_watermark), [`idle_after`](Stream::idle_after), [`EventTime`], [`units`] |
//! | count, add up, collect | [`KeyedStream`], [`WindowedStream`], [`aggregate`] |
//! | estimate distinct counts, percentiles, frequencies | [`hyper_log_log`](KeyedStream::hyper_log_log), [`quantiles`](KeyedStream::quantiles), [`count_min`](KeyedStream::count_min), [`top_keys`](KeyedStream::top_keys), [`sample`](KeyedStream::sample) |
//! | choose windows | [`tumbling`], [`sliding`], [`session`], [`session_by`], [`cumulative`], [`WindowAssigner`], [`count_window`](KeyedStream::count_window), [`processing_time_window`](KeyedStream::processing_time_window) |
//! | results before and after a window's end | [`allowed_lateness`](WindowedStream::allowed_lateness), [`early`](WindowedStream::early), [`WindowFiring`] |
//! | choose when results are emitted | [`WindowedAggregate`], [`RunningAggregate`] |
//! | join two streams | [`KeyedStream::join`], [`Bounds`], [`IntervalJoin`] |
//! | drop duplicates | [`distinct`](KeyedStream::distinct), [`distinct_within_watermark`](KeyedStream::distinct_within_watermark), [`distinct_for`](KeyedStream::distinct_for) |
//! | rank rows | [`top_n`](KeyedStream::top_n), [`rank`](KeyedStream::rank), [`sort_within_window`](WindowedStream::sort_within_window), [`limit`](Stream::limit) |
//! | state and timers per key | [`KeyedStream::process`], [`process`], [`map_with_state`](KeyedStream::map_with_state) |
//! | learn a model from a stream, and score rows with it | [`KeyedStream::learn`], [`learn`] |
//! | join, group and rank results that change | with the feature `tables`, `into_table` of a keyed stream, and the methods of `table::Table` |
//! | iterate over tables; components, distances, ranks of graphs | with the feature `tables`, `table::Table::iterate` and `graph` |
//! | read results from other threads | with the feature `tables`, `table::Table::queryable` and `table::TableReader` |
//! | enrich rows | `join_static` and, with the feature `async`, `map_async` of [`Stream`]: a static side, requests to a service |
//! | read files, sockets, channels | [`connectors`]: [`text_files`](connectors::text_files), [`json_lines`](connectors::json_lines), [`csv_files`](connectors::csv_files), [`socket`](connectors::socket), [`channel`](connectors::channel) |
//! | write files, tables, databases | [`connectors`]: [`json_lines_dir`](connectors::json_lines_dir), [`csv_dir`](connectors::csv_dir), [`memory_sink`](connectors::memory_sink), [`for_each_epoch`](connectors::for_each_epoch) |
//! | run a graph | [`Run::run`], [`Run::start`], [`QueryHandle`], [`Options`], [`Mode`], [`Trigger`] |
//! | survive a crash | [`Options::with_checkpoint`], [`Options::with_restart`], [`uid`](Stream::uid), [`Journal::journaled`] |
//! | watch a query | [`QueryHandle::progress`], [`Progress`], [`Graph::explain`], [`Run::explain_run`] |
//! | handle errors | [`RunError`], [`GraphError`], [`SourceError`], [`SinkError`] |
//! | test a graph | [`testing::TestDriver`], [`testing::ScriptedSource`], [`testing::simulate`] |
//! | write an operator | [`Graph::operator`], [`operator::StatefulOperator`], [`operator::Takes`] |
//! | write an aggregate, a source, a sink | [`Aggregate`], [`Source`] and [`Reader`], [`Sink`] |
//! | inspect a checkpoint | [`checkpoint::inspect`] |
//!
//! # Two modes
//!
//! [`Mode::MicroBatch`]: a [`Trigger`] cuts the input into epochs; each is processed as one batch and committed as a
//! whole. [`Mode::Continuous`]: each record passes through when it arrives; epochs only mark checkpoints. The graph and
//! its results are the same in both. Continuous mode has the lower latency; large epochs cost least per record.
//!
//! # Event time
//!
//! [`with_watermark`](Stream::with_watermark) reads the event time of each record, and sets by how much a record may be
//! behind the latest one of its partition. A [`Window`] closes when the watermark passes its end; a record is late when
//! all its windows have closed.
//!
//! ```
//! use std::time::Duration;
//! use tidemill::prelude::*;
//!
//! let seconds = |s| Duration::from_secs(s);
//! let graph = Graph::new("late");
//! let (results, late) = graph
//!     .source(memory([12i64, 25, 3, 26]))
//!     .with_watermark(|second| EventTime::from_secs(*second), seconds(5))
//!     .window(tumbling(seconds(10)))
//!     .count()
//!     .append_with_late();
//! let ((sink, counts), (late_sink, late_rows)) = (memory_sink(), memory_sink());
//! results.map(|result| (result.window.start.as_micros() / 1_000_000, result.value)).sink(sink);
//! late.sink(late_sink);
//! // One record per epoch: when 3 arrives, the watermark is 20.
//! graph.run(Options::default().with_max_records_per_epoch(1))?;
//!
//! assert_eq!(counts.snapshot(), [(10, 1), (20, 2)]);
//! assert_eq!(late_rows.snapshot(), [3]);
//! # Ok::<(), tidemill::RunError>(())
//! ```
//!
//! # By key, by window, or over the whole stream
//!
//! An aggregate has one value for each key ([`key_by`](Stream::key_by)), for each window, or for each key and window.
//! Directly on a stream it has one value over all records so far. Each worker first aggregates its own records, and the
//! worker that owns the value merges the results:
//!
//! ```
//! use tidemill::aggregate::{Count, Max};
//! use tidemill::prelude::*;
//!
//! let graph = Graph::new("orders");
//! let orders = graph.source(memory([(7u32, 3u64), (8, 1), (7, 2)])).boxed();
//! let ((all, total), (each, of_items)) = (memory_sink(), memory_sink());
//! let amount = |order: &(u32, u64)| order.1;
//! orders.clone().aggregate((Count::new(), Max::of(amount))).complete().sink(all);
//! orders.key_by(|order| order.0).sum(amount).complete().sink(each);
//! graph.run(Options::default().with_workers(2))?;
//!
//! assert_eq!(total.snapshot(), [(3, 3)]);
//! let mut sums = of_items.snapshot();
//! sums.sort();
//! assert_eq!(sums, [(7, 5), (8, 1)]);
//! # Ok::<(), tidemill::RunError>(())
//! ```
//!
//! # Output modes
//!
//! `append` emits a window once, when it closes. `update` emits each changed value: per epoch in micro-batch, at once
//! in continuous mode (under a backlog within the `latency_budget`), and after a restart nothing until a value changes.
//! `complete` emits the whole table per epoch. A meaningless combination does not compile: an aggregate without a
//! window has no `append`, a stream without a watermark no `window`.
//!
//! So a stream has rows of one [kind](RowKind): inserts, upserts (the newest value of a key), snapshots (the whole
//! table) or changes (rows that are added and removed, which operators of your own emit). An operator that would
//! compute wrong results from a kind refuses it before the query runs. A sum over upserts would add every intermediate
//! value:
//!
//! ```
//! use tidemill::prelude::*;
//!
//! let build = |as_inserts: bool| {
//!     let graph = Graph::new("sum of counts");
//!     let counts = graph.source(memory(0..9u64)).key_by(|n| n % 2).count().update();
//!     let counts = if as_inserts { counts.as_inserts() } else { counts };
//!     counts.sum(|(_, count)| *count).update().sink(memory_sink().0);
//!     graph
//! };
//! let refused = build(false).validate().unwrap_err().to_string();
//! assert!(refused.contains("emits upserts"));
//! // With `as_inserts`, each version of a count is a row of its own.
//! build(true).validate()?;
//! # Ok::<(), tidemill::GraphError>(())
//! ```
//!
//! # Sources and sinks
//!
//! They are in [`connectors`]. Sources of your own implement [`Source`] and [`Reader`], sinks [`Sink`].
//!
//! A socket or a channel delivers a record once. [`journaled`](Journal::journaled) writes each record to the query's
//! checkpoint before the graph sees it, so that it can be read again after a crash:
//!
//! ```
//! use tidemill::prelude::*;
//!
//! let (sender, source) = channel(1024);
//! let graph = Graph::new("orders");
//! let (sink, table) = memory_sink();
//! graph.source(source.journaled()).filter(|order: &u64| order % 2 == 0).sink(sink);
//! # std::thread::spawn(move || (1..=4).for_each(|order| sender.send(order).unwrap_or_default()));
//! graph.run(Options::default())?;
//! assert_eq!(table.snapshot(), [2, 4]);
//! # Ok::<(), tidemill::RunError>(())
//! ```
//!
//! [`json`](connectors::ParseLines::json) parses the lines of a socket, or of any other source of lines, with the same
//! choice for bad records as a source of files:
//!
//! ```
//! use std::io::Write;
//! use tidemill::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Reading {
//!     sensor: u32,
//!     celsius: i64,
//! }
//!
//! let readings = socket_listener("127.0.0.1:0")?;
//! let mut peer = std::net::TcpStream::connect(readings.local_addr())?;
//! peer.write_all(b"{\"sensor\": 1, \"celsius\": 20}\nno reading\n{\"sensor\": 1, \"celsius\": 23}\n")?;
//! drop(peer);
//!
//! let graph = Graph::new("readings");
//! let (sink, table) = memory_sink();
//! graph
//!     .source(
//!         readings
//!             .on_disconnect(OnDisconnect::End)
//!             .journaled()
//!             .json::<Reading>()
//!             .on_bad_record(BadRecords::Skip),
//!     )
//!     .key_by(|reading| reading.sensor)
//!     .max(|reading| reading.celsius)
//!     .complete()
//!     .sink(sink);
//! let summary = graph.run(Options::default())?;
//! assert_eq!(table.snapshot(), [(1, 23)]);
//! assert_eq!(summary.skipped_rows, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Watching a query
//!
//! [`Run::start`] returns a [`QueryHandle`]: `progress`, `stop`, `cancel`, `wait`. All events are traced with the `tracing` crate.
//!
//! [`Graph::explain`] prints the graph with your source lines, and [`Run::explain_run`] the plan of a run: the
//! operators of each node, the sinks and steps that run inside them, their workers, the streams that are exchanged
//! between workers, and the streams that share a watermark.
//!
//! # Testing a graph
//!
//! [`testing`] runs a graph in simulated time, one epoch after another, on the thread of the test.
//! [`testing::simulate`] runs it with several workers and many schedules of their threads, with crashes, faults and
//! restarts; `examples/simulate.rs` finds a fault in a sink with it.

// Shows on docs.rs which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use tidemill_connectors as connectors;
#[cfg(feature = "abomonation")]
pub use tidemill_operators::abomonate;
pub use tidemill_operators::{
    Aggregate, Batch, Bounds, Cancellation, Chain, Change, Clock, Committed, Context, CountResult,
    CountedAggregate, CountedStream, CumulativeWindow, Data, Early, Either, EngineClock, Enriched, Epoch,
    EquiJoin, EventClock, EventStream, EventTime, FiringKind, GlobalWindow, Graph, GraphError, IntervalJoin,
    Join, JoinWindows, JournalSlot, Key, KeyGroup, KeyGroups, KeyedStream, Keys, Mode, Offset, Operator,
    OperatorError, OutputClaim, ParseOptionError, ParseTimeError, Plan, PlanLimits, Poll, PrepareContext,
    Prepared, ProcessingTime, QueryIdentity, Reader, ReaderContext, RowChange, RowKind, RunningAggregate,
    Sink, SinkContext, SinkError, SnapshotReader, SnapshotWriter, Source, SourceError, SourceInfo, SourceLog,
    StaticJoin, StaticSide, Stream, TemporalJoin, TimeRangeError, Timed, TotalAggregate, TriggeredAggregate,
    TriggeredStream, Untimed, Waker, Window, WindowAssigner, WindowFiring, WindowJoin, WindowResult,
    WindowedAggregate, WindowedStream, WrapSource, aggregate, codec, cumulative, decode, rows, session,
    session_by, sliding, tumbling, units,
};
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub use tidemill_operators::{FailedRequest, RequestFailure, Requests, Retry};
#[cfg(feature = "tables")]
#[cfg_attr(docsrs, doc(cfg(feature = "tables")))]
pub use tidemill_runtime::table;
#[cfg(feature = "tables")]
#[cfg_attr(docsrs, doc(cfg(feature = "tables")))]
pub use tidemill_runtime::table::graph;
pub use tidemill_runtime::{
    Backpressure, Durations, Fault, Idle, Journal, Journaled, Options, PhysicalPlan, Pid, Progress,
    QueryHandle, Restart, Run, RunError, Site, SourceProgress, StateProgress, Summary, TopKey, Trigger,
    testing,
};

/// Operators of your own: see [`Graph::operator`].
pub mod operator {
    pub use tidemill_operators::build::{
        Append, ByKey, Changes, Dealt, Events, InputRows, Inputs, OperatorBuilder, Output, OutputPlace,
        Outputs, Rows, Snapshots, StatefulOperator, Takes, To, Upserts, Whole,
    };
    pub use tidemill_operators::graph::Place;
    pub use tidemill_operators::named::{
        HashedKey, ListState, MapState, NamedState, ReducingState, SharedState, States, Timer, Timers,
        UserKey, ValueState,
    };
}

/// Functions of your own over keyed streams, with state and timers: see [`KeyedStream::process`].
pub mod process {
    pub use tidemill_operators::process::*;
}

/// Models that learn from a stream while it runs, and that score rows: see [`KeyedStream::learn`].
pub mod learn {
    pub use tidemill_operators::learn::*;
}

/// A stream as a sequence of batches of processing time, as Spark's DStreams: see [`Stream::batches`].
pub mod dstream {
    pub use tidemill_operators::dstream::*;
}

/// Windows that fire by a policy of their own: see [`WindowedStream::allowed_lateness`].
pub mod firing {
    pub use tidemill_operators::firing::{UntilEnd, WindowClock};
}

/// Durable checkpoints: where they are kept, and what is in them.
pub mod checkpoint {
    pub use tidemill_runtime::checkpoint::*;
    pub use tidemill_runtime::inspect;
}

/// What nearly every program needs: `use tidemill::prelude::*;`.
pub mod prelude {
    pub use crate::connectors::{
        BadRecord, BadRecords, EpochRows, ForEachRow, OnDisconnect, ParseLines, RateRow, Text, at_commit,
        channel, channel_sink, console, csv_dir, csv_files, csv_sink, discard, for_each, for_each_epoch,
        iterate, iterate_partitions, json_lines, json_lines_dir, json_lines_sink, memory, memory_sink, rate,
        socket, socket_listener, text_blocks, text_files, try_for_each,
    };
    #[cfg(feature = "tables")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tables")))]
    pub use crate::table::{IntoChangelogTable, IntoTable};
    pub use crate::{
        Aggregate, Bounds, Early, Either, Epoch, EventStream, EventTime, FiringKind, Graph, Journal, Mode,
        Options, Run, RunError, StaticSide, Stream, Trigger, Window, WindowResult, session, session_by,
        sliding, tumbling,
    };
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub use crate::{Requests, Retry};
}

#[cfg(doctest)]
mod guide;
