//! Finding out the shape of a type by deserializing it from made-up values, until every part has been seen.
//!
//! One pass shows one variant of each enum; passes follow each other as long as one shows something new. A type that comes
//! again inside itself is cut: it is made from what has been seen of it, with empty lists and a variant that can be made.
//! Where a type rejects a value, the last plain value before the error is replaced by the next of a few candidates. What
//! still cannot be made leaves what follows it unknown: the shape is then partial, and is completed from what is written.

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};

use super::SchemaError;
use super::access::{Choice, Pairs, Parts};
use super::refusal::{Reason, Refusal};
use super::shape::{At, Leaf, Node, Shape, Variant};
use super::trace::{Attempt, Trace};
use super::walk::{Draft, walk};

/// Passes over one type; each of them shows something new.
const PASSES: usize = 2_000;
/// Parts of one type. A larger one stays partial.
const PARTS: usize = 20_000;
/// How deep made-up values may be.
const DEPTH: usize = 100;

const TEXTS: &[&str] = &[
    "",
    "a",
    "0",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "00:00:00",
    "1970-01-01T00:00:00",
    "127.0.0.1",
    "127.0.0.1:80",
    "::1",
    "[::1]:80",
    "00000000-0000-0000-0000-000000000000",
    "http://localhost/",
    "a@b.example",
    "UTC",
    "+00:00",
    "1.0.0",
    "true",
    "/",
];
const BYTES: &[&[u8]] = &[&[], &[0], &[0; 4], &[0; 8], &[0; 16], &[0; 20], &[0; 32]];

/// The shape of a type as postcard writes it.
///
/// # Errors
///
/// [`Refusal`] if values of the type could not be read back.
pub fn probe<T: Serialize + DeserializeOwned>() -> Result<Shape, Refusal> {
    draft::<T>().map(Draft::into_shape)
}

/// As [`probe`], for a shape that is still to be completed.
pub(super) fn draft<T: Serialize + DeserializeOwned>() -> Result<Draft, Refusal> {
    probe_as::<T>(false)
}

/// The shape of a type as a format for people writes it, such as JSON.
///
/// # Errors
///
/// [`Refusal`] if its shape cannot be recorded, which does not mean that such a format could not read it back.
pub fn probe_text<T: Serialize + DeserializeOwned>() -> Result<Shape, Refusal> {
    probe_as::<T>(true).map(Draft::into_shape)
}

fn probe_as<T: Serialize + DeserializeOwned>(is_human_readable: bool) -> Result<Draft, Refusal> {
    let mut values: Vec<T> = Vec::new();
    let make = &mut |trace: &mut Trace| {
        T::deserialize(Probe { trace, at: 0, explores: true }).map(|it| values.push(it))
    };
    let mut draft = explore(type_name::<T>(), is_human_readable, make)?;
    for value in &values {
        walk(value, &mut draft, is_human_readable).map_err(|error| Refusal {
            type_name: type_name::<T>(),
            path: error.path(),
            reason: Reason::Asymmetric { what: error.what().to_owned() },
        })?;
    }
    Ok(draft)
}

/// Makes values of a type, pass by pass, until one shows nothing new.
fn explore(
    type_name: &'static str,
    is_human_readable: bool,
    make: &mut dyn FnMut(&mut Trace) -> Result<(), SchemaError>,
) -> Result<Draft, Refusal> {
    let mut trace = Trace::new(is_human_readable);
    for _ in 0..PASSES {
        let before = trace.progress;
        trace.begin();
        let made = catch_unwind(AssertUnwindSafe(|| make(&mut trace)));
        if let Some(reason) = trace.refused.take() {
            let path = made.ok().and_then(Result::err).map(|error| error.path()).unwrap_or_default();
            return Err(Refusal { type_name, path, reason });
        }
        if !matches!(made, Ok(Ok(()))) {
            trace.blame();
        }
        if trace.slot(0).is_explored || (trace.progress == before && !trace.has_attempted) {
            break;
        }
    }
    Ok(trace.finish())
}

