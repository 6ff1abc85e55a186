//! Where the kind of a stream's rows comes from, and which operators take which kinds.
//!
//! The kind of rows belongs to an output of a node. An aggregation sets it by its output mode, an operator of a user's own
//! by the types of its outputs, [`as_inserts`] and [`as_changes`] set it by name, and all other operators pass that of their
//! input on. Rows of the kind *changes* are always of type [`RowChange`](crate::RowChange): the types of `Changes` and `as_changes` ensure it,
//! and steps that could change the type refuse the kind.
//!
//! [`as_inserts`]: crate::Stream::as_inserts
//! [`as_changes`]: crate::Stream::as_changes

use super::Port;
use super::node::{Input, Kinds, Node, NodeId, NodeKind, NodeSpec, Route, StepInfo, at};
use crate::RowKind;

/// What a stateless step does with the kind of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnKind {
    /// Its results are of the kind of its input.
    Keeps,
    /// Its results are of the kind of its input, but rows that it makes itself: it takes no changes.
    Makes,
    /// It takes inserts only.
    TakesInserts,
    /// Its results are inserts, whatever its input is.
    MakesInserts,
    /// Its results are changes. It takes these and inserts.
    MakesChanges,
}

/// Rows of a kind, and the node that made them so.
#[derive(Clone, Copy)]
pub(super) struct Emitted {
    pub(super) kind: RowKind,
    pub(super) by: NodeId,
}

impl Emitted {
    /// The rows that come in by an edge.
    fn by(nodes: &[Node], input: &Input) -> Option<Emitted> {
        let output = nodes.get(input.from.0)?.outputs.get(input.port)?;
        Some(Emitted { kind: output.row_kind, by: output.kind_from })
    }

    /// The same, as the operator emits them that it names.
    fn describe(self, nodes: &[Node]) -> String {
        let by = nodes.get(self.by.0).map(|by| format!("`{}` at {}", by.label(), at(by.location)));
        format!("{} emits {}", by.unwrap_or_else(|| "its input".to_owned()), self.kind)
    }
}

/// The kind of rows behind steps.
pub(crate) fn after(steps: &[StepInfo], kind: RowKind) -> RowKind {
    let behind = |kind, step: &StepInfo| match step.on_kind {
        OnKind::MakesInserts => RowKind::Insert,
        OnKind::MakesChanges => RowKind::Changes,
        OnKind::Keeps | OnKind::Makes | OnKind::TakesInserts => kind,
    };
    steps.iter().fold(kind, behind)
}

/// See [`Port::made_inserts_of`].
pub(super) fn made_inserts_of(nodes: &[Node], port: &Port, steps: &[StepInfo]) -> Option<RowKind> {
    let output = nodes.get(port.node.0)?.outputs.get(port.output)?;
    let former = if after(steps, output.row_kind) == output.row_kind {
        // The node that made inserts of its input, or one whose results are inserts.
        let maker = nodes.get(output.kind_from.0)?;
        let input = maker.inputs.first().and_then(|input| Emitted::by(nodes, input))?;
        maker.steps.iter().any(|step| step.on_kind == OnKind::MakesInserts).then_some(input.kind)?
    } else {
        output.row_kind
    };
    (former != RowKind::Insert).then_some(former)
}

/// The kind of the rows of each output of a node.
pub(super) fn emitted(id: NodeId, spec: &NodeSpec, before: &[Node]) -> Vec<Emitted> {
    let own = |kind| Emitted { kind, by: id };
    let inherited = spec.inputs.first().and_then(|input| Emitted::by(before, input));
    let kept = inherited.map_or(own(RowKind::Insert), |input| match after(&spec.steps, input.kind) {
        kind if kind == input.kind => input,
        kind => own(kind),
    });
    let of_output = |output: usize| match &spec.kind {
        NodeKind::Grouped(grouped) if output == 0 => own(grouped.emits),
        // Late rows are those of the input, which are inserts.
        NodeKind::Grouped(_) => own(RowKind::Insert),
        kind => match declared(kind) {
            Some((_, emits)) => own(emits.get(output).copied().unwrap_or_default()),
            None => kept,
        },
    };
    (0..spec.outputs).map(of_output).collect()
}

