//! Hosts an operator that keeps nothing: a batch in, batches out, at the time at which it came.

use timely::container::NoopBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use super::Time;
use super::edge_batch::EdgeBatch;
use super::host::{Hosted, enter, receive};
use super::route::{Inflow, Inlet};

pub(crate) type Edge<'scope> = Stream<'scope, Time, EdgeBatch>;
type Out = OutputBuilder<Time, NoopBuilder<EdgeBatch>>;

/// Builds the operator.
pub(crate) fn stateless<'scope>(
    scope: Scope<'scope, Time>,
    name: &str,
    inputs: Vec<Inflow<'scope>>,
    mut hosted: Hosted,
) -> Vec<Edge<'scope>> {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let mut inlets: Vec<Inlet> =
        inputs.into_iter().map(|inflow| inflow.connect(&mut builder, true)).collect();
    let mut outputs: Vec<Out> = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..hosted.outputs() {
        let (output, stream) = builder.new_output::<EdgeBatch>();
        outputs.push(OutputBuilder::from(output));
        streams.push(stream);
    }
    for input in 0..inlets.len() {
        builder.set_notify_for(input, timely::progress::operate::FrontierInterest::Never);
    }
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_frontiers| {
            enter(hosted.node);
            let mut sessions: Vec<_> = outputs.iter_mut().map(OutputBuilder::activate).collect();
            for (input, inlet) in inlets.iter_mut().enumerate() {
                inlet.for_each(|capability, edge_batch| {
                    let worker = hosted.worker();
                    let (batch, announcement) = receive(&hosted.control, worker, edge_batch);
                    hosted.batch(input, batch);
                    for (output, edge_batch) in hosted.sent() {
                        let mut edge_batch = edge_batch.with_announcement(announcement.clone());
                        if let Some(session) = sessions.get_mut(output) {
                            session.session_with_builder(&capability).give_container(&mut edge_batch);
                        }
                    }
                });
            }
        }
    });
    streams
}

/// Copies every batch for every worker, each copy labelled with its worker.
pub(crate) fn copies<'scope>(
    scope: Scope<'scope, Time>,
    edge: Edge<'scope>,
    cloner: tidemill_operators::Cloner,
    workers: usize,
) -> Edge<'scope> {
    let mut builder = OperatorBuilder::new("copies".to_owned(), scope);
    let mut inlet = Inflow { edge, router: None }.connect(&mut builder, true);
    let (output, stream) = builder.new_output::<EdgeBatch>();
    let mut output = Out::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_frontiers| {
            let mut session = output.activate();
            inlet.for_each(|capability, edge_batch| {
                let original = std::mem::take(edge_batch).copyable(Some(cloner));
                for worker in 0..workers {
                    let mut copy = original.clone();
                    copy.batch = copy.batch.for_worker(worker);
                    session.session_with_builder(&capability).give_container(&mut copy);
                }
            });
        }
    });
    stream
}
