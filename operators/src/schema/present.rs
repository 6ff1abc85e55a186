//! Decoding bytes by the shape that was recorded when they were written.
//!
//! Structs are presented as maps by field name and variants by name, so that `#[serde(default)]` and `#[serde(alias)]` of
//! the new type handle fields that were added, removed or renamed. Everything else must be unchanged: a
//! number of another width, or a list where a number was, is refused with the path.

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::SchemaError;
use super::shape::{At, Leaf, Node, Shape, Variant};

/// A value from bytes of a recorded shape, all of them.
///
/// # Errors
///
/// [`SchemaError`] names the path that does not fit.
pub fn decode_as<T: DeserializeOwned>(bytes: &[u8], recorded: &Shape) -> Result<T, SchemaError> {
    match take_as(bytes, recorded)? {
        (value, []) => Ok(value),
        (_, rest) => Err(SchemaError::new(format!("{} bytes are left over", rest.len()))),
    }
}

/// A value from the beginning of bytes, and the bytes behind it.
///
/// # Errors
///
/// As [`decode_as`].
pub fn take_as<'b, T: DeserializeOwned>(
    bytes: &'b [u8],
    recorded: &Shape,
) -> Result<(T, &'b [u8]), SchemaError> {
    let mut input = bytes;
    let value = T::deserialize(Present { shape: recorded, at: 0, input: &mut input })?;
    Ok((value, input))
}

struct Present<'s, 'i, 'b> {
    shape: &'s Shape,
    at: At,
    input: &'i mut &'b [u8],
}

impl<'s, 'b> Present<'s, '_, 'b> {
    fn read<T: Deserialize<'b>>(&mut self) -> Result<T, SchemaError> {
        let (value, rest) = postcard::take_from_bytes(self.input)?;
        *self.input = rest;
        Ok(value)
    }

    fn part(&mut self, at: At) -> Present<'s, '_, 'b> {
        Present { shape: self.shape, at, input: self.input }
    }

    /// The recorded node, behind newtypes.
    fn node(&self) -> &'s Node {
        self.shape.node(self.shape.plain(self.at))
    }

    fn changed(&self, now: &str) -> SchemaError {
        SchemaError::new(format!("{} → {now}", self.shape.describe(self.shape.plain(self.at))))
    }

    fn expect(&self, leaf: Leaf) -> Result<(), SchemaError> {
        match self.node() {
            Node::Leaf(known) if *known == leaf => Ok(()),
            _ => Err(self.changed(leaf.name())),
        }
    }

    /// Reads and drops a field that the type no longer has.
    fn skip(&mut self) -> Result<(), SchemaError> {
        match self.node() {
            Node::Unknown => return Err(SchemaError::new("its shape has not been recorded")),
            Node::Leaf(leaf) => match leaf {
                Leaf::Unit => {}
                Leaf::Bool => drop(self.read::<bool>()?),
                Leaf::I8 => drop(self.read::<i8>()?),
                Leaf::I16 => drop(self.read::<i16>()?),
                Leaf::I32 => drop(self.read::<i32>()?),
                Leaf::I64 => drop(self.read::<i64>()?),
                Leaf::I128 => drop(self.read::<i128>()?),
                Leaf::U8 => drop(self.read::<u8>()?),
                Leaf::U16 => drop(self.read::<u16>()?),
                Leaf::U32 => drop(self.read::<u32>()?),
                Leaf::U64 => drop(self.read::<u64>()?),
                Leaf::U128 => drop(self.read::<u128>()?),
                Leaf::F32 => drop(self.read::<f32>()?),
                Leaf::F64 => drop(self.read::<f64>()?),
                Leaf::Char => drop(self.read::<char>()?),
                Leaf::Text => drop(self.read::<&str>()?),
                Leaf::Bytes => drop(self.read::<&[u8]>()?),
            },
            Node::Newtype { of, .. } => self.part(*of).skip()?,
            Node::Option(of) => {
                if self.read::<bool>()? {
                    self.part(*of).skip()?;
                }
            }
            Node::Seq(of) => {
                for _ in 0..self.read::<usize>()? {
                    self.part(*of).skip()?;
                }
            }
            Node::Map(key, value) => {
                for _ in 0..self.read::<usize>()? {
                    self.part(*key).skip()?;
                    self.part(*value).skip()?;
                }
            }
            Node::Tuple { parts, .. } => parts.iter().try_for_each(|part| self.part(*part).skip())?,
            Node::Struct { fields, .. } => fields.iter().try_for_each(|(_, part)| self.part(*part).skip())?,
            Node::Enum { variants, .. } => {
                let content = self.variant(variants)?.content;
                self.part(content).skip()?;
            }
        }
        Ok(())
    }

    fn variant<'v>(&mut self, variants: &'v [Variant]) -> Result<&'v Variant, SchemaError> {
        let index: u32 = self.read()?;
        let known = variants.iter().find(|variant| variant.index == index);
        known.ok_or_else(|| SchemaError::new(format!("the variant of number {index} has not been recorded")))
    }

    fn parts<'de, V: Visitor<'de>>(mut self, parts: &'s [At], visitor: V) -> Result<V::Value, SchemaError> {
        let input = self.part(self.at);
        visitor.visit_seq(Parts { input, parts, length: parts.len(), number: 0 })
    }

    fn fields<'de, V: Visitor<'de>>(
        mut self,
        recorded: &'s [(String, At)],
        wanted: &'static [&'static str],
        name: &str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let input = self.part(self.at);
        let fields = Fields { input, fields: recorded, next: None };
        // Not every type that is written by hand takes its fields by name.
        let in_order = are_same(recorded, wanted);
        let value = if in_order { visitor.visit_seq(fields) } else { visitor.visit_map(fields) };
        value.map_err(|error| error.within(name))
    }

    /// The elements of a list, and how many there are.
    fn list(&mut self) -> Result<(&'s At, usize), SchemaError> {
        match self.node() {
            Node::Seq(of) => Ok((of, self.read()?)),
            _ => Err(self.changed("a list")),
        }
    }

    /// The keys and values of a map, and how many entries there are.
    fn map(&mut self) -> Result<(At, At, usize), SchemaError> {
        match self.node() {
            Node::Map(key, value) => Ok((*key, *value, self.read()?)),
            _ => Err(self.changed("a map")),
        }
    }

    /// The parts of a tuple.
    fn tuple(&self, len: usize) -> Result<&'s [At], SchemaError> {
        match self.node() {
            Node::Tuple { parts, .. } if parts.len() == len => Ok(parts),
            _ => Err(self.changed(&format!("a tuple of {len}"))),
        }
    }

    /// The fields of a struct.
    fn structure(&self, name: &str) -> Result<&'s [(String, At)], SchemaError> {
        match self.node() {
            Node::Struct { fields, .. } => Ok(fields),
            _ => Err(self.changed(&format!("a struct `{name}`"))),
        }
    }

    /// The variant of an enum that was written.
    fn chosen(&mut self, name: &str) -> Result<&'s Variant, SchemaError> {
        match self.node() {
            Node::Enum { variants, .. } => self.variant(variants),
            _ => Err(self.changed(&format!("an enum `{name}`"))),
        }
    }
}

