//! Points at which a simulation may give the turn to another thread.
//!
//! `tidemill::testing::simulate` runs the threads of a query one at a time and sets a hook on each of them. On every other
//! thread a point reads one thread-local pointer and does nothing.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Called at each point of a simulated thread, with the name of the point.
pub type Hook = fn(&'static str);

thread_local! {
    static HOOK: Cell<Option<Hook>> = const { Cell::new(None) };
}

/// Sets the hook of this thread, or removes it.
pub fn set_hook(hook: Option<Hook>) {
    HOOK.set(hook);
}

/// Whether this thread is simulated.
#[inline]
pub fn is_simulated() -> bool {
    HOOK.get().is_some()
}

/// A point of that name. The caller holds no lock, other than those that all threads take with [`lock`].
#[inline]
pub fn point(name: &'static str) {
    if let Some(hook) = HOOK.get() {
        hook(name);
    }
}

/// Locks a mutex that may be held across points; a poisoned one counts as sound.
#[inline]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if let Some(hook) = HOOK.get() {
        return wait_for(mutex, hook);
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the turn to others until the mutex is free: its holder waits for a turn too.
#[cold]
fn wait_for<T: ?Sized>(mutex: &Mutex<T>, hook: Hook) -> MutexGuard<'_, T> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(guard)) => return guard.into_inner(),
            Err(TryLockError::WouldBlock) => hook("lock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_without_hook_does_nothing() {
        assert!(!is_simulated());
        point("nothing");
    }

    #[test]
    fn held_lock_gives_turn_until_it_is_free() {
        thread_local! {
            static HELD: Cell<Option<MutexGuard<'static, u8>>> = const { Cell::new(None) };
            static WAITED: Cell<u8> = const { Cell::new(0) };
        }
        static MUTEX: Mutex<u8> = Mutex::new(7);
        HELD.set(MUTEX.try_lock().ok());
        set_hook(Some(|name| {
            assert_eq!(name, "lock");
            WAITED.set(WAITED.get() + 1);
            if WAITED.get() == 3 {
                HELD.set(None);
            }
        }));
        assert_eq!(*lock(&MUTEX), 7);
        set_hook(None);
        assert_eq!(WAITED.get(), 3);
    }
}
