//! Partitions as rows and watermarks count them.

use std::collections::BTreeMap;

use tidemill_operators::DynSource;
use tidemill_operators::graph::{Node, NodeId, NodeKind};

use crate::ledger::PartitionSpec;
use crate::user_code::code_of;

/// The number under which rows of a source's partition are known in the whole graph. Numbers without a node stand for
/// rows that no longer belong to a partition.
pub(crate) fn origin(source: NodeId, watermark_partition: u32) -> u32 {
    ((source.0 as u32 + 1) << 16) | (watermark_partition & 0xffff)
}

/// The source and the partition of such a number; no source where it stands for mixed rows.
pub(crate) fn from_origin(origin: u32) -> (Option<NodeId>, u32) {
    ((origin >> 16).checked_sub(1).map(|node| NodeId(node as usize)), origin & 0xffff)
}

/// Whether the partitions of a source are slices of fewer sequences.
pub(crate) fn is_sliced(source: &dyn DynSource) -> bool {
    let partitions = source.partitions();
    let mut named: Vec<u32> = (0..partitions).map(|p| source.watermark_partition(p)).collect();
    named.sort_unstable();
    named.dedup();
    named.len() < partitions as usize
}

/// The partitions of a source, as watermarks count them, with their readers.
pub(super) fn partitions_of(id: NodeId, nodes: &[Node]) -> Vec<PartitionSpec> {
    let Some(NodeKind::Source(source)) = nodes.get(id.0).map(|node| &node.kind) else { return Vec::new() };
    let mut readers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let has_ranks = code_of(id, || {
        for reader in 0..source.partitions() {
            readers.entry(origin(id, source.watermark_partition(reader))).or_default().push(reader);
        }
        is_sliced(&**source)
    });
    readers.into_iter().map(|(origin, readers)| PartitionSpec { origin, readers, has_ranks }).collect()
}
