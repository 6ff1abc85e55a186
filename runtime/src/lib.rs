//! The engine of Tidemill: workers, the two modes, epochs, watermarks, checkpoints, progress. `tidemill-operators` has
//! the graph and the operators.
//!
//! ```
//! use tidemill::prelude::*;
//!
//! let graph = Graph::new("count");
//! graph.source(memory(0..1_000u64)).filter(|n| n % 2 == 0).sink(discard().0);
//! let summary = graph.run(Options::default())?;
//! assert_eq!((summary.input_rows, summary.output_rows), (1_000, 500));
//! # Ok::<(), tidemill::RunError>(())
//! ```

// Shows on docs.rs which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod checkpoint;
mod clock;
mod control;
mod driver;
mod engine;
mod error;
mod events;
mod flow;
mod futures;
pub mod inspect;
mod interrupt;
pub mod journal;
#[doc(hidden)]
pub mod kill;
mod ledger;
mod numbers;
mod options;
mod peers;
mod pinning;
mod plan;
mod prepare;
mod progress;
#[cfg(feature = "tables")]
mod published;
mod query;
mod recovery;
mod saver;
mod sim;
#[cfg(feature = "cli")]
mod size;
mod spill;
mod supervisor;
#[cfg(feature = "tables")]
#[cfg_attr(docsrs, doc(cfg(feature = "tables")))]
pub mod table;
pub mod testing;
mod user_code;
mod watched;

pub use error::{Fault, RunError, Site};
pub use journal::{Journal, Journaled};
pub use options::{Backpressure, Idle, Options, Pid, Restart, Trigger};
pub use plan::PhysicalPlan;
pub use progress::{Durations, Progress, SourceProgress, StateProgress, Summary, TopKey};
pub use query::{QueryHandle, Run};
pub use tidemill_operators::Mode;
