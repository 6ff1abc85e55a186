//! A full outer interval join, and behind it a static side that is loaded again by the clock and by a signal: killed at points of
//! the protocol and at random moments, in changing modes.
//!
//! Each load has a version, a number that grows from one load to the next over all runs. Which version a row gets depends on the
//! clock. But all rows go to two sinks: both have to have the same version of each row, whatever was replayed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;
use tidemill::{EventStream, Stream};

use crate::child::Query;
use crate::input::{Event, FROM_FILES, FROM_SOCKET, event, visible};
use crate::parent::{Results, undisturbed};
use crate::{Dice, kill_at, kill_at_random, wanted};

/// How much older and how much younger than a left row a right row may be, in microseconds.
const BOUNDS: (i64, i64) = (20, 60);

/// Of the 13 keys, the static side has those that are no multiple of this number.
const ABSENT: u64 = 4;

/// A pair, or a row of one side; and the version of its key's row in the static side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    time: i64,
    key: u64,
    left: Option<u64>,
    right: Option<u64>,
    version: Option<u64>,
}

/// Loads the side: one row for each key, with the number of loads so far.
fn load(loads: &Path) -> std::io::Result<Vec<(u64, u64)>> {
    let mut file = File::options().append(true).create(true).open(loads)?;
    file.write_all(b".")?;
    let version = file.metadata()?.len();
    Ok((0..13).filter(|key: &u64| !key.is_multiple_of(ABSENT)).map(|key| (key, version)).collect())
}

/// The part of the graph with the joins. The rows of `signals` have the side loaded again.
pub(crate) fn join(
    left: EventStream<Event>,
    right: EventStream<Event>,
    signals: Stream<Event>,
    dir: &Path,
) -> EventStream<Joined> {
    let loads = dir.join("loads");
    let side = StaticSide::load(move || load(&loads), |row: &(u64, u64)| row.0)
        .refresh_every(Duration::from_millis(5))
        .refresh_on(signals);
    let span = |micros: i64| Duration::from_micros(micros.unsigned_abs());
    left.key_by(|event| event.key)
        .join(right.key_by(|event| event.key))
        .within(Bounds::between(span(BOUNDS.0), span(BOUNDS.1)))
        .full_outer()
        .key_by(|(key, _, _)| *key)
        .join_static(side)
        .left_outer()
        .map(|(key, (_, left, right), side)| {
            let times = [&left, &right].into_iter().flatten().map(|event| event.time);
            let time = times.max().unwrap_or_default();
            let value = |event: Option<Event>| event.map(|event| event.value);
            Joined { time, key, left: value(left), right: value(right), version: side.map(|row| row.1) }
        })
        .boxed()
}

/// The rows of a directory without their versions, sorted.
pub(crate) fn without_versions(rows: &[String]) -> Vec<String> {
    let without = |row: &String| {
        let row: Joined = serde_json::from_str(row).unwrap();
        assert_eq!(row.version.is_none(), row.key.is_multiple_of(ABSENT), "{row:?}");
        serde_json::to_string(&Joined { version: None, ..row }).unwrap()
    };
    let mut rows: Vec<String> = rows.iter().map(without).collect();
    rows.sort();
    rows
}

/// Both sinks have the same versions, which are those of loads. Returns how many different ones.
pub(crate) fn check_versions(dir: &Path) -> usize {
    let [out, late] = ["out", "late"].map(|name| visible(&dir.join(name)));
    assert_eq!(out, late, "both sinks have the same rows");
    let loads = std::fs::metadata(dir.join("loads")).unwrap().len();
    let versions: BTreeSet<u64> =
        out.iter().filter_map(|row| serde_json::from_str::<Joined>(row).unwrap().version).collect();
    assert!(versions.iter().all(|version| (1..=loads).contains(version)), "{versions:?} of {loads} loads");
    versions.len()
}

/// The rows that plain loops find, without versions, sorted.
pub(crate) fn expected() -> Vec<String> {
    let by_key = |events: u64| {
        let mut keys = BTreeMap::<u64, Vec<Event>>::new();
        for event in (0..events).map(|n| event(n, events, false)) {
            keys.entry(event.key).or_default().push(event);
        }
        keys
    };
    let (lefts, rights) = (by_key(FROM_FILES), by_key(FROM_SOCKET));
    let matches = |left: &Event, right: &Event| (-BOUNDS.0..=BOUNDS.1).contains(&(right.time - left.time));
    let mut rows = vec![];
    for key in 0..13 {
        let [lefts, rights] = [&lefts, &rights].map(|side| side.get(&key).map_or(&[][..], Vec::as_slice));
        let mut add = |left: Option<&Event>, right: Option<&Event>| {
            let time = [left, right].into_iter().flatten().map(|event| event.time).max().unwrap();
            let value = |event: Option<&Event>| event.map(|event| event.value);
            rows.push(Joined { time, key, left: value(left), right: value(right), version: None });
        };
        for left in lefts {
            let matched = rights.iter().filter(|right| matches(left, right));
            matched.for_each(|right| add(Some(left), Some(right)));
            if !rights.iter().any(|right| matches(left, right)) {
                add(Some(left), None);
            }
        }
        let alone = rights.iter().filter(|right| !lefts.iter().any(|left| matches(left, right)));
        alone.for_each(|right| add(None, Some(right)));
    }
    let mut rows: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
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
        kill_at(Query::Joins, &[(point.to_owned(), passing)], n, expected).kills
    });
    kills.sum()
}

#[test]
fn interval_and_static_join_are_exact_after_kills() {
    let (expected, time) = undisturbed(Query::Joins);
    assert!(at_points(&expected) > 0);
    kill_at_random(Query::Joins, &mut Dice(19), 5, time.max(Duration::from_millis(50)), &expected);
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_random_moments_with_joins() {
    let mut dice = Dice(std::env::var("TIDEMILL_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1));
    let (expected, time) = undisturbed(Query::Joins);
    let (mut kills, mut worlds, mut versions) = (at_points(&expected), 5, 0);
    while kills < wanted() {
        let world = kill_at_random(Query::Joins, &mut dice, 8, time, &expected);
        kills += world.kills;
        versions += check_versions(&world.task.dir);
        worlds += 1;
    }
    assert!(versions > worlds, "the side was joined in {versions} versions by {worlds} queries");
    println!("with joins: {kills} kills of {worlds} queries, which joined {versions} versions of the side");
}
