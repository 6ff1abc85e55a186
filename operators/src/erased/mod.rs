//! Sources and sinks whose types are hidden, as the engine holds them.

mod sink;
mod source;

pub(crate) use self::sink::ErasedSink;
pub use self::sink::{DynSink, Whose};
pub(crate) use self::source::ErasedSource;
pub use self::source::{DynReader, DynSource, ErasedOffset};
