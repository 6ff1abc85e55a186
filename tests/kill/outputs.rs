//! Outputs that are not directories: a database and one file. Killed at random moments, in changing modes.

use std::path::Path;
use std::time::Duration;

use tidemill::Mode;

use crate::child::Query;
use crate::database::Database;
use crate::input::NUMBERS;
use crate::parent::{Death, End, World, undisturbed};
use crate::{Dice, wanted};

/// What happens between a sink's transaction and the end of the commit: rarely hit by chance.
const AROUND_COMMIT: [&str; 4] = [
    "checkpoint.log.half-appended",
    "checkpoint.log.before-sync",
    "checkpoint.log.appended",
    "checkpoint.put.before-rename",
];

/// Runs a query until it ends, killed at most `most` times at random moments of an undisturbed run's time.
fn kill_until_it_ends(world: &mut World, dice: &mut Dice, most: usize, time: Duration, modes: &[Mode]) {
    for n in 0..=most {
        let mode = modes[dice.below(modes.len() as u64) as usize];
        let workers = 1 + dice.below(4) as usize;
        let moment =
            Duration::from_micros(dice.below(time.min(Duration::from_millis(400)).as_micros() as u64));
        let passings = if mode == Mode::Continuous { 6 } else { 40 };
        let death = match dice.below(2) {
            _ if n == most => Death::Never,
            0 => Death::At(AROUND_COMMIT[dice.below(4) as usize].to_owned(), 1 + dice.below(passings)),
            _ => Death::After(moment),
        };
        world.task.max_records_per_epoch = [60, 60, 2_000][dice.below(3) as usize];
        if world.run(workers, mode, &death) == End::InOrder {
            return;
        }
    }
}

const BOTH: &[Mode] = &[Mode::MicroBatch, Mode::Continuous];

/// Every row was written; in epochs that are repeatable at most once, and once in all if every epoch was.
fn check_database(world: &World, exactly_once: bool) -> usize {
    let times = Database::open(&world.task.dir.join("rows.db")).unwrap().times().unwrap();
    let missing: Vec<u64> = (0..NUMBERS).filter(|id| !times.contains_key(id)).collect();
    assert!(
        missing.is_empty(),
        "{} rows were lost: {:?} …",
        missing.len(),
        &missing[..missing.len().min(20)]
    );
    let twice: Vec<_> = times.iter().filter(|(_, (repeatable, _))| *repeatable > 1).take(20).collect();
    assert!(twice.is_empty(), "written twice in repeatable epochs: {twice:?}");
    let again = times.values().map(|(_, all)| all - 1).sum();
    assert!(!exactly_once || again == 0, "{again} rows came again in micro-batch");
    again
}

/// Kills a query that writes to a database. Returns the number of kills and of rows that came again.
fn database(dice: &mut Dice, time: Duration, modes: &[Mode]) -> (usize, usize) {
    let mut world = World::new(Query::Epochs);
    kill_until_it_ends(&mut world, dice, 8, time, modes);
    (world.kills, check_database(&world, modes.len() == 1))
}

/// Kills a query that appends to one file, which then has every line once, in both modes. Returns the number of kills.
fn lines(dice: &mut Dice, time: Duration) -> usize {
    let mut world = World::new(Query::Lines);
    kill_until_it_ends(&mut world, dice, 8, time, BOTH);
    check_lines(&world.task.dir.join("lines.jsonl"));
    world.kills
}

/// The file has every line once.
fn check_lines(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len() as u64, NUMBERS, "{}", path.display());
    assert!(
        numbers.into_iter().eq(0..NUMBERS),
        "{}: a line is missing, and another there twice",
        path.display()
    );
}

#[test]
fn epochs_in_database_after_kills_hold_every_row() {
    let (_, time) = undisturbed(Query::Epochs);
    database(&mut Dice(21), time, &[Mode::MicroBatch]);
    database(&mut Dice(22), time, BOTH);
}

#[test]
fn single_file_after_kills_in_both_modes_has_lines_once() {
    let (_, time) = undisturbed(Query::Lines);
    lines(&mut Dice(41), time);
}

#[test]
fn rows_of_voided_plans_come_in_no_later_micro_batch() {
    // A micro-batch run dies between the transaction of an epoch and its commit, a continuous run behind its first commit.
    for passing in 2..8 {
        let mut world = World::new(Query::Epochs);
        world.task.max_records_per_epoch = 2_000;
        let before_commit = Death::At("checkpoint.log.half-appended".to_owned(), passing);
        assert_eq!(world.run(1, Mode::MicroBatch, &before_commit), End::Killed);
        let first_commit = Death::At("checkpoint.log.appended".to_owned(), 2);
        assert_eq!(world.run(1 + passing as usize % 2, Mode::Continuous, &first_commit), End::Killed);
        assert_eq!(world.run(1, Mode::MicroBatch, &Death::Never), End::InOrder);
        check_database(&world, false);
    }
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_random_moments_with_outputs_and_modes() {
    let mut dice = Dice(std::env::var("TIDEMILL_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1));
    let [epochs, file] = [Query::Epochs, Query::Lines].map(|query| undisturbed(query).1);
    let (mut kills, mut again) = ([0; 2], 0);
    let mut round = 0;
    while kills.iter().sum::<usize>() < wanted() {
        let modes = if round % 2 == 0 { &BOTH[..1] } else { BOTH };
        let (more, twice) = database(&mut dice, epochs, modes);
        (kills[0], again) = (kills[0] + more, again + twice);
        kills[1] += lines(&mut dice, file);
        round += 1;
    }
    println!("database: {} kills, {again} rows came again in continuous mode, none was lost", kills[0]);
    println!("one file: {} kills, every line once", kills[1]);
}
