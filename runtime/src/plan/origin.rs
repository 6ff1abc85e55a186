//! Partitions as rows and watermarks count them.

use std::collections::BTreeMap;

use tidemill_operators::graph::NodeId;
use tidemill_operators::{ErasedOffset, SourceInfo};

use crate::ledger::PartitionSpec;

/// The number under which rows of a source's partition are known in the whole graph. Numbers without a node stand for
/// rows that no longer belong to a partition.
pub(crate) fn origin(source: NodeId, watermark_partition: u32) -> u32 {
    // A source has at most 2^16 partitions, or is refused.
    ((source.0 as u32 + 1) << 16) | (watermark_partition & 0xffff)
}

/// The source and the partition of such a number; no source where it stands for mixed rows.
pub(crate) fn from_origin(origin: u32) -> (Option<NodeId>, u32) {
    ((origin >> 16).checked_sub(1).map(|node| NodeId(node as usize)), origin & 0xffff)
}

/// The partitions of a source, as watermarks count them, with their readers.
pub(super) fn partitions_of(id: NodeId, source: &SourceInfo<ErasedOffset>) -> Vec<PartitionSpec> {
    let mut readers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for reader in 0..source.partitions() {
        readers.entry(origin(id, source.watermark_partition(reader))).or_default().push(reader);
    }
    let has_ranks = source.is_sliced();
    readers.into_iter().map(|(origin, readers)| PartitionSpec { origin, readers, has_ranks }).collect()
}
