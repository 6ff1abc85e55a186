//! Copies of values for state: such a copy owns its bytes.
//!
//! A value may share memory with a whole block of input, as `Text` does. In state, one key would then pin its block. So
//! whatever makes a value for state clones it inside `keep`, and the `Clone` of a type that shares memory asks
//! `on_clone`. A value that is cloned outside of `keep` shares its memory, which costs nothing.

use std::cell::Cell;

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Share) };
}

/// What a clone of a value that shares memory is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Another share.
    Share,
    /// Another share, and [`watch`] is told.
    Watch,
    /// As `Watch`, and there has been one.
    Shared,
    /// A copy that owns its bytes.
    Copy,
}

/// Restores the mode, also when a function of the user panics.
struct Restore(Mode);

impl Drop for Restore {
    fn drop(&mut self) {
        MODE.set(self.0);
    }
}

/// Makes a value for state: what is cloned in `make` owns its bytes.
#[inline]
pub(crate) fn keep<T>(make: impl FnOnce() -> T) -> T {
    if const { !std::mem::needs_drop::<T>() } {
        // Such a value shares nothing.
        return make();
    }
    copying(make)
}

/// Calls a function that changes state: what is cloned in it owns its bytes.
#[inline]
pub(crate) fn copying<T>(call: impl FnOnce() -> T) -> T {
    let _restore = Restore(MODE.replace(Mode::Copy));
    call()
}

/// Makes a value that may become state; the flag says whether it may share memory, so that it has to be cloned in
/// [`keep`] once it does. Inside of `keep` it never does.
#[inline]
pub(crate) fn watch<T>(make: impl FnOnce() -> T) -> (T, bool) {
    if const { !std::mem::needs_drop::<T>() } {
        return (make(), false);
    }
    let before = MODE.get();
    if before == Mode::Copy {
        return (make(), false);
    }
    let restore = Restore(before);
    MODE.set(Mode::Watch);
    let value = make();
    let shares = MODE.get() == Mode::Shared;
    drop(restore);
    (value, shares)
}

/// Called by the `Clone` of a type that shares memory; says whether the clone is to be a copy that owns its bytes.
#[inline]
pub fn on_clone() -> bool {
    match MODE.get() {
        Mode::Share | Mode::Shared => false,
        Mode::Watch => {
            MODE.set(Mode::Shared);
            false
        }
        Mode::Copy => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Shares(Option<Box<bool>>);

    impl Clone for Shares {
        fn clone(&self) -> Self {
            Shares(Some(Box::new(on_clone())))
        }
    }

    fn is_copy(value: &Shares) -> bool {
        *value.0.clone().unwrap()
    }

    #[test]
    fn clone_owns_its_bytes_inside_keep_only() {
        let value = Shares::default();
        assert!(!is_copy(&value.clone()));
        assert!(is_copy(&keep(|| value.clone())));
        assert!(!is_copy(&value.clone()));
        let nested = keep(|| (keep(|| value.clone()), watch(|| value.clone()), value.clone()));
        assert!(is_copy(&nested.0) && is_copy(&nested.1.0) && is_copy(&nested.2));
        assert!(!nested.1.1);
    }

    #[test]
    fn watch_notices_clone_that_shares() {
        let value = Shares::default();
        assert!(watch(|| value.clone()).1);
        assert!(!watch(|| "owned".to_owned()).1);
        assert!(!on_clone());
    }

    #[test]
    fn panic_inside_keep_ends_it() {
        let panics = std::panic::catch_unwind(|| keep(|| -> String { panic!("in a clone") }));
        assert!(panics.is_err());
        assert!(!on_clone());
    }
}
