//! A disk that is full: a limit on the size of files, which the system enforces.

use std::process::{Command, Stdio};

use tidemill::Mode;

use crate::child::Query;
use crate::parent::{Death, End, World, child, undisturbed};

#[test]
fn full_disk_is_error_with_file_and_keeps_last_commit() {
    let (expected, _) = undisturbed(Query::Windows);
    let mut world = World::new(Query::Windows);
    let mut names = Vec::new();
    for limit in [1, 4, 16, 32, 8] {
        // In units of 512 bytes or of 1,024, as the shell has it. A signal that is ignored stays so in the child.
        let task = world.task.clone();
        let plain = child(&task);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' XFSZ; ulimit -f {limit} || exit 9; exec \"$0\" \"$@\"")]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{limit}: {said}");
        assert!(said.contains("File too large") && said.contains("cannot "), "{limit}: {said}");
        names.push(said.into_owned());
        world.check_part_of(&expected);
        // Somebody makes room, and there is a kill on top of it.
        if limit == 16 {
            world.run(2, Mode::MicroBatch, &Death::At("checkpoint.log.appended".to_owned(), 20));
            world.check_part_of(&expected);
        }
    }
    assert_eq!(world.run(2, Mode::MicroBatch, &Death::Never), End::InOrder);
    world.check_all(&expected, &names.concat());
}
