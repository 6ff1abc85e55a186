//! The public trait of window definitions, and the windows of this crate as such definitions.

use std::time::Duration;

use super::{SessionBy, SessionWindow, SlidingWindow, TumblingWindow};
use crate::state::Windowing;
use crate::{EventTime, Window};

/// Assigns records to windows: a window definition of your own.
///
/// [`KeyedStream::window_by`](crate::KeyedStream::window_by) takes one, and so does
/// [`processing_time_window`](crate::KeyedStream::processing_time_window). All windows of this crate implement it, too.
///
/// A record is added to each of its windows. For windows that overlap much, [`sliding`](crate::sliding) in
/// [`KeyedStream::window`](crate::KeyedStream::window) is cheaper, since it adds a record once.
///
/// Shifts of a factory, which begin at 06:00, 14:00 and 22:00 and of which the last is longer on Sundays:
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
/// use tidemill::WindowAssigner;
///
/// struct Shifts;
///
/// const HOUR: i64 = 3_600;
///
/// impl<V> WindowAssigner<V> for Shifts {
///     fn assign(&self, time: EventTime, _: &V, windows: &mut Vec<Window>) {
///         let day = (time.as_secs() - 6 * HOUR).div_euclid(24 * HOUR) * 24 * HOUR + 6 * HOUR;
///         let shift = (time.as_secs() - day) / (8 * HOUR);
///         let start = EventTime::from_secs(day + shift * 8 * HOUR);
///         windows.push(Window { start, end: start + Duration::from_secs(8 * 3_600) });
///     }
///
///     fn describe(&self) -> String {
///         "shifts of 8h from 06:00".to_owned()
///     }
/// }
///
/// let graph = Graph::new("pieces by shift");
/// let (sink, table) = memory_sink();
/// graph
///     .source(memory([5i64, 7, 13, 14, 23]))
///     .with_watermark(|hour| EventTime::from_secs(hour * HOUR), Duration::ZERO)
///     .window_by(Shifts)
///     .count()
///     .append()
///     .map(|shift| (shift.window.start.as_secs() / HOUR, shift.value))
///     .sink(sink);
/// graph.run(Options::default())?;
/// assert_eq!(table.snapshot(), [(-2, 1), (6, 2), (14, 1), (22, 1)]);
/// # Ok::<(), RunError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not assign windows",
    note = "windows are `tumbling(length)`, `sliding(length, slide)`, `session(gap)`, `session_by(|record| gap)`, \
            `cumulative(length, step)`; `impl WindowAssigner` for your own"
)]
pub trait WindowAssigner<V>: Send + Sync + 'static {
    /// Adds the windows of a record to `windows`, which is empty.
    ///
    /// `time` is the event time of the record, or for windows of processing time the engine's clock. The result must depend on the
    /// arguments alone. A record without a window counts as late. A window that does not end after its start fails the query.
    fn assign(&self, time: EventTime, value: &V, windows: &mut Vec<Window>);

    /// Returns whether windows of a key that overlap or touch become one, as sessions do.
    ///
    /// A record at the very end of such a window still belongs to it. So these windows close when the watermark is beyond their end,
    /// and their results have a watermark a microsecond behind that of the input.
    fn merges(&self) -> bool {
        false
    }

    /// Returns why the definition cannot work, if it cannot. The graph is then refused before it runs.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Returns the definition in words, for plans and checkpoints.
    ///
    /// A restart with another text is refused, since the state was made by another definition. So include all parameters.
    fn describe(&self) -> String;
}

impl<V: 'static> WindowAssigner<V> for TumblingWindow {
    #[inline]
    fn assign(&self, time: EventTime, _: &V, windows: &mut Vec<Window>) {
        windows.push(self.window_of(time));
    }

    fn problem(&self) -> Option<String> {
        Windowing::<V>::problem(self)
    }

    fn describe(&self) -> String {
        Windowing::<V>::describe(self)
    }
}

impl<V: 'static> WindowAssigner<V> for SlidingWindow {
    #[inline]
    fn assign(&self, time: EventTime, _: &V, windows: &mut Vec<Window>) {
        windows.extend(self.windows_of(time));
    }

    fn problem(&self) -> Option<String> {
        Windowing::<V>::problem(self)
    }

    fn describe(&self) -> String {
        Windowing::<V>::describe(self)
    }
}

impl<V: 'static> WindowAssigner<V> for SessionWindow {
    #[inline]
    fn assign(&self, time: EventTime, _: &V, windows: &mut Vec<Window>) {
        windows.push(self.span_of(time));
    }

    fn merges(&self) -> bool {
        true
    }

    fn problem(&self) -> Option<String> {
        Windowing::<V>::problem(self)
    }

    fn describe(&self) -> String {
        Windowing::<V>::describe(self)
    }
}

impl<V: 'static, F: Fn(&V) -> Duration + Send + Sync + 'static> WindowAssigner<V> for SessionBy<F> {
    #[inline]
    fn assign(&self, time: EventTime, value: &V, windows: &mut Vec<Window>) {
        windows.push(self.span_of(time, value));
    }

    fn merges(&self) -> bool {
        true
    }

    fn problem(&self) -> Option<String> {
        Windowing::<V>::problem(self)
    }

    fn describe(&self) -> String {
        Windowing::<V>::describe(self)
    }
}
