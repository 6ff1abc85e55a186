//! What the log of a checkpoint says: plans and commits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_operators::schema::Shape;
use tidemill_operators::{Epoch, EventTime, KeyGroups, Mode, ProcessingTime};

/// A position in a source. In formats for people it is the JSON that it is; in the log, that JSON as text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Json(pub(crate) serde_json::Value);

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return serde_json::Value::deserialize(deserializer).map(Json);
        }
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Json).map_err(serde::de::Error::custom)
    }
}

/// Which log counts, and which run of which query has it. The file `current` holds this; to replace it is how a run
/// begins and how one log gives way to the next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) query: String,
    /// From 1; one more with every run.
    pub(crate) execution: u64,
    /// The number of the log.
    pub(crate) log: u64,
    /// How many frames the log has at least: those that it had when the last run began or ended in order.
    pub(crate) frames: u64,
}

/// The first record of a log: how many records were carried over from the log before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    pub(crate) query: String,
    pub(crate) log: u64,
    pub(crate) execution: u64,
    pub(crate) carried: u32,
}

/// A record after the opening.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    Plan(PlanRecord),
    Commit(Box<CommitRecord>),
    Reserve(Reserved),
    /// What the logs of sources hold at least, by uid of the source.
    Sources(BTreeMap<String, LogMark>),
    /// The number of key groups of the state. A log without this record has the 128 of the format.
    KeyGroups(KeyGroups),
}

/// Epoch numbers that a run without plans may show to sinks: the next run begins behind them, or replays plans.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Reserved {
    pub(crate) execution: u64,
    /// The first epoch that is free. A later record replaces an earlier one.
    pub(crate) until: Epoch,
}

/// How far the log of a source reached when what it holds began to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LogMark {
    /// In bytes.
    pub(crate) length: u64,
    /// The xxh3 of these bytes.
    pub(crate) digest: u64,
}

/// What an epoch will read, durable before it reads it: a replay reads the same, under the same clock and watermarks.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PlanRecord {
    pub(crate) epoch: Epoch,
    pub(crate) execution: u64,
    pub(crate) mode: Mode,
    /// The processing time that the epoch sees.
    pub(crate) clock: ProcessingTime,
    /// With which watermark the epoch begins, by uid of the operator that assigns it.
    pub(crate) watermarks: BTreeMap<String, EventTime>,
    /// From where to where each partition is read, by uid of the source.
    pub(crate) ranges: BTreeMap<String, Vec<(Json, Json)>>,
    /// Whether it is the first that its run has planned: no partition fell silent before.
    pub(crate) begins_run: bool,
    /// The partitions that had ended when the epoch was planned, by uid of the source: it reads nothing of them.
    pub(crate) ended: BTreeMap<String, Vec<u32>>,
}

/// All that makes up the query at the end of an epoch. That it is in the log is what makes the epoch committed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CommitRecord {
    pub(crate) epoch: Epoch,
    pub(crate) execution: u64,
    pub(crate) mode: Mode,
    pub(crate) workers: u32,
    pub(crate) query: String,
    /// Of the graph.
    pub(crate) fingerprint: String,
    /// The processing time that the epoch saw.
    pub(crate) clock: ProcessingTime,
    /// When it was committed.
    pub(crate) committed_at: ProcessingTime,
    /// Where each partition resumes, by uid of the source.
    pub(crate) offsets: BTreeMap<String, Vec<Json>>,
    /// The shape of the offsets of each source, by uid.
    pub(crate) offset_shapes: BTreeMap<String, Shape>,
    /// By uid of the operator that assigns them.
    pub(crate) watermarks: BTreeMap<String, WatermarkRecord>,
    /// Operators with state, by uid.
    pub(crate) operators: BTreeMap<String, OperatorRecord>,
    /// Processing-time calls that were asked for, by uid and worker.
    pub(crate) timers: BTreeMap<String, Vec<(u32, ProcessingTime)>>,
    /// What each sink instance wants to know again, by uid.
    pub(crate) sinks: BTreeMap<String, Vec<Vec<u8>>>,
    /// The files that make up the state, the oldest first. Filled in by the store.
    pub(crate) files: Vec<FileRef>,
    /// The oldest epoch whose files are still kept. Filled in by the store.
    pub(crate) oldest: Epoch,
    pub(crate) seed: u64,
}

/// A watermark and what it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WatermarkRecord {
    pub(crate) watermark: EventTime,
    /// What it comes from; nothing where streams with different watermarks are joined.
    pub(crate) partitions: Vec<PartitionRecord>,
    /// The settings that it depends on, by name, in order.
    pub(crate) settings: Settings,
}

/// Settings that a state depends on, by name, in order.
pub(crate) type Settings = Vec<(String, String)>;

/// What a partition of a watermark has shown.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PartitionRecord {
    /// Of the source; of the operator that assigns the watermark, for rows that were mixed before.
    pub(crate) uid: String,
    /// As watermarks count them.
    pub(crate) partition: u32,
    /// Of the slice that has shown it, while rows of an earlier one were unread; else 0.
    pub(crate) rank: u64,
    pub(crate) shown: EventTime,
    pub(crate) is_idle: bool,
    /// When it last showed a record.
    pub(crate) seen: Option<ProcessingTime>,
}

/// An operator with state.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OperatorRecord {
    pub(crate) label: String,
    /// The user's file and line.
    pub(crate) location: String,
    /// The types of its state, in words.
    pub(crate) state_type: String,
    /// The settings that its state depends on.
    pub(crate) settings: Settings,
    /// The shape of its keys, and of what it keeps for a key, in all files of this commit.
    pub(crate) key: Option<Shape>,
    pub(crate) value: Option<Shape>,
    pub(crate) rows: u64,
}

/// A file of state, as it must be found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FileRef {
    pub(crate) name: String,
    pub(crate) len: u64,
    /// Of all its bytes.
    pub(crate) checksum: u64,
    pub(crate) epoch: Epoch,
    pub(crate) worker: u32,
    /// Whether it is a whole state, or changes to what the files before it come to.
    pub(crate) base: bool,
    /// The first and the last key group in it, if it has any.
    pub(crate) groups: Option<(u16, u16)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_keep_their_json_in_the_log_and_for_people() {
        let offset =
            Json(serde_json::json!({"file": "a.csv", "byte": u64::MAX, "at": null, "more": [-1, "x"]}));
        let bytes = postcard::to_stdvec(&offset).unwrap();
        assert_eq!(postcard::from_bytes::<Json>(&bytes).unwrap(), offset);
        let text = serde_json::to_string(&offset).unwrap();
        assert!(text.contains("\"byte\":18446744073709551615"), "{text}");
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), offset);
    }
}
