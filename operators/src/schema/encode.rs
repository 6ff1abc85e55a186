//! Encoding with postcard, without leaving a field out.
//!
//! Postcard writes no field names. A field that `skip_serializing_if` leaves out shifts everything behind it, and the bytes
//! are read as something else. The serializer here is postcard's, but for the fields that are left out: it refuses them.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::fmt::{self, Display};

use postcard::ser_flavors::Flavor;

/// Why a value cannot be written.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Postcard refuses it, or the type's own `Serialize` does.
    #[error("{0}")]
    Postcard(postcard::Error),
    /// A field is left out.
    #[error(
        "`{}` leaves out the field `{}` (`#[serde(skip_serializing_if = …)]`), so the value could not be read back: \
         the binary format of checkpoints has no field names; remove the attribute, or use a separate type without \
         it", .0.0, .0.1
    )]
    Skipped(Box<(&'static str, &'static str)>),
    /// What the type's own `Serialize` says.
    #[error("{0}")]
    Own(Box<str>),
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl From<postcard::Error> for EncodeError {
    #[inline]
    fn from(error: postcard::Error) -> Self {
        EncodeError::Postcard(error)
    }
}

impl serde::ser::Error for EncodeError {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        EncodeError::Own(message.to_string().into_boxed_str())
    }
}

/// Appends the postcard form of a value.
///
/// # Errors
///
/// [`EncodeError`] if the value cannot be written, or leaves out a field. What was appended is then of no use.
#[inline]
pub fn encode<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    value.serialize(Encoder(&mut postcard::Serializer { output: Append(bytes) }))
}

/// Appends the postcard forms of values, one behind the other; on an error nothing of them stays.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_many<T: Serialize>(values: &[T], bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    let before = bytes.len();
    let result = values.iter().try_for_each(|value| encode(value, bytes));
    if result.is_err() {
        bytes.truncate(before);
    }
    result
}

/// Appends to a vector.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

struct Encoder<'a, F: Flavor>(&'a mut postcard::Serializer<F>);

macro_rules! leaves {
    ($($method:ident $type:ty;)+) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            Ok(self.0.$method(value)?)
        }
    )+};
}

impl<'a, F: Flavor> Serializer for Encoder<'a, F> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a, F>;
    type SerializeStructVariant = Fields<'a, F>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_char char;
        serialize_str &str;
        serialize_bytes &[u8];
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        Ok(self.0.collect_str(value)?)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        Ok(self.0.serialize_none()?)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.0.serialize_u8(1)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), EncodeError> {
        Ok(self.0.serialize_u32(index)?)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.0.serialize_u32(index)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, EncodeError> {
        (&mut *self.0).serialize_seq(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self, EncodeError> {
        (&mut *self.0).serialize_map(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self, EncodeError> {
        self.0.serialize_u32(index)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _len: usize) -> Result<Fields<'a, F>, EncodeError> {
        Ok(Fields { name, encoder: self })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Fields<'a, F>, EncodeError> {
        self.0.serialize_u32(index)?;
        Ok(Fields { name: variant, encoder: self })
    }
}

impl<F: Flavor> Encoder<'_, F> {
    #[inline]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(Encoder(&mut *self.0))
    }
}

macro_rules! parts {
    ($($trait:ident $method:ident)+) => {$(
        impl<F: Flavor> $trait for Encoder<'_, F> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.part(value)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )+};
}

parts! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

impl<F: Flavor> SerializeMap for Encoder<'_, F> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.part(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// The fields of a struct, of which none may be left out.
struct Fields<'a, F: Flavor> {
    name: &'static str,
    encoder: Encoder<'a, F>,
}

macro_rules! fields {
    ($($trait:ident)+) => {$(
        impl<F: Flavor> $trait for Fields<'_, F> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), EncodeError> {
                self.encoder.part(value)
            }

            #[cold]
            fn skip_field(&mut self, field: &'static str) -> Result<(), EncodeError> {
                Err(EncodeError::Skipped(Box::new((self.name, field))))
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )+};
}

fields! { SerializeStruct SerializeStructVariant }
