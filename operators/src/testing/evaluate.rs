//! Evaluates a stream on the spot: every source in memory read to its end, as one epoch after which the watermark goes
//! to the end of time.

use crate::chain::Chain;
use crate::graph::{Node, NodeId, NodeKind, Place};
use crate::stream::TimeDomain;
use crate::{
    Batch, Clock, Context, Epoch, EventTime, Graph, Mode, Operator, PlanLimits, Poll, PrepareContext,
    ProcessingTime, Reader, ReaderContext, Sink, SinkError, Source, SourceError, SourceInfo, Stream, Waker,
};

/// A stream of the numbers from 0, `count` of them.
#[track_caller]
pub fn numbers(graph: &Graph, count: u64) -> Stream<u64> {
    source_of(graph, (0..count).collect())
}

/// A stream of some items.
#[track_caller]
pub fn source_of<T: Clone + Send + Sync + 'static>(graph: &Graph, items: Vec<T>) -> Stream<T> {
    graph.source(Items(items)).boxed()
}

/// A sink that drops everything.
pub fn nowhere<T: Send + 'static>() -> impl Sink<T> {
    Nowhere
}

struct Nowhere;

impl<T: Send + 'static> Sink<T> for Nowhere {
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        rows.clear();
        Ok(())
    }
    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What a stream yields when all its sources are read to their ends.
///
/// # Panics
///
/// If a source or an operator fails: this is for tests.
#[allow(clippy::panic, reason = "a test's failure is a panic")]
pub fn outputs<T: Send + 'static, P: Chain<Out = T>>(stream: Stream<T, P>) -> Vec<T> {
    let stream = stream.boxed();
    let nodes = stream.graph().nodes();
    match evaluate(&nodes, stream.port.node, stream.port.output) {
        Ok(batches) => batches
            .into_iter()
            .flat_map(|mut batch| batch.take::<<P::Time as TimeDomain>::Row<T>>().unwrap_or_default())
            .map(|row| <P::Time as TimeDomain>::unpack::<T>(row).1)
            .collect(),
        Err(error) => panic!("the stream cannot be evaluated: {error}"),
    }
}

type Failure = Box<dyn std::error::Error>;

fn evaluate(nodes: &[Node], id: NodeId, output: usize) -> Result<Vec<Batch>, Failure> {
    let node = nodes.get(id.0).ok_or("no such node")?;
    let place = Place::new(0, 1, Mode::MicroBatch);
    let operator: Box<dyn Operator> = match &node.kind {
        NodeKind::Source(source) => {
            let mut batches = Vec::new();
            let info = source.prepare(&PrepareContext::default())?;
            for partition in 0..info.partitions() {
                let context =
                    ReaderContext::new(Waker::new(|| {}), Clock::new(|| ProcessingTime::from_micros(0)));
                let start = info.start(partition).ok_or("no such partition")?;
                let mut reader = source.open(partition, start, context)?;
                loop {
                    let (batch, polled) = reader.poll(1_024)?;
                    batches.push(batch);
                    if !matches!(polled.poll, Poll::Ready | Poll::Soon) {
                        break;
                    }
                }
            }
            return Ok(batches);
        }
        NodeKind::Operator(operator) => (operator.make)(place),
        NodeKind::Grouped(grouped) => (grouped.direct)(place),
        NodeKind::Fragment(_) => return Err("a fragment runs only in a query".into()),
        NodeKind::Forward | NodeKind::Sink { .. } => Box::new(Pass),
    };
    run(nodes, node, operator, output)
}

fn run(
    nodes: &[Node],
    node: &Node,
    mut operator: Box<dyn Operator>,
    output: usize,
) -> Result<Vec<Batch>, Failure> {
    let mut context = Context::new(Mode::MicroBatch, 0, 1);
    for (index, input) in node.inputs.iter().enumerate() {
        for mut batch in evaluate(nodes, input.from, input.port)? {
            batch.set_cloner(None);
            operator.batch(index, batch, &mut context)?;
        }
    }
    context.set_watermark(EventTime::MAX);
    operator.watermark(&mut context)?;
    operator.flush(&mut context)?;
    operator.epoch_end(&mut context)?;
    Ok(context.drain_outputs().filter(|(to, _)| *to == output).map(|(_, batch)| batch).collect())
}

struct Pass;

impl Operator for Pass {
    fn batch(
        &mut self,
        _input: usize,
        batch: Batch,
        context: &mut Context,
    ) -> Result<(), crate::OperatorError> {
        context.send(0, batch);
        Ok(())
    }
}

struct Items<T>(Vec<T>);

impl<T: Clone + Send + Sync + 'static> Source for Items<T> {
    type Item = T;
    type Offset = u64;
    type Reader = ItemsReader<T>;

    fn describe(&self) -> String {
        format!("{} items", self.0.len())
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }
    fn latest(&self, _partition: u32, _from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(self.0.len() as u64)
    }
    fn open(
        &self,
        _partition: u32,
        from: &u64,
        _context: ReaderContext,
    ) -> Result<ItemsReader<T>, SourceError> {
        let skip = usize::try_from(*from).unwrap_or(usize::MAX);
        Ok(ItemsReader { items: self.0.iter().skip(skip).cloned().collect(), offset: *from })
    }
}

struct ItemsReader<T> {
    items: std::collections::VecDeque<T>,
    offset: u64,
}

impl<T: Send + 'static> Reader for ItemsReader<T> {
    type Item = T;
    type Offset = u64;

    fn poll(&mut self, _until: Option<&u64>, max: usize, out: &mut Vec<T>) -> Result<Poll, SourceError> {
        out.extend(self.items.drain(..max.min(self.items.len())));
        self.offset += out.len() as u64;
        Ok(if self.items.is_empty() { Poll::End } else { Poll::Ready })
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        Err(SourceError::NotReplayable { source_name: "items".into(), offset: offset.to_string() })
    }
}
