//! JSON rows, and the handling of NaN and infinities, for which JSON has no number.
//!
//! serde_json writes them as `null`, as it does what is really absent. So a row is encoded as usual while its nulls are
//! counted; only a row that has any is gone through once more to see which of them were floats.

use std::fmt::Display;
use std::io::{self, Write};

use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

/// What a JSON sink does with a NaN or an infinity, for which JSON has no number.
///
/// ```
/// use tidemill::connectors::NonFinite;
/// use tidemill::prelude::*;
///
/// let sink = json_lines_sink("out/ratios.jsonl").non_finite(NonFinite::Null);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// The query ends with an error that names the field.
    #[default]
    Error,
    /// It is written as `null`, and cannot be told from an absent value.
    Null,
    /// It is written as the string `"NaN"`, `"Infinity"` or `"-Infinity"`.
    String,
}

/// Appends a row as JSON to the bytes.
pub(super) fn write_json<T: Serialize>(
    bytes: &mut Vec<u8>,
    row: &T,
    non_finite: NonFinite,
) -> Result<(), String> {
    let begin = bytes.len();
    let mut nulls = 0;
    encode(bytes, row, CountNulls(&mut nulls))?;
    if nulls == 0 || non_finite == NonFinite::Null {
        return Ok(());
    }
    let mut found = Vec::new();
    let is_error = non_finite == NonFinite::Error;
    match row.serialize(Search { nulls: &mut found, is_error }) {
        Ok(()) if found.iter().any(Option::is_some) => {
            bytes.truncate(begin);
            encode(bytes, row, FillNulls(found.into_iter()))
        }
        Ok(()) => Ok(()),
        Err(Found { path, what }) if path.is_empty() => Err(what),
        Err(Found { path, what }) => Err(format!("field `{path}`: {what}")),
    }
}

fn encode<T: Serialize>(bytes: &mut Vec<u8>, row: &T, formatter: impl Formatter) -> Result<(), String> {
    row.serialize(&mut serde_json::Serializer::with_formatter(bytes, formatter)).map_err(|e| e.to_string())
}

/// Writes compact JSON and counts the nulls.
struct CountNulls<'a>(&'a mut usize);

impl Formatter for CountNulls<'_> {
    fn write_null<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.0 += 1;
        writer.write_all(b"null")
    }
}

/// Writes compact JSON with names in place of those nulls that were floats.
struct FillNulls(std::vec::IntoIter<Option<&'static str>>);

impl Formatter for FillNulls {
    fn write_null<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.0.next().flatten() {
            Some(name) => write!(writer, "\"{name}\""),
            None => writer.write_all(b"null"),
        }
    }
}

/// Goes through a row as serde_json does and notes, for each null, the float that it was.
struct Search<'a> {
    nulls: &'a mut Vec<Option<&'static str>>,
    /// Whether the first NaN or infinity ends the search with [`Found`].
    is_error: bool,
}

/// A NaN or an infinity, and where; or an error of the row itself.
#[derive(Debug)]
struct Found {
    path: String,
    what: String,
}

impl std::error::Error for Found {}

impl Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl serde::ser::Error for Found {
    fn custom<T: Display>(what: T) -> Self {
        Found { path: String::new(), what: what.to_string() }
    }
}

impl Found {
    /// The same, seen from the value that has the field.
    fn within(mut self, field: impl Display) -> Found {
        self.path = match self.path.as_str() {
            "" => field.to_string(),
            inner if inner.starts_with('[') => format!("{field}{inner}"),
            inner => format!("{field}.{inner}"),
        };
        self
    }
}

impl Search<'_> {
    fn again(&mut self) -> Search<'_> {
        Search { nulls: self.nulls, is_error: self.is_error }
    }

    fn null(self, name: Option<&'static str>) -> Result<(), Found> {
        if self.is_error
            && let Some(name) = name
        {
            let what = format!(
                "JSON has no number for {name}; filter it out, or let the sink write null or a string with `non_finite`"
            );
            return Err(Found { path: String::new(), what });
        }
        self.nulls.push(name);
        Ok(())
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty),+) => {$(
        fn $method(self, _: $type) -> Result<(), Found> {
            Ok(())
        }
    )+};
}

