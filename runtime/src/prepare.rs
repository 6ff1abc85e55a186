//! Prepares a run: checks the graph, takes the checkpoint, plans.

use std::sync::Arc;

#[cfg(feature = "tables")]
use tidemill_operators::graph::Node;
use tidemill_operators::{Clock, Graph, Mode};

use crate::checkpoint::Storage;
use crate::checkpoint::loader::Loader;
use crate::clock::{engine_clock, not_before};
use crate::control::{Control, ControlSpec};
use crate::driver::{CommitCoordinator, Driver};
#[cfg(feature = "tables")]
use crate::engine::PartLowering;
use crate::error::RunError;
use crate::events::{EventQueue, event_queue};
use crate::futures::Futures;
use crate::journal;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::peers::Peers;
use crate::plan::{Layout, Plan};
#[cfg(feature = "tables")]
use crate::published::Board;
use crate::recovery::{DomainStart, Opened, Resume, prepare_sources, refuse_types, warn_of_ended};
use crate::saver::Saver;
use crate::spill;
use crate::user_code::caught;

/// A graph that has been checked and laid out, and its checkpoint taken.
pub(crate) struct PreparedRun {
    pub(crate) plan: Arc<Plan>,
    pub(crate) control: Arc<Control>,
    pub(crate) driver: Driver,
    pub(crate) events: EventQueue,
    pub(crate) options: Options,
}

impl PreparedRun {
    /// As [`new`](Self::new), by the clock of the machine. A panic of a source that is asked where it begins is an error.
    pub(crate) fn caught(
        graph: &Graph,
        options: &Options,
        storage: Option<&Arc<dyn Storage>>,
    ) -> Result<PreparedRun, RunError> {
        let new = || PreparedRun::new(graph, options.clone(), engine_clock(), storage.cloned(), false);
        caught(&graph.nodes(), None, "the start of the query", new)
    }

    /// `here`: a test steps the query and moves its clock; states are written by the thread that hands them over.
    pub(crate) fn new(
        graph: &Graph,
        options: Options,
        mut clock: Clock,
        storage: Option<Arc<dyn Storage>>,
        here: bool,
    ) -> Result<PreparedRun, RunError> {
        graph.validate()?;
        options.check()?;
        for what in options.without_effect() {
            tracing::warn!(query = %graph.name(), "{what}");
        }
        let nodes = graph.nodes();
        if storage.is_none() {
            options.check_without_checkpoint()?;
        }
        let mut layout = Layout::of(graph.name(), nodes.clone());
        refuse_too_many(&layout)?;
        refuse_types(&nodes, storage.is_some(), options.state_memory.is_some())?;
        let (sender, events) = event_queue();
        let (mut resume, mut coordinator) = (Resume::default(), None);
        let (mut state, mut saver) = (None, None);
        let found;
        match storage {
            None => {
                journal::attach_all(&nodes, None, &clock);
                found = prepare_sources(&layout, |_| Ok(None))?;
                layout.learn(found.clone());
                options.check_workers(options.key_groups())?;
                resume.key_groups = options.key_groups();
            }
            Some(storage) => {
                let mut opened = Opened::open(Arc::clone(&storage), &layout, &options)?;
                if let Some(last) = opened.last_clock().filter(|_| !here) {
                    clock = not_before(clock, last);
                }
                journal::attach_all(&nodes, Some(&storage), &clock);
                journal::refuse_loss(&nodes, options.allow_loss)?;
                found = opened.prepare_sources(&*storage, &layout)?;
                layout.learn(opened.joined(&found, &layout));
                opened.rewrite(options.workers)?;
                resume = opened.resume(&layout);
                warn_of_ended(&resume, &layout);
                let (writer, operators) = (opened.writer.clone(), layout.stateful());
                let load =
                    |_| Loader::new(storage, &resume.files, resume.key_groups).without(&resume.dropped);
                state = resume.committed.map(load);
                saver = Some(match here {
                    true => Saver::here(writer, sender.clone(), operators),
                    false => Saver::start(writer, sender.clone(), operators)?,
                });
                coordinator = Some(CommitCoordinator::new(opened, &layout, graph.fingerprint(), &options));
            }
        }
        let sources = layout.sources();
        let partitions = |(node, _)| {
            let info = layout.source_info(node);
            (node, info.discovery_interval().is_none().then(|| info.partitions() as usize))
        };
        let partitions: Vec<_> = sources.into_iter().map(partitions).collect();
        let layout = Arc::new(layout);
        let peers = Peers::in_one_process(options.workers);
        let plan = Arc::new(Plan::new(&layout, options.mode, peers.total(), &resume.read_ahead()));
        let specs = plan.domains();
        resume.join_watermarks(&specs);
        let start = |start: &DomainStart| (start.watermark, start.partitions.clone());
        let starts: Vec<_> = resume.watermarks.iter().map(|it| it.as_ref().map(start)).collect();
        let born = (options.mode == Mode::Continuous).then(|| clock.now());
        let ledger = Ledger::new(specs, &partitions, peers.total(), born).resume(resume.first(), &starts);
        let max_ahead = if born.is_some() { options.max_ahead } else { 0 };
        let ledger = ledger.aligned(max_ahead.saturating_mul(peers.total()));
        let memory = spill::memories(&options, &peers)?;
        let futures = Futures::new(layout.in_flight().is_some(), &options, &clock, here)?;
        #[cfg(feature = "tables")]
        let published = {
            let table = |node: &Node| Some((node.id, PartLowering::of(node)?.publishes.clone()?));
            let published = nodes.iter().filter_map(table);
            let (restored, retained) = (resume.committed, options.table_epochs);
            Board::new(published.collect(), resume.key_groups, peers.total(), restored, retained)
        };
        let control = Arc::new(Control::new(ControlSpec {
            mode: options.mode,
            peers,
            clock,
            ledger,
            max_queued: options.max_queued,
            in_flight: layout.in_flight(),
            futures,
            latency_budget: options.latency_budget,
            awake_before: options.idle.polls_for(),
            hops: layout.hops(),
            pulls_from: options.pulls_from,
            events: sender,
            nodes: layout.nodes.len(),
            moving: plan.moving(),
            counts_keys: options.top_keys > 0,
            resume,
            state,
            saver,
            memory,
            stepped: here,
            #[cfg(feature = "tables")]
            published,
        }));
        let driver =
            Driver::new(Arc::clone(&layout), Arc::clone(&control), options.clone(), coordinator, &found)?;
        Ok(PreparedRun { plan, control, driver, events, options })
    }
}

/// The most nodes of a graph: the number of one and that of a partition share 32 bits. A source refuses more partitions itself.
const MOST: usize = 1 << 16;

/// A graph with more nodes than there are numbers for.
fn refuse_too_many(layout: &Layout) -> Result<(), RunError> {
    if layout.nodes.len() >= MOST {
        return Err(RunError::Engine(format!(
            "the graph has {} nodes, but must have fewer than {MOST}",
            layout.nodes.len()
        )));
    }
    Ok(())
}
