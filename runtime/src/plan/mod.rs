//! Turns the graph into the plan that runs.
//!
//! [`Layout`] is what follows from the graph alone. [`Plan`] is what it becomes for a run, in a mode, with a number of workers,
//! from a commit: which node is an operator of its own, which runs inside another, what is exchanged. `engine/` builds
//! what the plan says; nothing here knows timely.

mod explain;
mod layout;
mod moves;
mod origin;
mod physical;

pub use self::explain::PhysicalPlan;
pub(crate) use self::layout::Layout;
pub(crate) use self::origin::{from_origin, origin};
pub(crate) use self::physical::{
    Aligned, Assigns, Plan, PlannedSink, PlannedSource, Runs, Watermarks, stateful_operator_of,
};
