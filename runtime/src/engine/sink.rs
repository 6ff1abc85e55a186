//! Hosts a sink that is an operator of its own.

use std::sync::Arc;

use tidemill_operators::Epoch;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Time;
use super::host::{receive, waker};
use super::hosted_sink::HostedSink;
use super::route::Inflow;
use crate::control::Control;

/// Builds the operator.
pub(crate) fn sink<'scope>(
    scope: Scope<'scope, Time>,
    name: String,
    inflow: Inflow<'scope>,
    mut hosted: HostedSink,
    worker: usize,
    control: Arc<Control>,
) {
    let mut builder = OperatorBuilder::new(name, scope);
    let mut inlet = inflow.connect(&mut builder, true);
    let address = builder.operator_info().address;
    control.wakers.add_sink(waker(scope, &address));
    builder.build_reschedule(move |_capabilities| {
        move |frontiers| {
            hosted.begin();
            inlet.for_each(|capability, edge_batch| {
                let epoch = Epoch::new(capability.stamp().elements().first().map_or(0, |t| t.epoch));
                hosted.take(epoch, receive(&control, worker, edge_batch).0);
            });
            let least = frontiers.iter().filter_map(|f| f.frontier().iter().map(|t| t.epoch).min()).min();
            hosted.settle(least)
        }
    });
}