/// The kinds that an operator has declared, of its inputs and of its outputs.
fn declared(kind: &NodeKind) -> Option<(&'static [&'static [RowKind]], &'static [RowKind])> {
    let kinds = match kind {
        NodeKind::Operator(operator) => operator.kinds,
        NodeKind::Fragment(fragment) => fragment.kinds,
        _ => return None,
    };
    match kinds {
        Kinds::Declared { takes, emits } => Some((takes, emits)),
        Kinds::Keeps | Kinds::Makes => None,
    }
}

/// Refuses what takes rows of a kind that it would get wrong.
pub(super) fn check(nodes: &[Node], problems: &mut Vec<(NodeId, String)>) {
    for node in nodes {
        for (number, input) in node.inputs.iter().enumerate() {
            let Some(mut rows) = Emitted::by(nodes, input) else { continue };
            // What follows a step that is refused need not be refused as well.
            let by_step = node.steps.iter().find_map(|step| {
                let (before, problem) = (rows, by_step(step, rows.kind));
                rows.kind = after(std::slice::from_ref(step), rows.kind);
                problem.map(|(why, way_out)| {
                    let why = format!("`{}` at {} {why}", step.label(), at(step.location));
                    Some(refused(nodes, before, &why, way_out))
                })
            });
            let problem = by_step.unwrap_or_else(|| own(nodes, node, (number, input), rows));
            problems.extend(problem.map(|problem| (node.id, problem)));
        }
    }
}

/// What can change the type of the rows, as a reason to refuse these; and the way out.
const MAKES: (&str, &str) = (
    "can change the type of the rows",
    "call `.as_inserts()` before it, and `.as_changes()` behind it if its rows are `RowChange`s",
);

/// Why a step cannot take rows of a kind, if so, and the way out.
fn by_step(step: &StepInfo, kind: RowKind) -> Option<(&'static str, &'static str)> {
    match (step.on_kind, kind) {
        (OnKind::TakesInserts, RowKind::Upsert | RowKind::Snapshot | RowKind::Changes) => {
            Some(("takes the event time of inserts", way_out(kind)))
        }
        (OnKind::Makes, RowKind::Changes) => Some(MAKES),
        (OnKind::MakesChanges, RowKind::Upsert | RowKind::Snapshot) => {
            Some(("makes changes of inserts", way_out(kind)))
        }
        _ => None,
    }
}

/// Why the node's own work cannot take rows, if so.
fn own(nodes: &[Node], node: &Node, (number, input): (usize, &Input), rows: Emitted) -> Option<String> {
    match &node.kind {
        NodeKind::Grouped(_) if rows.kind != RowKind::Insert => {
            Some(refusal(nodes, rows, "it would count each of them as one more row"))
        }
        NodeKind::Operator(operator)
            if matches!(operator.kinds, Kinds::Makes) && rows.kind == RowKind::Changes =>
        {
            let (why, way_out) = MAKES;
            Some(refused(nodes, rows, &format!("it {why}"), way_out))
        }
        NodeKind::Operator(_) | NodeKind::Fragment(_) => {
            let takes = declared(&node.kind)?.0.get(number).copied().unwrap_or(&[RowKind::Insert]);
            let names: Vec<String> = takes.iter().map(ToString::to_string).collect();
            let why = format!("its input {number} takes {} only", names.join(" and "));
            (!takes.contains(&rows.kind)).then(|| refusal(nodes, rows, &why))
        }
        NodeKind::Forward if matches!(input.route, Route::Rebalance) && rows.kind == RowKind::Upsert => {
            Some(refusal(
                nodes,
                rows,
                "it does not keep the rows of a key in order, and the last need not be the newest",
            ))
        }
        NodeKind::Forward => {
            let first = node.inputs.first().and_then(|first| Emitted::by(nodes, first))?;
            if first.kind == rows.kind {
                return None;
            }
            let other = if rows.kind == RowKind::Insert { first } else { rows };
            let both = if rows.kind == RowKind::Insert { rows } else { first };
            Some(refusal(
                nodes,
                other,
                &format!("{}, and all rows of a stream have one kind", both.describe(nodes)),
            ))
        }
        NodeKind::Sink { refuses: true, .. } => Some(refused_by_sink(nodes, node)),
        _ => None,
    }
}

