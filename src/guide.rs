//! The programs of README and of the guide, compiled and run as tests: an item for each chapter, so that a failure names it.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/guide/src/getting-started.md")]
struct GettingStarted;

#[doc = include_str!("../docs/guide/src/event-time.md")]
struct EventTime;

#[doc = include_str!("../docs/guide/src/windows.md")]
struct Windows;

#[doc = include_str!("../docs/guide/src/joins.md")]
struct Joins;

#[doc = include_str!("../docs/guide/src/deduplication.md")]
struct Deduplication;

#[doc = include_str!("../docs/guide/src/ranking.md")]
struct Ranking;

#[doc = include_str!("../docs/guide/src/learn.md")]
struct Learn;

#[cfg(feature = "tables")]
#[doc = include_str!("../docs/guide/src/tables.md")]
struct Tables;

#[cfg(feature = "tables")]
#[doc = include_str!("../docs/guide/src/queries.md")]
struct Queries;

#[doc = include_str!("../docs/guide/src/process-functions.md")]
struct ProcessFunctions;

#[doc = include_str!("../docs/guide/src/timers.md")]
struct Timers;

#[doc = include_str!("../docs/guide/src/output-modes.md")]
struct OutputModes;

#[doc = include_str!("../docs/guide/src/sources.md")]
struct Sources;

#[cfg(feature = "kafka")]
#[doc = include_str!("../docs/guide/src/kafka.md")]
struct Kafka;

#[doc = include_str!("../docs/guide/src/sinks.md")]
struct Sinks;

#[doc = include_str!("../docs/guide/src/modes.md")]
struct Modes;

#[doc = include_str!("../docs/guide/src/operations.md")]
struct Operations;

#[doc = include_str!("../docs/guide/src/testing.md")]
struct Testing;

#[doc = include_str!("../docs/guide/src/performance.md")]
struct Performance;

#[doc = include_str!("../docs/guide/src/from-spark.md")]
struct FromSpark;

#[doc = include_str!("../docs/guide/src/from-flink.md")]
struct FromFlink;

#[doc = include_str!("../docs/guide/src/writing-operators.md")]
struct WritingOperators;

#[doc = include_str!("../docs/guide/src/writing-sources-and-sinks.md")]
struct WritingSourcesAndSinks;

#[doc = include_str!("../docs/guide/src/faq.md")]
struct Faq;
