//! The outputs of an operator: on an edge, or into a sink that it hosts.
//!
//! A sink that takes all of an output on the worker where it comes out is no operator of its own: a record is written in
//! the activation that made it, and no operator is scheduled or woken in between.

use std::sync::Arc;

use tidemill_operators::{Epoch, EventTime};
use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Time;
use super::edge_batch::EdgeBatch;
use super::host::waker;
use super::hosted_sink::HostedSink;
use super::stateless::Edge;
use crate::control::Control;

/// The sinks that an operator writes to itself, by output.
pub(crate) type HostedSinks = Vec<(usize, HostedSink)>;

/// Where the outputs of an operator lead.
pub(crate) enum Outlets {
    /// Into these sinks, and the others to edges that are held at the operator's watermark.
    Timed(HostedSinks),
    /// Into a fragment, by edges that are held at the least watermark.
    Fragment,
}

/// An output of an operator that depends only on what that holds, not on its inputs.
pub(crate) enum Output {
    /// On an edge, held by the capability while anything may come.
    Edge {
        output: OutputBuilder<Time, NoopBuilder<EdgeBatch>>,
        capability: Option<Capability<Time>>,
        /// Whether it is held at the operator's watermark, and not at the least one.
        is_timed: bool,
    },
    /// Into a sink.
    Sink(Box<HostedSink>),
}

impl Output {
    /// Makes the outputs of an operator, and the edges of those that have one.
    pub(crate) fn all<'scope>(
        builder: &mut OperatorBuilder<'scope, Time>,
        scope: Scope<'scope, Time>,
        outputs: usize,
        outlets: Outlets,
        control: &Arc<Control>,
    ) -> (Vec<Output>, Vec<(usize, Edge<'scope>)>) {
        let (mut sinks, is_timed) = match outlets {
            Outlets::Timed(sinks) => (sinks, true),
            Outlets::Fragment => (HostedSinks::new(), false),
        };
        let mut edges = Vec::new();
        let address = builder.operator_info().address;
        let outputs = (0..outputs).map(|port| {
            if let Some(at) = sinks.iter().position(|(of, _)| *of == port) {
                control.wakers.add_sink(waker(scope, &address));
                return Output::Sink(Box::new(sinks.swap_remove(at).1));
            }
            let (output, edge) = builder.new_output_connection::<EdgeBatch, _>([]);
            edges.push((port, edge));
            Output::Edge { output: OutputBuilder::from(output), capability: None, is_timed }
        });
        (outputs.collect(), edges)
    }

    /// Assigns each edge its capability.
    pub(crate) fn set_capabilities(outputs: &mut [Output], capabilities: Vec<Capability<Time>>) {
        let held = outputs.iter_mut().filter_map(|port| match port {
            Output::Edge { capability, .. } => Some(capability),
            Output::Sink(_) => None,
        });
        held.zip(capabilities).for_each(|(held, capability)| *held = Some(capability));
    }

    /// Before anything else.
    pub(crate) fn begin(&mut self) {
        if let Output::Sink(hosted) = self {
            hosted.begin();
        }
    }

    /// Sends what belongs to the time at which the port is held, which is in that epoch.
    pub(crate) fn send(&mut self, epoch: Epoch, mut edge_batch: EdgeBatch) {
        match self {
            Output::Edge { output, capability: Some(capability), .. } => {
                output.activate().session_with_builder(capability).give_container(&mut edge_batch);
            }
            Output::Edge { capability: None, .. } => {}
            Output::Sink(hosted) => hosted.take(epoch, edge_batch.batch.for_worker(0)),
        }
    }

    /// Holds it at a time: all of the epochs before has been sent.
    pub(crate) fn hold(&mut self, here: Time) {
        match self {
            Output::Edge { capability: Some(capability), is_timed, .. } => {
                let watermark = if *is_timed { here.watermark } else { EventTime::MIN.as_micros() };
                let here = Time { watermark, ..here };
                if *capability.time() != here {
                    // The operator's epoch and watermark only grow, so this cannot fail.
                    let _ = capability.try_downgrade(&here);
                }
            }
            Output::Edge { capability: None, .. } => {}
            Output::Sink(hosted) => {
                hosted.settle(Some(here.epoch));
            }
        }
    }

    /// Nothing will be sent any more. True while there is something left to do: to be called when somebody wakes the
    /// operator.
    pub(crate) fn close(&mut self) -> bool {
        match self {
            Output::Edge { capability, .. } => {
                *capability = None;
                false
            }
            Output::Sink(hosted) => hosted.settle(None),
        }
    }
}
