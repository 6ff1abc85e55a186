//! Types that a query keeps: what cannot be read back is refused, and what a journal has recorded is read by its shape.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill::prelude::*;
use tidemill::{Journal, tumbling};

trait Kept: Clone + Debug + Send + Sync + Serialize + DeserializeOwned + 'static {}
impl<T: Clone + Debug + Send + Sync + Serialize + DeserializeOwned + 'static> Kept for T {}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Click { page: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Page(u32),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Flattened {
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Inner {
    page: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Any(serde_json::Value);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<u32>,
    price: u32,
}

fn options(checkpoint: Option<&Path>) -> Options {
    let options = Options::default().without_ctrl_c();
    match checkpoint {
        Some(place) => options.with_checkpoint(place),
        None => options,
    }
}

/// What a query says that keeps the rows in the state of `collect`.
fn in_state<T: Kept>(row: &T, options: Options) -> Result<Vec<T>, String> {
    let graph = Graph::new("state");
    let (sink, table) = memory_sink();
    let rows = graph.source(memory(vec![row.clone(); 3])).uid("in");
    rows.key_by(|_| 0u8).collect().update().uid("rows").map(|(_, rows)| rows).sink(sink);
    graph.run(options).map_err(|error| error.to_string())?;
    Ok(table.snapshot().pop().unwrap())
}

fn as_key<T: Kept + Eq + std::hash::Hash>(row: &T, options: Options) -> Result<Vec<(T, u64)>, String> {
    let graph = Graph::new("key");
    let (sink, table) = memory_sink();
    graph.source(memory(vec![row.clone(); 3])).key_by(|row| row.clone()).count().update().sink(sink);
    graph.run(options).map_err(|error| error.to_string())?;
    Ok(table.snapshot())
}

/// Sends a record through a journaled source, whose query fails before anything is committed if it is to. The source does
/// not end: the end would be in the journal, too.
fn journaled<T: Kept>(row: Option<T>, fails: bool, place: &Path) -> Result<Vec<T>, String> {
    let (sender, source) = channel(8);
    if let Some(row) = row {
        sender.send(row).unwrap();
    }
    let graph = Graph::new("journal");
    let (sink, table) = memory_sink();
    let rows = graph.source(source.journaled()).uid("in");
    rows.inspect(move |_| assert!(!fails, "a crash")).sink(sink);
    let options = options(Some(place)).with_trigger(Trigger::AvailableNow);
    graph.run(options).map_err(|error| error.to_string())?;
    drop(sender);
    Ok(table.snapshot())
}

fn refused<T: Kept + Eq + std::hash::Hash>(row: &T, parts: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    let check = |result: Result<(), String>, use_: &str| {
        let message = result.unwrap_err();
        for part in parts.iter().chain(&["kept_types.rs:", use_, std::any::type_name::<T>()]) {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    };
    let checkpoint = |name: &str| options(Some(&place.path().join(name)));
    check(in_state(row, checkpoint("state")).map(drop), "its state, which the checkpoint keeps");
    check(as_key(row, checkpoint("key")).map(drop), "the key of its state");
    let kept = journaled(Some(row.clone()), false, &place.path().join("journal"));
    check(kept.map(drop), "a record, which its journal keeps");
    let spills = options(None).with_state_memory(1 << 20);
    check(in_state(row, spills).map(drop), "may be spilled");
    // What stays in memory is not checked.
    assert_eq!(in_state(row, options(None)).unwrap().len(), 3);
    assert_eq!(as_key(row, options(None)).unwrap().pop().unwrap().1, 3);
}

#[test]
fn tagged_enum_is_refused_where_it_is_kept() {
    refused(&Tagged::Click { page: 1 }, &["#[serde(tag"]);
}

#[test]
fn untagged_enum_is_refused_where_it_is_kept() {
    refused(&Untagged::Page(1), &["#[serde(untagged)]"]);
}

#[test]
fn flattened_struct_is_refused_where_it_is_kept() {
    refused(&Flattened { inner: Inner { page: 1 } }, &["#[serde(flatten)]"]);
}

#[test]
fn json_value_is_refused_where_it_is_kept() {
    refused(&Any(serde_json::json!({"a": 1})), &["serde_json", "as text"]);
}

#[test]
fn field_left_out_is_refused_when_it_is_written() {
    let place = tempfile::tempdir().unwrap();
    let row = Skipping { note: None, price: 7 };
    let checkpoint = |name: &str| options(Some(&place.path().join(name)));
    for message in [
        in_state(&row, checkpoint("state")).unwrap_err(),
        as_key(&row, checkpoint("key")).unwrap_err(),
        journaled(Some(row.clone()), false, &place.path().join("journal")).unwrap_err(),
    ] {
        assert!(
            message.contains("leaves out the field `note`") || message.contains("Skipping.note"),
            "{message}"
        );
        assert!(message.contains("skip_serializing_if"), "{message}");
    }
    assert_eq!(in_state(&row, options(None)).unwrap().len(), 3);
}

fn windows(graph: &Graph) -> tidemill::EventStream<WindowResult<i64, u64>> {
    graph
        .source(iterate(|| 0..2_000i64))
        .with_watermark(|s| EventTime::from_secs(*s), Duration::ZERO)
        .key_by(|s| s % 100)
        .window(tumbling(Duration::from_secs(100)))
        .count()
        .append()
}

#[test]
fn window_result_is_a_row_of_csv() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("counts.csv");
    let graph = Graph::new("csv");
    windows(&graph).sink(csv_sink(&file));
    graph.run(options(None)).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("start,end,key,value"));
    assert!(lines.next().unwrap().starts_with("1970-01-01T00:00:00"), "{text}");
    assert_eq!(lines.count(), 1_999);
}

