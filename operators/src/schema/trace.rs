//! What is known of a type while it is probed: its parts, how often each has been tried, and what can be made.

use super::SchemaError;
use super::refusal::Reason;
use super::shape::{At, Node, Variant};
use super::walk::Draft;

/// A part of the type.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) node: Node,
    /// The part that this one is again: the type contains itself.
    pub(super) alias: Option<At>,
    pub(super) is_explored: bool,
    /// Whether the visitor has ever been satisfied: how many parts there are is known.
    pub(super) is_closed: bool,
    /// The progress at the last attempt to make the content, and whether it could be made.
    pub(super) tried: Option<u64>,
    pub(super) is_made: bool,
    /// Which candidate comes next, and how many there are.
    pub(super) candidate: usize,
    pub(super) candidates: usize,
    pub(super) variants: Vec<Attempt>,
    /// A variant that can be made.
    pub(super) good: Option<usize>,
}

/// A variant.
#[derive(Clone, Copy, Default)]
pub(super) struct Attempt {
    pub(super) content: At,
    pub(super) tried: Option<u64>,
    pub(super) is_done: bool,
}

pub(super) struct Trace {
    pub(super) slots: Vec<Slot>,
    /// The visitors at work, by type, with their parts.
    pub(super) stack: Vec<(&'static str, At)>,
    pub(super) refused: Option<Reason>,
    pub(super) progress: u64,
    /// The last key of a map that was made up.
    pub(super) key: Option<At>,
    /// The last plain value that was made up.
    pub(super) last: Option<At>,
    /// The pass ended because something cannot be made yet, not because a value was rejected.
    pub(super) was_cut: bool,
    /// The pass has tried to make something that is not fully known: the next one may take another way.
    pub(super) has_attempted: bool,
    pub(super) is_human_readable: bool,
}

impl Trace {
    pub(super) fn new(is_human_readable: bool) -> Self {
        Trace {
            slots: vec![Slot::default()],
            stack: Vec::new(),
            refused: None,
            progress: 0,
            key: None,
            last: None,
            was_cut: false,
            has_attempted: false,
            is_human_readable,
        }
    }

    pub(super) fn begin(&mut self) {
        self.stack.clear();
        self.last = None;
        self.was_cut = false;
        self.has_attempted = false;
    }

    pub(super) fn slot(&mut self, at: At) -> &mut Slot {
        let at = at as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::default);
        }
        // Just made sure of; an index would have to be allowed.
        #[allow(clippy::indexing_slicing, reason = "the line above has made room")]
        &mut self.slots[at]
    }

    pub(super) fn new_slot(&mut self) -> At {
        self.slots.push(Slot::default());
        (self.slots.len() - 1) as At
    }

    /// After a pass that failed: another value next time.
    pub(super) fn blame(&mut self) {
        if self.was_cut {
            return;
        }
        if let Some(at) = self.last {
            let slot = self.slot(at);
            if slot.candidate + 1 < slot.candidates {
                slot.candidate += 1;
                self.progress += 1;
            }
        }
    }

    pub(super) fn refuse(&mut self, reason: Reason) -> SchemaError {
        self.refused.get_or_insert(reason);
        SchemaError::new("refused")
    }

    pub(super) fn cut(&mut self) -> SchemaError {
        self.was_cut = true;
        SchemaError::new("cut")
    }

    /// Notes what a part is. A part that was something else before has a shape that depends on values.
    pub(super) fn note(&mut self, at: At, make: &dyn Fn(&mut Trace) -> Node) -> Result<Node, SchemaError> {
        let known = self.slot(at).node.clone();
        if known == Node::Unknown {
            let node = make(self);
            self.slot(at).node = node.clone();
            self.progress += 1;
            return Ok(node);
        }
        Ok(known)
    }

    pub(super) fn explored(&mut self, at: At) -> bool {
        self.slot(at).is_explored
    }

    pub(super) fn set_explored(&mut self, at: At, is_explored: bool) {
        let slot = self.slot(at);
        if is_explored && !slot.is_explored {
            slot.is_explored = true;
            self.progress += 1;
        }
    }

    pub(super) fn finish(mut self) -> Draft {
        let mut order: Vec<At> = Vec::new();
        self.number(0, &mut order);
        let place = |trace: &Trace, at: At| {
            let at = trace.target(at);
            order.iter().position(|other| *other == at).unwrap_or_default() as At
        };
        let mut draft = Draft::default();
        for at in &order {
            let Some(slot) = self.slots.get(*at as usize) else { continue };
            let moved = |at: &At| place(&self, *at);
            let node = match &slot.node {
                Node::Unknown => Node::Unknown,
                Node::Leaf(leaf) => Node::Leaf(*leaf),
                Node::Newtype { name, of } => Node::Newtype { name: name.clone(), of: moved(of) },
                Node::Option(of) => Node::Option(moved(of)),
                Node::Seq(of) => Node::Seq(moved(of)),
                Node::Map(key, value) => Node::Map(moved(key), moved(value)),
                Node::Tuple { name, parts } => {
                    Node::Tuple { name: name.clone(), parts: parts.iter().map(moved).collect() }
                }
                Node::Struct { name, fields } => {
                    let fields = fields.iter().map(|(name, at)| (name.clone(), moved(at)));
                    Node::Struct { name: name.clone(), fields: fields.collect() }
                }
                Node::Enum { name, variants } => {
                    let variants = variants.iter().zip(&slot.variants);
                    let variants = variants.map(|(variant, attempt)| Variant {
                        content: moved(&attempt.content),
                        ..variant.clone()
                    });
                    Node::Enum { name: name.clone(), variants: variants.collect() }
                }
            };
            let names = match &node {
                Node::Struct { fields, .. } => slot.candidates != fields.len(),
                Node::Enum { variants, .. } => slot.candidates != variants.len(),
                _ => false,
            };
            draft.push(node, names, !slot.is_closed);
        }
        draft
    }

    pub(super) fn target(&self, at: At) -> At {
        self.slots.get(at as usize).and_then(|slot| slot.alias).unwrap_or(at)
    }

    /// The parts in the order in which they come.
    pub(super) fn number(&mut self, at: At, order: &mut Vec<At>) {
        let at = self.target(at);
        if order.contains(&at) {
            return;
        }
        order.push(at);
        let slot = self.slot(at);
        let parts: Vec<At> = match &slot.node {
            Node::Unknown | Node::Leaf(_) => Vec::new(),
            Node::Newtype { of, .. } | Node::Option(of) | Node::Seq(of) => vec![*of],
            Node::Map(key, value) => vec![*key, *value],
            Node::Tuple { parts, .. } => parts.clone(),
            Node::Struct { fields, .. } => fields.iter().map(|(_, at)| *at).collect(),
            Node::Enum { .. } => slot.variants.iter().map(|attempt| attempt.content).collect(),
        };
        for part in parts {
            self.number(part, order);
        }
    }
}
