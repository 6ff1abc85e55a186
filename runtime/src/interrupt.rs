//! Ctrl-C and SIGTERM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_default, register_conditional_shutdown};

use tidemill_operators::turn;

use crate::error::RunError;

/// Who watches in this process.
struct Watchers {
    count: usize,
    /// Whether no query handles signals. A handler that was set once stays, and would swallow a signal: so while this is
    /// true, a signal does what it did before.
    none: Option<Arc<AtomicBool>>,
}

static WATCHERS: Mutex<Watchers> = Mutex::new(Watchers { count: 0, none: None });

impl Watchers {
    fn add(&mut self) -> std::io::Result<()> {
        if self.none.is_none() {
            let none = Arc::new(AtomicBool::new(true));
            for signal in [SIGINT, SIGTERM] {
                register_conditional_default(signal, Arc::clone(&none))?;
            }
            self.none = Some(none);
        }
        self.count += 1;
        self.tell();
        Ok(())
    }

    fn remove(&mut self) {
        self.count -= 1;
        self.tell();
    }

    fn tell(&self) {
        if let Some(none) = &self.none {
            none.store(self.count == 0, Ordering::SeqCst);
        }
    }
}

/// A watch for the two, while a query runs: the first one stops it in order, the second one ends the process.
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    ids: Vec<SigId>,
    counted: bool,
}

impl Interrupt {
    /// Watches for none of them.
    pub(crate) fn none() -> Interrupt {
        Interrupt { flag: Arc::default(), ids: Vec::new(), counted: false }
    }

    pub(crate) fn watch() -> Result<Interrupt, RunError> {
        let engine = |e: std::io::Error| RunError::Engine(format!("signals cannot be watched: {e}"));
        let mut interrupt = Interrupt::none();
        for signal in [SIGINT, SIGTERM] {
            let flag = || Arc::clone(&interrupt.flag);
            // In this order: a signal that finds the flag set, by itself or by the other one, ends the process; then the
            // flag is set.
            let second = register_conditional_shutdown(signal, 128 + signal, flag()).map_err(engine)?;
            let first = register(signal, flag()).map_err(engine)?;
            interrupt.ids.extend([first, second]);
        }
        // Last: a signal that comes before ends the process, as it did before the query.
        turn::lock(&WATCHERS).add().map_err(engine)?;
        interrupt.counted = true;
        Ok(interrupt)
    }

    pub(crate) fn came(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
        if self.counted {
            turn::lock(&WATCHERS).remove();
        }
    }
}
