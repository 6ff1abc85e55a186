//! Walking over a value as `Serialize` shows it: checks it against what is known of its shape, and fills in what is not.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::SchemaError;
use super::shape::{At, Leaf, Node, Shape, Variant};

/// How deep unknown parts are filled in. A value that goes deeper leaves them unknown there.
const DEPTH: usize = 64;

/// A shape that may still have unknown parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    nodes: Vec<Node>,
    /// Structs and enums whose names are not certain: there are aliases among them.
    named: BTreeSet<At>,
    /// Parts that no value has been made of: how many parts they have is not certain.
    open: BTreeSet<At>,
    /// A struct whose fields are written in another order than they are read: its name.
    pub(super) reordered: Option<String>,
}

impl Draft {
    pub(super) fn push(&mut self, node: Node, has_aliases: bool, is_open: bool) {
        let at = self.nodes.len() as At;
        self.nodes.push(node);
        if has_aliases {
            self.named.insert(at);
        }
        if is_open {
            self.open.insert(at);
        }
    }

    pub(super) fn into_shape(self) -> Shape {
        Shape { nodes: self.nodes }
    }

    pub(super) fn shape(&self) -> Shape {
        Shape { nodes: self.nodes.clone() }
    }

    fn node(&self, at: At) -> &Node {
        static UNKNOWN: Node = Node::Unknown;
        self.nodes.get(at as usize).unwrap_or(&UNKNOWN)
    }

    fn set(&mut self, at: At, node: Node) {
        if let Some(slot) = self.nodes.get_mut(at as usize) {
            *slot = node;
        }
    }

    fn add(&mut self) -> At {
        self.nodes.push(Node::Unknown);
        (self.nodes.len() - 1) as At
    }

    fn clash(&self, at: At, wrote: &str) -> SchemaError {
        let read = Shape { nodes: self.nodes.clone() }.describe(at);
        SchemaError::new(format!("`Serialize` writes {wrote} where `Deserialize` reads {read}"))
    }
}

/// Walks over a value.
pub(super) fn walk<T: Serialize + ?Sized>(
    value: &T,
    draft: &mut Draft,
    is_human_readable: bool,
) -> Result<(), SchemaError> {
    if draft.nodes.is_empty() {
        draft.add();
    }
    value.serialize(Walk { draft, at: 0, depth: 0, is_human_readable })
}

struct Walk<'d> {
    draft: &'d mut Draft,
    at: At,
    depth: usize,
    is_human_readable: bool,
}

impl<'d> Walk<'d> {
    fn leaf(self, leaf: Leaf) -> Result<(), SchemaError> {
        match self.draft.node(self.at) {
            Node::Unknown => self.draft.set(self.at, Node::Leaf(leaf)),
            Node::Leaf(known) if *known == leaf => {}
            _ => return Err(self.draft.clash(self.at, leaf.name())),
        }
        Ok(())
    }

