//! Several processes that want one checkpoint or one output: the second is refused, and harms nothing.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidemill::Mode;

use crate::Dice;
use crate::child::{Branch, Query};
use crate::parent::{Death, End, World, child, undisturbed};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

fn signal(process: &Child, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.id().to_string()).status();
    assert!(sent.unwrap().success());
}

/// Runs a task to its end. Returns its status and what it said.
fn run(world: &World, branch: Branch) -> (Option<i32>, String) {
    let mut task = world.task.clone();
    task.branch = branch;
    let output = child(&task).stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a task that is to be refused. Returns what it said.
fn refused(world: &World, branch: Branch) -> String {
    let (status, said) = run(world, branch);
    assert_eq!(status, Some(3), "{branch:?}: {said}");
    said
}

/// A process that was stopped, not killed, holds its locks: another query is refused until it is dead.
#[test]
fn second_instance_is_refused_while_first_is_stopped() {
    let (expected, _) = undisturbed(Query::Late);
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let mut world = World::new(Query::Late);
        world.task.mode = mode;
        let errors = world.task.dir.join("first-errors");
        let mut first =
            child(&world.task).stdout(Stdio::null()).stderr(File::create(&errors).unwrap()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // Early: one that has closed its sinks holds the checkpoint only.
        let is_claimed = |name: &str| {
            let claim = world.task.branch.output(&world.task, name).join(".claim");
            std::fs::metadata(claim).is_ok_and(|claim| claim.len() > 0)
        };
        while !(is_claimed("out") && is_claimed("late")) {
            assert!(Instant::now() < deadline, "no claims: {}", world.keep());
            std::thread::yield_now();
        }
        signal(&first, "STOP");
        let before = world.results();
        copy(&world.task.dir.join("checkpoint"), &world.task.dir.join("copy"));
        let said = refused(&world, Branch::Origin);
        assert!(said.contains("is in use"), "{said}");
        for _ in 0..2 {
            let said = refused(&world, Branch::Copy);
            assert!(said.contains("is being written to by a query in another process"), "{said}");
        }
        assert_eq!(world.results(), before);
        signal(&first, "CONT");
        let status = first.wait().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(&errors).unwrap());
        if mode == Mode::MicroBatch {
            world.check_all(&expected, "a first instance that was stopped");
        }
        // The copy is refused now, unless the first one had already committed everything when it was stopped.
        let before = world.results();
        let (status, said) = run(&world, Branch::Copy);
        assert!(status == Some(0) || said.contains("newer than the checkpoint"), "{status:?}: {said}");
        assert_eq!(world.results(), before);
    }
}

/// A fork, both killed in turn: the first has all rows, the fork those that come after the savepoint.
fn fork(dice: &mut Dice, time: Duration, expected: &crate::parent::Results) -> usize {
    let mut origin = World::new(Query::Late);
    let mut fork = World::beside(&origin, Branch::Fork);
    let moment = |dice: &mut Dice| Death::After(Duration::from_micros(dice.below(time.as_micros() as u64)));
    origin.run(2, Mode::MicroBatch, &moment(dice));
    if !origin.task.dir.join("checkpoint/current").exists() {
        return origin.kills;
    }
    copy(&origin.task.dir.join("checkpoint"), &origin.task.dir.join("savepoint"));
    for _ in 0..3 {
        let (death, workers) = (moment(dice), 1 + dice.below(3) as usize);
        fork.run(workers, Mode::MicroBatch, &death);
        fork.check_part_of(expected);
        let death = moment(dice);
        origin.run(workers, Mode::MicroBatch, &death);
        origin.check_part_of(expected);
    }
    assert_eq!(fork.run(1, Mode::MicroBatch, &Death::Never), End::InOrder);
    assert_eq!(origin.run(1, Mode::MicroBatch, &Death::Never), End::InOrder);
    origin.check_all(expected, "an origin beside its fork");
    fork.check_part_of(expected);
    origin.kills + fork.kills
}

#[test]
fn fork_and_origin_are_killed_in_turn_and_both_are_exact() {
    let (expected, time) = undisturbed(Query::Late);
    let mut dice = Dice(29);
    let kills: usize = (0..2).map(|_| fork(&mut dice, time, &expected)).sum();
    assert!(kills > 0, "{kills}");
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn forks_at_random_moments() {
    let (expected, time) = undisturbed(Query::Late);
    let (mut dice, mut kills) = (Dice(31), 0);
    while kills < 60 {
        kills += fork(&mut dice, time, &expected);
    }
    println!("forks: {kills} kills");
}
