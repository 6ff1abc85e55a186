//! The types that a query keeps: refused where they could not be read back, and compared with what a checkpoint recorded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::GraphError;
use tidemill_operators::graph::{Node, NodeKind, Problem};
use tidemill_operators::schema::{Fit, Schema, Shape, StateSchema};

use crate::RunError;
use crate::checkpoint::compaction::Convert;
use crate::checkpoint::records::OperatorRecord;
use crate::error::Site;

/// Refuses a graph that keeps types which could not be read back. Types that stay in memory are not looked at.
pub(crate) fn refuse_types(nodes: &[Node], has_checkpoint: bool, spills: bool) -> Result<(), RunError> {
    let mut problems = Vec::new();
    for node in nodes {
        let mut check = |what: &str, schema: &Schema| {
            let refused = schema.shape().map(drop).and_then(|()| match &node.kind {
                // A restart finds the fields by name, once the type has been put right.
                NodeKind::Grouped(_) | NodeKind::Operator(_) if has_checkpoint => Ok(()),
                _ => schema.check_order(),
            });
            if let Err(refusal) = refused {
                let location = format!("{}:{}", node.location.file(), node.location.line());
                problems.push(Problem {
                    operator: node.label(),
                    location,
                    message: format!("{what} {refusal}"),
                });
            }
        };
        match &node.kind {
            NodeKind::Grouped(spec) if has_checkpoint => {
                check("the key of its state, which the checkpoint keeps:", &spec.schema.key);
                check("its state, which the checkpoint keeps:", &spec.schema.value);
            }
            NodeKind::Grouped(spec) if spills && spec.schema.spills => {
                check("its state, whose rows may be spilled (`--state-memory`):", &spec.schema.value);
            }
            NodeKind::Operator(spec) if has_checkpoint => {
                for state in &spec.states {
                    let name = &state.name;
                    check(
                        &format!("the key of its state `{name}`, which the checkpoint keeps:"),
                        &state.schema.key,
                    );
                    check(&format!("its state `{name}`, which the checkpoint keeps:"), &state.schema.value);
                }
            }
            NodeKind::Source(source) if has_checkpoint => {
                if let Some(records) = source.journal().and_then(|slot| slot.records()) {
                    check("a record, which its journal keeps:", records);
                }
            }
            _ => {}
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(GraphError { problems }.into()) }
}

/// The types of an operator's state, if it has said what they are.
pub(crate) fn schema_of(node: &Node) -> Option<&Arc<StateSchema>> {
    match &node.kind {
        NodeKind::Grouped(spec) => Some(&spec.schema),
        _ => None,
    }
}

/// The shapes of an operator's state as they are known now: of the keys, and of what is kept.
pub(crate) fn shapes_of(node: &Node) -> (Option<Shape>, Option<Shape>) {
    let Some(schema) = schema_of(node) else { return (None, None) };
    (schema.key.shape().ok(), schema.value.shape().ok())
}

/// Compares the recorded shapes of a state with those of the program. What has evolved is to be converted.
pub(super) fn check_shapes(
    uid: &str,
    site: &Site,
    was: &OperatorRecord,
    is: &OperatorRecord,
    schema: Option<&Arc<StateSchema>>,
) -> Result<Option<Convert>, RunError> {
    let refuse = |problem: String| {
        let problem = format!(
            "{problem}. Restore the old type; or give the operator a new uid; or start this uid without its \
             old state: --drop-state {uid}"
        );
        Err(RunError::Restore { site: site.clone(), problem })
    };
    let (Some(schema), Some(old), Some(new)) = (schema, &was.value, &is.value) else {
        if was.state_type == is.state_type && was.value.is_some() == is.value.is_some() {
            return Ok(None);
        }
        return refuse(format!(
            "its state (uid `{uid}`) was `{}` in the checkpoint and is `{}` now",
            was.state_type, is.state_type
        ));
    };
    if let Err(refusal) = schema.key.check_order().and(schema.value.check_order()) {
        return refuse(format!("its state (uid `{uid}`) cannot be restored: {refusal}"));
    }
    let mut old_key = None;
    if let (Some(old), Some(new)) = (&was.key, &is.key) {
        let difference = match old.fit(new) {
            Ok(Fit::Same) => None,
            // A type that rejects made-up values: each key is looked at instead.
            Ok(Fit::Evolved(_)) if new.is_partial() => {
                old_key = Some(old.clone());
                None
            }
            Ok(Fit::Evolved(difference)) | Err(difference) => Some(difference),
        };
        if let Some(difference) = difference {
            return refuse(format!(
                "the type of its keys (uid `{uid}`) has changed since the checkpoint: {difference}. Keys must stay as they \
                 are, because the hash of a key decides where its state is"
            ));
        }
    }
    match old.fit(new) {
        Ok(Fit::Same) if old_key.is_none() => Ok(None),
        Ok(_) => Ok(Some(convert(Arc::clone(schema), old_key, old.clone()))),
        Err(difference) => refuse(format!(
            "the type of its state (uid `{uid}`) has changed since the checkpoint: {difference}. Fields and variants \
             may be added, removed, reordered and renamed (`#[serde(default)]`, `#[serde(alias)]`), but a value must \
             keep its type"
        )),
    }
}

/// Rewrites values of an old shape in the form that the program reads. Keys have to stay what they are.
fn convert(schema: Arc<StateSchema>, old_key: Option<Shape>, old: Shape) -> Convert {
    Arc::new(move |slot, key, value| {
        if schema.own_slot == Some(slot) {
            return Ok(Cow::Borrowed(value));
        }
        if let Some(old) = &old_key {
            let now = schema.key.transcode(key, old).map_err(|error| format!("a key: {error}"))?;
            if now != key {
                return Err("the encoding of a key has changed, and keys must keep their type".to_owned());
            }
        }
        schema.value.transcode(value, &old).map(Cow::Owned).map_err(|error| error.to_string())
    })
}

/// What is to be converted, by uid.
pub(super) type Conversions = BTreeMap<String, Convert>;