    fn part(&mut self, at: At) -> Walk<'_> {
        let is_human_readable = self.is_human_readable;
        Walk { draft: self.draft, at, depth: self.depth + 1, is_human_readable }
    }

    /// Whether nothing is known of a part and it is too deep to find out.
    fn is_too_deep(&self, at: At) -> bool {
        self.depth > DEPTH && *self.draft.node(at) == Node::Unknown
    }

    /// Walks over a part, unless it is too deep.
    fn below<T: Serialize + ?Sized>(&mut self, at: At, value: &T) -> Result<(), SchemaError> {
        if self.is_too_deep(at) { Ok(()) } else { value.serialize(self.part(at)) }
    }

    /// Returns the content of an option.
    fn option(&mut self) -> Result<At, SchemaError> {
        match self.draft.node(self.at) {
            Node::Unknown => {
                let of = self.draft.add();
                self.draft.set(self.at, Node::Option(of));
                Ok(of)
            }
            Node::Option(of) => Ok(*of),
            _ => Err(self.draft.clash(self.at, "an option")),
        }
    }

    /// Returns the content of a newtype.
    fn newtype(&mut self, name: &'static str) -> At {
        match self.draft.node(self.at) {
            Node::Unknown => {
                let of = self.draft.add();
                self.draft.set(self.at, Node::Newtype { name: name.to_owned(), of });
                of
            }
            Node::Newtype { of, .. } => *of,
            // A newtype is written as what is in it.
            _ => self.at,
        }
    }

    /// Returns the only part of a variant.
    fn single(&mut self) -> Result<At, SchemaError> {
        match self.draft.node(self.at) {
            Node::Unknown => {
                let of = self.draft.add();
                self.draft.set(self.at, Node::Newtype { name: String::new(), of });
                Ok(of)
            }
            Node::Newtype { of, .. } => Ok(*of),
            _ => Err(self.draft.clash(self.at, "a value")),
        }
    }

    fn seq(self) -> Result<Items<'d>, SchemaError> {
        let of = match self.draft.node(self.at) {
            Node::Unknown => {
                let of = self.draft.add();
                self.draft.set(self.at, Node::Seq(of));
                of
            }
            Node::Seq(of) => *of,
            _ => return Err(self.draft.clash(self.at, "a list")),
        };
        Ok(Items { walk: self, of })
    }

    fn tuple(self, name: &'static str, len: usize) -> Result<Fields<'d>, SchemaError> {
        let is_open = self.draft.open.contains(&self.at);
        match self.draft.node(self.at).clone() {
            Node::Unknown => {
                let parts = (0..len).map(|_| self.draft.add()).collect();
                self.draft.set(self.at, Node::Tuple { name: name.to_owned(), parts });
            }
            Node::Tuple { name, mut parts } if is_open => {
                parts.truncate(len);
                while parts.len() < len {
                    parts.push(self.draft.add());
                }
                self.draft.set(self.at, Node::Tuple { name, parts });
            }
            Node::Tuple { parts, .. } if parts.len() == len => {}
            _ => return Err(self.draft.clash(self.at, &format!("a tuple of {len}"))),
        }
        Ok(Fields { walk: self, next: 0, names: Vec::new() })
    }

    /// The fields are known, or will be when the last has been shown.
    fn structure(self, name: &'static str) -> Result<Fields<'d>, SchemaError> {
        match self.draft.node(self.at) {
            Node::Unknown => {
                self.draft.set(self.at, Node::Struct { name: name.to_owned(), fields: Vec::new() });
                self.draft.open.insert(self.at);
                self.draft.named.insert(self.at);
            }
            Node::Struct { .. } => {}
            _ => return Err(self.draft.clash(self.at, &format!("a struct `{name}`"))),
        }
        Ok(Fields { walk: self, next: 0, names: Vec::new() })
    }

    /// The content of a variant.
    fn variant(self, name: &'static str, index: u32, label: &'static str) -> Result<Walk<'d>, SchemaError> {
        let mut node = self.draft.node(self.at).clone();
        if node == Node::Unknown {
            node = Node::Enum { name: name.to_owned(), variants: Vec::new() };
            self.draft.open.insert(self.at);
        }
        let Node::Enum { name, mut variants } = node else {
            return Err(self.draft.clash(self.at, &format!("the variant `{label}`")));
        };
        let is_named = self.draft.named.contains(&self.at);
        let content = match variants.iter_mut().find(|variant| variant.index == index) {
            Some(variant) if variant.name == label => variant.content,
            Some(variant) if is_named => {
                label.clone_into(&mut variant.name);
                variant.content
            }
            // A name for writing may differ from the one for reading, which counts; a moved variant is another one.
            Some(variant) if !variants_have(self.draft.node(self.at), label) => variant.content,
            None if self.draft.open.contains(&self.at) => {
                let content = self.draft.add();
                variants.push(Variant { index, name: label.to_owned(), content });
                variants.sort_by_key(|variant| variant.index);
                content
            }
            _ => {
                let wrote = format!("the variant `{label}` as number {index}");
                return Err(self.draft.clash(self.at, &wrote));
            }
        };
        self.draft.set(self.at, Node::Enum { name, variants });
        Ok(Walk { at: content, depth: self.depth + 1, ..self })
    }
}

fn variants_have(node: &Node, label: &str) -> bool {
    matches!(node, Node::Enum { variants, .. } if variants.iter().any(|variant| variant.name == label))
}

macro_rules! leaves {
    ($($method:ident $type:ty => $leaf:ident;)+) => {$(
        fn $method(self, _value: $type) -> Result<(), SchemaError> {
            self.leaf(Leaf::$leaf)
        }
    )+};
}

