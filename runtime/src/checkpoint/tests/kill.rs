//! A process that is killed at every point where it touches a file: `--features __kill_points`.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use super::*;
use crate::checkpoint::LocalDirectory;

const UNTIL: u64 = 8;

/// The process that is killed; what it was told is committed, it writes to a file.
#[test]
fn child() {
    let Ok(path) = std::env::var("TIDEMILL_KILL_TEST") else { return };
    let path = Path::new(&path);
    let storage: Arc<dyn Storage> = Arc::new(LocalDirectory::open(path.join("checkpoint")).unwrap());
    let mut told = vec![];
    let settings = Settings { retain: 2, roll_after: 5, ..Settings::default() };
    for until in 0..=UNTIL {
        drop(run(&storage, settings, 2, until, &mut told).unwrap());
        std::fs::write(path.join("told"), until.to_string()).unwrap();
    }
}

fn spawn(path: &Path, variables: &[(&str, &str)]) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "checkpoint::tests::kill::child", "--quiet"]).env("TIDEMILL_KILL_TEST", path);
    command.stdout(std::process::Stdio::null());
    command.envs(variables.iter().copied()).status().unwrap()
}

fn told(path: &Path) -> Option<u64> {
    Some(std::fs::read_to_string(path.join("told")).ok()?.parse().unwrap())
}

#[test]
fn a_process_that_is_killed_at_any_point_loses_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("points");
    assert!(spawn(directory.path(), &[("TIDEMILL_KILL_LIST", list.to_str().unwrap())]).success());
    let points = std::fs::read_to_string(list).unwrap();
    assert!(points.lines().count() >= 15, "{points}");
    for point in points.lines() {
        for passing in ["1", "2", "5"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            let status = spawn(path, &[("TIDEMILL_KILL", &format!("{point}:{passing}"))]);
            assert!(status.success() || status.signal() == Some(9), "{point}:{passing}: {status}");
            assert!(passing != "1" || !status.success(), "{point} was not passed");
            let told = told(path);
            if path.join("checkpoint").exists() {
                let storage: Arc<dyn Storage> =
                    Arc::new(LocalDirectory::open(path.join("checkpoint")).unwrap());
                let found = check(&storage, 3).unwrap().map(|epoch| epoch.number());
                let next = Some(told.map_or(0, |epoch| epoch + 1));
                assert!(found == told || found == next, "{point}:{passing}: {told:?}, found {found:?}");
            }
            assert!(spawn(path, &[]).success(), "{point}:{passing}");
        }
    }
}
