//! The state of an aggregation, and when its results are emitted.
//!
//! - append: a window once, when the watermark closes it;
//! - update: what has changed, at the end of the epoch (micro-batch), of the activation or of an interval (continuous);
//!   a closed window is emitted a last time if it has changed, and dropped;
//! - complete: the whole table at the end of every epoch; nothing is late and nothing is forgotten.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::Outbox;
use crate::RowKind;
use crate::schema::StateSchema;
use crate::spill::StateMemory;
use crate::state::{GroupState, Mark, Stamp};
use crate::stream::{TimeDomain, Timed};
use crate::{Aggregate, Context, Key, KeyGroup, Mode, OperatorError, SnapshotWriter, Window, WindowResult};

/// The output mode with its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Emit {
    Append,
    Update { every: Option<Duration> },
    Complete,
}

impl Emit {
    /// Whether records can be late: in complete mode every window stays open.
    pub(crate) fn drops_late(self) -> bool {
        !matches!(self, Emit::Complete)
    }

    /// The kind of rows that are emitted.
    pub(crate) fn row_kind(self) -> RowKind {
        match self {
            Emit::Append => RowKind::Insert,
            Emit::Update { .. } => RowKind::Upsert,
            Emit::Complete => RowKind::Snapshot,
        }
    }
}

/// An output mode as a type: what only another one does with a state is not compiled.
pub(crate) trait OutputMode: 'static {
    /// Whether changes are tracked.
    type Mark: Mark;
    const APPENDS: bool = false;
    const UPDATES: bool = false;
    const COMPLETES: bool = false;
}

/// See [`Emit::Append`].
pub(crate) enum Append {}

/// See [`Emit::Update`].
pub(crate) enum Update {}

/// See [`Emit::Complete`].
pub(crate) enum Complete {}

impl OutputMode for Append {
    type Mark = ();
    const APPENDS: bool = true;
}

impl OutputMode for Update {
    type Mark = Stamp;
    const UPDATES: bool = true;
}

impl OutputMode for Complete {
    type Mark = ();
    const COMPLETES: bool = true;
}

/// What a result looks like on the edge, and by which mode it gets there.
pub(crate) trait Shape<K, P, V>: 'static {
    type Mode: OutputMode;
    type Row: Send + 'static;
    fn row(key: K, place: P, value: V) -> Self::Row;
}

/// `(key, value)`, without event time.
pub(crate) struct RunningShape<O>(PhantomData<O>);

impl<K: Send + 'static, V: Send + 'static, O: OutputMode> Shape<K, (), V> for RunningShape<O> {
    type Mode = O;
    type Row = (K, V);
    fn row(key: K, (): (), value: V) -> (K, V) {
        (key, value)
    }
}

/// The value alone: there is one key, and it says nothing.
pub(crate) struct TotalShape<O>(PhantomData<O>);

impl<V: Send + 'static, O: OutputMode> Shape<(), (), V> for TotalShape<O> {
    type Mode = O;
    type Row = V;
    fn row((): (), (): (), value: V) -> V {
        value
    }
}

/// A [`WindowResult`] whose event time is the window's last instant.
pub(crate) struct WindowShape<O>(PhantomData<O>);

impl<K: Send + 'static, V: Send + 'static, O: OutputMode> Shape<K, Window, V> for WindowShape<O> {
    type Mode = O;
    type Row = <Timed as TimeDomain>::Row<WindowResult<K, V>>;
    fn row(key: K, window: Window, value: V) -> Self::Row {
        Timed::pack(window.last_instant(), WindowResult { window, key, value })
    }
}

/// The state of an aggregation and its way to say results.
pub(crate) struct Emission<K, A: Aggregate, S, Z> {
    pub(crate) aggregate: A,
    pub(crate) state: S,
    emit: Emit,
    due: bool,
    schema: Arc<StateSchema>,
    marker: PhantomData<fn() -> (K, Z)>,
}

impl<K: Key, A: Aggregate, S: GroupState<K, A>, Z: Shape<K, S::Scope, A::Out>> Emission<K, A, S, Z> {
    pub(crate) fn new(aggregate: A, state: S, emit: Emit, schema: Arc<StateSchema>) -> Self {
        Emission { aggregate, state, emit, due: false, schema, marker: PhantomData }
    }

    pub(crate) fn drops_late(&self) -> bool {
        self.emit.drops_late()
    }

    /// After each batch: if the worker holds more than it may, what can be elsewhere goes there.
    pub(crate) fn relieve(&mut self) {
        if A::RELIEVES && StateMemory::is_short() {
            self.state.relieve(&self.aggregate);
            StateMemory::looked_through();
        }
    }