/// Deserializes one part.
pub(super) struct Probe<'t> {
    pub(super) trace: &'t mut Trace,
    pub(super) at: At,
    /// Whether new parts are looked for; otherwise a value is only to be made.
    pub(super) explores: bool,
}

impl<'t> Probe<'t> {
    pub(super) fn part(&mut self, at: At) -> Probe<'_> {
        Probe { trace: self.trace, at, explores: self.explores }
    }

    /// Before a value with parts, which the visitor of that name makes: finds out whether the type contains itself.
    fn enter(&mut self, key: &'static str) -> Result<(), SchemaError> {
        if self.trace.stack.len() > DEPTH || self.trace.slots.len() > PARTS {
            return Err(self.trace.cut());
        }
        let before = self.trace.stack.iter().find(|(other, _)| *other == key).map(|(_, at)| *at);
        let mut entered = (self.at, self.explores);
        if let (Some(before), true) = (before, self.explores)
            && before != self.at
        {
            let slot = self.trace.slot(self.at);
            if slot.alias.is_none() {
                slot.alias = Some(before);
                slot.is_explored = true;
                self.trace.progress += 1;
            }
            entered = (before, false);
        }
        self.trace.stack.push((key, entered.0));
        (self.at, self.explores) = entered;
        Ok(())
    }

    fn leave(&mut self) {
        self.trace.stack.pop();
    }

    /// A plain value: returns the number of the candidate that it gets.
    fn plain(self, leaf: Leaf, candidates: usize) -> Result<usize, SchemaError> {
        let at = self.at;
        if self.trace.note(at, &|_| Node::Leaf(leaf))? != Node::Leaf(leaf) {
            return Err(self.trace.refuse(Reason::Varies));
        }
        self.trace.set_explored(at, true);
        self.trace.last = Some(at);
        let slot = self.trace.slot(at);
        slot.candidates = candidates;
        slot.is_closed = true;
        if slot.candidate < candidates { Ok(slot.candidate) } else { Err(SchemaError::new("no value")) }
    }

    fn leaf<'de, V: Visitor<'de>, C: Copy>(
        self,
        leaf: Leaf,
        candidates: &[C],
        visit: impl FnOnce(V, C) -> Result<V::Value, SchemaError>,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        match candidates.get(self.plain(leaf, candidates.len())?) {
            Some(candidate) => visit(visitor, *candidate),
            None => Err(SchemaError::new("no value")),
        }
    }

    /// Whether the content of an option or a list is to be made; otherwise it stays empty.
    fn fills(&mut self, parts: &[At]) -> bool {
        let (at, progress) = (self.at, self.trace.progress);
        let is_new = !parts.iter().all(|part| self.trace.explored(*part));
        let slot = self.trace.slot(at);
        let fills = self.explores && (slot.is_made || (is_new && slot.tried != Some(progress)));
        if fills {
            slot.tried = Some(progress);
            slot.is_made = false;
            self.trace.has_attempted |= is_new;
        }
        fills
    }

    /// The content has been made.
    pub(super) fn filled(&mut self, parts: &[At]) {
        let is_explored = parts.iter().all(|part| self.trace.explored(*part));
        let at = self.at;
        let slot = self.trace.slot(at);
        (slot.is_made, slot.is_closed) = (true, true);
        self.trace.set_explored(at, is_explored);
    }

    /// Before a value with a fixed number of parts, of which the visitor may want fewer than there could be.
    fn open(&mut self, key: &'static str, most: usize, kind: Kind) -> Result<Opened, SchemaError> {
        self.enter(key)?;
        let at = self.at;
        let mut parts: Vec<At> = match &self.trace.slot(at).node {
            Node::Tuple { parts, .. } => parts.clone(),
            Node::Struct { fields, .. } => fields.iter().map(|(_, part)| *part).collect(),
            Node::Unknown => Vec::new(),
            _ => return Err(self.trace.refuse(Reason::Varies)),
        };
        let is_closed = self.trace.slot(at).is_closed;
        while !is_closed && parts.len() < most {
            parts.push(self.trace.new_slot());
        }
        let made = self.trace.note(at, &|_| match kind {
            Kind::Tuple(name) => Node::Tuple { name: name.to_owned(), parts: parts.clone() },
            Kind::Struct(name, fields) => {
                let fields = fields.iter().map(|field| (*field).to_owned()).zip(parts.iter().copied());
                Node::Struct { name: name.to_owned(), fields: fields.collect() }
            }
        })?;
        Ok(Opened { parts, made, is_closed, most })
    }

    /// After it, of which this many parts were taken.
    fn close(&mut self, opened: Opened, taken: usize) {
        let at = self.at;
        let Opened { mut parts, mut made, is_closed, most } = opened;
        if !is_closed {
            match &mut made {
                Node::Tuple { parts, .. } => parts.truncate(taken),
                Node::Struct { fields, .. } => fields.truncate(taken),
                _ => {}
            }
            let slot = self.trace.slot(at);
            slot.node = made;
            slot.candidates = most;
            slot.is_closed = true;
            parts.truncate(taken);
        }
        let is_explored = parts.iter().all(|part| self.trace.explored(*part));
        self.trace.set_explored(at, is_explored);
        self.leave();
    }

    /// Makes a value with a fixed number of parts.
    fn fixed<'de, V: Visitor<'de>>(
        mut self,
        most: usize,
        kind: Kind,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let opened = self.open(type_name::<V>(), most, kind)?;
        let (at, mut taken) = (self.at, 0);
        let value = visitor.visit_seq(Parts {
            probe: self.part(at),
            parts: &opened.parts,
            made: &opened.made,
            taken: &mut taken,
            most,
        })?;
        self.close(opened, taken);
        Ok(value)
    }

    /// Before a struct: what is known of it must be what it is now.
    fn check_fields(&mut self, fields: &'static [&'static str]) -> Result<(), SchemaError> {
        match &self.trace.slot(self.at).node {
            Node::Struct { fields: known, .. }
                if !known.iter().all(|(name, _)| fields.contains(&name.as_str())) =>
            {
                Err(self.trace.refuse(Reason::Varies))
            }
            _ => Ok(()),
        }
    }

    /// Before an option: returns its content, and whether that is to be made.
    fn option(&mut self, key: &'static str) -> Result<(At, bool), SchemaError> {
        self.enter(key)?;
        let Node::Option(of) = self.trace.note(self.at, &|trace| Node::Option(trace.new_slot()))? else {
            return Err(self.trace.refuse(Reason::Varies));
        };
        Ok((of, self.fills(&[of])))
    }

    /// Before a newtype: returns its content.
    fn newtype(&mut self, key: &'static str, name: &'static str) -> Result<At, SchemaError> {
        self.enter(key)?;
        let make = |trace: &mut Trace| Node::Newtype { name: name.to_owned(), of: trace.new_slot() };
        match self.trace.note(self.at, &make)? {
            Node::Newtype { of, .. } => Ok(of),
            _ => Err(self.trace.refuse(Reason::Varies)),
        }
    }

    /// The only part of a variant.
    pub(super) fn single(&mut self) -> Result<At, SchemaError> {
        let make = |trace: &mut Trace| Node::Newtype { name: String::new(), of: trace.new_slot() };
        match self.trace.note(self.at, &make)? {
            Node::Newtype { of, .. } => Ok(of),
            _ => Err(self.trace.refuse(Reason::Varies)),
        }
    }

    /// Before a list: returns its elements, of which there is one or none.
    fn list(&mut self, key: &'static str) -> Result<(At, Vec<At>), SchemaError> {
        self.enter(key)?;
        let Node::Seq(of) = self.trace.note(self.at, &|trace| Node::Seq(trace.new_slot()))? else {
            return Err(self.trace.refuse(Reason::Varies));
        };
        let fills = self.fills(&[of]);
        Ok((of, if fills { vec![of] } else { Vec::new() }))
    }

    /// Before a map: returns key and value, and whether they are to be made.
    fn map(&mut self, key: &'static str) -> Result<(At, At, bool), SchemaError> {
        self.enter(key)?;
        let node = self.trace.note(self.at, &|trace| Node::Map(trace.new_slot(), trace.new_slot()))?;
        let Node::Map(key, value) = node else { return Err(self.trace.refuse(Reason::Varies)) };
        Ok((key, value, self.fills(&[key, value])))
    }

    /// After what was to be made, or not.
    fn end(&mut self, parts: &[At], was_filled: bool) {
        if was_filled {
            self.filled(parts);
        }
        self.leave();
    }

    /// Before an enum: chooses a variant, and returns its number and its content.
    fn choose(
        &mut self,
        key: &'static str,
        name: &'static str,
        variants: &'static [&'static str],
    ) -> Result<(usize, At), SchemaError> {
        self.enter(key)?;
        let at = self.at;
        let node = self.trace.note(at, &|_| {
            let variant = |(index, name): (usize, &&'static str)| Variant {
                index: index as u32,
                name: (*name).to_owned(),
                content: 0,
            };
            Node::Enum { name: name.to_owned(), variants: variants.iter().enumerate().map(variant).collect() }
        })?;
        match node {
            Node::Enum { variants: known, .. }
                if known.iter().all(|known| variants.contains(&known.name.as_str())) => {}
            _ => return Err(self.trace.refuse(Reason::Varies)),
        }
        if !self.trace.slot(at).is_closed {
            let attempts =
                variants.iter().map(|_| Attempt { content: self.trace.new_slot(), ..Attempt::default() });
            let attempts: Vec<_> = attempts.collect();
            let slot = self.trace.slot(at);
            (slot.variants, slot.candidates, slot.is_closed) = (attempts, variants.len(), true);
        }
        let (explores, progress) = (self.explores, self.trace.progress);
        let slot = self.trace.slot(at);
        let is_due = |attempt: &Attempt| explores && !attempt.is_done && attempt.tried != Some(progress);
        let Some(index) = slot.variants.iter().position(is_due).or(slot.good) else {
            return Err(self.trace.cut());
        };
        let Some(attempt) = slot.variants.get_mut(index) else { return Err(self.trace.cut()) };
        let content = attempt.content;
        if explores && !attempt.is_done {
            attempt.tried = Some(progress);
            self.trace.has_attempted = true;
        }
        Ok((index, content))
    }

    /// After the variant was made.
    fn chosen(&mut self, index: usize, content: At) {
        let at = self.at;
        let is_done = self.trace.explored(content);
        let slot = self.trace.slot(at);
        slot.good.get_or_insert(index);
        if let Some(attempt) = slot.variants.get_mut(index)
            && is_done
            && !attempt.is_done
        {
            attempt.is_done = true;
            self.trace.progress += 1;
        }
        let is_explored = self.trace.slot(at).variants.iter().all(|attempt| attempt.is_done);
        self.trace.set_explored(at, is_explored);
        self.leave();
    }
}

