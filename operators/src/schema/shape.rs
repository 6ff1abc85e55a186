//! A shape as a value: recorded in checkpoints, compared at a restart, printed in messages.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A value without parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Leaf {
    Unit,
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Bytes,
}

impl Leaf {
    pub(super) fn name(self) -> &'static str {
        match self {
            Leaf::Unit => "()",
            Leaf::Bool => "bool",
            Leaf::I8 => "i8",
            Leaf::I16 => "i16",
            Leaf::I32 => "i32",
            Leaf::I64 => "i64",
            Leaf::I128 => "i128",
            Leaf::U8 => "u8",
            Leaf::U16 => "u16",
            Leaf::U32 => "u32",
            Leaf::U64 => "u64",
            Leaf::U128 => "u128",
            Leaf::F32 => "f32",
            Leaf::F64 => "f64",
            Leaf::Char => "char",
            Leaf::Text => "text",
            Leaf::Bytes => "bytes",
        }
    }
}

/// The place of a node in its shape.
pub(super) type At = u32;

/// A node of a shape. Its parts are other nodes; a recursive type refers back to one that contains it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) enum Node {
    /// Never seen: the type rejects made-up values, and none of its own has been written yet.
    #[default]
    Unknown,
    Leaf(Leaf),
    Newtype {
        name: String,
        of: At,
    },
    Option(At),
    Seq(At),
    Map(At, At),
    /// The name is empty for a plain tuple.
    Tuple {
        name: String,
        parts: Vec<At>,
    },
    Struct {
        name: String,
        fields: Vec<(String, At)>,
    },
    Enum {
        name: String,
        variants: Vec<Variant>,
    },
}

/// A variant of an enum. Its content is a unit, a newtype, a tuple or a struct.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Variant {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) content: At,
}

/// What serde reads and writes of a type. The names of types are kept for messages and do not count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shape {
    pub(super) nodes: Vec<Node>,
}

/// How a recorded shape and that of the program fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fit {
    /// The bytes mean the same.
    Same,
    /// They mean the same once fields and variants are looked up by name. The first difference.
    Evolved(Difference),
}

/// Where two shapes differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The path: `Order.price`.
    pub path: String,
    /// What was there.
    pub old: String,
    /// What is there now.
    pub new: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, self.old, self.new)
    }
}

impl Shape {
    pub(super) fn node(&self, at: At) -> &Node {
        static UNKNOWN: Node = Node::Unknown;
        self.nodes.get(at as usize).unwrap_or(&UNKNOWN)
    }

    /// Whether there are parts that nothing is known about.
    pub fn is_partial(&self) -> bool {
        self.nodes.is_empty() || self.nodes.contains(&Node::Unknown)
    }

    /// Compares this recorded shape with that of the program.
    ///
    /// # Errors
    ///
    /// The first difference that no name can resolve: another number, a field that became a list.
    pub fn fit(&self, now: &Shape) -> Result<Fit, Difference> {
        let mut comparison = Comparison { old: self, new: now, seen: BTreeSet::new(), evolved: None };
        comparison.compare(0, 0, &mut String::new())?;
        Ok(comparison.evolved.map_or(Fit::Same, Fit::Evolved))
    }

    /// The node behind newtypes, which are not written.
    pub(super) fn plain(&self, mut at: At) -> At {
        for _ in 0..self.nodes.len() {
            match self.node(at) {
                Node::Newtype { of, .. } => at = *of,
                _ => break,
            }
        }
        at
    }

    /// A node in a few words.
    pub(super) fn describe(&self, at: At) -> String {
        self.words(at, 3)
    }

    fn words(&self, at: At, depth: usize) -> String {
        let Some(depth) = depth.checked_sub(1) else { return "…".to_owned() };
        match self.node(at) {
            Node::Unknown => "unknown".to_owned(),
            Node::Leaf(leaf) => leaf.name().to_owned(),
            Node::Newtype { name, of } if name.is_empty() => self.words(*of, depth),
            Node::Newtype { name, of } => format!("{name}({})", self.words(*of, depth)),
            Node::Option(of) => format!("Option<{}>", self.words(*of, depth)),
            Node::Seq(of) => format!("[{}]", self.words(*of, depth)),
            Node::Map(key, value) => {
                format!("{{{}: {}}}", self.words(*key, depth), self.words(*value, depth))
            }
            Node::Tuple { name, parts } => {
                let parts: Vec<_> = parts.iter().map(|part| self.words(*part, depth)).collect();
                format!("{name}({})", parts.join(", "))
            }
            Node::Struct { name, fields } => {
                let fields: Vec<_> = fields.iter().map(|(field, _)| field.as_str()).collect();
                format!("{name} {{ {} }}", fields.join(", "))
            }
            Node::Enum { name, variants } => {
                let variants: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
                format!("{name} {{ {} }}", variants.join(" | "))
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(0))
    }
}

struct Comparison<'a> {
    old: &'a Shape,
    new: &'a Shape,
    /// Pairs that have been compared, or are being compared: recursion ends at them.
    seen: BTreeSet<(At, At)>,
    evolved: Option<Difference>,
}

