//! Which entries have changed: since the changes were last asked for, and since they were last written.

/// What an entry carries to know whether it has changed: nothing, `()`, or a [`Stamp`].
///
/// The state keeps a list of where the marked entries are. One that has gone in the meantime stays in the list: who
/// walks the list finds nothing there, and continues.
pub trait Mark: Copy + Default + Send + 'static {
    /// Whether changes are tracked at all.
    const TRACKED: bool;

    /// Marks the entry as changed; says whether it was not marked before.
    fn set(&mut self) -> bool;

    /// Whether the entry is marked.
    fn is_set(&self) -> bool;

    /// Takes the mark off; says whether there was one.
    fn clear(&mut self) -> bool;

    /// Notes that the entry goes into the next checkpoint; says whether that was not noted before.
    fn keep(&mut self) -> bool;

    /// Whether the entry goes into the checkpoint, which is then done.
    fn take_kept(&mut self) -> bool;
}

/// Nothing is tracked, and nothing is paid for it.
impl Mark for () {
    const TRACKED: bool = false;

    #[inline]
    fn set(&mut self) -> bool {
        false
    }

    fn is_set(&self) -> bool {
        false
    }

    fn clear(&mut self) -> bool {
        false
    }

    fn keep(&mut self) -> bool {
        false
    }

    fn take_kept(&mut self) -> bool {
        false
    }
}

/// Changes are tracked: set from the first change of an entry until the change has been emitted. Emitting it notes
/// it for the checkpoint, so that a record pays for one of them only.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stamp {
    changed: bool,
    kept: bool,
}

impl Mark for Stamp {
    const TRACKED: bool = true;

    #[inline]
    fn set(&mut self) -> bool {
        !std::mem::replace(&mut self.changed, true)
    }

    fn is_set(&self) -> bool {
        self.changed
    }

    fn clear(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn keep(&mut self) -> bool {
        !std::mem::replace(&mut self.kept, true)
    }

    fn take_kept(&mut self) -> bool {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_its_first_change_only_until_it_is_cleared() {
        let mut stamp = Stamp::default();
        assert!(stamp.set() && !stamp.set() && stamp.is_set());
        assert!(stamp.clear() && !stamp.clear());
        assert!(stamp.set());
    }

    #[test]
    fn a_change_that_was_told_is_kept_for_the_checkpoint() {
        let mut stamp = Stamp::default();
        assert!(stamp.set() && stamp.keep() && !stamp.keep() && stamp.clear());
        assert!(stamp.take_kept() && !stamp.take_kept());
    }

    #[test]
    fn no_mark_is_never_set() {
        assert!(!().set() && !().is_set() && !().clear() && !().keep() && !().take_kept());
    }
}
