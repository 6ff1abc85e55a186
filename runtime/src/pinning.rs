//! Workers that stay on their cores: the feature `pinning`.

use crate::error::RunError;

/// A core that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Core(usize);

fn refuse(problem: &str) -> RunError {
    RunError::Options { option: "--pin", problem: problem.to_owned() }
}

/// What to say to one who asks for it without the feature.
pub(crate) fn check() -> Result<(), RunError> {
    if cfg!(feature = "pinning") {
        return Ok(());
    }
    Err(refuse(
        "this program was built without the feature `pinning` of `tidemill`; build it with that, or leave it out",
    ))
}

/// The core of each of this many workers: in turn those on which the calling thread may run.
#[cfg(feature = "pinning")]
pub(crate) fn cores(workers: usize) -> Result<Vec<Core>, RunError> {
    let allowed = core_affinity::get_core_ids().filter(|cores| !cores.is_empty());
    let allowed =
        allowed.ok_or_else(|| refuse("the operating system does not list the cores; leave it out"))?;
    Ok(allowed.iter().map(|core| Core(core.id)).cycle().take(workers).collect())
}

/// Keeps the calling thread on a core.
#[cfg(feature = "pinning")]
pub(crate) fn stay_on(Core(core): Core) -> Result<(), RunError> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        return Ok(());
    }
    Err(refuse(&format!("the operating system does not allow pinning a worker to core {core}; leave it out")))
}

/// Without the feature there are no cores to stay on.
#[cfg(not(feature = "pinning"))]
pub(crate) fn cores(_workers: usize) -> Result<Vec<Core>, RunError> {
    check().map(|()| Vec::new())
}

#[cfg(not(feature = "pinning"))]
pub(crate) fn stay_on(Core(_): Core) -> Result<(), RunError> {
    check()
}

#[cfg(all(test, feature = "pinning"))]
mod tests {
    use super::*;

    #[test]
    fn more_workers_than_cores_share_them_in_turn() {
        let one = cores(1).unwrap();
        let all = std::thread::available_parallelism().unwrap().get();
        let twice = cores(2 * all).unwrap();
        assert_eq!((twice.len(), twice.first()), (2 * all, one.first()));
        assert_eq!(twice.get(..all), twice.get(all..));
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        let error = std::thread::spawn(|| stay_on(Core(1_000)).unwrap_err()).join().unwrap();
        assert!(error.to_string().starts_with(
            "--pin: the operating system does not allow pinning a worker to core \
                                               1000"
        ));
    }
}
