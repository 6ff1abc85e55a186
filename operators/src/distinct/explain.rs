//! What the compiler tells those who left out the keys, as `group/explain.rs` does for aggregates.

use std::time::Duration;

use crate::Stream;

/// What a stream lacks that is to be deduplicated and has no keys. Nothing implements it.
#[diagnostic::on_unimplemented(
    message = "deduplication needs keys",
    label = "put `.key_by(…)` before this, with the fields by which two rows are the same"
)]
pub trait HasRowKeys {
    #[doc(hidden)]
    fn never<T>(&self) -> T;
}

#[doc(hidden)]
impl<T, P> Stream<T, P> {
    pub fn distinct(self) -> Self
    where
        Self: HasRowKeys,
    {
        self.never()
    }
    pub fn distinct_for(self, _ttl: Duration) -> Self
    where
        Self: HasRowKeys,
    {
        self.never()
    }
    pub fn distinct_within(self, _span: Duration) -> Self
    where
        Self: HasRowKeys,
    {
        self.never()
    }
    pub fn distinct_within_watermark(self) -> Self
    where
        Self: HasRowKeys,
    {
        self.never()
    }
}
