//! The window of all records.

use super::WindowAssigner;
use crate::{EventTime, Window};

/// One window for all records of a key, which ends with the input: see
/// [`KeyedStream::global_window`](crate::KeyedStream::global_window).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GlobalWindow;

impl<V> WindowAssigner<V> for GlobalWindow {
    #[inline]
    fn assign(&self, _: EventTime, _: &V, windows: &mut Vec<Window>) {
        windows.push(Window { start: EventTime::MIN, end: EventTime::MAX });
    }

    fn describe(&self) -> String {
        "global".to_owned()
    }
}
