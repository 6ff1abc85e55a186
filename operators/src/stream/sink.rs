//! `sink`: where a stream leaves the graph.

use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Stream;
use super::terminal::StripTime;
use crate::chain::Chain;
use crate::erased::ErasedSink;
use crate::graph::{Input, NodeKind, NodeSpec, OperatorSpec, Route, SinkSpec};
use crate::sink::Sink;
use crate::{Data, SinkError};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Ends the stream in a sink. One worker writes: all rows of an epoch come to one place.
    ///
    /// Rows of several workers need to be sent to that one, so `T` must be serialisable.
    #[track_caller]
    pub fn sink(self, sink: impl Sink<T>)
    where
        T: Data,
    {
        let (detail, place) = (sink.describe(), sink.place());
        let bare = self.steps.is_empty();
        let make = |chain| SinkSpec::One(Arc::new(Mutex::new(Box::new(ErasedSink::new(sink, chain, bare)))));
        self.attach((detail, place), Route::Single, make, Location::caller());
    }

    /// Ends the stream in a sink on every worker, each made by `make` from the worker's number, or refused with an error.
    /// Nothing is exchanged: every worker writes its own rows.
    ///
    /// ```
    /// use tidemill_operators::{Graph, testing::{nowhere, numbers}};
    ///
    /// let graph = Graph::new("evens");
    /// numbers(&graph, 5).filter(|n| n % 2 == 0).sink_per_worker(|_worker| Ok(nowhere()));
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
        let bare = self.steps.is_empty();
        let of_chain = |chain: Arc<P>| {
            SinkSpec::PerWorker(Arc::new(move |worker| {
                Ok(Box::new(ErasedSink::new(make(worker)?, Arc::clone(&chain), bare)))
            }))
        };
        self.attach((detail, None), Route::Local, of_chain, Location::caller());
    }

    fn attach(
        self,
        (detail, place): (String, Option<PathBuf>),
        route: Route,
        sink: impl FnOnce(Arc<P>) -> SinkSpec,
        location: &'static Location<'static>,
    ) {
        let graph = self.graph();
        let output_mode = graph.output_mode(self.port.node);
        // The chain runs where the records are; only its results go to the sink's worker, without their event times.
        // Where that is the same worker, the sink runs it, unless it assigns watermarks: these are told epoch by epoch.
        let watermark = self.chain.watermark();
        let chain = Arc::new(self.chain);
        let sink = sink(Arc::clone(&chain));
        let (input, steps) = if self.steps.is_empty() {
            (Input { route, ..Input::of_chain::<P>(&self.port) }, None)
        } else {
            let port = graph.add(NodeSpec {
                kind: NodeKind::Operator(OperatorSpec {
                    make: Arc::new(move |_| Box::new(StripTime::new(Arc::clone(&chain)))),
                    stateful: false,
                    watermark,
                }),
                op: "chain",
                location: self.steps.first().map_or(location, |s| s.location),
                steps: self.steps,
                inputs: vec![Input::of_chain::<P>(&self.port)],
                outputs: 1,
                detail: String::new(),
            });
            (Input::by(port.node, port.output, route), Some(port.node).filter(|_| watermark.is_none()))
        };
        graph.add(NodeSpec {
            kind: NodeKind::Sink { sink, output_mode, steps, place },
            op: "sink",
            steps: Vec::new(),
            inputs: vec![input],
            outputs: 0,
            location,
            detail,
        });
    }
}
