//! Whether a graph can resume from a commit: every operator, watermark, sink and source in it, by uid.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_operators::graph::{Node, NodeId, NodeKind};
use tidemill_operators::{ErasedOffset, SourceInfo};

use super::schema::{Conversions, check_shapes, schema_of};
use super::settings::{check_settings, of_derived, recorded};
use super::states::{self, state_uid, states_of};
use crate::RunError;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::records::{CommitRecord, OperatorRecord, WatermarkRecord};
use crate::error::Site;
use crate::options::Options;
use crate::plan::Layout;

/// A uid that nothing has is a mistyped one, and what was to be given up would stay.
pub(super) fn refuse_unknown(
    commit: Option<&CommitRecord>,
    layout: &Layout,
    options: &Options,
) -> Result<(), RunError> {
    let states: Vec<String> = layout
        .nodes
        .iter()
        .flat_map(|node| states_of(node).iter().map(|state| state_uid(node, &state.name)))
        .collect();
    let mut known: BTreeSet<&str> = layout.nodes.iter().map(Node::uid).collect();
    known.extend(states.iter().map(String::as_str));
    if let Some(commit) = commit {
        known.extend(commit.operators.keys().chain(commit.watermarks.keys()).map(String::as_str));
        known.extend(commit.offsets.keys().chain(commit.sinks.keys()).map(String::as_str));
    }
    let Some(unknown) = options.drop_state.iter().find(|uid| !known.contains(uid.as_str())) else {
        return Ok(());
    };
    let known: Vec<_> = known.iter().map(|uid| format!("`{uid}`")).collect();
    Err(RunError::Options {
        option: "--drop-state",
        problem: format!(
            "neither the checkpoint nor the graph has the uid `{unknown}`: correct it, or leave the flag out if \
             this uid was dropped before; there are {}",
            known.join(", ")
        ),
    })
}

/// Adds to an error of what the graph has lost all the rest of it, so that it need not be found out one by one.
pub(super) fn with_all_lost(
    error: RunError,
    commit: &CommitRecord,
    layout: &Layout,
    options: &Options,
) -> RunError {
    let has = |node: &Node, uid: &String| {
        node.uid() == uid || states_of(node).iter().any(|state| state_uid(node, &state.name) == *uid)
    };
    let is_there = |uid: &String| layout.nodes.iter().any(|node| has(node, uid));
    let shows = commit.sinks.iter().filter(|(_, prepared)| prepared.iter().any(|bytes| !bytes.is_empty()));
    let kept = commit.operators.keys().chain(commit.watermarks.keys()).chain(commit.offsets.keys());
    let lost: BTreeSet<&String> = kept
        .chain(shows.map(|(uid, _)| uid))
        .filter(|uid| !is_there(uid) && !options.drop_state.contains(*uid))
        .collect();
    match error {
        RunError::Restore { site, mut problem } if lost.len() > 1 => {
            let flags: Vec<_> = lost.iter().map(|uid| format!("--drop-state {uid}")).collect();
            // The rest may depend on the one uid: a sink is known by what leads to it.
            problem += &format!(
                ". The graph has lost {} uids of the checkpoint in all; restoring one may restore others, which are derived \
                 from it. To drop all of them: {}. A dropped sink may lose rows that are committed and not yet published: \
                 run the old graph once more and stop it in order first",
                lost.len(),
                flags.join(" ")
            );
            RunError::Restore { site, problem }
        }
        error => error,
    }
}

pub(super) fn check_operators(
    commit: &CommitRecord,
    now: &BTreeMap<String, OperatorRecord>,
    layout: &Layout,
    options: &Options,
) -> Result<Conversions, RunError> {
    let mut conversions = Conversions::new();
    for (uid, was) in &commit.operators {
        if options.drop_state.contains(uid) {
            continue;
        }
        let Some(is) = now.get(uid) else {
            return Err(RunError::Restore {
                site: Site { operator: was.label.clone(), location: was.location.clone() },
                problem: lost_state(uid, was, now).unwrap_or_else(|| format!(
                    "the checkpoint holds its state (uid `{uid}`), but the graph has no such operator any more: \
                     give its successor that uid, or drop the state with --drop-state {uid}"
                )),
            });
        };
        let site = Site { operator: is.label.clone(), location: is.location.clone() };
        check_settings("its state", uid, &site, &was.settings, &is.settings)?;
        let of_node = layout.nodes.iter().find(|node| node.uid() == uid).and_then(schema_of);
        let schema =
            of_node.or_else(|| states::state_with_uid(&layout.nodes, uid).map(|state| &state.schema));
        conversions.extend(check_shapes(uid, &site, was, is, schema)?.map(|convert| (uid.clone(), convert)));
    }
    Ok(conversions)
}

/// What to say of a state whose operator is there and has no state of that name any more.
fn lost_state(uid: &str, was: &OperatorRecord, now: &BTreeMap<String, OperatorRecord>) -> Option<String> {
    let (owner, name) = states::owner(uid, was)?;
    now.contains_key(owner).then(|| {
        format!(
            "the checkpoint holds its state `{name}` (uid `{uid}`), but the operator has no state of this name any more: \
             restore the name of the state, or drop its content with --drop-state {uid}"
        )
    })
}

