//! Bytes of a recorded shape as JSON, for people who look at a checkpoint without the types that wrote it.

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::SchemaError;
use super::shape::{At, Leaf, Node, Shape};

impl Shape {
    /// Returns bytes of this shape as JSON, all of them: what serde's JSON makes of the value, where that has a form for it. Numbers beyond
    /// 64 bits and floats without a value are text, maps whose keys are no text a list of pairs.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] if the bytes are not of this shape.
    pub fn to_json(&self, bytes: &[u8]) -> Result<Value, SchemaError> {
        let mut reader = Reader { shape: self, input: bytes };
        let value = reader.value(0)?;
        match reader.input {
            [] => Ok(value),
            rest => Err(SchemaError::new(format!("{} bytes are left over", rest.len()))),
        }
    }
}

struct Reader<'s, 'b> {
    shape: &'s Shape,
    input: &'b [u8],
}

impl<'b> Reader<'_, 'b> {
    fn read<T: Deserialize<'b>>(&mut self) -> Result<T, SchemaError> {
        let (value, rest) = postcard::take_from_bytes(self.input)?;
        self.input = rest;
        Ok(value)
    }

    fn value(&mut self, at: At) -> Result<Value, SchemaError> {
        Ok(match self.shape.node(at) {
            Node::Unknown => return Err(SchemaError::new("its shape has not been recorded")),
            Node::Leaf(leaf) => self.leaf(*leaf)?,
            Node::Newtype { of, .. } => self.value(*of)?,
            Node::Option(of) => match self.read::<bool>()? {
                true => self.value(*of)?,
                false => Value::Null,
            },
            Node::Seq(of) => {
                let len = self.read::<usize>()?;
                Value::Array((0..len).map(|_| self.value(*of)).collect::<Result<_, _>>()?)
            }
            Node::Map(key, value) => {
                let len = self.read::<usize>()?;
                let pair = |reader: &mut Self| Ok((reader.value(*key)?, reader.value(*value)?));
                map((0..len).map(|_| pair(self)).collect::<Result<_, SchemaError>>()?)
            }
            Node::Tuple { parts, .. } => {
                Value::Array(parts.iter().map(|part| self.value(*part)).collect::<Result<_, _>>()?)
            }
            Node::Struct { fields, .. } => {
                let field = |(name, part): &(String, At)| Ok((name.clone(), self.value(*part)?));
                Value::Object(fields.iter().map(field).collect::<Result<Map<_, _>, SchemaError>>()?)
            }
            Node::Enum { variants, .. } => {
                let index: u32 = self.read()?;
                let variant = variants.iter().find(|variant| variant.index == index).ok_or_else(|| {
                    SchemaError::new(format!("the variant of number {index} has not been recorded"))
                })?;
                match self.shape.node(variant.content) {
                    Node::Leaf(Leaf::Unit) => Value::String(variant.name.clone()),
                    _ => {
                        let content = self.value(variant.content)?;
                        Value::Object(Map::from_iter([(variant.name.clone(), content)]))
                    }
                }
            }
        })
    }

    fn leaf(&mut self, leaf: Leaf) -> Result<Value, SchemaError> {
        Ok(match leaf {
            Leaf::Unit => Value::Null,
            Leaf::Bool => self.read::<bool>()?.into(),
            Leaf::I8 => self.read::<i8>()?.into(),
            Leaf::I16 => self.read::<i16>()?.into(),
            Leaf::I32 => self.read::<i32>()?.into(),
            Leaf::I64 => self.read::<i64>()?.into(),
            Leaf::I128 => whole(self.read::<i128>()?, Number::from_i128),
            Leaf::U8 => self.read::<u8>()?.into(),
            Leaf::U16 => self.read::<u16>()?.into(),
            Leaf::U32 => self.read::<u32>()?.into(),
            Leaf::U64 => self.read::<u64>()?.into(),
            Leaf::U128 => whole(self.read::<u128>()?, Number::from_u128),
            Leaf::F32 => float(f64::from(self.read::<f32>()?)),
            Leaf::F64 => float(self.read::<f64>()?),
            Leaf::Char => self.read::<char>()?.to_string().into(),
            Leaf::Text => self.read::<&str>()?.into(),
            Leaf::Bytes => self.read::<&[u8]>()?.into(),
        })
    }
}

fn whole<N: ToString + Copy>(number: N, as_json: impl Fn(N) -> Option<Number>) -> Value {
    as_json(number).map_or_else(|| number.to_string().into(), Value::Number)
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

fn map(pairs: Vec<(Value, Value)>) -> Value {
    if pairs.iter().all(|(key, _)| key.is_string()) {
        let text = |(key, value): (Value, Value)| Some((key.as_str()?.to_owned(), value));
        Value::Object(pairs.into_iter().filter_map(text).collect())
    } else {
        Value::Array(pairs.into_iter().map(|(key, value)| Value::Array(vec![key, value])).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::schema::probe;

    #[derive(Serialize, Deserialize)]
    enum Order {
        Open,
        Paid(u8),
        Sent { to: String, weights: Vec<f64> },
        Parts(i8, char),
    }

    #[derive(Serialize, Deserialize)]
    struct Cents(i64);

    fn shown<T: Serialize + DeserializeOwned>(value: &T) -> Value {
        probe::<T>().unwrap().to_json(&postcard::to_allocvec(value).unwrap()).unwrap()
    }

    #[test]
    fn value_is_shown_as_serde_makes_json_of_it() {
        let sent = Order::Sent { to: "sea".to_owned(), weights: vec![0.5, -2.0] };
        for order in [Order::Open, Order::Paid(3), sent, Order::Parts(-1, 'ß')] {
            assert_eq!(shown(&order), serde_json::to_value(&order).unwrap());
        }
        let mixed = (
            Cents(-5),
            Some(true),
            None::<u8>,
            (),
            "tide".to_owned(),
            BTreeMap::from([("a".to_owned(), 1u64)]),
        );
        assert_eq!(shown(&mixed), serde_json::to_value(&mixed).unwrap());
    }

    #[test]
    fn value_that_json_has_no_form_for_is_shown_in_another() {
        assert_eq!(shown(&(f64::NAN, u128::MAX, -5i128)), json!(["NaN", u128::MAX.to_string(), -5]));
        assert_eq!(shown(&BTreeMap::from([(1u8, 'a'), (2, 'b')])), json!([[1, "a"], [2, "b"]]));
    }

    #[test]
    fn bytes_of_another_shape_are_refused() {
        let shape = probe::<(u8, String)>().unwrap();
        for bytes in [&[1u8, 5, b'a'][..], &[1, 1, b'a', 0], &[]] {
            assert!(shape.to_json(bytes).is_err(), "{bytes:?}");
        }
    }
}
