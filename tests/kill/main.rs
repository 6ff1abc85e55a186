//! A process that is killed, at whatever moment, and started again says everything once.
//!
//! The short tests run with all others. The long ones, at every point of the protocol and at hundreds of moments, are for
//! `ci/kill.sh`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod child;
mod database;
mod feed;
mod full;
mod incremental;
mod input;
mod joins;
mod outputs;
mod owners;
mod parent;
mod process;
mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::Mode;

use child::Query;
use input::{Row, event};
use parent::{Death, End, Results, World, undisturbed};

/// Not a test, but what the tests start.
#[test]
fn child() {
    child::run();
}

/// Numbers without a pattern.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % end
    }
}

/// How many random kills a long test makes.
fn wanted() -> usize {
    std::env::var("TIDEMILL_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(200)
}

/// Runs with other workers, and where it may be in the other mode, from one run to the next.
fn variant(query: Query, n: usize) -> (usize, Mode) {
    let workers = [1, 2, 3, 1, 4][n % 5];
    let mode = if query != Query::Late && n % 3 == 1 { Mode::Continuous } else { Mode::MicroBatch };
    (workers, mode)
}

/// A query that is killed at one point, and then perhaps at one more, and then left alone.
fn kill_at(query: Query, deaths: &[(String, u64)], variants: usize, expected: &Results) -> World {
    let mut world = World::new(query);
    for (n, (point, passing)) in deaths.iter().enumerate() {
        let (workers, mode) = variant(query, variants + n);
        if world.run(workers, mode, &Death::At(point.clone(), *passing)) == End::InOrder {
            break;
        }
        world.check_part_of(expected);
        std::fs::remove_file(&world.list).unwrap();
    }
    let (workers, mode) = variant(query, variants + deaths.len());
    assert_eq!(world.run(workers, mode, &Death::Never), End::InOrder);
    world.check_all(expected, &format!("{query:?} {deaths:?} {variants}"));
    world
}

/// A query that is killed at random moments until it finishes, at most so often.
fn kill_at_random(query: Query, dice: &mut Dice, most: usize, time: Duration, expected: &Results) -> World {
    let mut world = World::new(query);
    for _ in 0..most {
        let (workers, mode) = variant(query, dice.below(1_000) as usize);
        let moment = Duration::from_micros(dice.below(time.as_micros() as u64));
        if world.run(workers, mode, &Death::After(moment)) == End::InOrder {
            break;
        }
        world.check_part_of(expected);
    }
    let (workers, mode) = variant(query, dice.below(1_000) as usize);
    assert_eq!(world.run(workers, mode, &Death::Never), End::InOrder);
    world.check_all(expected, &format!("{query:?} at random"));
    world
}

/// What a function is told of each window's changes: everything, and some of it twice; and last what is true. Returns the
/// number of rows that were told twice or more.
fn check_told(world: &World, expected: &Results) -> usize {
    let mut last = BTreeMap::new();
    let mut seen = BTreeMap::<String, usize>::new();
    for line in world.told() {
        let row: Row = serde_json::from_str(&line).unwrap();
        last.insert((row.start, row.key), line.clone());
        *seen.entry(line).or_default() += 1;
    }
    let mut last: Vec<String> = last.into_values().collect();
    last.sort();
    assert_eq!(last, expected.rows, "the last that was told of each window");
    seen.values().map(|times| times - 1).sum()
}

/// Updates in continuous mode, killed at random moments. Returns the number of kills and of rows that came twice.
fn updates(dice: &mut Dice, most: usize, time: Duration, expected: &Results) -> (usize, usize) {
    let mut world = World::new(Query::Updates);
    for _ in 0..most {
        let moment = Duration::from_micros(dice.below(time.as_micros() as u64));
        let workers = 1 + dice.below(3) as usize;
        if world.run(workers, Mode::Continuous, &Death::After(moment)) == End::InOrder {
            break;
        }
    }
    assert_eq!(world.run(2, Mode::Continuous, &Death::Never), End::InOrder);
    (world.kills, check_told(&world, expected))
}

#[test]
fn a_process_that_is_killed_says_every_row_once() {
    let (expected, time) = undisturbed(Query::Windows);
    let mut kills = 0;
    for (n, point) in [
        ("checkpoint.log.half-appended", 40),
        ("checkpoint.log.appended", 31),
        ("journal.append.done", 9),
        ("sink.rename.before", 3),
        ("sink.sync.after", 25),
        ("checkpoint.put.before-rename", 22),
    ]
    .into_iter()
    .enumerate()
    {
        kills += kill_at(Query::Windows, &[(point.0.to_owned(), point.1)], n, &expected).kills;
    }
    assert!(kills >= 4, "{kills}");
    let mut dice = Dice(7);
    kill_at_random(Query::Windows, &mut dice, 6, time, &expected);
}

#[test]
fn late_rows_are_late_again_after_a_kill() {
    let (expected, time) = undisturbed(Query::Late);
    assert!(expected.late.len() > 100 && expected.rows.len() > 500, "{}", expected.late.len());
    kill_at(Query::Late, &[("checkpoint.log.before-sync".to_owned(), 60)], 0, &expected);
    kill_at_random(Query::Late, &mut Dice(3), 4, time, &expected);
}

#[test]
fn continuous_function_gets_rows_at_least_once() {
    let (expected, time) = undisturbed(Query::Updates);
    updates(&mut Dice(5), 5, time, &expected);
}

/// Kills at each point, of first runs and of those that clean up after another kill.
fn every_point(query: Query) {
    let (expected, _) = undisturbed(query);
    let mut known: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    // What an undisturbed run passes; in both modes, for they differ.
    for n in 0..2 {
        for point in kill_at(query, &[], n, &expected).points() {
            known.entry(point).or_default();
        }
    }
    let mut queue: Vec<String> = known.keys().cloned().collect();
    let (mut kills, mut points, mut variants) = (0, 0, 0);
    while let Some(point) = queue.pop() {
        points += 1;
        let before = known[&point].clone();
        let mut of_point = 0;
        // What only a recovery passes depends on what the kill before it has left: several are tried.
        let tries = if before.is_empty() {
            [1, 2, 5, 17, 60].map(|passing| vec![(point.clone(), passing)]).to_vec()
        } else {
            let behind =
                |n| before.iter().map(move |(name, _)| (name.clone(), n)).chain([(point.clone(), 1)]);
            let found = before.iter().cloned().chain([(point.clone(), 1)]);
            [found.collect()].into_iter().chain((1..16).map(|n| behind(n).collect())).collect()
        };
        for deaths in tries {
            variants += 1;
            let world = kill_at(query, &deaths, variants, &expected);
            kills += world.kills;
            if world.kills < deaths.len() {
                continue;
            }
            of_point += 1;
            if !before.is_empty() && of_point == 3 {
                break;
            }
            for found in world.points() {
                // Points that only a recovery passes are found behind a kill.
                if deaths.len() < 3 && !known.contains_key(&found) {
                    known.insert(found.clone(), deaths.clone());
                    queue.push(found);
                }
            }
        }
        println!("{query:?} {point}: {of_point} kills after {before:?}");
    }
    println!("{query:?}: {kills} kills at {points} points");
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_every_point_with_windows() {
    every_point(Query::Windows);
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_every_point_with_late_rows() {
    every_point(Query::Late);
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_random_moments() {
    let mut dice = Dice(std::env::var("TIDEMILL_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1));
    let queries = [Query::Windows, Query::Late].map(|query| (query, undisturbed(query)));
    let (mut kills, mut worlds) = (0, 0);
    while kills < wanted() {
        let (query, (expected, time)) = &queries[worlds % 2];
        kills += kill_at_random(*query, &mut dice, 8, *time, expected).kills;
        worlds += 1;
    }
    println!("at random moments: {kills} kills of {worlds} queries");
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_random_moments_with_updates_at_once() {
    let (expected, time) = undisturbed(Query::Updates);
    let mut dice = Dice(11);
    let (mut kills, mut twice) = (0, 0);
    while kills < 50 {
        let (more, again) = updates(&mut dice, 8, time, &expected);
        kills += more;
        twice += again;
    }
    println!("updates at once: {kills} kills, {twice} rows came again, none was lost");
}

/// The input is what the tests take it for.
#[test]
fn only_where_it_should_is_a_record_late() {
    let furthest = |with_late| {
        let mut latest = i64::MIN;
        let back = (0..6_000).map(|n| {
            let time = event(n, 6_000, with_late).time;
            latest = latest.max(time);
            latest - time
        });
        back.max().unwrap()
    };
    assert!(furthest(false) < input::DELAY);
    assert!(furthest(true) > input::DELAY + input::WINDOW);
}