impl<'d> Serializer for Walk<'d> {
    type Ok = ();
    type Error = SchemaError;
    type SerializeSeq = Items<'d>;
    type SerializeTuple = Fields<'d>;
    type SerializeTupleStruct = Fields<'d>;
    type SerializeTupleVariant = Fields<'d>;
    type SerializeMap = Pairs<'d>;
    type SerializeStruct = Fields<'d>;
    type SerializeStructVariant = Fields<'d>;

    fn is_human_readable(&self) -> bool {
        self.is_human_readable
    }

    leaves! {
        serialize_bool bool => Bool;
        serialize_i8 i8 => I8;
        serialize_i16 i16 => I16;
        serialize_i32 i32 => I32;
        serialize_i64 i64 => I64;
        serialize_i128 i128 => I128;
        serialize_u8 u8 => U8;
        serialize_u16 u16 => U16;
        serialize_u32 u32 => U32;
        serialize_u64 u64 => U64;
        serialize_u128 u128 => U128;
        serialize_f32 f32 => F32;
        serialize_f64 f64 => F64;
        serialize_char char => Char;
        serialize_str &str => Text;
        serialize_bytes &[u8] => Bytes;
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, _value: &T) -> Result<(), SchemaError> {
        self.leaf(Leaf::Text)
    }

    fn serialize_unit(self) -> Result<(), SchemaError> {
        self.leaf(Leaf::Unit)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), SchemaError> {
        self.leaf(Leaf::Unit)
    }

    fn serialize_none(mut self) -> Result<(), SchemaError> {
        self.option().map(drop)
    }

    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), SchemaError> {
        let of = self.option()?;
        self.below(of, value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), SchemaError> {
        let of = self.newtype(name);
        self.below(of, value).map_err(|error| error.within(name))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        label: &'static str,
    ) -> Result<(), SchemaError> {
        self.variant(name, index, label)?.leaf(Leaf::Unit)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        label: &'static str,
        value: &T,
    ) -> Result<(), SchemaError> {
        let mut content = self.variant(name, index, label)?;
        let of = content.single()?;
        content.below(of, value).map_err(|error| error.within_variant(label, name))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Items<'d>, SchemaError> {
        self.seq()
    }

    fn serialize_tuple(self, len: usize) -> Result<Fields<'d>, SchemaError> {
        self.tuple("", len)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Fields<'d>, SchemaError> {
        self.tuple(name, len)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        label: &'static str,
        len: usize,
    ) -> Result<Fields<'d>, SchemaError> {
        self.variant(name, index, label)?.tuple("", len)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Pairs<'d>, SchemaError> {
        let (key, value) = match self.draft.node(self.at) {
            Node::Unknown => {
                let (key, value) = (self.draft.add(), self.draft.add());
                self.draft.set(self.at, Node::Map(key, value));
                (key, value)
            }
            Node::Map(key, value) => (*key, *value),
            _ => return Err(self.draft.clash(self.at, "a map")),
        };
        Ok(Pairs { walk: self, key, value })
    }

    fn serialize_struct(self, name: &'static str, _len: usize) -> Result<Fields<'d>, SchemaError> {
        self.structure(name)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        label: &'static str,
        _len: usize,
    ) -> Result<Fields<'d>, SchemaError> {
        self.variant(name, index, label)?.structure("")
    }
}

/// The elements of a list.
struct Items<'d> {
    walk: Walk<'d>,
    of: At,
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        self.walk.below(self.of, value).map_err(|error| error.within("[]"))
    }

    fn end(self) -> Result<(), SchemaError> {
        Ok(())
    }
}

/// The entries of a map.
struct Pairs<'d> {
    walk: Walk<'d>,
    key: At,
    value: At,
}

impl SerializeMap for Pairs<'_> {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SchemaError> {
        self.walk.below(self.key, key).map_err(|error| error.within("{key}"))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        self.walk.below(self.value, value).map_err(|error| error.within("{value}"))
    }

    fn end(self) -> Result<(), SchemaError> {
        Ok(())
    }
}

/// The parts of a tuple, or the fields of a struct.
struct Fields<'d> {
    walk: Walk<'d>,
    next: usize,
    /// The names of the fields so far.
    names: Vec<&'static str>,
}

