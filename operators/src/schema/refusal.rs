//! Why a type cannot be kept, and what to write instead.

use std::fmt;

/// A type that would be written and could not be read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub(super) type_name: &'static str,
    /// Where in the type; empty at its top.
    pub(super) path: String,
    pub(super) reason: Reason,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// It asks the format what comes next.
    Any { value: &'static str },
    /// It is a struct that is read as a map.
    Flatten,
    /// What it reads depends on a value that it has read.
    Varies,
    /// What it writes is not what it reads.
    Asymmetric { what: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot be read back", self.type_name)?;
        if !self.path.is_empty() {
            write!(f, " at `{}`", self.path)?;
        }
        match &self.reason {
            Reason::Any { value } if value.contains("serde_json::") => write!(
                f,
                ": `{value}` asks the format for the type of the next value, and the binary format of checkpoints \
                 does not store types; \
                 keep the JSON as text (`String`), or read what you need of it into a struct"
            ),
            Reason::Any { value } => {
                write!(f, ": it asks the format for the type of the next value")?;
                if !value.contains("serde::") && !value.contains("serde_core::") {
                    write!(f, " (as `{value}`)")?;
                }
                f.write_str(
                    ", and the binary format of checkpoints does not store types. `#[serde(tag = …)]`, \
                     `#[serde(untagged)]` and types that hold any value do that: leave the attribute out, or use a \
                     separate type without it and convert \
                     (`#[serde(from = …, into = …)]` or a `map` behind the source)",
                )
            }
            Reason::Flatten => f.write_str(
                ": `#[serde(flatten)]` needs a format with field names, and the binary format of checkpoints has none; keep \
                 the inner struct as a field of its own, or write its fields out",
            ),
            Reason::Varies => f.write_str(
                ": what it reads depends on a value that it has read before, so its shape cannot be recorded. \
                 `#[serde(tag = …, content = …)]` does that: leave the attribute out, or keep a type of its own without it",
            ),
            Reason::Asymmetric { what } => write!(
                f,
                ": {what}. `#[serde(skip_serializing)]`, `skip_serializing_if`, a skipped variant before others, or a \
                 `serialize_with` without its `deserialize_with` do that: write every field and read every field, or skip \
                 in both directions (`#[serde(skip)]`, variants at the end)"
            ),
        }
    }
}

impl std::error::Error for Refusal {}
