//! The shape of types: what serde reads and writes of a key, a state or a record, field by field.
//!
//! Checkpoints and journals are postcard, which carries no names and no types: bytes that one type wrote can be read as
//! another, and give other values. So what is durable is kept with its [`Shape`]. serde has no reflection; the shape comes
//! from [probing](probe) `Deserialize` with made-up values, and from walking over what `Serialize` makes of them. At a
//! restart the [recorded shape is compared](Shape::fit) with that of the new program. Where both are equal the bytes are
//! read as they are; where they differ in a way that serde can resolve by name, the bytes are
//! [decoded by the recorded shape](decode_as); everything else is refused with the path that differs.
//!
//! A type that postcard cannot read back is refused by the probe, with what to write instead.

mod access;
mod encode;
mod error;
mod present;
mod probe;
mod refusal;
mod shape;
mod show;
#[cfg(test)]
mod tests;
mod trace;
mod typed;
mod walk;

pub use self::encode::{EncodeError, encode, encode_many};
pub use self::error::SchemaError;
pub use self::present::{decode_as, take_as};
pub use self::probe::{probe, probe_text};
pub use self::refusal::Refusal;
pub use self::shape::{Difference, Fit, Shape};
pub use self::typed::{Schema, StateSchema};
