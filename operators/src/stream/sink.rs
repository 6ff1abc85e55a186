//! `sink`: where a stream leaves the graph.

use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Stream;
use super::terminal::StripTime;
use crate::chain::Chain;
use crate::erased::ErasedSink;
use crate::graph::{
    Input, NodeId, NodeKind, NodeSpec, OnKind, OperatorSpec, Port, Route, SinkSpec, StepInfo, after,
};
use crate::sink::Sink;
use crate::{Data, Operator, RowKind, SinkError};

/// Whether there is no step that does something with a row.
fn is_bare(steps: &[StepInfo]) -> bool {
    steps.iter().all(|step| matches!(step.on_kind, OnKind::MakesInserts | OnKind::MakesChanges))
}

/// What is known of a sink before it runs.
struct Known {
    detail: String,
    place: Option<PathBuf>,
    row_kind: RowKind,
    /// Whether it does not take the rows that come to it.
    refuses: bool,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Ends the stream in a sink. One worker writes the rows of all workers.
    ///
    /// The rows of the other workers are sent to that worker, so `T` must be serialisable.
    #[track_caller]
    pub fn sink(self, sink: impl Sink<T>)
    where
        T: Data,
    {
        let row_kind = after(&self.steps, self.port.row_kind());
        let refuses = !sink.takes(row_kind);
        let known = Known { detail: sink.describe(), place: sink.place(), row_kind, refuses };
        let bare = is_bare(&self.steps);
        let make = |chain| SinkSpec::One(Arc::new(Mutex::new(Box::new(ErasedSink::new(sink, chain, bare)))));
        self.attach(known, Route::Single, make, Location::caller());
    }

    /// Ends the stream in one sink per worker, which `make` creates.
    ///
    /// No row is sent to another worker: each worker writes its own rows. An error of `make` ends the query.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("evens");
    /// graph.source(memory(0..5u64)).filter(|n| n % 2 == 0).sink_per_worker(|_worker| Ok(discard().0));
    /// graph.validate()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn sink_per_worker<S, F>(self, make: F)
    where
        S: Sink<T>,
        F: Fn(usize) -> Result<S, SinkError> + Send + Sync + 'static,
    {
        let detail = std::any::type_name::<S>().rsplit("::").next().unwrap_or("sink").to_owned();
        let bare = is_bare(&self.steps);
        let of_chain = |chain: Arc<P>| {
            SinkSpec::PerWorker(Arc::new(move |worker| {
                Ok(Box::new(ErasedSink::new(make(worker)?, Arc::clone(&chain), bare)))
            }))
        };
        let row_kind = after(&self.steps, self.port.row_kind());
        let known = Known { detail, place: None, row_kind, refuses: false };
        self.attach(known, Route::Local, of_chain, Location::caller());
    }

    fn attach(
        self,
        known: Known,
        route: Route,
        sink: impl FnOnce(Arc<P>) -> SinkSpec,
        location: &'static Location<'static>,
    ) {
        // The chain runs where the records are; only its results go to the sink's worker, without their event times.
        // Where that is the same worker, the sink runs it, unless it assigns watermarks: those are aligned by epoch.
        let watermark = self.chain.watermark();
        let chain = Arc::new(self.chain);
        let sink = sink(Arc::clone(&chain));
        let input = Input::of_chain::<P>(&self.port);
        if is_bare(&self.steps) {
            let input = Input { route, ..input };
            known.add(&self.port, sink, location, (self.steps, input, None));
        } else {
            let make =
                Arc::new(move |_| -> Box<dyn Operator> { Box::new(StripTime::new(Arc::clone(&chain))) });
            let operator = OperatorSpec::of_chain(make, watermark);
            known.add_behind(&self.port, sink, location, (self.steps, input, operator), route);
        }
    }
}

impl Known {
    /// Adds a sink: with steps that do nothing with rows, the input, and the steps that it runs itself.
    fn add(
        self,
        before: &Port,
        sink: SinkSpec,
        location: &'static Location<'static>,
        (own, input, steps): (Vec<StepInfo>, Input, Option<NodeId>),
    ) {
        let Known { detail, place, row_kind, refuses } = self;
        before.graph.add(NodeSpec {
            kind: NodeKind::Sink { sink, row_kind, refuses, steps, place },
            op: "sink",
            steps: own,
            inputs: vec![input],
            outputs: 0,
            location,
            detail,
        });
    }

    /// Adds steps, which are an operator, and a sink behind them.
    fn add_behind(
        self,
        before: &Port,
        sink: SinkSpec,
        location: &'static Location<'static>,
        (steps, input, operator): (Vec<StepInfo>, Input, OperatorSpec),
        route: Route,
    ) {
        let has_watermark = operator.watermark.is_some();
        let port = before.graph.add(NodeSpec {
            kind: NodeKind::Operator(operator),
            op: "chain",
            location: steps.first().map_or(location, |s| s.location),
            steps,
            inputs: vec![input],
            outputs: 1,
            detail: String::new(),
        });
        let runs = (!has_watermark).then_some(port.node);
        let input = Input::by(port.node, port.output, route);
        self.add(before, sink, location, (Vec::new(), input, runs));
    }
}