impl Comparison<'_> {
    fn differ(&self, old: At, new: At, path: &str) -> Difference {
        let path = if path.is_empty() { "it".to_owned() } else { path.to_owned() };
        Difference { path, old: self.old.describe(old), new: self.new.describe(new) }
    }

    fn evolve(&mut self, path: &str, old: impl Into<String>, new: impl Into<String>) {
        let path = if path.is_empty() { "it" } else { path }.to_owned();
        self.evolved.get_or_insert_with(|| Difference { path, old: old.into(), new: new.into() });
    }

    fn compare(&mut self, old: At, new: At, path: &mut String) -> Result<(), Difference> {
        self.content(self.old.plain(old), self.new.plain(new), path)
    }

    /// Compares two nodes of which neither is a newtype, or both are variants' contents.
    fn content(&mut self, old: At, new: At, path: &mut String) -> Result<(), Difference> {
        if !self.seen.insert((old, new)) {
            return Ok(());
        }
        let (before, after) = (self.old, self.new);
        match (before.node(old), after.node(new)) {
            // Nothing of it has ever been written.
            (Node::Unknown, _) => {}
            (_, Node::Unknown) => self.evolve(path, before.describe(old), "unknown"),
            (Node::Leaf(a), Node::Leaf(b)) if a == b => {}
            (Node::Newtype { of: a, .. }, Node::Newtype { of: b, .. }) => self.compare(*a, *b, path)?,
            (Node::Option(a), Node::Option(b)) => self.compare(*a, *b, path)?,
            (Node::Seq(a), Node::Seq(b)) => self.below(path, "[]", |it, path| it.compare(*a, *b, path))?,
            (Node::Map(k, v), Node::Map(key, value)) => {
                self.below(path, "{key}", |it, path| it.compare(*k, *key, path))?;
                self.below(path, "{value}", |it, path| it.compare(*v, *value, path))?;
            }
            (Node::Tuple { parts: a, .. }, Node::Tuple { parts: b, .. }) if a.len() == b.len() => {
                for (number, (a, b)) in a.iter().zip(b).enumerate() {
                    self.below(path, &format!(".{number}"), |it, path| it.compare(*a, *b, path))?;
                }
            }
            (Node::Struct { name, fields: a }, Node::Struct { fields: b, .. }) => {
                self.named(path, name, |it, path| it.fields(a, b, path))?;
            }
            (Node::Enum { name, variants: a }, Node::Enum { variants: b, .. }) => {
                self.named(path, name, |it, path| it.variants(a, b, path))?;
            }
            (_, Node::Option(of)) => {
                self.evolve(path, before.describe(old), after.describe(new));
                self.compare(old, *of, path)?;
            }
            _ => return Err(self.differ(old, new, path)),
        }
        Ok(())
    }

    fn fields(
        &mut self,
        a: &[(String, At)],
        b: &[(String, At)],
        path: &mut String,
    ) -> Result<(), Difference> {
        let names = |fields: &[(String, At)]| {
            fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        if !a.iter().map(|(name, _)| name).eq(b.iter().map(|(name, _)| name)) {
            self.evolve(path, format!("{{ {} }}", names(a)), format!("{{ {} }}", names(b)));
        }
        for (name, old) in a {
            if let Some((_, new)) = b.iter().find(|(other, _)| other == name) {
                self.below(path, &format!(".{name}"), |it, path| it.compare(*old, *new, path))?;
            }
        }
        Ok(())
    }

    fn variants(&mut self, a: &[Variant], b: &[Variant], path: &mut String) -> Result<(), Difference> {
        let names = |variants: &[Variant]| {
            variants.iter().map(|variant| variant.name.as_str()).collect::<Vec<_>>().join(" | ")
        };
        let key = |variant: &Variant| (variant.index, variant.name.clone());
        if !a.iter().map(key).eq(b.iter().map(key)) {
            self.evolve(path, format!("{{ {} }}", names(a)), format!("{{ {} }}", names(b)));
        }
        for variant in a {
            if let Some(now) = b.iter().find(|now| now.name == variant.name) {
                self.below(path, &format!("::{}", variant.name), |it, path| {
                    it.content(variant.content, now.content, path)
                })?;
            }
        }
        Ok(())
    }

    fn below<R>(
        &mut self,
        path: &mut String,
        part: &str,
        then: impl FnOnce(&mut Self, &mut String) -> R,
    ) -> R {
        let length = path.len();
        path.push_str(part);
        let result = then(self, path);
        path.truncate(length);
        result
    }

    /// A path begins at the first type that has a name.
    fn named<R>(
        &mut self,
        path: &mut String,
        name: &str,
        then: impl FnOnce(&mut Self, &mut String) -> R,
    ) -> R {
        if path.contains(|c: char| c.is_alphabetic()) {
            return then(self, path);
        }
        then(self, &mut name.to_owned())
    }
}
