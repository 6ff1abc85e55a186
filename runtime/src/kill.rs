//! Points at which a test can kill the process: before and after whatever changes a file.
//!
//! Without the feature `__kill_points` a point does nothing. With it, `TIDEMILL_KILL=name:n` ends the process with SIGKILL
//! at the n-th passing of the point of that name, from 1 (`*` counts all points), and `TIDEMILL_KILL_LIST=file` appends
//! the name of each point to that file when it is passed for the first time.

/// Whether points do anything. A writer may then write in two halves, with a point between them.
pub const ENABLED: bool = cfg!(feature = "__kill_points");

/// A place where the process may be killed.
#[cfg(not(feature = "__kill_points"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// A place where the process may be killed.
#[cfg(feature = "__kill_points")]
pub fn point(name: &'static str) {
    if let Some(plan) = armed::plan() {
        plan.pass(name);
    }
}

#[cfg(feature = "__kill_points")]
mod armed {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock};

    use tidemill_operators::turn;

    /// What the environment asks for.
    pub(super) struct Plan {
        kill: Option<(String, u64)>,
        passed: AtomicU64,
        list: Option<String>,
        listed: Mutex<BTreeSet<&'static str>>,
    }

    /// The plan, read once; none if nothing is asked for.
    pub(super) fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let kill = std::env::var("TIDEMILL_KILL").ok().and_then(|text| {
                let (name, n) = text.rsplit_once(':')?;
                Some((name.to_owned(), n.parse().ok()?))
            });
            let list = std::env::var("TIDEMILL_KILL_LIST").ok();
            let wanted = kill.is_some() || list.is_some();
            wanted.then(|| Plan { kill, passed: AtomicU64::new(0), list, listed: Mutex::default() })
        })
        .as_ref()
    }

    impl Plan {
        pub(super) fn pass(&self, name: &'static str) {
            if let Some(file) = &self.list
                && turn::lock(&self.listed).insert(name)
            {
                let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
                // Only a test's list: what it lacks, the test will miss. In one write, for threads pass points at once.
                let line = format!("{name}\n");
                let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
            }
            if let Some((wanted, n)) = &self.kill
                && (wanted == "*" || wanted == name)
                && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == *n
            {
                let _ = signal_hook::low_level::raise(signal_hook::consts::signal::SIGKILL);
            }
        }
    }
}
