//! What a probed type gets of its parts: elements, entries, variants.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::SchemaError;
use super::probe::Probe;
use super::refusal::Reason;
use super::shape::{At, Leaf, Node};
use super::trace::Trace;

/// The parts of a list, a tuple or a struct.
pub(super) struct Parts<'t, 'p> {
    pub(super) probe: Probe<'t>,
    pub(super) parts: &'p [At],
    pub(super) made: &'p Node,
    pub(super) taken: &'p mut usize,
    pub(super) most: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, '_> {
    type Error = SchemaError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, SchemaError> {
        let number = *self.taken;
        let Some(part) = self.parts.get(number) else { return Ok(None) };
        *self.taken += 1;
        match seed.deserialize(self.probe.part(*part)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(within(error, self.made, number)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.most.saturating_sub(*self.taken))
    }
}

/// The error of a part, as seen from what it is a part of.
#[inline(never)]
fn within(error: SchemaError, made: &Node, number: usize) -> SchemaError {
    match made {
        Node::Struct { fields, .. } => {
            error.within_field(fields.get(number).map(|(name, _)| name.as_str()).unwrap_or_default())
        }
        Node::Seq(_) => error.within("[]"),
        _ => error.within_part(number),
    }
}

/// The entry of a map.
pub(super) struct Pairs<'t> {
    pub(super) probe: Probe<'t>,
    pub(super) key: At,
    pub(super) value: At,
    pub(super) left: usize,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = SchemaError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SchemaError> {
        if self.left == 0 {
            // A flattened struct without an entry would only say which field is missing.
            return Ok(None);
        }
        self.left -= 1;
        self.probe.trace.key = Some(self.key);
        seed.deserialize(self.probe.part(self.key)).map(Some).map_err(|error| error.within("{key}"))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, SchemaError> {
        seed.deserialize(self.probe.part(self.value)).map_err(|error| error.within("{value}"))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant of an enum.
pub(super) struct Choice<'t> {
    pub(super) probe: Probe<'t>,
    pub(super) index: usize,
    pub(super) content: At,
}

impl<'t, 'de> EnumAccess<'de> for Choice<'t> {
    type Error = SchemaError;
    type Variant = Content<'t>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'t>), SchemaError> {
        let Choice { probe: Probe { trace, at, explores }, index, content } = self;
        let identifier: serde::de::value::U32Deserializer<SchemaError> = (index as u32).into_deserializer();
        match seed.deserialize(identifier) {
            Ok(variant) => Ok((variant, Content(Probe { trace, at: content, explores }))),
            Err(error) => {
                cut(trace, at, index);
                Err(error)
            }
        }
    }
}

/// There are fewer variants than names: some of them are aliases.
fn cut(trace: &mut Trace, at: At, index: usize) {
    let slot = trace.slot(at);
    slot.variants.truncate(index);
    if let Node::Enum { variants, .. } = &mut slot.node {
        variants.truncate(index);
    }
    trace.progress += 1;
    trace.was_cut = true;
}

/// The content of a variant.
pub(super) struct Content<'t>(pub(super) Probe<'t>);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = SchemaError;

    fn unit_variant(self) -> Result<(), SchemaError> {
        let Probe { trace, at, .. } = self.0;
        if trace.note(at, &|_| Node::Leaf(Leaf::Unit))? != Node::Leaf(Leaf::Unit) {
            return Err(trace.refuse(Reason::Varies));
        }
        trace.slot(at).is_closed = true;
        trace.set_explored(at, true);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, SchemaError> {
        let of = self.0.single()?;
        let value = seed.deserialize(self.0.part(of))?;
        self.0.filled(&[of]);
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, SchemaError> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
