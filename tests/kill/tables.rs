//! A complete table is whole at every moment, whenever its query is killed: the old one or a newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::Mode;

use crate::Dice;
use crate::child::Query;
use crate::input::Row;
use crate::parent::{Death, End, Results, World, undisturbed};

/// The counts of a table, by key.
type Table = BTreeMap<u64, u64>;

/// What a reader sees; nothing before the first table.
#[track_caller]
fn table(world: &World) -> Table {
    let rows: Vec<Row> = world.results().rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let table: Table = rows.iter().map(|row| (row.key, row.count)).collect();
    assert_eq!(table.len(), rows.len(), "a key is there twice: {}", world.keep());
    table
}

/// Keys do not vanish, and their counts do not fall.
#[track_caller]
fn check_follows(before: &Table, now: &Table, world: &World) {
    for (key, count) in before {
        assert!(now.get(key) >= Some(count), "{before:?} became {now:?}: {}", world.keep());
    }
}

/// Kills a query again and again, in both modes, and looks at its table after each kill.
fn kill_and_look(
    world: &mut World,
    dice: &mut Dice,
    deaths: impl Iterator<Item = Death>,
    expected: &Results,
) -> usize {
    let mut before = Table::new();
    for death in deaths {
        let mode = if dice.below(2) == 0 { Mode::MicroBatch } else { Mode::Continuous };
        let end = world.run(1 + dice.below(3) as usize, mode, &death);
        let now = table(world);
        check_follows(&before, &now, world);
        before = now;
        if end == End::InOrder {
            break;
        }
    }
    assert_eq!(world.run(2, Mode::MicroBatch, &Death::Never), End::InOrder);
    world.check_all(expected, "a complete table");
    world.kills
}

const POINTS: [&str; 6] = [
    "sink.create.after",
    "sink.write.after",
    "sink.sync.after",
    "sink.rename.before",
    "sink.rename.after",
    "sink.sync_dir.before",
];

#[test]
fn complete_table_is_whole_after_each_kill() {
    let (expected, time) = undisturbed(Query::Table);
    assert_eq!(expected.rows.len(), 13);
    let mut dice = Dice(17);
    let mut kills = 0;
    for point in POINTS {
        // The claim is written and synced before the first table; a table is written in two halves.
        let deaths = [2, 4].map(|passing| Death::At(point.to_owned(), passing)).into_iter();
        kills += kill_and_look(&mut World::new(Query::Table), &mut dice, deaths, &expected);
    }
    assert!(kills >= 8, "{kills}");
    let moments: Vec<_> = (0..5).map(|_| dice.below(time.as_micros() as u64)).collect();
    let deaths = moments.into_iter().map(|moment| Death::After(Duration::from_micros(moment)));
    kill_and_look(&mut World::new(Query::Table), &mut dice, deaths, &expected);
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn complete_tables_at_random_moments() {
    let (expected, time) = undisturbed(Query::Table);
    let mut dice = Dice(23);
    let mut kills = 0;
    while kills < 100 {
        let points: Vec<_> = (0..4).map(|_| (POINTS[dice.below(6) as usize], 1 + dice.below(60))).collect();
        let deaths = points.into_iter().map(|(point, n)| Death::At(point.to_owned(), n));
        kills += kill_and_look(&mut World::new(Query::Table), &mut dice, deaths, &expected);
        let moments: Vec<_> = (0..8).map(|_| dice.below(time.as_micros() as u64)).collect();
        let deaths = moments.into_iter().map(|moment| Death::After(Duration::from_micros(moment)));
        kills += kill_and_look(&mut World::new(Query::Table), &mut dice, deaths, &expected);
    }
    println!("complete tables: {kills} kills");
}