/// Whether fields that were recorded are those that are wanted, in their order.
fn are_same(recorded: &[(String, At)], wanted: &[&str]) -> bool {
    recorded.iter().map(|(name, _)| name.as_str()).eq(wanted.iter().copied())
}

macro_rules! leaves {
    ($($method:ident $leaf:ident $visit:ident;)+) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
            self.expect(Leaf::$leaf)?;
            visitor.$visit(self.read()?)
        }
    )+};
}

impl<'de> Deserializer<'de> for Present<'_, '_, '_> {
    type Error = SchemaError;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        deserialize_bool Bool visit_bool;
        deserialize_i8 I8 visit_i8;
        deserialize_i16 I16 visit_i16;
        deserialize_i32 I32 visit_i32;
        deserialize_i64 I64 visit_i64;
        deserialize_i128 I128 visit_i128;
        deserialize_u8 U8 visit_u8;
        deserialize_u16 U16 visit_u16;
        deserialize_u32 U32 visit_u32;
        deserialize_u64 U64 visit_u64;
        deserialize_u128 U128 visit_u128;
        deserialize_f32 F32 visit_f32;
        deserialize_f64 F64 visit_f64;
        deserialize_char Char visit_char;
        deserialize_str Text visit_str;
        deserialize_string Text visit_string;
        deserialize_bytes Bytes visit_bytes;
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        self.expect(Leaf::Bytes)?;
        visitor.visit_byte_buf(self.read::<&[u8]>()?.to_vec())
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.expect(Leaf::Unit)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, SchemaError> {
        Err(SchemaError::new(
            "it asks the format for the type of the next value, and the binary format does not store \
                              types",
        ))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        match self.node() {
            Node::Option(of) => match self.read::<bool>()? {
                false => visitor.visit_none(),
                true => visitor.visit_some(self.part(*of)),
            },
            // What was there always may be missing from now on.
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        match self.shape.node(self.at) {
            Node::Newtype { of, .. } => visitor.visit_newtype_struct(self.part(*of)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        let (of, length) = self.list()?;
        let input = self.part(self.at);
        visitor.visit_seq(Parts { input, parts: std::slice::from_ref(of), length, number: 0 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, SchemaError> {
        let parts = self.tuple(len)?;
        self.parts(parts, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.deserialize_tuple(len, visitor).map_err(|error| error.within(name))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        let (key, value, left) = self.map()?;
        let input = self.part(self.at);
        visitor.visit_map(Pairs { input, key, value, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let recorded = self.structure(name)?;
        self.fields(recorded, fields, name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let variant = self.chosen(name)?;
        let content = self.part(variant.content);
        visitor
            .visit_enum(Choice { variant, content })
            .map_err(|error| error.within_variant(&variant.name, name))
    }
}

/// The elements of a list, or the parts of a tuple.
struct Parts<'s, 'i, 'b> {
    input: Present<'s, 'i, 'b>,
    /// The only one of a list is that of all its elements.
    parts: &'s [At],
    length: usize,
    number: usize,
}

impl Parts<'_, '_, '_> {
    fn next(&mut self) -> Option<At> {
        let part = self.parts.get(self.number).or_else(|| self.parts.last());
        let part = part.filter(|_| self.number < self.length).copied();
        self.number += usize::from(part.is_some());
        part
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, '_, '_> {
    type Error = SchemaError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, SchemaError> {
        let number = self.number;
        let Some(part) = self.next() else { return Ok(None) };
        match seed.deserialize(self.input.part(part)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.within_part(number)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.length - self.number)
    }
}

/// The fields of a struct, by name or in order.
struct Fields<'s, 'i, 'b> {
    input: Present<'s, 'i, 'b>,
    fields: &'s [(String, At)],
    next: Option<&'s (String, At)>,
}

impl<'s> Fields<'s, '_, '_> {
    fn next(&mut self) -> Option<&'s (String, At)> {
        let (next, rest) = self.fields.split_first()?;
        self.fields = rest;
        Some(next)
    }
}

impl<'de> SeqAccess<'de> for Fields<'_, '_, '_> {
    type Error = SchemaError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, SchemaError> {
        let Some((name, part)) = self.next() else { return Ok(None) };
        match seed.deserialize(self.input.part(*part)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.within_field(name)),
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_, '_> {
    type Error = SchemaError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SchemaError> {
        self.next = self.next();
        let Some((name, _)) = self.next else { return Ok(None) };
        let name: StrDeserializer<'_, SchemaError> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, SchemaError> {
        let Some((name, part)) = self.next.take() else {
            return Err(SchemaError::custom("a value without a key"));
        };
        seed.deserialize(self.input.part(*part)).map_err(|error| error.within_field(name))
    }
}

/// The entries of a map.
struct Pairs<'s, 'i, 'b> {
    input: Present<'s, 'i, 'b>,
    key: At,
    value: At,
    left: usize,
}

impl<'de> MapAccess<'de> for Pairs<'_, '_, '_> {
    type Error = SchemaError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SchemaError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.input.part(self.key)).map(Some).map_err(|error| error.within("{key}"))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, SchemaError> {
        seed.deserialize(self.input.part(self.value)).map_err(|error| error.within("{value}"))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant, by name.
struct Choice<'s, 'i, 'b> {
    variant: &'s Variant,
    content: Present<'s, 'i, 'b>,
}

impl<'s, 'i, 'b, 'de> EnumAccess<'de> for Choice<'s, 'i, 'b> {
    type Error = SchemaError;
    type Variant = Content<'s, 'i, 'b>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'s, 'i, 'b>), SchemaError> {
        let name: StrDeserializer<'_, SchemaError> = self.variant.name.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.content)))
    }
}

/// The content of a variant.
struct Content<'s, 'i, 'b>(Present<'s, 'i, 'b>);

impl<'de> VariantAccess<'de> for Content<'_, '_, '_> {
    type Error = SchemaError;

    fn unit_variant(self) -> Result<(), SchemaError> {
        match self.0.shape.node(self.0.at) {
            Node::Leaf(Leaf::Unit) => Ok(()),
            _ => Err(self.0.changed("no content")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, SchemaError> {
        match self.0.shape.node(self.0.at) {
            Node::Newtype { of, .. } => seed.deserialize(self.0.part(*of)),
            _ => Err(self.0.changed("one value")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, SchemaError> {
        match self.0.shape.node(self.0.at) {
            Node::Tuple { parts, .. } if parts.len() == len => self.0.parts(parts, visitor),
            _ => Err(self.0.changed(&format!("{len} values"))),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        match self.0.shape.node(self.0.at) {
            Node::Struct { fields: recorded, .. } => self.0.fields(recorded, fields, "", visitor),
            _ => Err(self.0.changed("named fields")),
        }
    }
}
