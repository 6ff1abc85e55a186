//! Batches of arrangements behind an `Arc`, where differential's own are behind an `Rc`: so they may be in a batch of the engine.

use std::sync::Arc;

use differential_dataflow::trace::cursor::Cursor;
use differential_dataflow::trace::implementations::Vector;
use differential_dataflow::trace::implementations::ord_neu::OrdValBatch;
use differential_dataflow::trace::implementations::spine_fueled::{Merger, Spine, SpineBatch};
use differential_dataflow::trace::{ExertionLogic, Navigable};
use timely::progress::frontier::AntichainRef;

use super::time::Tick;
use crate::engine::merge_effort;

/// The updates of a range of ticks, sorted by key, row and tick.
pub(super) type Sorted<K, V, T = Tick> = OrdValBatch<Vector<((K, V), T, i64)>>;
/// All updates of an arrangement.
pub(super) type SharedSpine<K, V, T = Tick> = Spine<Shared<Sorted<K, V, T>>>;

/// What the engine puts into the configuration of workers is of the type for which arrangements look there.
const _: fn() -> ExertionLogic = merge_effort;

pub(super) struct Shared<B>(pub(super) Arc<B>);

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<B> From<B> for Shared<B> {
    fn from(batch: B) -> Self {
        Shared(Arc::new(batch))
    }
}

impl<B: SpineBatch> SpineBatch for Shared<B> {
    type Time = B::Time;
    type Merger = SharedMerger<B>;

    fn len(&self) -> usize {
        self.0.len()
    }
}

pub(super) struct SharedMerger<B: SpineBatch>(B::Merger);

impl<B: SpineBatch> Merger<Shared<B>> for SharedMerger<B> {
    fn new(older: &Shared<B>, newer: &Shared<B>, frontier: AntichainRef<'_, B::Time>) -> Self {
        SharedMerger(B::Merger::new(&older.0, &newer.0, frontier))
    }

    fn work(&mut self, older: &Shared<B>, newer: &Shared<B>, fuel: &mut isize) {
        self.0.work(&older.0, &newer.0, fuel);
    }

    fn done(self) -> Option<Shared<B>> {
        self.0.done().map(Shared::from)
    }
}

impl<B: Navigable> Navigable for Shared<B> {
    type Cursor = SharedCursor<B::Cursor>;

    fn cursor(&self) -> Self::Cursor {
        SharedCursor(self.0.cursor())
    }
}

pub(super) struct SharedCursor<C>(C);

/// Passes each call on.
macro_rules! pass {
    ($($name:ident($($arg:ident: $of:ty),*) $(-> $to:ty)?;)*) => {
        $(#[inline]
        fn $name(&mut self, batch: &Self::Storage, $($arg: $of),*) $(-> $to)? {
            self.0.$name(&batch.0, $($arg),*)
        })*
    };
}

impl<C: Cursor> Cursor for SharedCursor<C> {
    type Storage = Shared<C::Storage>;
    type Key<'a> = C::Key<'a>;
    type ValOwn = C::ValOwn;
    type Val<'a> = C::Val<'a>;
    type Time = C::Time;
    type TimeGat<'a> = C::TimeGat<'a>;
    type Diff = C::Diff;
    type DiffGat<'a> = C::DiffGat<'a>;
    type KeyContainer = C::KeyContainer;
    type ValContainer = C::ValContainer;
    type TimeContainer = C::TimeContainer;
    type DiffContainer = C::DiffContainer;

    #[inline]
    fn key_valid(&self, batch: &Self::Storage) -> bool {
        self.0.key_valid(&batch.0)
    }

    #[inline]
    fn val_valid(&self, batch: &Self::Storage) -> bool {
        self.0.val_valid(&batch.0)
    }

    #[inline]
    fn key<'a>(&self, batch: &'a Self::Storage) -> Self::Key<'a> {
        self.0.key(&batch.0)
    }

    #[inline]
    fn val<'a>(&self, batch: &'a Self::Storage) -> Self::Val<'a> {
        self.0.val(&batch.0)
    }

    #[inline]
    fn get_key<'a>(&self, batch: &'a Self::Storage) -> Option<Self::Key<'a>> {
        self.0.get_key(&batch.0)
    }

    #[inline]
    fn get_val<'a>(&self, batch: &'a Self::Storage) -> Option<Self::Val<'a>> {
        self.0.get_val(&batch.0)
    }

    #[inline]
    fn map_times<L: FnMut(Self::TimeGat<'_>, Self::DiffGat<'_>)>(&mut self, batch: &Self::Storage, logic: L) {
        self.0.map_times(&batch.0, logic);
    }

    pass! {
        step_key();
        seek_key(key: Self::Key<'_>);
        step_val();
        seek_val(val: Self::Val<'_>);
        rewind_keys();
        rewind_vals();
    }
}