#[test]
fn window_result_is_kept_in_state_and_spilled() {
    let place = tempfile::tempdir().unwrap();
    for options in [options(None), options(Some(&place.path().join("c"))).with_workers(2)] {
        let graph = Graph::new("state");
        let (sink, table) = memory_sink();
        windows(&graph)
            .key_by(|r| r.key)
            .reduce(|a, b| if a.window < b.window { b } else { a })
            .update()
            .sink(sink);
        graph.run(options).unwrap();
        let last = table.snapshot().into_iter().rfind(|(key, _)| *key == 7).unwrap().1;
        assert_eq!((last.window.start, last.value), (EventTime::from_secs(1_900), 1));
    }
    let graph = Graph::new("spill");
    let (sink, table) = memory_sink();
    let all = windows(&graph).key_by(|_| 0u8).window(tumbling(Duration::from_secs(1_000_000))).collect();
    all.append().sink(sink);
    graph.run(options(None).with_state_memory(64 << 10)).unwrap();
    assert_eq!(table.snapshot()[0].value.len(), 2_000);
}

mod old {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Range {
        pub(super) low: u32,
        pub(super) high: u32,
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Range {
    high: u32,
    #[serde(default)]
    count: u64,
    #[serde(alias = "low")]
    least: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "Range")]
struct Wider {
    low: i64,
    high: u32,
}

#[test]
fn journal_of_an_older_type_is_read_by_name() {
    let place = tempfile::tempdir().unwrap();
    journaled(Some(old::Range { low: 1, high: 9 }), true, place.path()).unwrap_err();
    // What the new program receives goes behind it.
    journaled(Some(Range { high: 8, count: 5, least: 2 }), true, place.path()).unwrap_err();
    let rows = journaled::<Range>(None, false, place.path()).unwrap();
    assert_eq!(rows, [Range { high: 9, count: 0, least: 1 }, Range { high: 8, count: 5, least: 2 }]);
}

#[test]
fn journal_of_another_number_is_refused_with_its_path() {
    let place = tempfile::tempdir().unwrap();
    journaled(Some(old::Range { low: 1, high: 9 }), true, place.path()).unwrap_err();
    let message = journaled::<Wider>(None, false, place.path()).unwrap_err();
    for part in ["Range.low: u32 → i64", "journal/in-0-0.log", "a new uid", "kept_types.rs:"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    // Nothing is lost by the attempt.
    let rows = journaled::<old::Range>(None, false, place.path()).unwrap();
    assert_eq!(rows, [old::Range { low: 1, high: 9 }]);
}

/// Rejects every value that a probe could make up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Code(String);

impl TryFrom<String> for Code {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("code-") { Ok(Code(text)) } else { Err("no code".to_owned()) }
    }
}

impl From<Code> for String {
    fn from(code: Code) -> String {
        code.0
    }
}

#[test]
fn journal_of_a_type_that_rejects_probes_is_read_and_refused() {
    let place = tempfile::tempdir().unwrap();
    let code = || Code("code-1".to_owned());
    for (row, n) in [(Some((code(), 1u32)), 1), (Some((code(), 2)), 2), (None, 2)] {
        if row.is_some() {
            journaled(row, true, place.path()).unwrap_err();
        } else {
            let message = journaled::<(Code, u64)>(None, true, place.path()).unwrap_err();
            assert!(message.contains("u32 → u64"), "{message}");
            let rows = journaled::<(Code, u32)>(None, false, place.path()).unwrap();
            assert_eq!(rows, [(code(), 1), (code(), n)]);
        }
    }
}