/// Names the operator whose state cannot be converted.
pub(super) fn located(error: CheckpointError, operators: &BTreeMap<String, OperatorRecord>) -> RunError {
    match error {
        CheckpointError::OtherType { what, problem } => {
            let record = operators.get(&what).cloned().unwrap_or_default();
            let problem = format!(
                "the type of its state (uid `{what}`) has changed since the checkpoint: {problem}. Give new fields a \
                 `#[serde(default)]` and renamed ones an `#[serde(alias)]`; or give the operator a new uid; or start this uid \
                 without its old state: --drop-state {what}"
            );
            RunError::Restore { site: Site { operator: record.label, location: record.location }, problem }
        }
        error => error.into(),
    }
}

/// A watermark that no operator resumes from would restart at the minimum, and take records that were late for ones in time.
pub(super) fn check_watermarks(
    commit: &CommitRecord,
    layout: &Layout,
    options: &Options,
) -> Result<(), RunError> {
    let assigners = layout.domains();
    let is_there = |uid: &String| assigners.iter().flatten().any(|node| node.uid() == uid);
    // That of a union has no partitions, and follows from the others; so does one that an operator derived.
    let is_assigned =
        |record: &WatermarkRecord| !record.partitions.is_empty() && record.settings != of_derived();
    let assigned = commit.watermarks.iter().filter(|(_, record)| is_assigned(record));
    match assigned.map(|(uid, _)| uid).find(|uid| !options.drop_state.contains(uid) && !is_there(uid)) {
        None => {
            for node in assigners.iter().copied().flatten() {
                let was = commit
                    .watermarks
                    .get(node.uid())
                    .filter(|_| !options.drop_state.iter().any(|u| u == node.uid()));
                if let (Some(was), Some(spec)) = (was, node.watermark()) {
                    let is = recorded(&spec.settings());
                    check_settings("its watermark", node.uid(), &Site::of(node), &was.settings, &is)?;
                }
            }
            Ok(())
        }
        Some(uid) => Err(RunError::Restore {
            site: Site { operator: uid.clone(), location: String::new() },
            problem: format!(
                "the checkpoint holds the watermark of this uid, but nothing of this uid assigns one any more: give the \
                 stream that uid where its watermark is assigned, as it was before the graph changed \
                 (`with_watermark(…).uid(\"…\")`), or reset the watermark with --drop-state {uid}"
            ),
        }),
    }
}

/// A sink may still have to publish what it has prepared: a sink that does not know of it would drop it.
pub(super) fn check_sinks(commit: &CommitRecord, layout: &Layout, options: &Options) -> Result<(), RunError> {
    let is_there = |uid: &String| {
        let sink = |node: &&Node| matches!(node.kind, NodeKind::Sink { .. }) && node.uid() == uid;
        layout.nodes.iter().any(|node| sink(&node))
    };
    let lost = commit.sinks.iter().find(|(uid, prepared)| {
        prepared.iter().any(|bytes| !bytes.is_empty()) && !options.drop_state.contains(uid) && !is_there(uid)
    });
    match lost {
        None => Ok(()),
        Some((uid, _)) => Err(RunError::Restore {
            site: Site { operator: uid.clone(), location: String::new() },
            problem: format!(
                "the query has written to a sink of this uid, which may still have to publish committed rows, but the graph \
                 has no such sink any more (its uid derives from the steps and uids before it): resume with the old graph; \
                 or run the old graph once more and stop it in order, so that all rows are published, and then start this \
                 one with --drop-state {uid}"
            ),
        }),
    }
}

pub(super) fn source_offsets(
    commit: &CommitRecord,
    layout: &Layout,
    options: &Options,
) -> Result<BTreeMap<NodeId, Vec<ErasedOffset>>, RunError> {
    let mut offsets = BTreeMap::new();
    for (uid, at) in &commit.offsets {
        if options.drop_state.contains(uid) {
            continue;
        }
        let node = layout.nodes.iter().find(|node| node.uid() == uid);
        let Some((node, NodeKind::Source(source))) = node.map(|node| (node, &node.kind)) else {
            return Err(RunError::Restore {
                site: Site { operator: uid.clone(), location: String::new() },
                problem: format!(
                    "the query has read from a source of this uid, which the graph no longer has: give its \
                     successor that uid, or drop its position with --drop-state {uid}"
                ),
            });
        };
        if let (Some(old), Some(new)) = (commit.offset_shapes.get(uid), source.offset_shape())
            && let Err(difference) = old.fit(&new)
        {
            return Err(RunError::Restore {
                site: Site::of(node),
                problem: format!(
                    "the type of its offsets (uid `{uid}`) has changed since the checkpoint: {difference}. Resume with the \
                     source as it was; or give this one a new uid and drop the position of the old one: --drop-state {uid}"
                ),
            });
        }
        offsets.insert(node.id, at.iter().map(|offset| offset.0.clone()).collect());
    }
    Ok(offsets)
}

/// Refuses a source that has another number of partitions than its checkpoint, unless those that are new may be.
pub(super) fn refuse_other_partitions(
    layout: &Layout,
    node: NodeId,
    was: usize,
    info: &SourceInfo<ErasedOffset>,
) -> Result<(), RunError> {
    if info.fits(was) {
        return Ok(());
    }
    let is = info.partitions();
    let uid = layout.nodes.get(node.0).map_or("", Node::uid);
    Err(RunError::Restore {
        site: layout.site(node),
        problem: format!(
            "it had {was} partitions in the checkpoint and has {is} now. Keep the number: with another one, rows would be \
             read twice or not at all. To read all input again, use a new checkpoint and new outputs: with --drop-state \
             {uid} alone, windows, state and outputs get the same rows a second time"
        ),
    })
}
