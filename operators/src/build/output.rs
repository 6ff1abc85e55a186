//! The outputs of an operator: rows gathered while it runs, and the streams that they become.

use crate::buffers::{batch_capacity, grow, with_room};
use crate::chain::{FromEdge, TimeDomain, Timed};
use crate::graph::Port;
use crate::{Batch, Context, EventTime, RowChange, RowKind, Stream};

/// An output of rows without event time: its stream is a [`Stream<T>`](Stream).
///
/// Use it where event time ends: for results that go to a sink, or to aggregates without windows. Windows and joins by event time
/// behind it do not compile; give the rows an event time with [`Events`], or call `with_watermark` on the stream.
///
/// ```
/// use tidemill::operator::Rows;
///
/// let mut alarms = Rows::default(); // in a function: `cx.out.0`
/// alarms.push("sensor 7 is silent");
/// ```
#[derive(Debug)]
pub struct Rows<T> {
    rows: Vec<T>,
    full: Vec<Vec<T>>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Rows { rows: Vec::new(), full: Vec::new() }
    }
}

impl<T> Rows<T> {
    /// Emits a row.
    #[inline]
    pub fn push(&mut self, row: T)
    where
        T: 'static,
    {
        if self.rows.len() == self.rows.capacity() {
            self.make_room();
        }
        self.rows.push(row);
    }

    #[inline(never)]
    fn make_room(&mut self)
    where
        T: 'static,
    {
        let capacity = const { batch_capacity::<T>() };
        if self.rows.len() >= capacity {
            let full = std::mem::replace(&mut self.rows, with_room(capacity));
            self.full.push(full);
        } else {
            let rows = (self.rows.len() * 4).clamp(4, capacity);
            grow(&mut self.rows, rows);
        }
    }
}

/// An output of rows with an event time each: its stream is an [`EventStream<T>`](crate::EventStream), for windows and joins.
///
/// The event time of a row is the first argument of [`push`](Self::push): that of the row it is made of (`cx.time()` in a process
/// function), or that of a timer. The stream has the watermark of the operator's inputs. A row that is older than it is late for the
/// operators behind, unless the operator [derives](super::StatefulOperator::DERIVES_WATERMARK) a watermark of its own.
///
/// ```
/// use tidemill::operator::Events;
/// use tidemill::prelude::*;
///
/// let mut alarms = Events::default(); // in a function: `cx.out.0`
/// alarms.push(EventTime::from_secs(60), "sensor 7 is silent");
/// ```
#[derive(Debug)]
pub struct Events<T> {
    rows: Rows<(EventTime, T)>,
}

impl<T> Default for Events<T> {
    fn default() -> Self {
        Events { rows: Rows::default() }
    }
}

impl<T: 'static> Events<T> {
    /// Emits a row with its event time.
    #[inline]
    pub fn push(&mut self, time: EventTime, row: T) {
        self.rows.push((time, row));
    }
}

/// An output of upserts or of inserts: the flag decides which. `M` decides whether rows have an event time.
pub(crate) struct Emitted<T: Send + 'static, M: TimeDomain, const UPSERTS: bool> {
    rows: Rows<M::Row<T>>,
}

/// An output whose rows have the event time of what they are made of, if that has one.
pub(crate) type KeepsTime<T, M> = Emitted<T, M, false>;

impl<T: Send + 'static, M: TimeDomain, const UPSERTS: bool> Default for Emitted<T, M, UPSERTS> {
    fn default() -> Self {
        Emitted { rows: Rows::default() }
    }
}

impl<T: Send + 'static, M: TimeDomain, const UPSERTS: bool> Emitted<T, M, UPSERTS> {
    #[inline]
    pub(crate) fn push(&mut self, time: EventTime, row: T) {
        self.rows.push(M::pack(time, row));
    }
}

/// An output of [upserts](RowKind::Upsert): each row replaces the earlier ones of its key.
#[derive(Debug)]
pub struct Upserts<T> {
    rows: Rows<T>,
}

impl<T: 'static> Upserts<T> {
    /// Emits the newest value of a key.
    #[inline]
    pub fn push(&mut self, row: T) {
        self.rows.push(row);
    }
}

/// An output of [snapshots](RowKind::Snapshot): the rows of each epoch replace those of the one before.
#[derive(Debug)]
pub struct Snapshots<T> {
    rows: Rows<T>,
}

impl<T: 'static> Snapshots<T> {
    /// Emits a row of the whole table, at the end of the epoch.
    #[inline]
    pub fn push(&mut self, row: T) {
        self.rows.push(row);
    }
}

/// An output of [changes](RowKind::Changes): rows that are added to a table and taken from it. Its stream has rows of type
/// [`RowChange`].
#[derive(Debug)]
pub struct Changes<T> {
    rows: Rows<RowChange<T>>,
}

impl<T: 'static> Changes<T> {
    /// Adds a row.
    #[inline]
    pub fn insert(&mut self, row: T) {
        self.rows.push(RowChange::insert(row));
    }

    /// Takes a row away.
    #[inline]
    pub fn delete(&mut self, row: T) {
        self.rows.push(RowChange::delete(row));
    }

    /// Emits a change.
    #[inline]
    pub fn push(&mut self, change: RowChange<T>) {
        self.rows.push(change);
    }
}

