//! Files that grow: how far one may be read now.
//!
//! A followed file is one block, and the partition that has it reads every line as it is completed. When the partition
//! gets another file, the one before is read to its end, and not looked at again.

use tidemill_operators::SourceError;

use super::catalogue::{Catalogue, Position, Settings};
use super::scan::Opened;

/// Where the complete lines of a partition's newest file end.
pub(super) fn latest(
    catalogue: &Catalogue,
    settings: &Settings,
    partition: u32,
    from: Position,
) -> Result<Position, SourceError> {
    let (partition, step) = (u64::from(partition), u64::from(settings.partitions));
    let Some(newest) =
        catalogue.total().checked_sub(partition + 1).map(|last| last / step * step + partition)
    else {
        return Ok(from);
    };
    let Some(block) = catalogue.block(newest, settings).filter(|_| newest >= from.block) else {
        return Ok(from);
    };
    let begin = if newest == from.block { from.byte } else { 0 };
    let mut file = Opened::open(&block.path)?;
    let length = file.len()?;
    Ok(Position { block: newest, byte: file.last_line_end(begin, length)? })
}
