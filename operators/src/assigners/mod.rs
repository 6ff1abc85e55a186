//! Window assigners: which windows a record belongs to, by its event time.

mod assigner;
mod cumulative;
mod global;
mod session;
mod sliding;
mod tumbling;

pub use self::assigner::WindowAssigner;
pub use self::cumulative::{CumulativeWindow, cumulative};
pub use self::global::GlobalWindow;
pub use self::session::{SessionBy, SessionWindow, session, session_by};
pub use self::sliding::{SlidingWindow, sliding};
pub use self::tumbling::{TumblingWindow, tumbling};
