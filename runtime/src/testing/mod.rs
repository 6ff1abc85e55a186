//! The test kit: runs your graph in simulated time, step by step, on the thread of the test.
//!
//! - [`SimClock`]: a clock that only the test advances;
//! - [`ScriptedSource`]: a source with rows, watermarks, pauses, ends and failures in a given order;
//! - [`collecting_sink`]: a sink that distinguishes committed rows from written ones;
//! - [`TestDriver`]: runs a graph epoch by epoch;
//! - [`FaultyStorage`]: a storage for checkpoints, in memory, which fails when the test requests it;
//! - [`simulate`]: runs a whole graph with several workers, many schedules of their threads, crashes and restarts;
//! - [`Harness`]: drives a single operator, with snapshots between any two rows.
//!
//! ```
//! use std::time::Duration;
//! use tidemill::prelude::*;
//! use tidemill::testing::{ScriptedSource, SimClock, TestDriver, collecting_sink};
//!
//! let at = EventTime::from_secs;
//! let script = ScriptedSource::new()
//!     .row(at(1), "a").row(at(2), "b").watermark(at(5)).end_epoch()
//!     .row(at(7), "c").watermark(at(10)).end_epoch();
//!
//! let graph = Graph::new("counts");
//! let (sink, counts) = collecting_sink();
//! script
//!     .stream(&graph)
//!     .window(tumbling(Duration::from_secs(10)))
//!     .count()
//!     .append()
//!     .map(|result| result.value)
//!     .sink(sink);
//!
//! let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new())?;
//! driver.epoch()?;
//! assert!(counts.committed().is_empty(), "the window is still open");
//! driver.epoch()?;
//! assert_eq!(counts.committed(), [3]);
//! # Ok::<(), tidemill::RunError>(())
//! ```

mod clock;
mod collect;
mod driver;
mod faulty;
mod script;
pub mod simulate;

pub use self::clock::SimClock;
pub use self::collect::{Collected, CollectingSink, collecting_sink};
pub use self::driver::TestDriver;
pub use self::faulty::{Break, FaultyStorage};
pub use self::script::{ScriptedReader, ScriptedSource};
pub use tidemill_operators::testing::{
    Checkpoint, EpochInput, Harness, operator_of, restart_each_epoch, three_phases,
};
