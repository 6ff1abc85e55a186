//! A restart with another policy of early firing: windows that are open fire by the new one.

use std::time::Duration;

use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::testing::{Checkpoint, Harness, operator_of};
use tidemill::{Early, FiringKind, Operator, ProcessingTime, WindowFiring};

use super::common::MODES;
use super::input::{Row, at, timed_rows};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn make(early: Option<Early>) -> impl Fn(Place) -> Box<dyn Operator> + Clone + 'static {
    let windows = timed_rows().key_by(|row| row.key).window(tumbling(secs(60))).allowed_lateness(secs(60));
    let windows = match early {
        Some(early) => windows.early(early),
        None => windows,
    };
    operator_of(windows.count().firings())
}

/// Restores a window of three rows, and returns the second of each firing of it, with the value.
///
/// The second is that of the engine's clock, on which the rows came at 0.
fn firings_after_change(mode: Mode, old: Option<Early>, new: Option<Early>) -> Vec<(i64, u64)> {
    let place = Place::new(0, 1, mode);
    let mut checkpoint = Checkpoint::new();
    let mut before = Harness::restored(place, make(old), &checkpoint).unwrap();
    before.advance_to(ProcessingTime::from_secs(0)).unwrap();
    let row = Row { key: 7, time: 5, number: 0 };
    before.batch(0, vec![Dealt::new(row.key, at(&row), row); 3]).unwrap();
    before.end_epoch(EventTime::from_secs(1)).unwrap();
    assert!(before.take::<(EventTime, WindowFiring<u8, u64>)>(0).is_empty());
    before.snapshot(&mut checkpoint).unwrap();

    let mut after = Harness::restored(place, make(new), &checkpoint).unwrap();
    let mut firings = Vec::new();
    for second in 1..30 {
        after.advance_to(ProcessingTime::from_secs(second)).unwrap();
        after.end_epoch(EventTime::from_secs(1)).unwrap();
        for (_, firing) in after.take::<(EventTime, WindowFiring<u8, u64>)>(0) {
            assert_eq!(firing.kind, FiringKind::Early);
            firings.push((second, firing.value.unwrap()));
        }
    }
    firings
}

#[test]
fn open_windows_fire_early_by_the_policy_of_the_restart() {
    let records = Early::every_records;
    let every = |n| Early::every(secs(n));
    let changes = [
        (Some(every(10)), Some(every(10)), vec![(10, 3)]),
        (Some(every(10)), Some(every(2)), vec![(2, 3)]),
        (Some(every(2)), Some(every(10)), vec![(2, 3)]),
        (Some(every(10)), None, vec![]),
        (None, Some(every(2)), vec![(2, 3)]),
        (Some(records(5)), Some(records(5)), vec![]),
        (Some(records(5)), Some(records(3)), vec![(1, 3)]),
        (Some(records(5).or_every(secs(10))), Some(records(3)), vec![(1, 3)]),
        (Some(records(5).or_every(secs(10))), Some(records(3).or_every(secs(10))), vec![(1, 3)]),
        (Some(records(5)), Some(records(6).or_every(secs(4))), vec![(4, 3)]),
    ];
    for mode in MODES {
        for (old, new, expected) in &changes {
            assert_eq!(firings_after_change(mode, *old, *new), *expected, "{mode:?}: {old:?} to {new:?}");
        }
    }
}