impl<'a> Serializer for Search<'a> {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    plain! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), Found> {
        Ok(())
    }
    fn serialize_f32(self, value: f32) -> Result<(), Found> {
        self.serialize_f64(f64::from(value))
    }
    fn serialize_f64(self, value: f64) -> Result<(), Found> {
        match value {
            _ if value.is_finite() => Ok(()),
            _ if value.is_nan() => self.null(Some("NaN")),
            _ if value > 0.0 => self.null(Some("Infinity")),
            _ => self.null(Some("-Infinity")),
        }
    }
    fn serialize_none(self) -> Result<(), Found> {
        self.null(None)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Found> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Found> {
        self.null(None)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Found> {
        self.null(None)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Found> {
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Found> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Found> {
        value.serialize(self).map_err(|found| found.within(variant))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Found> {
        Ok(Parts::new(self))
    }
}

/// A value with parts, gone through one after the other.
struct Parts<'a> {
    search: Search<'a>,
    /// How many parts there have been.
    parts: usize,
    /// The key of the map's entry.
    key: String,
}

impl<'a> Parts<'a> {
    fn new(search: Search<'a>) -> Self {
        Parts { search, parts: 0, key: String::new() }
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        let part = self.parts;
        self.parts += 1;
        value.serialize(self.search.again()).map_err(|found| found.within(format_args!("[{part}]")))
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Found> {
        value.serialize(self.search.again()).map_err(|found| found.within(name))
    }
}

macro_rules! parts {
    (lists: $($list:ident :: $element:ident),+; structs: $($structs:ident),+) => {
        $(impl $list for Parts<'_> {
            type Ok = ();
            type Error = Found;
            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
                self.part(value)
            }
            fn end(self) -> Result<(), Found> {
                Ok(())
            }
        })+
        $(impl $structs for Parts<'_> {
            type Ok = ();
            type Error = Found;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Found> {
                self.field(name, value)
            }
            fn end(self) -> Result<(), Found> {
                Ok(())
            }
        })+
    };
}

parts! {
    lists: SerializeSeq::serialize_element, SerializeTuple::serialize_element,
        SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field;
    structs: SerializeStruct, SerializeStructVariant
}

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Found;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Found> {
        // What is no key has been refused when the row was encoded.
        self.key = serde_json::to_string(key).unwrap_or_default();
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        let key = std::mem::take(&mut self.key);
        self.field(key.trim_matches('"'), value)
    }
    fn end(self) -> Result<(), Found> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize, Default)]
    struct Row {
        id: Option<u8>,
        at: (f64, f32),
        unit: (),
        more: BTreeMap<String, Vec<Option<f64>>>,
    }

    fn json(row: &impl Serialize, non_finite: NonFinite) -> Result<String, String> {
        let mut bytes = b"before ".to_vec();
        write_json(&mut bytes, row, non_finite).map(|()| String::from_utf8(bytes).unwrap())
    }

    fn row(at: (f64, f32), more: f64) -> Row {
        Row { at, more: BTreeMap::from([("k".to_owned(), vec![None, Some(more)])]), ..Row::default() }
    }

    #[test]
    fn a_non_finite_float_is_an_error_that_names_the_field() {
        let error = |row: &Row| json(row, NonFinite::Error).unwrap_err();
        let first = error(&row((1.0, f32::NAN), f64::INFINITY));
        assert!(first.starts_with("field `at[1]`: JSON has no number for NaN; "), "{first}");
        let second = error(&row((1.0, 1.0), f64::NEG_INFINITY));
        assert!(second.starts_with("field `more.k[1]`: JSON has no number for -Infinity; "), "{second}");
        let alone = json(&f64::INFINITY, NonFinite::Error).unwrap_err();
        assert!(alone.starts_with("JSON has no number for Infinity; "), "{alone}");
    }

    #[test]
    fn non_finite_floats_become_null_or_strings_where_asked_for() {
        let row = row((f64::INFINITY, f32::NAN), f64::NEG_INFINITY);
        let null = r#"before {"id":null,"at":[null,null],"unit":null,"more":{"k":[null,null]}}"#;
        assert_eq!(json(&row, NonFinite::Null).unwrap(), null);
        let named =
            r#"before {"id":null,"at":["Infinity","NaN"],"unit":null,"more":{"k":[null,"-Infinity"]}}"#;
        assert_eq!(json(&row, NonFinite::String).unwrap(), named);
    }

    #[test]
    fn absent_values_stay_null_whatever_is_asked_for() {
        for non_finite in [NonFinite::Error, NonFinite::Null, NonFinite::String] {
            let text = json(&row((0.1, 0.1), 1e300), non_finite).unwrap();
            assert_eq!(text, r#"before {"id":null,"at":[0.1,0.1],"unit":null,"more":{"k":[null,1e+300]}}"#);
        }
    }
}
