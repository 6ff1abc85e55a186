//! Keys and state made of `Text` own their bytes: none keeps the block alive that it was read in.

mod common;

use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::aggregate::{Collect, Fold, InOrder, Max, Min, Reduce};
use tidemill::prelude::*;
use tidemill::{Chain, Data};

use common::{MODES, options, run_well};

/// Lines of 20 bytes in one block, as a file is read: 40 of them, with 10 words.
struct Block {
    lines: Vec<Text>,
    place: Range<*const u8>,
}

fn block() -> Block {
    let text: String = (0..40).map(|n| format!("word-{:014}\n", n % 10)).collect();
    let text = Text::from(text);
    let lines = (0..40).map(|n| text.slice(n * 20..n * 20 + 19)).collect();
    Block { lines, place: text.as_bytes().as_ptr_range() }
}

/// Something with texts in it.
trait Texts {
    fn texts(&self) -> Vec<&Text>;
}

impl Texts for Text {
    fn texts(&self) -> Vec<&Text> {
        vec![self]
    }
}

impl Texts for u64 {
    fn texts(&self) -> Vec<&Text> {
        Vec::new()
    }
}

impl<T: Texts> Texts for Option<T> {
    fn texts(&self) -> Vec<&Text> {
        self.iter().flat_map(Texts::texts).collect()
    }
}

impl<T: Texts> Texts for Vec<T> {
    fn texts(&self) -> Vec<&Text> {
        self.iter().flat_map(Texts::texts).collect()
    }
}

impl<A: Texts, B: Texts> Texts for (A, B) {
    fn texts(&self) -> Vec<&Text> {
        [self.0.texts(), self.1.texts()].concat()
    }
}

impl<K: Texts, V: Texts> Texts for WindowResult<K, V> {
    fn texts(&self) -> Vec<&Text> {
        [self.key.texts(), self.value.texts()].concat()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Named {
    name: Text,
    number: u64,
}

impl Texts for Named {
    fn texts(&self) -> Vec<&Text> {
        vec![&self.name]
    }
}

fn named(line: &Text) -> Named {
    Named { name: line.clone(), number: 1 }
}

type Lines = EventStream<Text>;

/// Runs the graph in both modes with one and two workers, and looks where the texts of its results are.
fn owns<T, P>(what: &str, build: impl Fn(Lines) -> Stream<T, P>)
where
    T: Texts + Debug + Clone + Sync + Data,
    P: Chain<Out = T>,
{
    for mode in MODES {
        for workers in [1, 2] {
            let block = block();
            let graph = Graph::new("texts");
            let (sink, results) = memory_sink();
            let second = |line: &Text| EventTime::from_secs(line[line.len() - 2..].parse().unwrap_or(0));
            let lines = graph.source(memory(block.lines.clone())).with_watermark(second, Duration::ZERO);
            build(lines.boxed()).sink(sink);
            run_well(&graph, options(mode, workers).with_max_records_per_epoch(7));
            let results = results.snapshot();
            let texts: Vec<&Text> = results.iter().flat_map(Texts::texts).collect();
            assert!(!texts.is_empty(), "{what}: {results:?}");
            let pinned = texts.iter().filter(|text| block.place.contains(&text.as_ptr())).count();
            assert_eq!(pinned, 0, "{what}, {mode}, {workers} workers: of {} texts", texts.len());
        }
    }
}

#[test]
fn key_with_text_owns_its_bytes_in_every_window() {
    owns("running", |lines| lines.key_by(|line| line.clone()).count().update());
    owns("complete", |lines| lines.key_by(|line| line.clone()).count().complete());
    let of_10s = || tumbling(Duration::from_secs(10));
    owns("tumbling", |lines| lines.key_by(|line| line.clone()).window(of_10s()).count().append());
    let sliding = || sliding(Duration::from_secs(8), Duration::from_secs(1));
    owns("sliding", |lines| lines.key_by(|line| line.clone()).window(sliding()).count().append());
    let session = || session(Duration::from_secs(1));
    owns("session", |lines| lines.key_by(|line| line.clone()).window(session()).count().append());
    owns("update", |lines| lines.key_by(|line| line.clone()).window(of_10s()).count().update());
}

#[test]
fn text_inside_key_owns_its_bytes() {
    owns("struct", |lines| lines.key_by(named).count().update());
    owns("tuple", |lines| lines.key_by(|line| (1u64, line.slice(5..19))).count().update());
    owns("option", |lines| lines.key_by(|line| Some(line.clone())).count().update());
    owns("vector", |lines| lines.key_by(|line| vec![line.clone(); 2]).count().update());
}

/// The last record, as a user would write it.
#[derive(Clone)]
struct Last;

impl Aggregate for Last {
    type In = Text;
    type Acc = Text;
    type Out = Text;

    fn create(&self, line: &Text) -> Text {
        line.clone()
    }
    fn add(&self, acc: &mut Text, line: &Text) {
        *acc = line.clone();
    }
    fn merge(&self, acc: &mut Text, other: Text) {
        *acc = other;
    }
    fn finish(&self, acc: &Text) -> Text {
        acc.clone()
    }
}

#[test]
fn value_that_aggregate_keeps_owns_its_bytes() {
    fn length(line: &Text) -> u64 {
        line.len() as u64
    }
    macro_rules! kept {
        ($($what:literal: $aggregate:expr;)+) => {$(
            owns($what, |lines| lines.key_by(length).aggregate($aggregate).update());
            owns($what, |lines| {
                let windows = lines.key_by(length).window(tumbling(Duration::from_secs(10)));
                windows.aggregate($aggregate).append()
            });
            owns($what, |lines| {
                let sessions = lines.key_by(length).window(session(Duration::from_secs(3)));
                sessions.aggregate($aggregate).append()
            });
        )+};
    }
    kept! {
        "max": Max::of(|line: &Text| line.clone());
        "min": Min::of(|line: &Text| Some(line.slice(5..19)));
        "of struct": Max::of(named);
        "collect": Collect::new();
        "reduce": Reduce::with(|_: Text, later: Text| later);
        "fold": Fold::new(
            Vec::new(),
            |all: &mut Vec<Text>, line: &Text| all.push(line.clone()),
            |all, more| all.extend(more),
        );
        "own": Last;
        "tuple": (Last, Collect::new());
        "in order": InOrder::of(Last);
    }
}
