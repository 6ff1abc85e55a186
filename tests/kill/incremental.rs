//! Tables: two joins and a top_k over files and a socket, whose changes go into a directory: killed at points of the protocol and at
//! random moments, in changing modes and on changing numbers of workers.
//!
//! Which changes are emitted depends on where epochs and ticks end. What they add up to does not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidemill::Stream;
use tidemill::prelude::*;

use crate::child::Query;
use crate::input::{Event, FROM_FILES, FROM_SOCKET, event};
use crate::parent::{Results, undisturbed};
use crate::{Dice, kill_at, kill_at_random, process, wanted};

/// The number of ids. The newest event of each is kept.
const IDS: u64 = 50;
/// How many rows of a key are the top.
const TOP: usize = 3;

/// A change of the table: a row of the top of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Changed {
    key: u64,
    value: u64,
    id: u64,
    count: u64,
    diff: i64,
}

/// The part of the graph with the tables.
pub(crate) fn tables(files: Stream<Event>, socket: Stream<Event>, rules: Stream<Event>) -> Stream<Changed> {
    let counts = files.map(|event| event.key).key_by(|key| *key).into_append_table().count();
    // All of an id come from the one partition of the socket, in their order.
    let newest = socket.key_by(|event| event.value % IDS);
    let newest = newest.into_table_with(|event: Event| Some((event.key, event.value)));
    let wanted = rules.map(|rule| rule.key).key_by(|key| *key).into_append_table().distinct();
    newest
        .rekey(|id, (key, value)| (key, (value, id)))
        .join(&counts, |_, (value, id), count| (*value, *id, *count))
        .join(&wanted, |_, row, _| *row)
        .top_k(TOP)
        .uid("top")
        .changes()
        .as_inserts()
        .map(|change| {
            let (key, (value, id, count)) = change.row;
            Changed { key, value, id, count, diff: change.diff }
        })
        .boxed()
}

/// What changes add up to, sorted. A row that is there twice, or less than not at all, is a mistake.
#[track_caller]
pub(crate) fn added_up(rows: &[String]) -> Vec<String> {
    let mut copies = BTreeMap::<Changed, i64>::new();
    for row in rows {
        let change: Changed = serde_json::from_str(row).unwrap();
        let diff = change.diff;
        *copies.entry(Changed { diff: 1, ..change }).or_default() += diff;
    }
    copies.retain(|_, copies| *copies != 0);
    assert!(copies.values().all(|copies| *copies == 1), "{copies:?}");
    let mut of_key = BTreeMap::<u64, usize>::new();
    copies.keys().for_each(|row| *of_key.entry(row.key).or_default() += 1);
    assert!(of_key.values().all(|rows| *rows <= TOP), "{copies:?}");
    let mut rows: Vec<String> = copies.keys().map(|row| serde_json::to_string(row).unwrap()).collect();
    rows.sort();
    rows
}

/// The rows that plain loops find, sorted.
pub(crate) fn expected() -> Vec<String> {
    let mut counts = BTreeMap::<u64, u64>::new();
    (0..FROM_FILES).for_each(|n| *counts.entry(event(n, FROM_FILES, false).key).or_default() += 1);
    let mut newest = BTreeMap::<u64, Event>::new();
    for event in (0..FROM_SOCKET).map(|n| event(n, FROM_SOCKET, false)) {
        newest.insert(event.value % IDS, event);
    }
    let wanted: BTreeSet<u64> = process::rules().map(|rule| rule.key).collect();
    let mut tops = BTreeMap::<u64, Vec<(u64, u64, u64)>>::new();
    for (id, event) in newest.into_iter().filter(|(_, event)| wanted.contains(&event.key)) {
        if let Some(count) = counts.get(&event.key) {
            tops.entry(event.key).or_default().push((event.value, id, *count));
        }
    }
    let mut rows = Vec::new();
    for (key, mut top) in tops {
        top.sort_unstable();
        for (value, id, count) in top.into_iter().rev().take(TOP) {
            rows.push(serde_json::to_string(&Changed { key, value, id, count, diff: 1 }).unwrap());
        }
    }
    rows.sort();
    rows
}

/// Kills at points of the checkpoint's protocol.
fn at_points(expected: &Results) -> usize {
    let points = [
        ("checkpoint.log.appended", 23),
        ("journal.append.done", 7),
        ("checkpoint.put.before-rename", 18),
        ("sink.rename.before", 5),
        ("checkpoint.log.half-appended", 31),
    ];
    let kills = points.into_iter().enumerate().map(|(n, (point, passing))| {
        kill_at(Query::Incremental, &[(point.to_owned(), passing)], n, expected).kills
    });
    kills.sum()
}

#[test]
fn tables_with_joins_and_top_are_exact_after_kills() {
    let (expected, time) = undisturbed(Query::Incremental);
    assert!(expected.rows.len() > 10, "{expected:?}");
    assert!(at_points(&expected) > 0);
    kill_at_random(Query::Incremental, &mut Dice(29), 5, time, &expected);
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_random_moments_with_tables() {
    let mut dice = Dice(std::env::var("TIDEMILL_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1));
    let (expected, time) = undisturbed(Query::Incremental);
    let (mut kills, mut worlds) = (at_points(&expected), 5);
    while kills < wanted() {
        kills += kill_at_random(Query::Incremental, &mut dice, 8, time, &expected).kills;
        worlds += 1;
    }
    println!("with tables: {kills} kills of {worlds} queries");
}
