//! The stream of a source.

use std::panic::Location;
use std::sync::Arc;

use super::{FromSource, Stream};
use crate::erased::{DynSource, ErasedSource};
use crate::graph::{Graph, NodeKind, NodeSpec};
use crate::source::Source;

impl Graph {
    /// Adds a source and returns the stream of its records.
    #[track_caller]
    pub fn source<S: Source>(&self, source: S) -> Stream<S::Item, FromSource<S>> {
        let source: Arc<dyn DynSource> = Arc::new(ErasedSource::new(source));
        let detail = source.describe();
        Stream::from_source(self.add(NodeSpec {
            kind: NodeKind::Source(source),
            op: "source",
            steps: Vec::new(),
            inputs: Vec::new(),
            outputs: 1,
            location: Location::caller(),
            detail,
        }))
    }
}