/// What has a fixed number of parts.
#[derive(Clone, Copy)]
enum Kind {
    /// Its name, if it has one.
    Tuple(&'static str),
    Struct(&'static str, &'static [&'static str]),
}

/// A value with a fixed number of parts that is being made.
struct Opened {
    parts: Vec<At>,
    made: Node,
    is_closed: bool,
    most: usize,
}

macro_rules! leaves {
    ($($method:ident $leaf:ident $visit:ident [$($candidate:expr),+];)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
            self.leaf(Leaf::$leaf, &[$($candidate),+], V::$visit, visitor)
        }
    )+};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = SchemaError;

    fn is_human_readable(&self) -> bool {
        self.trace.is_human_readable
    }

    leaves! {
        deserialize_bool Bool visit_bool [false, true];
        deserialize_i8 I8 visit_i8 [0, 1, 2, 7, -1, 100];
        deserialize_i16 I16 visit_i16 [0, 1, 2, 7, -1, 1000];
        deserialize_i32 I32 visit_i32 [0, 1, 2, 7, -1, 1000];
        deserialize_i64 I64 visit_i64 [0, 1, 2, 7, -1, 1000];
        deserialize_i128 I128 visit_i128 [0, 1, 2, 7, -1, 1000];
        deserialize_u8 U8 visit_u8 [0, 1, 2, 7, 100];
        deserialize_u16 U16 visit_u16 [0, 1, 2, 7, 1000];
        deserialize_u32 U32 visit_u32 [0, 1, 2, 7, 1000];
        deserialize_u64 U64 visit_u64 [0, 1, 2, 7, 1000];
        deserialize_u128 U128 visit_u128 [0, 1, 2, 7, 1000];
        deserialize_f32 F32 visit_f32 [0.0, 1.0, 0.5, -1.0];
        deserialize_f64 F64 visit_f64 [0.0, 1.0, 0.5, -1.0];
        deserialize_char Char visit_char ['a', 'A', '0', ' '];
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.leaf(Leaf::Text, TEXTS, V::visit_str, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.leaf(Leaf::Text, TEXTS, |visitor: V, text| visitor.visit_string(text.to_owned()), visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.leaf(Leaf::Bytes, BYTES, V::visit_bytes, visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.leaf(Leaf::Bytes, BYTES, |visitor: V, bytes| visitor.visit_byte_buf(bytes.to_vec()), visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.leaf(Leaf::Unit, &[()], |visitor: V, ()| visitor.visit_unit(), visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, SchemaError> {
        Err(self.trace.refuse(Reason::Any { value: type_name::<V::Value>() }))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_any(visitor)
    }

    /// A name is asked for by a struct that reads itself as a map, and by a tag.
    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, SchemaError> {
        let is_key = self.trace.key == Some(self.at);
        Err(self.trace.refuse(if is_key { Reason::Flatten } else { Reason::Varies }))
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        let (of, fills) = self.option(type_name::<V>())?;
        let value = if fills { visitor.visit_some(self.part(of)) } else { visitor.visit_none() }?;
        self.end(&[of], fills);
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let of = self.newtype(type_name::<V>(), name)?;
        let value = visitor.visit_newtype_struct(self.part(of)).map_err(|error| error.within(name))?;
        self.end(&[of], true);
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        let (of, parts) = self.list(type_name::<V>())?;
        let (at, most, made, mut taken) = (self.at, parts.len(), Node::Seq(of), 0);
        let value = visitor.visit_seq(Parts {
            probe: self.part(at),
            parts: &parts,
            made: &made,
            taken: &mut taken,
            most,
        })?;
        self.end(&parts, most > 0);
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, SchemaError> {
        self.fixed(len, Kind::Tuple(""), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.fixed(len, Kind::Tuple(name), visitor).map_err(|error| error.within(name))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let mut probe = self;
        probe.check_fields(fields)?;
        probe.fixed(fields.len(), Kind::Struct(name, fields), visitor).map_err(|error| error.within(name))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SchemaError> {
        let (key, value, fills) = self.map(type_name::<V>())?;
        let (at, left) = (self.at, usize::from(fills));
        let map = visitor.visit_map(Pairs { probe: self.part(at), key, value, left })?;
        self.end(&[key, value], fills);
        Ok(map)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let (index, content) = self.choose(type_name::<V>(), name, variants)?;
        let at = self.at;
        let value = visitor.visit_enum(Choice { probe: self.part(at), index, content }).map_err(|error| {
            let label = variants.get(index).copied().unwrap_or_default();
            error.within_variant(label, name)
        })?;
        self.chosen(index, content);
        Ok(value)
    }
}
