//! States with names: to a checkpoint each is an operator of its own, `UID/NAME`. So one that is new begins empty, one that the
//! graph has no more is refused or given up by that uid, and each has its own types.

use std::collections::BTreeMap;

use tidemill_operators::graph::{Node, NodeKind, StateSpec};

use super::settings::recorded;
use crate::checkpoint::records::OperatorRecord;
use crate::error::Site;

/// The setting of a state that names its operator.
const OWNER: &str = "state of";

/// The states of a node that have names.
pub(crate) fn states_of(node: &Node) -> &[StateSpec] {
    match &node.kind {
        NodeKind::Operator(spec) => &spec.states,
        _ => &[],
    }
}

/// Under which uid a state is kept.
pub(crate) fn state_uid(node: &Node, name: &str) -> String {
    format!("{}/{name}", node.uid())
}

/// The states of a node as commits name them.
pub(super) fn records(node: &Node) -> impl Iterator<Item = (String, OperatorRecord)> {
    states_of(node).iter().map(|state| {
        let Site { operator, location } = Site::of(node);
        let owner = [(OWNER, node.uid().to_owned()), ("kind", state.kind.to_owned())];
        let settings = recorded(&owner);
        let record = OperatorRecord {
            label: format!("{operator} (state `{}`)", state.name),
            location,
            state_type: String::new(),
            settings,
            key: state.schema.key.shape().ok(),
            value: state.schema.value.shape().ok(),
            rows: 0,
        };
        (state_uid(node, &state.name), record)
    })
}

/// The state of a node that has that uid.
pub(super) fn state_with_uid<'a>(nodes: &'a [Node], uid: &str) -> Option<&'a StateSpec> {
    let of_node = |node: &'a Node| states_of(node).iter().find(|state| state_uid(node, &state.name) == uid);
    nodes.iter().find_map(of_node)
}

/// The operator whose state that is, and the name of the state; nothing where it is the state of an operator itself.
pub(crate) fn owner<'a>(uid: &'a str, record: &'a OperatorRecord) -> Option<(&'a str, &'a str)> {
    let (_, owner) = record.settings.iter().find(|(name, _)| name == OWNER)?;
    Some((owner.as_str(), uid.strip_prefix(owner.as_str())?.trim_start_matches('/')))
}

/// Who gives up the state of an operator gives up all of its states.
pub(super) fn with_states(dropped: &[String], recorded: &BTreeMap<String, OperatorRecord>) -> Vec<String> {
    let is_of_dropped = |(uid, record): &(&String, &OperatorRecord)| {
        owner(uid, record).is_some_and(|(owner, _)| dropped.iter().any(|dropped| dropped == owner))
    };
    let states = recorded.iter().filter(is_of_dropped).map(|(uid, _)| uid.clone());
    let mut all = dropped.to_vec();
    all.extend(states.filter(|uid| !dropped.contains(uid)));
    all
}
