//! The programs of README and of the guide, compiled and run as tests: an item for each chapter, so that a failure names it.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/guide/src/event-time.md")]
struct EventTime;

#[doc = include_str!("../docs/guide/src/modes.md")]
struct Modes;

#[doc = include_str!("../docs/guide/src/operations.md")]
struct Operations;

#[doc = include_str!("../docs/guide/src/faq.md")]
struct Faq;