/// An output of a node, on its way to becoming a stream.
#[derive(Clone)]
pub struct OutputPlace {
    port: Port,
}

impl OutputPlace {
    pub(crate) fn first_of(port: Port) -> Self {
        OutputPlace { port }
    }

    pub(crate) fn at(&self, output: usize) -> Self {
        OutputPlace { port: self.port.sibling(output) }
    }
}

impl std::fmt::Debug for OutputPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputPlace").field("output", &self.port.output).finish_non_exhaustive()
    }
}

/// One of the outputs of an operator. Named in types, implemented only here.
pub trait Output: Default + 'static {
    /// What it becomes in the graph.
    type Stream;
    /// The kind of its rows.
    const KIND: RowKind = RowKind::Insert;

    /// The stream of an output.
    #[doc(hidden)]
    fn stream(place: OutputPlace) -> Self::Stream;

    /// Sends what has been emitted.
    #[doc(hidden)]
    fn send(&mut self, output: usize, context: &mut Context);
}

impl<T: Send + 'static> Output for Rows<T> {
    type Stream = Stream<T>;

    fn stream(place: OutputPlace) -> Stream<T> {
        Stream::at(place.port)
    }

    fn send(&mut self, output: usize, context: &mut Context) {
        for full in self.full.drain(..) {
            context.send(output, Batch::from_vec(full));
        }
        if !self.rows.is_empty() {
            context.send(output, Batch::from_vec(std::mem::take(&mut self.rows)));
        }
    }
}

impl<T: Send + 'static> Output for Events<T> {
    type Stream = Stream<T, FromEdge<T, Timed>>;

    fn stream(place: OutputPlace) -> Self::Stream {
        Stream::at(place.port)
    }

    fn send(&mut self, output: usize, context: &mut Context) {
        self.rows.send(output, context);
    }
}

impl<T: Send + 'static, M: TimeDomain, const UPSERTS: bool> Output for Emitted<T, M, UPSERTS> {
    type Stream = Stream<T, FromEdge<T, M>>;
    const KIND: RowKind = if UPSERTS { RowKind::Upsert } else { RowKind::Insert };

    fn stream(place: OutputPlace) -> Self::Stream {
        Stream::at(place.port)
    }

    fn send(&mut self, output: usize, context: &mut Context) {
        self.rows.send(output, context);
    }
}

/// An output whose rows are kept in `rows`.
macro_rules! of_kind {
    ($name:ident, $row:ty, $kind:expr) => {
        impl<T> Default for $name<T> {
            fn default() -> Self {
                $name { rows: Rows::default() }
            }
        }

        impl<T: Send + 'static> Output for $name<T> {
            type Stream = Stream<$row>;
            const KIND: RowKind = $kind;

            fn stream(place: OutputPlace) -> Self::Stream {
                Stream::at(place.port)
            }

            fn send(&mut self, output: usize, context: &mut Context) {
                self.rows.send(output, context);
            }
        }
    };
}

of_kind!(Upserts, T, RowKind::Upsert);
of_kind!(Snapshots, T, RowKind::Snapshot);
of_kind!(Changes, RowChange<T>, RowKind::Changes);

/// The outputs of an operator: a tuple of [`Rows`], [`Events`], [`Upserts`], [`Snapshots`] and [`Changes`]. Implemented for none to
/// six.
pub trait Outputs: Default + 'static {
    /// The streams that they become: a tuple, or for one output its stream.
    type Streams;
    /// How many there are.
    const COUNT: usize;
    /// The kinds of their rows.
    #[doc(hidden)]
    const KINDS: &'static [RowKind];

    /// The streams of a node's outputs.
    #[doc(hidden)]
    fn streams(first: &OutputPlace) -> Self::Streams;

    /// Sends what has been emitted.
    #[doc(hidden)]
    fn send(&mut self, context: &mut Context);
}

macro_rules! outputs {
    ($count:literal: $($name:ident $number:tt),*; $streams:ty) => {
        impl<$($name: Output),*> Outputs for ($($name,)*) {
            type Streams = $streams;
            const COUNT: usize = $count;
            const KINDS: &'static [RowKind] = &[$($name::KIND),*];

            fn streams(first: &OutputPlace) -> Self::Streams {
                ($($name::stream(first.at($number))),*)
            }

            fn send(&mut self, context: &mut Context) {
                $(self.$number.send($number, context);)*
            }
        }
    };
}

/// None: what the operator keeps is only in the checkpoint.
impl Outputs for () {
    type Streams = ();
    const COUNT: usize = 0;
    const KINDS: &'static [RowKind] = &[];

    fn streams(_: &OutputPlace) {}

    fn send(&mut self, _: &mut Context) {}
}

outputs!(1: A 0; A::Stream);
outputs!(2: A 0, B 1; (A::Stream, B::Stream));
outputs!(3: A 0, B 1, C 2; (A::Stream, B::Stream, C::Stream));
outputs!(4: A 0, B 1, C 2, D 3; (A::Stream, B::Stream, C::Stream, D::Stream));
outputs!(5: A 0, B 1, C 2, D 3, E 4; (A::Stream, B::Stream, C::Stream, D::Stream, E::Stream));
outputs!(6: A 0, B 1, C 2, D 3, E 4, F 5; (A::Stream, B::Stream, C::Stream, D::Stream, E::Stream, F::Stream));