    /// Closes what the watermark closes.
    pub(crate) fn watermark(&mut self, context: &mut Context) {
        let mut out = Outbox::new(0);
        match self.emit {
            Emit::Append if const { <Z::Mode as OutputMode>::APPENDS } => {
                let watermark = context.watermark();
                self.state.close(&self.aggregate, watermark, &mut |key, place, value| {
                    out.push(Z::row(key, place, value), context);
                });
            }
            // What else has changed can wait for the flush, or the interval.
            Emit::Update { .. } if const { <Z::Mode as OutputMode>::UPDATES } => {
                if self.state.closes(context.watermark()) {
                    self.say_changes(context);
                }
                self.state.forget(&self.aggregate, context.watermark());
            }
            Emit::Append | Emit::Update { .. } | Emit::Complete => {}
        }
        out.send(context);
    }

    /// Says what has changed, where it is time to.
    pub(crate) fn flush(&mut self, context: &mut Context) {
        match self.emit {
            Emit::Update { every: Some(every) } if context.mode() == Mode::Continuous => {
                if !self.due {
                    self.due = true;
                    context.wake_at(context.now() + every);
                }
            }
            Emit::Update { .. } => self.say_changes(context),
            Emit::Append | Emit::Complete => {}
        }
    }

    /// The interval of an update stream has passed.
    pub(crate) fn processing_time(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.due) {
            self.say_changes(context);
        }
    }

    pub(crate) fn epoch_end(&mut self, context: &mut Context) {
        match self.emit {
            Emit::Complete if const { <Z::Mode as OutputMode>::COMPLETES } => {
                let mut out = Outbox::new(0);
                self.state.all(&self.aggregate, &mut |key, place, value| {
                    out.push(Z::row(key, place, value), context);
                });
                out.send(context);
            }
            // What waits for its interval belongs to this epoch.
            Emit::Update { .. } => self.say_changes(context),
            Emit::Append | Emit::Complete => {}
        }
    }

    fn say_changes(&mut self, context: &mut Context) {
        if const { !<Z::Mode as OutputMode>::UPDATES } {
            return;
        }
        let mut out = Outbox::new(0);
        self.state.changed(&self.aggregate, &mut |key, place, value| {
            out.push(Z::row(key, place, value), context);
        });
        out.send(context);
    }

    /// The key, what is kept for it, and what it is kept by: nothing, a pane, a session.
    pub(crate) fn state_type(&self) -> String {
        use std::any::type_name;
        let place = type_name::<S::Slot>();
        format!("{} -> {} by {place}", type_name::<K>(), type_name::<A::Acc>())
    }

    pub(crate) fn track(&mut self) {
        self.state.track();
    }

    pub(crate) fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        writer.learn(self.schema.is_partial().then(|| Arc::clone(&self.schema)));
        self.state.snapshot(&self.aggregate, writer)
    }

    pub(crate) fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        self.state.restore(group, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::graph::Place;
    use crate::testing::{Harness, numbers, operator_of};
    use crate::{EventTime, Graph, Mode, ProcessingTime, WindowResult, tumbling};

    #[test]
    fn watermark_that_closes_no_window_keeps_update_interval() {
        let counts = numbers(&Graph::new("counts"), 0)
            .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO)
            .key_by(|_| ())
            .window(tumbling(Duration::from_micros(10)))
            .count()
            .update_every(Duration::from_secs(1));
        let make = operator_of(counts);
        let mut harness = Harness::new(Mode::Continuous, move || make(Place::new(0, 1, Mode::Continuous)));
        let said = |harness: &mut Harness<_>| -> Vec<(i64, u64)> {
            let rows = harness.take::<(EventTime, WindowResult<(), u64>)>(0);
            rows.into_iter().map(|(_, row)| (row.window.start.as_micros(), row.value)).collect()
        };
        for time in [1u64, 2, 3] {
            harness.batch(0, vec![time]).unwrap();
            harness.watermark(EventTime::from_micros(time as i64)).unwrap();
            assert_eq!(said(&mut harness), []);
        }
        harness.advance_to(ProcessingTime::from_micros(1_000_000)).unwrap();
        assert_eq!(said(&mut harness), [(0, 3)]);
        harness.batch(0, vec![4u64, 11]).unwrap();
        harness.watermark(EventTime::from_micros(9)).unwrap();
        assert_eq!(said(&mut harness), []);
        // The last value of a window comes with its end, whenever the interval ends.
        harness.watermark(EventTime::from_micros(10)).unwrap();
        assert_eq!(said(&mut harness).first(), Some(&(0, 4)));
    }
}
