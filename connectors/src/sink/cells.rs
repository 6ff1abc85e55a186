//! Rows as the cells of a table for people: what [`console`](super::console) shows.
//!
//! The row is serialized straight into texts, without a format in between, so that 128-bit integers and floats appear
//! digit for digit, and NaN and infinities by name.

use std::fmt;

use serde::de::value::Error;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use tidemill_operators::SinkError;

/// The longest cell that is shown whole, in characters.
const CELL: usize = 40;

/// The cells of a row, each with the name of its column.
pub(super) type Row = Vec<(String, String)>;

/// Returns a row's named cells: the fields of a struct, those of a struct within it as `outer.inner`, the parts of a tuple
/// as `_1`, `_2`, anything else as `value`.
pub(super) fn flatten(row: &impl Serialize) -> Result<Row, SinkError> {
    let tree = row
        .serialize(IntoTree)
        .map_err(|error| SinkError::Encode { sink: "console".into(), reason: error.to_string() })?;
    let mut cells = Vec::new();
    match tree {
        Tree::List(parts) => {
            for (number, part) in (1..).zip(parts) {
                part.into_cells(format!("_{number}"), &mut cells);
            }
        }
        tree => tree.into_cells(String::new(), &mut cells),
    }
    Ok(cells)
}

/// A value whose fields have kept their order.
enum Tree {
    Leaf(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    fn into_cells(self, name: String, cells: &mut Row) {
        match self {
            Tree::Fields(fields) => {
                for (field, tree) in fields {
                    let name = if name.is_empty() { field } else { format!("{name}.{field}") };
                    tree.into_cells(name, cells);
                }
            }
            tree => {
                let name = if name.is_empty() { "value".to_owned() } else { name };
                cells.push((name, shorten(&tree.to_string())));
            }
        }
    }
}

/// Control characters of the data are escaped: they would act on the terminal.
fn shorten(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if shown.chars().count() <= CELL {
        return shown;
    }
    shown.chars().take(CELL - 1).chain(['…']).collect()
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Leaf(text) => f.write_str(text),
            Tree::List(parts) => {
                let parts: Vec<_> = parts.iter().map(Tree::to_string).collect();
                write!(f, "[{}]", parts.join(", "))
            }
            Tree::Fields(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, tree)| format!("{name}: {tree}")).collect();
                write!(f, "{{{}}}", fields.join(", "))
            }
        }
    }
}

/// Serializes into a [`Tree`].
struct IntoTree;

/// A value with parts, on its way into a [`Tree`].
struct Parts {
    /// The variant that the parts belong to.
    variant: Option<&'static str>,
    list: Vec<Tree>,
    fields: Vec<(String, Tree)>,
    key: Option<String>,
}

impl Parts {
    fn new(variant: Option<&'static str>) -> Parts {
        Parts { variant, list: Vec::new(), fields: Vec::new(), key: None }
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.list.push(value.serialize(IntoTree)?);
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.fields.push((name.to_owned(), value.serialize(IntoTree)?));
        Ok(())
    }

    fn named(variant: Option<&'static str>, tree: Tree) -> Tree {
        match variant {
            Some(variant) => Tree::Fields(vec![(variant.to_owned(), tree)]),
            None => tree,
        }
    }

    fn list(self) -> Tree {
        Parts::named(self.variant, Tree::List(self.list))
    }

    fn fields(self) -> Tree {
        Parts::named(self.variant, Tree::Fields(self.fields))
    }
}

macro_rules! leaves {
    ($($method:ident: $type:ty),+) => {$(
        fn $method(self, value: $type) -> Result<Tree, Error> {
            Ok(Tree::Leaf(value.to_string()))
        }
    )+};
}

impl Serializer for IntoTree {
    type Ok = Tree;
    type Error = Error;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    leaves! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Tree, Error> {
        Ok(Tree::List(bytes.iter().map(|byte| Tree::Leaf(byte.to_string())).collect()))
    }
    fn serialize_none(self) -> Result<Tree, Error> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Tree, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Tree, Error> {
        Ok(Tree::Leaf("null".to_owned()))
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Result<Tree, Error> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Tree, Error> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Tree, Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Tree, Error> {
        Ok(Parts::named(Some(variant), value.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Error> {
        Ok(Parts::new(None))
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts, Error> {
        Ok(Parts::new(None))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts, Error> {
        Ok(Parts::new(None))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Error> {
        Ok(Parts::new(Some(variant)))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Error> {
        Ok(Parts::new(None))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts, Error> {
        Ok(Parts::new(None))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Error> {
        Ok(Parts::new(Some(variant)))
    }
}

macro_rules! parts {
    (lists: $($list:ident :: $element:ident),+; structs: $($structs:ident),+) => {
        $(impl $list for Parts {
            type Ok = Tree;
            type Error = Error;
            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.part(value)
            }
            fn end(self) -> Result<Tree, Error> {
                Ok(self.list())
            }
        })+
        $(impl $structs for Parts {
            type Ok = Tree;
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.field(name, value)
            }
            fn end(self) -> Result<Tree, Error> {
                Ok(self.fields())
            }
        })+
    };
}

parts! {
    lists: SerializeSeq::serialize_element, SerializeTuple::serialize_element,
        SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field;
    structs: SerializeStruct, SerializeStructVariant
}

impl SerializeMap for Parts {
    type Ok = Tree;
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(key.serialize(IntoTree)?.to_string());
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a map's value came before its key"))?;
        self.field(&key, value)
    }
    fn end(self) -> Result<Tree, Error> {
        Ok(self.fields())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn cells(row: &impl Serialize) -> Vec<String> {
        flatten(row).unwrap().into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn wide_integers_and_floats_show_every_digit() {
        let row = (u128::MAX, i128::MIN, f64::NAN, f64::NEG_INFINITY, 31.245270191439438f64, 0.1f32);
        assert_eq!(
            cells(&row),
            [
                "_1=340282366920938463463374607431768211455",
                "_2=-170141183460469231731687303715884105728",
                "_3=NaN",
                "_4=-inf",
                "_5=31.245270191439438",
                "_6=0.1",
            ]
        );
    }

    #[derive(Serialize)]
    enum Shape {
        Unit,
        One(u8),
        Two(u8, Option<()>),
        Named { x: char },
    }

    #[test]
    fn every_kind_of_value_has_its_cells() {
        #[derive(Serialize)]
        struct Row {
            shapes: Vec<Shape>,
            named: Shape,
            map: BTreeMap<(u8, bool), f64>,
        }
        let shapes = vec![Shape::Unit, Shape::One(1), Shape::Two(2, None)];
        let row = Row { shapes, named: Shape::Named { x: 'x' }, map: BTreeMap::from([((1, true), 0.5)]) };
        assert_eq!(
            cells(&row),
            ["shapes=[Unit, {One: 1}, {Two: [2, null]}]", "named.Named.x=x", "map.[1, true]=0.5"]
        );
        assert_eq!(cells(&"a\x1b[2Jb\nc"), ["value=a\\u{1b}[2Jb\\nc"]);
    }
}
