//! Workers that stay on their cores.

use tidemill_operators::Graph;
use tidemill_operators::testing::{nowhere, numbers};
use tidemill_runtime::{Options, Run};

fn options() -> Options {
    Options::default().with_workers(2).with_pin(true)
}

#[cfg(not(feature = "pinning"))]
#[test]
fn without_the_feature_it_is_refused_and_says_what_is_missing() {
    let graph = Graph::new("pinned");
    numbers(&graph, 10).sink(nowhere());
    let error = graph.run(options()).unwrap_err().to_string();
    assert!(error.starts_with("--pin: ") && error.contains("feature `pinning`"), "{error}");
}

#[cfg(all(feature = "pinning", target_os = "linux"))]
#[test]
fn each_worker_may_run_on_one_core_and_the_caller_on_all() {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    let allowed = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    let before = allowed();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let graph = Graph::new("pinned");
    let by_workers = Arc::clone(&seen);
    // The counts of a hundred keys come from the workers that hold them, so from both.
    numbers(&graph, 1_000)
        .key_by(|n| n % 100)
        .count()
        .update()
        .map(move |count| {
            by_workers.lock().unwrap().insert(allowed());
            count
        })
        .sink(nowhere());
    assert_eq!(graph.run(options()).unwrap().input_rows, 1_000);
    let seen = seen.lock().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(seen.len() == cores.min(2) && seen.iter().all(|cores| cores.parse::<u32>().is_ok()), "{seen:?}");
    assert_eq!(allowed(), before);
}
