//! Where what an operator sends goes: on an edge, or into a sink.
//!
//! A sink that takes all of an output on the worker where it comes out is no operator of its own: a record is written in
//! the activation that made it, and nobody is scheduled, or told of a message, in between.

use std::sync::Arc;

use tidemill_operators::Epoch;
use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Time;
use super::host::waker;
use super::parcel::Parcel;
use super::seat::Seat;
use super::stateless::Edge;
use crate::control::Control;

/// The sinks that an operator writes to itself, by output.
pub(crate) type Seats = Vec<(usize, Seat)>;

/// An output of an operator that depends only on what that holds, not on its inputs.
pub(crate) enum Port {
    /// To whoever reads the edge; held by the capability while anything may come.
    Edge { output: OutputBuilder<Time, NoopBuilder<Parcel>>, capability: Option<Capability<Time>> },
    /// Into a sink.
    Sink(Box<Seat>),
}

impl Port {
    /// Makes the outputs of an operator, and the edges of those that have one.
    pub(crate) fn all<'scope>(
        builder: &mut OperatorBuilder<'scope, Time>,
        scope: Scope<'scope, Time>,
        outputs: usize,
        mut seats: Seats,
        control: &Arc<Control>,
    ) -> (Vec<Port>, Vec<(usize, Edge<'scope>)>) {
        let mut edges = Vec::new();
        let address = builder.operator_info().address;
        let ports = (0..outputs).map(|port| {
            if let Some(at) = seats.iter().position(|(of, _)| *of == port) {
                control.wakers.add_sink(waker(scope, &address));
                return Port::Sink(Box::new(seats.swap_remove(at).1));
            }
            let (output, edge) = builder.new_output_connection::<Parcel, _>([]);
            edges.push((port, edge));
            Port::Edge { output: OutputBuilder::from(output), capability: None }
        });
        (ports.collect(), edges)
    }

    /// Gives those that are edges what holds them.
    pub(crate) fn endow(ports: &mut [Port], capabilities: Vec<Capability<Time>>) {
        let held = ports.iter_mut().filter_map(|port| match port {
            Port::Edge { capability, .. } => Some(capability),
            Port::Sink(_) => None,
        });
        held.zip(capabilities).for_each(|(held, capability)| *held = Some(capability));
    }

    /// Before anything else.
    pub(crate) fn begin(&mut self) {
        if let Port::Sink(seat) = self {
            seat.begin();
        }
    }

    /// Sends what belongs to the time at which the port is held, which is in that epoch.
    pub(crate) fn send(&mut self, epoch: Epoch, mut parcel: Parcel) {
        match self {
            Port::Edge { output, capability: Some(capability) } => {
                output.activate().session_with_builder(capability).give_container(&mut parcel);
            }
            Port::Edge { capability: None, .. } => {}
            Port::Sink(seat) => seat.take(epoch, parcel.batch.for_worker(0)),
        }
    }

    /// Holds it at a time: all of the epochs before has been sent.
    pub(crate) fn hold(&mut self, here: Time) {
        match self {
            Port::Edge { capability: Some(capability), .. } if *capability.time() != here => {
                // The operator's epoch and watermark only grow, so this cannot fail.
                let _ = capability.try_downgrade(&here);
            }
            Port::Edge { .. } => {}
            Port::Sink(seat) => {
                seat.settle(Some(here.epoch));
            }
        }
    }

    /// Nothing will be sent any more. True while there is something left to do: to be called when somebody wakes the
    /// operator.
    pub(crate) fn close(&mut self) -> bool {
        match self {
            Port::Edge { capability, .. } => {
                *capability = None;
                false
            }
            Port::Sink(seat) => seat.settle(None),
        }
    }
}
