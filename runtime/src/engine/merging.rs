//! How much arrangements of tables merge on their own.
//!
//! Without updates they would not merge: the batches of what has been loaded, or deleted, would stay apart. So they become small again
//! after deletes, and a row is found in fewer places. Each update costs a fixed number of merges more.

use std::sync::Arc;

use timely::WorkerConfig;

/// How many updates an arrangement merges in an activation, beyond those that new ones pay for.
const MERGED: usize = 1_000;
/// The smaller batches of an arrangement are merged into the greatest once they have more than this part of its updates.
const SMALL_PART: usize = 4;

/// By layers with their index, the number of their batches and that of their updates, the greatest layer first.
type Effort = Arc<dyn for<'a> Fn(&'a [(usize, usize, usize)]) -> Option<usize> + Send + Sync>;

/// Puts the effort where arrangements look for it.
pub(super) fn merging(mut config: WorkerConfig) -> WorkerConfig {
    config.set("differential/default_exert_logic".to_owned(), merge_effort());
    config
}

/// Returns the function that tells how much an arrangement merges.
pub(crate) fn merge_effort() -> Effort {
    Arc::new(effort)
}

fn effort(layers: &[(usize, usize, usize)]) -> Option<usize> {
    let (mut greatest, mut others) = (0, 0);
    for (_, batches, updates) in layers {
        if *batches > 1 {
            return Some(MERGED);
        }
        if greatest == 0 {
            greatest = *updates;
        } else {
            others += updates;
        }
    }
    (others > greatest / SMALL_PART).then_some(MERGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_are_merged_once_they_are_many() {
        assert_eq!(effort(&[]), None);
        assert_eq!(effort(&[(20, 0, 0), (17, 1, 100_000), (3, 1, 8)]), None);
        assert_eq!(effort(&[(17, 1, 100_000), (14, 1, 16_000), (13, 1, 9_001)]), Some(MERGED));
        assert_eq!(effort(&[(17, 1, 100_000), (3, 2, 8)]), Some(MERGED));
    }
}