/// Says that a sink does not take the rows that come to it: for sinks that are made when the query starts.
pub fn refused_by_sink(nodes: &[Node], sink: &Node) -> String {
    let rows = sink.inputs.first().and_then(|input| Emitted::by(nodes, input));
    let rows = rows.unwrap_or(Emitted { kind: RowKind::Insert, by: sink.id });
    let name = if sink.detail.is_empty() { "the sink" } else { &sink.detail };
    let way_out = match rows.kind {
        RowKind::Snapshot => {
            "write them with `json_lines_sink` or `csv_sink`, which replace their file by each snapshot; or emit each result \
             once, as a window with `.append()` does; or call `.as_inserts()` on the snapshots to keep the rows of all of them"
        }
        kind => way_out(kind),
    };
    refused(nodes, rows, &format!("{name} does not take {}", rows.kind), way_out)
}

/// The rows, where they come from, why they are refused, and what to do.
fn refusal(nodes: &[Node], rows: Emitted, why: &str) -> String {
    refused(nodes, rows, why, way_out(rows.kind))
}

fn refused(nodes: &[Node], rows: Emitted, why: &str, way_out: &str) -> String {
    format!("{} ({}), but {why}: {way_out}", rows.describe(nodes), rows.kind.replaces())
}

/// What to do where rows of a kind are refused.
fn way_out(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Insert => "choose a sink or an operator that takes inserts",
        RowKind::Upsert => {
            "emit each result once, as a window with `.append()` does; or make a table of the newest rows, with `.key_by(…)` and \
             `.into_table()` (feature `tables`); or call `.as_inserts()` on the upserts to treat each as a row of its own"
        }
        RowKind::Snapshot => {
            "emit each result once, as a window with `.append()` does; or use `.update()` in place of `.complete()` and make a table \
             of the newest rows, with `.key_by(…)` and `.into_table()` (feature `tables`); or call `.as_inserts()` on the \
             snapshots to treat each of their rows as a row of its own"
        }
        RowKind::Changes => {
            "choose a sink or an operator that takes changes, or call `.as_inserts()` on the changes to treat each as a row of \
             its own"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::node::OperatorSpec;
    use super::*;
    use crate::testing::{nowhere, numbers};
    use crate::{Epoch, EventTime, Graph, Sink, SinkError, Stream, tumbling};

    fn counts(graph: &Graph) -> Stream<(u64, u64)> {
        numbers(graph, 9).key_by(|n| n % 3).count().update()
    }

    fn tables(graph: &Graph) -> Stream<(u64, u64)> {
        numbers(graph, 9).key_by(|n| n % 3).count().complete()
    }

    /// The problems of a graph; lines as their distance from that of `counts` or `tables`.
    fn said(build: impl Fn(&Graph)) -> Vec<String> {
        let graph = Graph::new("test");
        build(&graph);
        let error = graph.validate().err();
        error.map_or(Vec::new(), |error| {
            error.problems.iter().map(|problem| problem.message.clone()).collect()
        })
    }

    /// Builds with upserts and with snapshots, and returns the problems; there are none for inserts made of them.
    fn refused(build: fn(Stream<(u64, u64)>)) -> [bool; 2] {
        let one = |rows: fn(&Graph) -> Stream<(u64, u64)>| {
            assert_eq!(said(|graph| build(rows(graph).as_inserts())), Vec::<String>::new());
            assert_eq!(
                said(|graph| build(rows(graph).map(|row| row).as_inserts().filter(|_| true).boxed())),
                [""; 0]
            );
            match said(|graph| build(rows(graph))).as_slice() {
                [] => false,
                [problem] => {
                    assert!(
                        problem.starts_with("`key_by → aggregate` at operators/src/graph/row_kind.rs:"),
                        "{problem}"
                    );
                    assert!(problem.contains("`.as_inserts()`"), "{problem}");
                    true
                }
                problems => panic!("{problems:?}"),
            }
        };
        [counts, tables].map(one)
    }

    #[test]
    fn aggregates_take_inserts_only() {
        assert_eq!(
            refused(|rows| rows.key_by(|row| row.0).sum(|row| row.1).update().sink(nowhere())),
            [true; 2]
        );
        assert_eq!(refused(|rows| rows.map(|row| row.1).sum(|n| *n).complete().sink(nowhere())), [true; 2]);
        assert_eq!(
            refused(|rows| rows.flat_map(|row| [row]).boxed().count().update().sink(nowhere())),
            [true; 2]
        );
        assert_eq!(refused(|rows| rows.keys_by(no_keys).count().update().sink(nowhere())), [true; 2]);
    }

    fn no_keys(_: &(u64, u64)) -> std::option::IntoIter<&str> {
        None.into_iter()
    }

    #[test]
    fn watermark_assignment_takes_inserts_only() {
        assert_eq!(
            refused(|rows| rows
                .with_watermark(|_| EventTime::from_micros(0), Duration::ZERO)
                .sink(nowhere())),
            [true; 2]
        );
        assert_eq!(
            refused(|rows| rows
                .with_punctuated_watermark(|_| EventTime::from_micros(0), |_| None)
                .boxed()
                .sink(nowhere())),
            [true; 2]
        );
        // One reason is enough: the window behind it is not refused as well.
        assert_eq!(
            refused(|rows| {
                let timed = rows
                    .map(|row| row.1)
                    .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO);
                timed.window(tumbling(Duration::from_secs(1))).count().append().sink(nowhere());
            }),
            [true; 2]
        );
    }

    #[test]
    fn windows_refuse_the_upserts_of_windows() {
        let of_10s = || tumbling(Duration::from_secs(10));
        let windows = |graph: &Graph| {
            let timed =
                numbers(graph, 9).with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO);
            timed.key_by(|n| n % 2).window(of_10s()).count()
        };
        let again = |windows: crate::EventStream<crate::WindowResult<u64, u64>>| {
            windows.key_by(|row| row.key).window(of_10s()).sum(|row| row.value).append().sink(nowhere());
        };
        assert_eq!(said(|graph| again(windows(graph).append())), [""; 0]);
        assert_eq!(said(|graph| again(windows(graph).update())).len(), 1);
        assert_eq!(said(|graph| again(windows(graph).complete())).len(), 1);
        assert_eq!(said(|graph| again(windows(graph).update().as_inserts().boxed())), [""; 0]);
        // Late records are those of the input.
        let late = |graph: &Graph| {
            let (rows, late) = windows(graph).update_with_late();
            rows.sink(nowhere());
            late.key_by(|n| *n).count().update().sink(nowhere());
        };
        assert_eq!(said(late), [""; 0]);
    }

    #[test]
    fn stateless_steps_keep_the_kind_of_their_input() {
        assert_eq!(refused(|rows| rows.map(|row| row.0).filter(|n| *n > 1).sink(nowhere())), [false; 2]);
        assert_eq!(
            refused(|rows| rows.inspect(|_| {}).broadcast().sink_per_worker(|_| Ok(nowhere()))),
            [false; 2]
        );
        let branched: fn(Stream<(u64, u64)>) = |rows| {
            let mut branches = rows.branch([|row: &(u64, u64)| row.0 > 1]);
            branches.remove(1).count().update().sink(nowhere());
            branches.remove(0).sink(nowhere());
        };
        assert_eq!(refused(branched), [true; 2]);
        let split: fn(Stream<(u64, u64)>) = |rows| {
            let (left, right) = rows.split(|row| either::Either::<_, u64>::Left(row.0));
            left.sink(nowhere());
            right.count().update().sink(nowhere());
        };
        assert_eq!(refused(split), [true; 2]);
    }

    #[test]
    fn operator_with_state_takes_and_emits_inserts() {
        let stateful = |rows: Stream<(u64, u64)>| -> Stream<(u64, u64)> {
            let port = rows.graph().add(NodeSpec {
                kind: NodeKind::Operator(OperatorSpec {
                    make: std::sync::Arc::new(|_| unreachable!("nothing runs")),
                    stateful: true,
                    watermark: None,
                    derives_watermark: false,
                    stays_behind: false,
                    awaits_commits: false,
                    in_flight: None,
                    states: Vec::new(),
                    kinds: Kinds::Declared { takes: &[], emits: &[] },
                }),
                op: "deduplicate",
                steps: rows.steps.clone(),
                inputs: vec![Input::by(rows.node(), 0, Route::Local)],
                outputs: 1,
                location: std::panic::Location::caller(),
                detail: String::new(),
            });
            Stream::at(port)
        };
        for rows in [counts as fn(&Graph) -> Stream<(u64, u64)>, tables] {
            let after = |rows: Stream<(u64, u64)>| stateful(rows).count().update().sink(nowhere());
            assert_eq!(said(|graph| after(rows(graph))).len(), 1);
            assert_eq!(said(|graph| after(rows(graph).as_inserts())), [""; 0]);
        }
    }

    #[test]
    fn rebalance_takes_no_upserts() {
        assert_eq!(refused(|rows| rows.rebalance().sink(nowhere())), [true, false]);
    }

    #[test]
    fn union_takes_streams_of_one_kind() {
        let with = |one: fn(&Graph) -> Stream<(u64, u64)>, other: fn(&Graph) -> Stream<(u64, u64)>| {
            said(|graph| one(graph).union(other(graph)).sink(nowhere()))
        };
        let plain = |graph: &Graph| numbers(graph, 3).map(|n| (n, n)).boxed();
        for (one, other, fine) in [
            (counts as fn(&Graph) -> _, counts as fn(&Graph) -> _, true),
            (tables, tables, true),
            (plain, plain, true),
            (plain, counts, false),
            (counts, plain, false),
            (counts, tables, false),
            (tables, plain, false),
        ] {
            let problems = with(one, other);
            assert_eq!(problems.len(), usize::from(!fine), "{problems:?}");
        }
        assert!(with(counts, plain)[0].contains("`source` at "), "{:?}", with(counts, plain));
    }

    /// A sink that takes one kind.
    struct Only(RowKind);

    impl<T: Send + 'static> Sink<T> for Only {
        fn takes(&self, kind: RowKind) -> bool {
            kind == self.0
        }
        fn write(&mut self, _epoch: Epoch, _rows: &mut Vec<T>) -> Result<(), SinkError> {
            Ok(())
        }
        fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
            Ok(())
        }
    }

    #[test]
    fn sinks_declare_the_kinds_that_they_take() {
        assert_eq!(refused(|rows| rows.sink(Only(RowKind::Insert))), [true; 2]);
        assert_eq!(refused(|rows| rows.map(|row| row.0).sink(Only(RowKind::Insert))), [true; 2]);
        let only = |kind| said(|graph| counts(graph).sink(Only(kind)));
        assert_eq!(only(RowKind::Upsert), [""; 0]);
        assert_eq!(only(RowKind::Snapshot).len(), 1);
        let inserts = said(|graph| numbers(graph, 3).sink(Only(RowKind::Snapshot)));
        assert!(
            inserts[0].ends_with("does not take inserts: choose a sink or an operator that takes inserts"),
            "{inserts:?}"
        );
    }

    #[test]
    fn refusal_names_producer_consumer_and_ways_out() {
        let graph = Graph::new("test");
        let counts = numbers(&graph, 9).key_by(|n| n % 3).count().update();
        counts.map(|row| row.1).sum(|n| *n).update().sink(nowhere());
        let line = line!();
        let here = |line: u32| format!("operators/src/graph/row_kind.rs:{line}");
        assert_eq!(
            graph.validate().unwrap_err().to_string(),
            format!(
                "the graph cannot run:\n  `map → aggregate` at {}: `key_by → aggregate` at {} emits upserts (each row \
                 replaces an earlier one of its key), but it would count each of them as one more row: emit each result once, \
                 as a window with `.append()` does; or make a table of the newest rows, with `.key_by(…)` and `.into_table()` \
                 (feature `tables`); or call `.as_inserts()` on the upserts to treat each as a row of its own",
                here(line - 1),
                here(line - 2),
            )
        );
    }

    #[test]
    fn plan_says_what_the_rows_are() {
        let graph = Graph::new("test");
        counts(&graph).map(|row| row.0).sink(nowhere());
        let plan = graph.explain();
        assert_eq!(plan.to_string().matches("rows are upserts").count(), 3, "{plan}");
        assert_eq!(plan.json()["nodes"][3]["row_kind"], "upsert");
    }
}