impl Fields<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        let number = self.next;
        let part = self.next_part()?;
        self.walk.below(part, value).map_err(|error| error.within_part(number))
    }

    fn next_part(&mut self) -> Result<At, SchemaError> {
        let (at, number) = (self.walk.at, self.next);
        self.next += 1;
        let part = match self.walk.draft.node(at) {
            Node::Tuple { parts, .. } => parts.get(number).copied(),
            _ => None,
        };
        part.ok_or_else(|| self.walk.draft.clash(at, "one part more"))
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), SchemaError> {
        let (part, of) = self.next_field(name)?;
        self.walk.below(part, value).map_err(|error| error.within_field(name).within(of))
    }

    /// Returns a field, and the name of its struct.
    fn next_field(&mut self, name: &'static str) -> Result<(At, String), SchemaError> {
        let (at, number) = (self.walk.at, self.next);
        self.next += 1;
        self.names.push(name);
        let (is_open, is_named) = (self.walk.draft.open.contains(&at), self.walk.draft.named.contains(&at));
        let Node::Struct { name: of, mut fields } = self.walk.draft.node(at).clone() else {
            return Err(self.walk.draft.clash(at, &format!("the field `{name}`")));
        };
        let later = fields.iter().skip(number + 1).position(|(known, _)| known == name);
        if let Some(later) = later
            && !is_named
        {
            // What is recorded is what is written; who reads it by name finds it.
            let field = fields.remove(number + 1 + later);
            fields.insert(number, field);
            self.walk.draft.reordered = Some(of.clone());
            self.walk.draft.set(at, Node::Struct { name: of.clone(), fields: fields.clone() });
        }
        let part = match fields.get_mut(number) {
            Some((known, part)) if known == name => *part,
            Some((known, part)) if is_named => {
                name.clone_into(known);
                *part
            }
            Some((_, part)) if !fields_have(self.walk.draft.node(at), name) => *part,
            None if is_open => {
                let part = self.walk.draft.add();
                fields.push((name.to_owned(), part));
                part
            }
            _ => return Err(self.walk.draft.clash(at, &format!("the field `{name}` as number {number}"))),
        };
        if is_open || is_named {
            self.walk.draft.set(at, Node::Struct { name: of.clone(), fields });
        }
        Ok((part, of))
    }

    fn skip(&self, name: &'static str) -> SchemaError {
        SchemaError::new(format!("`Serialize` leaves out the field `{name}`"))
    }

    fn finish(self) -> Result<(), SchemaError> {
        let at = self.walk.at;
        let expected = match self.walk.draft.node(at) {
            Node::Tuple { parts, .. } => parts.len(),
            Node::Struct { fields, .. } => fields.len(),
            _ => self.next,
        };
        if self.next == expected {
            self.walk.draft.open.remove(&at);
            return Ok(());
        }
        if self.walk.draft.open.remove(&at)
            && let Node::Struct { name, mut fields } = self.walk.draft.node(at).clone()
        {
            fields.truncate(self.next);
            self.walk.draft.set(at, Node::Struct { name, fields });
            return Ok(());
        }
        Err(self.walk.draft.clash(at, &format!("{} of {expected} fields", self.next)))
    }
}

fn fields_have(node: &Node, name: &str) -> bool {
    matches!(node, Node::Struct { fields, .. } if fields.iter().any(|(field, _)| field == name))
}

macro_rules! parts {
    ($($trait:ident $method:ident)+) => {$(
        impl $trait for Fields<'_> {
            type Ok = ();
            type Error = SchemaError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
                self.element(value)
            }

            fn end(self) -> Result<(), SchemaError> {
                self.finish()
            }
        }
    )+};
}

parts! { SerializeTuple serialize_element SerializeTupleStruct serialize_field SerializeTupleVariant serialize_field }

macro_rules! fields {
    ($($trait:ident)+) => {$(
        impl $trait for Fields<'_> {
            type Ok = ();
            type Error = SchemaError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), SchemaError> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), SchemaError> {
                Err(self.skip(name))
            }

            fn end(self) -> Result<(), SchemaError> {
                self.finish()
            }
        }
    )+};
}

fields! { SerializeStruct SerializeStructVariant }
