//! Tables: results that are updated incrementally, and that can be joined, grouped and turned back into streams.
//!
//! A [`Table`] is made from a keyed stream ([`IntoTable`]), transformed by its methods, and read as a stream of changes, of
//! upserts or of snapshots. When a row of an input changes, only what depends on it is computed again.
//!
//! ```
//! use tidemill::aggregate::Sum;
//! use tidemill::prelude::*;
//!
//! let graph = Graph::new("revenue by city");
//! let orders = graph.source(memory([(1u32, 7u32, 30u64), (2, 8, 5), (1, 7, 20)])).key_by(|order| order.0);
//! let customers = graph.source(memory([(7u32, "Oslo"), (8, "Rome")].map(|(id, city)| (id, city.to_owned()))));
//!
//! // The newest version of each order, and of each customer.
//! let orders = orders.into_table().rekey(|_, (_, customer, amount)| (customer, amount));
//! let customers = customers.key_by(|customer| customer.0).into_table();
//! let revenue = orders
//!     .join(&customers, |_, amount, (_, city)| (city.clone(), *amount))
//!     .rekey(|_, (city, amount)| (city, amount))
//!     .group(Sum::of(|amount: &u64| *amount));
//!
//! let (sink, rows) = memory_sink();
//! revenue.complete().sink(sink);
//! graph.run(Options::default())?;
//! let mut rows = rows.snapshot();
//! rows.sort();
//! assert_eq!(rows, [("Oslo".to_owned(), 20), ("Rome".to_owned(), 5)]);
//! # Ok::<(), RunError>(())
//! ```
//!
//! # How it works
//!
//! All operators of tables of a graph run in one nested scope of timely, the *region*, and each is a node of the graph
//! (`graph.explain()` shows it). Only this module names differential dataflow.
//!
//! | module | content |
//! |---|---|
//! | `time` | the timestamp of the region: epoch and tick in one number, totally ordered |
//! | `ticks` | the way into the region: assigns ticks; when a tick ends |
//! | `region` | what has been lowered on a worker: the changes and the arrangement of each table, each built once |
//! | `rows` | updates on the edges of the region; steps, the exchange by key, arrangements |
//! | `batches` | batches of arrangements that threads may share |
//! | `pending` | updates that are held until their tick is over |
//! | `fold` | operators that keep something for each key in a hash table: `count`, `group`, `distinct`, `top_k` … |
//! | `exit` | the way out of the region |
//! | `publish` | what a table is at the end of each epoch, offered to other threads |
//! | `runs` | that content: sorted runs, merged as they grow |
//! | `reads` | how other threads read it |
//! | `handle` | `Table`, and the bounds of keys and rows |
//! | `looped` | loops in the region, by differential's own operators over pairs of tick and round |
//! | `graph` | graphs as tables of edges |
//! | `input`, `iterate`, `map`, `join`, `group`, `sets`, `output` | the methods, and their parts |
//!
//! **State.** Only the inputs are in the checkpoint, as operators with state (`operators/src/table/`). In the first epoch of a run
//! each emits all its rows, at tick 0, and everything that depends on them is computed again. Rows come at tick 1 and
//! later. So exits drop the changes of tick 0. A checksum of each output is in the checkpoint; if the table that has been computed
//! again differs, the run ends with an error.
//!
//! **Time.** In micro-batch an epoch has one tick of rows. In continuous mode a tick ends once the region has computed the one
//! before; all workers share the tick, and no timer is involved. What leaves the region has the epoch, and no event time.

mod batches;
mod exit;
mod fold;
pub mod graph;
mod group;
mod handle;
mod input;
mod iterate;
mod join;
mod looped;
mod map;
mod ordered;
mod output;
mod pending;
mod publish;
mod reads;
mod region;
mod rows;
mod runs;
mod sets;
mod ticks;
mod time;

pub use self::handle::{Table, TableKey, TableRow};
pub use self::input::{IntoChangelogTable, IntoTable};
pub use self::iterate::{Loop, LoopTable};
pub use self::ordered::Ordered;
pub use self::reads::{ReadError, Rows, TableReader, TableView, Tables};
