//! A function of the user that waits for something outside the engine, such as a request to a service.
//!
//! [`Stream::map_async`] calls it for each row. Up to [a number of rows](Requests::at_most) are in flight on each worker at once; while
//! there are as many, the engine holds the input back. Results are emitted when they come, with the event time of their row, and in
//! the order of the rows unless that is [given up](Requests::unordered). An epoch ends when all its requests are answered or have failed.
//! So there is no state, and no row is late: one that is older than the watermark is emitted too, and is late behind.
//!
//! - `request.rs`: one request, with its timeout and its attempts, as a future
//! - `operator.rs`: the operator that starts requests and emits what comes of them

mod failure;
mod operator;
mod request;
mod settings;

use std::error::Error;
use std::panic::Location;
use std::sync::Arc;

pub use self::failure::{FailedRequest, RequestFailure};
pub use self::settings::{Requests, Retry};

use self::failure::{Divert, FailQuery, OnFailure};
use self::operator::MapAsync;
use crate::build::{OutputPlace, Outputs};
use crate::chain::{Chain, FromEdge};
use crate::graph::{Input, Kinds, NodeKind, NodeSpec, OperatorSpec, Route};
use crate::{Data, RowKind, Stream};

/// The rows that it takes.
const TAKES: &[&[RowKind]] = &[&[RowKind::Insert]];

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Maps each row with an asynchronous function, such as a request to a service; a request that fails fails the query.
    ///
    /// The function is called again for a row if a [retry](Requests::with_retry) is set, and when an epoch is replayed after a crash: the
    /// service sees such a row more than once, the sinks behind see its result once. If requests fail,
    /// [`map_async_with_failed`](Self::map_async_with_failed) sends their rows elsewhere. A panic in the function or its future ends the
    /// query with the line of this call.
    ///
    /// The futures run on a pool of a few threads of tokio (`Options::with_async_threads`), whose timers and, if your program enables
    /// tokio's feature `net`, sockets they may use. They must not block their thread. The rows of each worker are requested there:
    /// [`rebalance`](Self::rebalance) first if one worker has most of them. The stream must be [inserts](crate::RowKind::Insert).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// /// A request to a service that knows the names of products.
    /// async fn name_of(product: u32) -> Result<String, std::io::Error> {
    ///     Ok(format!("product {product}"))
    /// }
    ///
    /// let requests = Requests::at_most(100)
    ///     .with_timeout(Duration::from_secs(2))
    ///     .with_retry(Retry::attempts(3).with_backoff(Duration::from_millis(50), Duration::from_secs(1)));
    /// let graph = Graph::new("names");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(3u32, 20u64), (5, 7)]))
    ///     .map_async(requests, |(product, amount)| async move { Ok::<_, std::io::Error>((name_of(product).await?, amount)) })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [("product 3".to_owned(), 20), ("product 5".to_owned(), 7)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    #[track_caller]
    pub fn map_async<R, E, F, Fut>(self, requests: Requests, function: F) -> Stream<R, FromEdge<R, P::Time>>
    where
        T: Clone,
        R: Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.into_requests::<_, _, _, _, FailQuery>(requests, function, Location::caller())
    }

    /// As [`map_async`](Self::map_async); rows whose requests have failed are the second stream.
    ///
    /// A row is there once its last attempt has failed or timed out, with the number of attempts.
    ///
    /// ```
    /// use tidemill::prelude::*;
    /// use tidemill::RequestFailure;
    ///
    /// let graph = Graph::new("names");
    /// let (named, failed) = graph.source(memory(1..=3u32)).map_async_with_failed(
    ///     Requests::at_most(100).unordered().with_retry(Retry::attempts(2)),
    ///     |product| async move { if product == 2 { Err("unknown product") } else { Ok(format!("product {product}")) } },
    /// );
    /// let ((sink, names), (failed_sink, rest)) = (memory_sink(), memory_sink());
    /// named.sink(sink);
    /// failed.sink(failed_sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(names.snapshot().len(), 2);
    /// let rest = rest.snapshot();
    /// assert_eq!((rest[0].row, rest[0].attempts), (2, 2));
    /// assert_eq!(rest[0].failure, RequestFailure::Failed("unknown product".to_owned()));
    /// # Ok::<(), RunError>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    #[track_caller]
    pub fn map_async_with_failed<R, E, F, Fut>(
        self,
        requests: Requests,
        function: F,
    ) -> (Stream<R, FromEdge<R, P::Time>>, Stream<FailedRequest<T>, FromEdge<FailedRequest<T>, P::Time>>)
    where
        T: Data + Clone,
        R: Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.into_requests::<_, _, _, _, Divert>(requests, function, Location::caller())
    }

    fn into_requests<R, E, F, Fut, O>(
        self,
        requests: Requests,
        function: F,
        location: &'static Location<'static>,
    ) -> <O::Outputs as Outputs>::Streams
    where
        T: Clone,
        R: Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        O: OnFailure<T, R, P::Time>,
    {
        let port = self.boxed().port;
        let function = Arc::new(function);
        let operator = OperatorSpec {
            make: Arc::new(move |_| {
                Box::new(MapAsync::<T, R, P::Time, F, O>::new(requests, Arc::clone(&function)))
            }),
            stateful: false,
            watermark: None,
            derives_watermark: false,
            stays_behind: false,
            awaits_commits: false,
            in_flight: Some(requests.capacity),
            states: Vec::new(),
            kinds: Kinds::Declared { takes: TAKES, emits: O::Outputs::KINDS },
        };
        let graph = port.graph.clone();
        let port = graph.add(NodeSpec {
            kind: NodeKind::Operator(operator),
            op: "map_async",
            steps: Vec::new(),
            inputs: vec![Input::by(port.node, port.output, Route::Local)],
            outputs: O::Outputs::COUNT,
            location,
            detail: requests.to_string(),
        });
        if let Some(problem) = requests.problem() {
            graph.problem(port.node, problem);
        }
        O::Outputs::streams(&OutputPlace::first_of(port))
    }
}
