//! Whole graphs with several workers, simulated: any order of the threads, crashes, faults, restarts in other modes.
//!
//! `cargo test --test simulate` takes a few seeds of each graph. `ci/simulate.sh` takes many: it sets
//! `TIDEMILL_SEEDS=<first>..<end>`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod backlogs;
mod distinct;
mod firings;
mod graphs;
mod held;
mod input;
mod joins;
mod learn;
mod operator;
mod process;
mod ranking;
mod requests;
mod several;
mod shards;
mod statics;
mod tables;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidemill::Mode;
use tidemill::testing::simulate::{Report, Scenario, Simulation, World, simulate};

use backlogs::Backlogs;
use distinct::Distinct;
use firings::Firings;
use graphs::{Files, Paces, Running, TwoSinks, Windows};
use held::Held;
use joins::Joins;
use learn::Learning;
use operator::OwnOperator;
use process::Process;
use ranking::Ranking;
use requests::Asked;
use several::Several;
use shards::Shards;
use statics::Statics;
use tables::Tables;

/// The seeds of a graph: as many as the environment says, or a few.
fn seeds() -> Range<u64> {
    let given = std::env::var("TIDEMILL_SEEDS").ok();
    let (first, end) = given.as_deref().and_then(|range| range.split_once("..")).unwrap_or(("0", "12"));
    first.parse().unwrap()..end.parse().unwrap()
}

/// Runs a graph in both modes, with changes between them; in one where the environment says so.
fn run<S: Scenario>(make: impl Fn(&mut World) -> S) {
    run_seeds(seeds(), make);
}

fn run_seeds<S: Scenario>(seeds: Range<u64>, make: impl Fn(&mut World) -> S) {
    let both = Simulation::new(seeds);
    let simulation = match std::env::var("TIDEMILL_SEED_MODE").as_deref() {
        Ok("micro-batch") => both.with_mode(Mode::MicroBatch),
        Ok("continuous") => both.with_mode(Mode::Continuous),
        _ => both,
    };
    let report = simulate(simulation, &make).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report:?}");
}

#[test]
fn files_that_appear_are_windowed_exactly_once() {
    run(Files::new);
}

#[test]
fn journaled_source_is_windowed_exactly_once() {
    run(Windows::journaled);
}

#[test]
fn union_is_windowed_exactly_once() {
    run(Windows::union);
}

#[test]
fn sliding_windows_are_exactly_once() {
    run(Windows::sliding);
}

#[test]
fn sessions_are_exactly_once() {
    run(Windows::sessions);
}

#[test]
fn derived_watermarks_make_no_row_late() {
    run(Held::new);
}

#[test]
fn joins_are_exactly_once_and_make_no_row_late() {
    run(Joins::new);
}

#[test]
fn partitions_that_wait_for_others_have_no_late_rows() {
    run(Backlogs::new);
    simulate(Simulation::new(seeds()).without_checkpoint(), Backlogs::new)
        .unwrap_or_else(|it| panic!("{it}"));
}

#[test]
fn process_function_with_timers_and_rules_is_exactly_once() {
    run(Process::new);
    simulate(Simulation::new(seeds()).without_checkpoint(), Process::new).unwrap_or_else(|it| panic!("{it}"));
}

#[test]
fn firings_end_as_tables_and_make_no_row_late() {
    run(Firings::new);
    simulate(Simulation::new(seeds()).without_checkpoint(), Firings::new).unwrap_or_else(|it| panic!("{it}"));
}

#[test]
fn deduplicated_rows_are_exactly_once() {
    run(Distinct::new);
}

#[test]
fn rankings_and_limits_are_exactly_once() {
    run(Ranking::new);
}

#[test]
fn several_joins_are_exactly_once_and_make_no_row_late() {
    run(Several::new);
    // All inputs of an outer join end while a worker is still in the epoch before.
    run_seeds(1431..1432, Several::new);
}

#[test]
fn tables_are_exactly_once() {
    run(Tables::new);
    simulate(Simulation::new(seeds()).without_checkpoint(), Tables::new).unwrap_or_else(|it| panic!("{it}"));
}

#[test]
fn models_learn_each_example_once_and_in_order() {
    run(Learning::new);
    simulate(Simulation::new(seeds()).without_checkpoint(), Learning::new)
        .unwrap_or_else(|it| panic!("{it}"));
}

#[test]
fn requests_are_exactly_once_and_make_no_row_late() {
    run(Asked::new);
    simulate(Simulation::new(seeds()).without_checkpoint(), Asked::new).unwrap_or_else(|it| panic!("{it}"));
}

#[test]
fn static_side_changes_between_epochs_on_all_workers() {
    run(Statics::new);
}

#[test]
fn shards_that_appear_are_read_exactly_once() {
    run(Shards::new);
}

#[test]
fn collected_windows_that_spill_are_exactly_once() {
    let spilled = Arc::default();
    run(|world| Windows::collect(world, &spilled));
    assert!(spilled.load(Ordering::Relaxed) > 0, "nothing was spilled");
}

#[test]
fn running_aggregate_ends_exact_and_its_table_is_whole() {
    run(Running::new);
}

#[test]
fn two_sinks_have_every_row_once() {
    run(TwoSinks::new);
}

#[test]
fn own_operator_with_timers_and_state_is_exactly_once() {
    run(OwnOperator::new);
    // In 24, rows of a stream that has ended are on their way while the other inputs continue; in 170, epochs are replayed
    // long after they were planned, with a TTL.
    for seed in [24, 170] {
        run_seeds(seed..seed + 1, OwnOperator::new);
    }
}

#[test]
fn graphs_without_checkpoint_show_every_row_once() {
    // Workers then tick the driver between their steps.
    let bare = || Simulation::new(seeds()).with_mode(Mode::MicroBatch).without_checkpoint();
    for graph in [Windows::sliding, Windows::sessions, Windows::union] {
        simulate(bare(), graph).unwrap_or_else(|violation| panic!("{violation}"));
    }
    simulate(bare(), OwnOperator::new).unwrap_or_else(|violation| panic!("{violation}"));
    simulate(bare(), Shards::new).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn partitions_in_order_at_any_pace_have_no_late_rows() {
    run(Paces::new);
    let bare = Simulation::new(seeds()).without_checkpoint();
    simulate(bare, Paces::new).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn same_seeds_have_same_traces() {
    let of = |seeds: Range<u64>| -> Report {
        simulate(Simulation::new(seeds).with_mode(Mode::Continuous), Windows::sliding).unwrap()
    };
    let (first, second) = (of(0..5), of(0..5));
    assert_eq!(first, second);
    assert_ne!(first.trace, of(5..10).trace);
}
