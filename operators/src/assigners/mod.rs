//! Window assigners: which windows a record belongs to, by its event time.

mod session;
mod sliding;
mod tumbling;

pub use self::session::{SessionBy, SessionWindow, session, session_by};
pub use self::sliding::{SlidingWindow, sliding};
pub use self::tumbling::{TumblingWindow, tumbling};
